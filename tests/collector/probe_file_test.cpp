// SPDX-License-Identifier: Apache-2.0
// The probes that a file has: real files, built and stripped, and files that no linker would produce.
#include "host/probe_file.h"

#include "temporary_folder.h"

#include <nopspan/span.h>

#include <elf.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;

const std::string kProbeFile = NOPSPAN_LIBRARY;
// The path of this program, which has linked the static library.
const std::string kProgram = "/proc/self/exe";

std::set<std::string> names_in(const ProbeFile& file) {
  std::set<std::string> names;
  for (const Probe& probe : file.probes()) names.insert(probe.provider + ":" + probe.name);
  return names;
}

// A copy of the library that a test can change.
class Copy {
 public:
  Copy() : contents(contents_of(kProbeFile)), path(folder_ / "libcopy.so") {}

  template <typename T>
  T& at(std::size_t offset) {
    return *reinterpret_cast<T*>(contents.data() + offset);
  }
  Elf64_Ehdr& header() { return at<Elf64_Ehdr>(0); }
  Elf64_Shdr& section(const std::string& name) {
    auto* sections = &at<Elf64_Shdr>(header().e_shoff);
    const std::size_t names = sections[header().e_shstrndx].sh_offset;
    for (int i = 0; i < header().e_shnum; ++i)
      if (name == contents.data() + names + sections[i].sh_name) return sections[i];
    throw std::runtime_error("no section " + name);
  }
  // Calls `change` with the three addresses of each note.
  void for_each_note(const std::function<void(std::uint64_t* words)>& change) {
    const Elf64_Shdr notes = section(".note.stapsdt");
    for (std::size_t at_byte = notes.sh_offset; at_byte < notes.sh_offset + notes.sh_size;) {
      const auto& note = at<Elf64_Nhdr>(at_byte);
      char* place = contents.data() + at_byte + sizeof(note) + 8;
      std::uint64_t words[3];  // a note is aligned to 4 bytes only
      std::memcpy(words, place, sizeof(words));
      change(words);
      std::memcpy(place, words, sizeof(words));
      at_byte += sizeof(note) + 8 + (note.n_descsz + 3) / 4 * 4;
    }
  }
  ProbeFilePointer read(std::string* why_not = nullptr) {
    write_file(path, contents);
    return ProbeFile::read(open_regular(path), why_not);
  }
  std::string why_not() {
    std::string why;
    EXPECT_EQ(read(&why), nullptr);
    return why;
  }

 private:
  TemporaryFolder folder_;

 public:
  std::string contents;
  const std::string path;
};

void strip(const std::string& tool, const std::string& path) {
  ASSERT_EQ(std::system((tool + " '" + path + "'").c_str()), 0);
}

TEST(ProbeFile, HasEachProbeOnceWhetherTheLibraryIsSharedOrStatic) {
  const nopspan::Span span{"test.static"};
  for (const std::string& path : {kProbeFile, kProgram}) {
    const auto file = ProbeFile::read(open_regular(path));
    ASSERT_NE(file, nullptr) << path;
    EXPECT_EQ(file->probes().size(), 12U) << path;
    EXPECT_THAT(
        names_in(*file),
        testing::ElementsAre("nopspan:engine_request", "nopspan:engine_step", "nopspan:event", "nopspan:first_token",
                             "nopspan:gauge", "nopspan:retry", "nopspan:span_exception", "nopspan:span_start",
                             "nopspan:span_stop", "nopspan:tokens", "nopspan:tool_call", "nopspan_batch:batch"));
    EXPECT_NE(file->batch_probe(), nullptr);
    EXPECT_FALSE(file->notes_are_missing());
  }
}

TEST(ProbeFile, TellsWhereASiteAndItsSemaphoreAreInTheFile) {
  const auto file = ProbeFile::read(open_regular(kProbeFile));
  ASSERT_NE(file, nullptr);
  const std::string bytes = contents_of(kProbeFile);
  for (const Probe& probe : file->probes()) {
    SCOPED_TRACE(probe.name);
    EXPECT_EQ(probe.nop, NopKind::one_byte);
    const std::uint64_t part = probe.semaphore_offset - file->gate().offset;
    const std::uint64_t expected = probe.name.starts_with("span_") ? 0 : probe.name == "batch" ? 2 : 6;
    EXPECT_EQ(part, expected);
#if defined(__x86_64__)
    EXPECT_EQ(bytes.at(probe.offset), '\x90');
#endif
  }
}

