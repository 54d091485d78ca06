// SPDX-License-Identifier: Apache-2.0
#include "host/core_file.h"

#include "base/failure.h"
#include "host/elf_file.h"
#include "open_memory.h"
#include "temporary_file.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/procfs.h>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

template <typename T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// A core file of a memory.
struct Core {
  Elf64_Ehdr header{};
  std::vector<Elf64_Phdr> segments;
  std::string contents;  // of the segments, from kContents on

  static constexpr std::uint64_t kContents = 4096;

  explicit Core(const OpenMemory& memory) {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_CORE;
    header.e_machine = kElfMachine;
    header.e_version = EV_CURRENT;
    header.e_phoff = sizeof(header);
    header.e_ehsize = sizeof(header);
    header.e_phentsize = sizeof(Elf64_Phdr);
    prpsinfo_t info{};
    info.pr_pid = 4711;
    std::strcpy(info.pr_fname, "server");
    add(PT_NOTE, 0,
        bytes_of(Elf64_Nhdr{5, sizeof(info), NT_PRPSINFO}) + std::string("CORE\0\0\0\0", 8) + bytes_of(info));
    for (const auto& [address, part] : memory.parts()) add(PT_LOAD, address, part);
  }
  void add(unsigned type, std::uint64_t address, const std::string& part) {
    Elf64_Phdr segment{};
    segment.p_type = type;
    segment.p_flags = PF_R | PF_W;
    segment.p_vaddr = address;
    segment.p_offset = kContents + contents.size();
    segment.p_filesz = segment.p_memsz = part.size();
    segments.push_back(segment);
    contents += part;
  }
  void write(const TemporaryFile& file) {
    header.e_phnum = static_cast<Elf64_Half>(segments.size());
    write_as_is(file);
  }
  void write_as_is(const TemporaryFile& file) const {
    std::string all = bytes_of(header);
    for (const Elf64_Phdr& segment : segments) all += bytes_of(segment);
    all.resize(kContents);
    file.set_bytes(all + contents);
  }
};

OpenMemory some_memory() {
  OpenMemory memory;
  memory.add("request", 1, 0, 1000);
  memory.add("step", 2, 1, 3000);
  return memory;
}

class CoreFileOfAMemory : public testing::Test {
 protected:
  [[nodiscard]] std::string refusal() const {
    try {
      const CoreFile core(file.path());
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit_status, Failure::kUsageError);
      return failure.what();
    }
    return "";
  }

  TemporaryFile file;
  OpenSpans open;
};

TEST_F(CoreFileOfAMemory, HasTheOpenSpansOfItsProcess) {
  Core(some_memory()).write(file);
  const CoreFile core(file.path());
  EXPECT_EQ(core.pid(), 4711U);
  EXPECT_EQ(core.comm(), "server");
  EXPECT_FALSE(core.is_truncated());
  ASSERT_THAT(core.gates(), ElementsAre(OpenMemory::kGate));
  ASSERT_EQ(core.read_open_spans(OpenMemory::kGate, open), 0);
  ASSERT_THAT(open.spans, SizeIs(2));
  EXPECT_STREQ(open.spans[1].name, "step");
  EXPECT_TRUE(open.now_is_least);
  EXPECT_EQ(open.now_ns, 3000U);
}

TEST_F(CoreFileOfAMemory, WhoseSpansLieInTwoSegmentsIsReadLikeAnyOther) {
  OpenMemory memory = some_memory();
  const std::string all = memory.parts()[OpenMemory::kSpans];
  Core core(memory);
  core.segments.back().p_filesz = 300;  // the spans have the highest address
  core.add(PT_LOAD, OpenMemory::kSpans + 300, all.substr(300));
  core.write(file);
  ASSERT_EQ(CoreFile(file.path()).read_open_spans(OpenMemory::kGate, open), 0);
  EXPECT_THAT(open.spans, SizeIs(2));
}

TEST_F(CoreFileOfAMemory, ThatIsTruncatedSaysSo) {
  Core(some_memory()).write(file);
  const std::string whole = file.bytes();
  file.set_bytes(whole.substr(0, whole.size() - 300));
  const CoreFile core(file.path());
  EXPECT_TRUE(core.is_truncated());
  ASSERT_EQ(core.read_open_spans(OpenMemory::kGate, open), 0);
  EXPECT_EQ(open.unread, 2U);
  file.set_bytes(whole.substr(0, Core::kContents));
  EXPECT_THAT(refusal(), HasSubstr("it is truncated"));
}