TEST(ProbeFile, FindsTheGateAloneInItsPage) {
  for (const std::string& path : {kProbeFile, kProgram}) {
    SCOPED_TRACE(path);
    const auto file = ProbeFile::read(open_regular(path));
    ASSERT_NE(file, nullptr);
    EXPECT_TRUE(file->has_gate());
    EXPECT_TRUE(file->gate().is_page_aligned);
    EXPECT_TRUE(file->gate().is_alone);
    EXPECT_EQ(file->gate().abi_version, 2U);
    EXPECT_GE(file->gate().section_size, 4096U);
  }
}

TEST(ProbeFile, SaysWhenTheGateIsNotAlone) {
  Copy copy;
  copy.section(".data").sh_addr = copy.section(".probes").sh_addr + 64;
  EXPECT_FALSE(copy.read()->gate().is_alone);
  Copy cut;
  cut.section(".probes").sh_size = 16;
  EXPECT_FALSE(cut.read()->gate().is_alone);
}

TEST(ProbeFile, IsTheSameAfterGnuStrip) {
  Copy copy;
  copy.read();
  strip("strip", copy.path);
  const auto file = ProbeFile::read(open_regular(copy.path));
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->probes().size(), 12U);
}

TEST(ProbeFile, SaysThatTheNotesAreMissingAfterLlvmStrip) {
  for (const std::string& path : {kProbeFile, kProgram}) {
    Copy copy;
    copy.contents = contents_of(path);
    copy.read();
    strip(NOPSPAN_LLVM_STRIP, copy.path);
    const auto file = ProbeFile::read(open_regular(copy.path));
    ASSERT_NE(file, nullptr) << path;
    EXPECT_TRUE(file->notes_are_missing());
    EXPECT_TRUE(file->has_gate());
    EXPECT_EQ(file->gate().abi_version, 2U);
  }
}

TEST(ProbeFile, IsTheSameAfterItWasPacked) {
  const auto file = ProbeFile::read(open_regular(kProbeFile));
  const auto open_again = [] { return OpenFile(open(kProbeFile.c_str(), O_RDONLY | O_CLOEXEC)); };
  const std::string packed = file->packed();
  const auto same = ProbeFile::unpacked(packed, open_again());
  ASSERT_NE(same, nullptr);
  EXPECT_EQ(same->probes(), file->probes());
  EXPECT_EQ(same->id(), file->id());
  EXPECT_EQ(same->gate().address, file->gate().address);
  EXPECT_EQ(same->gate().abi_version, file->gate().abi_version);
  EXPECT_TRUE(same->is_same_inode(*file));
  for (std::size_t size = 0; size < packed.size(); size += 7)
    EXPECT_EQ(ProbeFile::unpacked(packed.substr(0, size), open_again()), nullptr) << size;
  EXPECT_EQ(ProbeFile::unpacked(packed, OpenFile()), nullptr);
}

TEST(ProbeFile, IsNullWithAReasonForWhatHasNoProbes) {
  TemporaryFolder folder;
  const std::string fifo = folder / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  write_file(folder / "text", "nopspan");
  write_file(folder / "empty", "");
  const std::pair<std::string, const char*> cases[] = {
      {"/", "not a regular file"},          {"/dev/zero", "not a regular file"},   {fifo, "not a regular file"},
      {folder / "text", "not an ELF file"}, {folder / "empty", "not an ELF file"}, {"/bin/sh", "no nopspan probes"}};
  for (const auto& [path, expected] : cases) {
    std::string why_not;
    EXPECT_EQ(ProbeFile::read(open_regular(path), &why_not), nullptr) << path;
    EXPECT_THAT(why_not, HasSubstr(expected)) << path;
  }
}