TEST_F(CoreFileOfAMemory, WithSmallSegmentsIsSearchedToItsEnd) {
  OpenMemory memory = some_memory();
  for (std::uint64_t page = 1; page < 8; ++page) memory.more[page * 4096] = std::string(4096, '\0');
  Core(memory).write(file);
  EXPECT_THAT(CoreFile(file.path()).gates(), ElementsAre(OpenMemory::kGate));
}

// It would take many minutes to read the hole.
TEST_F(CoreFileOfAMemory, WithAHoleIsSearchedWithoutIt) {
  constexpr std::uint64_t kHole = std::uint64_t{4} << 40U;
  Core core(some_memory());
  core.add(PT_LOAD, std::uint64_t{1} << 46U, "");
  core.segments.back().p_filesz = kHole;
  core.write(file);
  const auto size = static_cast<off_t>(Core::kContents + core.contents.size() + kHole);
  ASSERT_EQ(ftruncate(file.open(O_WRONLY).get(), size), 0);
  const CoreFile read(file.path());
  EXPECT_THAT(read.gates(), ElementsAre(OpenMemory::kGate));
  EXPECT_FALSE(read.is_truncated());
}

TEST_F(CoreFileOfAMemory, MayEndAnywhere) {
  Core(some_memory()).write(file);
  const std::string whole = file.bytes();
  for (std::size_t size = 0; size < whole.size(); size += 61) {
    file.set_bytes(whole.substr(0, size));
    try {
      const CoreFile core(file.path());
      for (const std::uint64_t gate : core.gates()) core.read_open_spans(gate, open);
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit_status, Failure::kUsageError);
    }
  }
}

TEST_F(CoreFileOfAMemory, ThatIsNoneIsRefused) {
  EXPECT_THAT(refusal(), HasSubstr("No such file or directory"));
  file.set_bytes("a text");
  EXPECT_THAT(refusal(), HasSubstr("it is not a core file"));
  Core core(some_memory());
  core.header.e_type = ET_DYN;
  core.write(file);
  EXPECT_THAT(refusal(), HasSubstr("it is not a core file"));
  core.header.e_type = ET_CORE;
  core.header.e_machine = EM_RISCV;
  core.write(file);
  EXPECT_THAT(refusal(), HasSubstr("another architecture"));
}

TEST_F(CoreFileOfAMemory, WithoutTheLibraryIsRefused) {
  OpenMemory memory;
  memory.page.magic = 0;
  Core(memory).write(file);
  EXPECT_THAT(refusal(), HasSubstr("it has no nopspan library that shows open spans"));
}

TEST_F(CoreFileOfAMemory, WithDamagedHeadersIsRefused) {
  Core core(some_memory());
  core.header.e_phentsize = 8;
  core.write(file);
  EXPECT_THAT(refusal(), HasSubstr("its headers are damaged"));
  core.header.e_phentsize = sizeof(Elf64_Phdr);
  for (const unsigned count : {0U, 60000U, unsigned{PN_XNUM}}) {
    core.header.e_phnum = static_cast<Elf64_Half>(count);
    core.write_as_is(file);
    EXPECT_NE(refusal(), "") << count;
  }
  core.header.e_phoff = ~std::uint64_t{0} - 8;
  core.write(file);
  EXPECT_NE(refusal(), "");
}

TEST_F(CoreFileOfAMemory, WhoseSegmentsAreAllTheSameEnds) {
  Core core(OpenMemory{});
  core.contents.resize(8U << 20U);
  core.segments.clear();
  for (unsigned i = 0; i < 50; ++i) {
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_flags = PF_R | PF_W;
    segment.p_vaddr = std::uint64_t{i} << 32U;
    segment.p_offset = Core::kContents;
    segment.p_filesz = ~std::uint64_t{0} >> 1U;
    core.segments.push_back(segment);
  }
  core.write(file);
  EXPECT_THAT(refusal(), HasSubstr("it is truncated"));
}

}  // namespace
}  // namespace nopspan::collector