TEST(ProbeFile, OpensOnlyRegularFiles) {
  TemporaryFolder folder;
  const std::string fifo = folder / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const OpenFile watch(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  ASSERT_GE(inotify_add_watch(watch.get(), fifo.c_str(), IN_OPEN), 0);
  EXPECT_EQ(ProbeFile::read(open_regular(fifo)), nullptr);
  char event[256];
  EXPECT_EQ(read(watch.get(), event, sizeof(event)), -1) << "opening a device may have an effect";
}

TEST(ProbeFile, IsOpenedOnlyIfItIsTheWantedFile) {
  const FileId id = ProbeFile::read(open_regular(kProbeFile))->id();
  EXPECT_TRUE(open_regular(kProbeFile, &id));
  EXPECT_FALSE(open_regular("/bin/sh", &id));
  EXPECT_EQ(errno, ENOENT);
}

TEST(ProbeFile, RefusesOtherMachinesAndKindsOfFiles) {
  const auto why_not = [](const std::function<void(Elf64_Ehdr&)>& change) {
    Copy copy;
    change(copy.header());
    return copy.why_not();
  };
  EXPECT_THAT(why_not([](Elf64_Ehdr& header) { header.e_machine = EM_S390; }), HasSubstr("another architecture"));
  EXPECT_THAT(why_not([](Elf64_Ehdr& header) { header.e_ident[EI_CLASS] = ELFCLASS32; }), HasSubstr("64-bit"));
  EXPECT_THAT(why_not([](Elf64_Ehdr& header) { header.e_ident[EI_DATA] = ELFDATA2MSB; }), HasSubstr("little-endian"));
  EXPECT_THAT(why_not([](Elf64_Ehdr& header) { header.e_type = ET_REL; }), HasSubstr("neither"));
  EXPECT_THAT(why_not([](Elf64_Ehdr& header) { header.e_shoff = 0; }), HasSubstr("no section headers"));
  EXPECT_THAT(why_not([](Elf64_Ehdr& header) { header.e_shoff = 1ULL << 40U; }), HasSubstr("damaged"));
}

TEST(ProbeFile, SeesThroughPrelink) {
  const auto original = ProbeFile::read(open_regular(kProbeFile));
  Copy copy;
  // As if everything had been linked one page higher, and prelink had moved it down.
  copy.for_each_note([](std::uint64_t* words) {
    for (int i = 0; i < 3; ++i) words[i] += 4096;
  });
  const auto file = copy.read();
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->probes(), original->probes());
}

#if defined(__x86_64__)
TEST(ProbeFile, TellsOneNopFromAnother) {
  Copy copy;
  const std::uint64_t five = copy.read()->find("nopspan", "retry")->offset;
  const std::uint64_t other = copy.read()->find("nopspan", "gauge")->offset;
  copy.contents.replace(five, 5, std::string("\x0f\x1f\x44\x00\x00", 5));
  copy.contents[other] = '\xcc';
  const auto file = copy.read();
  EXPECT_EQ(file->find("nopspan", "retry")->nop, NopKind::five_byte);
  EXPECT_EQ(file->find("nopspan", "gauge")->nop, NopKind::other);
  EXPECT_EQ(file->find("nopspan", "event")->nop, NopKind::one_byte);
}
#endif

TEST(ProbeFile, LeavesOutSitesThatNoKernelWouldTake) {
  const std::size_t all = Copy().read()->probes().size();
  for (const std::uint64_t wild : {std::uint64_t{0}, std::uint64_t{1} << 40U, UINT64_MAX}) {
    for (const int word : {0, 2}) {
      Copy copy;
      bool is_first = true;
      copy.for_each_note([&](std::uint64_t* words) {
        // A semaphore address of 0 means that the probe has none.
        if (std::exchange(is_first, false)) words[word] = word == 2 && wild == 0 ? words[0] : wild;
      });
      const auto file = copy.read();
      ASSERT_NE(file, nullptr);
      EXPECT_EQ(file->probes().size(), all - 1) << wild << " in word " << word;
    }
  }
}

TEST(ProbeFile, RefusesAFileWithCountlessSites) {
  Copy copy;
  // Adds section headers at the end of the file. 30 of them name the same notes.
  const Elf64_Ehdr& header = copy.header();
  const Elf64_Shdr notes = copy.section(".note.stapsdt");
  const std::string sections = copy.contents.substr(header.e_shoff, header.e_shnum * sizeof(Elf64_Shdr));
  copy.contents.resize((copy.contents.size() + 7) / 8 * 8);
  const std::size_t place = copy.contents.size();
  copy.contents += sections;
  for (int i = 0; i < 30; ++i) copy.contents.append(reinterpret_cast<const char*>(&notes), sizeof(notes));
  copy.header().e_shoff = place;
  copy.header().e_shnum = static_cast<Elf64_Half>(copy.header().e_shnum + 30);
  EXPECT_THAT(copy.why_not(), HasSubstr("more than 256 probe sites"));
}

// A small library, because the tests below write it several hundred times.
std::string stripped_library() {
  Copy copy;
  copy.read();
  strip("strip", copy.path);
  return contents_of(copy.path);
}

TEST(ProbeFile, ReadsAFileThatIsCutAnywhere) {
  Copy copy;
  const std::string whole = stripped_library();
  for (std::size_t length = 0; length < whole.size(); length += 1 + whole.size() / 200) {
    copy.contents = whole.substr(0, length);
    // The section headers are at the end, so a truncated file has none.
    EXPECT_EQ(copy.read(), nullptr) << length;
  }
}

TEST(ProbeFile, SurvivesDamage) {
  Copy copy;
  const std::string whole = copy.contents = stripped_library();
  std::mt19937 random(4711);
  const std::size_t sections = copy.header().e_shoff;
  const Elf64_Shdr notes = copy.section(".note.stapsdt");
  const std::pair<std::size_t, std::size_t> places[] = {
      {0, sizeof(Elf64_Ehdr)},
      {sizeof(Elf64_Ehdr), copy.header().e_phnum * sizeof(Elf64_Phdr)},
      {sections, copy.header().e_shnum * sizeof(Elf64_Shdr)},
      {notes.sh_offset, notes.sh_size}};
  for (int i = 0; i < 400; ++i) {
    const auto& [from, size] = places[i % 4];
    copy.contents = whole;
    for (unsigned n = 0; n < 1 + random() % 16; ++n)
      copy.contents[from + random() % size] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
    const auto file = copy.read();
    if (!file) continue;
    for (const Probe& probe : file->probes()) {
      EXPECT_LT(probe.offset, whole.size());
      EXPECT_LT(probe.semaphore_offset, whole.size());
    }
  }
}

TEST(ProbeFile, ReadsNoMoreThanIsReasonableOfAHugeFile) {
  Copy copy;
  copy.section(".note.stapsdt").sh_size = std::uint64_t{1} << 39U;
  copy.section(".symtab").sh_size = std::uint64_t{1} << 39U;
  copy.read();
  ASSERT_EQ(truncate(copy.path.c_str(), off_t{1} << 40U), 0);  // a sparse file
  const auto file = ProbeFile::read(open_regular(copy.path));
  ASSERT_NE(file, nullptr);
  EXPECT_TRUE(file->notes_are_missing());
}

TEST(ProbeFile, StaysReachableWhenItsNameIsGone) {
  Copy copy;
  const auto file = copy.read();
  ASSERT_EQ(unlink(copy.path.c_str()), 0);
  EXPECT_EQ(contents_of(file->attach_path()), copy.contents);
  EXPECT_NE(fcntl(file->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ProbeFile, IsOneInodeUnderTwoNames) {
  Copy copy;
  const auto file = copy.read();
  const std::string second = copy.path + ".2";
  ASSERT_EQ(link(copy.path.c_str(), second.c_str()), 0);
  EXPECT_TRUE(file->is_same_inode(*ProbeFile::read(open_regular(second))));
  EXPECT_FALSE(file->is_same_inode(*ProbeFile::read(open_regular(kProbeFile))));
}

TEST(ProbeFile, IsNotEveryFileWithItsInodeNumber) {
  const auto file = ProbeFile::read(open_regular(kProbeFile));
  FileId other = file->id();
  EXPECT_TRUE(file->may_be(other));
  ++other.device;
  EXPECT_TRUE(file->may_be(other)) << "on an overlay";
  ++other.changed_ns;
  EXPECT_FALSE(file->may_be(other));
  EXPECT_TRUE(file->may_be({other.device, other.inode, 0, 0, 0})) << "not more is known";
  other.device = file->id().device;
  EXPECT_TRUE(file->may_be(other)) << "changed meanwhile";
  ++other.inode;
  EXPECT_FALSE(file->may_be(other));
}

}  // namespace
}  // namespace nopspan::collector
