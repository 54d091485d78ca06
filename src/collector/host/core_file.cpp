// SPDX-License-Identifier: Apache-2.0
#include "host/core_file.h"

#include "base/failure.h"
#include "base/stopping.h"
#include "host/elf_file.h"
#include "host/probe_file.h"

#include <gelf.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostGates = 64;
constexpr std::size_t kMostSegments = 1U << 20U;
constexpr std::uint64_t kMostNotes = 16U << 20U;  // bytes
constexpr std::size_t kPiece = 1U << 20U;
constexpr std::uint64_t kCorePage = 4096;  // the gate is at the beginning of a page
// A request takes this long at most, because the child is killed after a second.
constexpr std::chrono::milliseconds kLongestRequest{200};

// The memory in a core file.
class CoreMemory {
 public:
  struct Segment {
    std::uint64_t address, size, offset;
    bool is_writable;
    [[nodiscard]] std::uint64_t end() const { return address + size; }
  };

  // Returns why the file cannot be read; "" if it can.
  std::string open(int fd);
  [[nodiscard]] const std::vector<Segment>& segments() const { return segments_; }
  [[nodiscard]] std::uint64_t file_size() const { return file_size_; }
  [[nodiscard]] bool is_truncated() const { return is_truncated_; }
  [[nodiscard]] std::optional<prpsinfo_t> process_info() const;

  [[nodiscard]] bool read(std::uint64_t address, char* to, std::uint64_t size) const;
  [[nodiscard]] bool read_file(std::uint64_t offset, void* to, std::uint64_t size) const {
    return pread(fd_, to, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
  }
  // The bytes from `offset` to the next data. The kernel leaves holes for memory that the process did not touch.
  [[nodiscard]] std::uint64_t hole_at(std::uint64_t offset) const {
    const off_t data = lseek(fd_, static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0) return errno == ENXIO ? file_size_ - offset : 0;  // none until the end; or not known
    return static_cast<std::uint64_t>(data) - offset;
  }

 private:
  void add(const GElf_Phdr& header);

  int fd_ = -1;
  std::uint64_t file_size_ = 0;
  bool is_truncated_ = false;
  std::unique_ptr<Elf, EndElf> elf_;
  std::vector<Segment> segments_;  // in order of address
  std::vector<GElf_Phdr> notes_;
};

std::string CoreMemory::open(int fd) {
  fd_ = fd;
  struct stat status = {};
  if (fstat(fd, &status) != 0) return std::strerror(errno);
  file_size_ = static_cast<std::uint64_t>(status.st_size);
  // Before libelf sees the file, because libelf allocates as much memory as the headers ask for.
  Elf64_Ehdr header{};
  if (!read_file(0, &header, sizeof(header)) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_type != ET_CORE)
    return "it is not a core file";
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != kElfMachine)
    return "it is a core file of another architecture";
  elf_version(EV_CURRENT);
  elf_.reset(elf_begin(fd, ELF_C_READ, nullptr));
  std::size_t count = 0;
  if (header.e_phentsize != sizeof(Elf64_Phdr) || !elf_ || elf_getphdrnum(elf_.get(), &count) != 0 || count == 0 ||
      count > std::min<std::uint64_t>(kMostSegments, file_size_ / sizeof(Elf64_Phdr)))
    return "its headers are damaged";
  for (std::size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf_.get(), static_cast<int>(i), &segment) == nullptr) return "its headers are damaged";
    add(segment);
  }
  std::sort(segments_.begin(), segments_.end(),
            [](const Segment& a, const Segment& b) { return a.address < b.address; });
  return "";
}

void CoreMemory::add(const GElf_Phdr& header) {
  if (header.p_type == PT_NOTE) notes_.push_back(header);
  if (header.p_type != PT_LOAD || header.p_filesz == 0) return;
  Segment segment{header.p_vaddr, header.p_filesz, header.p_offset, (header.p_flags & PF_W) != 0};
  const std::uint64_t there = segment.offset < file_size_ ? file_size_ - segment.offset : 0;
  if (segment.size > there) {
    is_truncated_ = true;
    segment.size = there;
  }
  if (segment.size > 0 && segment.end() > segment.address) segments_.push_back(segment);
}

std::optional<prpsinfo_t> CoreMemory::process_info() const {
  for (const GElf_Phdr& notes : notes_) {
    if (notes.p_filesz > kMostNotes) continue;
    Elf_Data* data =
        elf_getdata_rawchunk(elf_.get(), static_cast<std::int64_t>(notes.p_offset), notes.p_filesz, ELF_T_NHDR);
    std::optional<prpsinfo_t> info;
    for_each_note(data, [&info](std::string_view /*name*/, std::uint32_t type, std::string_view description) {
      if (info || type != NT_PRPSINFO || description.size() < sizeof(*info)) return;
      std::memcpy(&info.emplace(), description.data(), sizeof(*info));
      info->pr_fname[sizeof(info->pr_fname) - 1] = '\0';
    });
    if (info) return info;
  }
  return std::nullopt;
}

// Mappings that are next to each other are one memory, so a value may begin in one segment and end in the next.
bool CoreMemory::read(std::uint64_t address, char* to, std::uint64_t size) const {
  while (size > 0) {
    auto segment = std::upper_bound(segments_.begin(), segments_.end(), address,
                                    [](std::uint64_t at, const Segment& other) { return at < other.address; });
    if (segment == segments_.begin()) return false;
    --segment;
    if (address >= segment->end()) return false;
    const std::uint64_t into = address - segment->address;
    const std::uint64_t part = std::min(size, segment->size - into);
    if (!read_file(segment->offset + into, to, part)) return false;
    address += part;
    to += part;
    size -= part;
  }
  return true;
}

// Where a search goes on, and what it has found. It is both the request and the answer.
struct Search {
  std::uint64_t segment, into;  // the place in this segment
  std::uint64_t searched;       // bytes
  std::uint32_t pid;
  std::uint32_t is_done, is_truncated;  // 0 or 1
  char comm[16];
  std::uint64_t gate_count;
  std::array<std::uint64_t, kMostGates> gates;
};

// Searches one piece of a segment. The gate's page begins with the gate, and has the magic word.
void search_piece(const CoreMemory& core, const CoreMemory::Segment& segment, std::uint64_t into, std::string& bytes,
                  Search& search) {
  bytes.resize(std::min<std::uint64_t>(kPiece, segment.size - into));
  if (!core.read_file(segment.offset + into, bytes.data(), bytes.size())) return;
  for (std::size_t at = 0; at + sizeof(nopspan_gate_page) <= bytes.size(); at += kCorePage) {
    std::uint64_t magic = 0;
    std::memcpy(&magic, bytes.data() + at + offsetof(nopspan_gate_page, magic), sizeof(magic));
    if (magic == NOPSPAN_GATE_MAGIC && search.gate_count < kMostGates)
      search.gates[search.gate_count++] = segment.address + into + at;
  }
}

// In the child, because opening may block too.
Answer open_core_work(std::uint32_t /*pid*/, std::string_view path, OpenFile /*file*/) {
  OpenFile file = open_regular(std::string(path));
  return {file ? 0 : errno, "", std::move(file)};
}

Answer search_work(std::uint32_t /*pid*/, std::string_view request, OpenFile file) {
  CoreMemory core;
  if (std::string why = core.open(file.get()); !why.empty()) return {ENOEXEC, std::move(why), OpenFile()};
  Search search{};
  std::memcpy(&search, request.data(), sizeof(search));
  search.is_truncated = core.is_truncated() ? 1 : 0;
  if (const auto info = core.process_info()) {
    search.pid = static_cast<std::uint32_t>(info->pr_pid);
    std::memcpy(search.comm, info->pr_fname, sizeof(search.comm));
  }
  const auto until = std::chrono::steady_clock::now() + kLongestRequest;
  std::string bytes;
  // Segments of a damaged file may overlap. Those of a core file do not, so the search ends at the file's size.
  while (search.segment < core.segments().size() && search.searched <= core.file_size() &&
         std::chrono::steady_clock::now() < until) {
    const CoreMemory::Segment& segment = core.segments()[search.segment];
    if (!segment.is_writable || search.into >= segment.size) {
      ++search.segment;
      search.into = 0;
      continue;
    }
    if (const std::uint64_t hole = core.hole_at(segment.offset + search.into) / kCorePage; hole > 0) {
      search.into += std::min(hole * kCorePage, segment.size - search.into);
      continue;
    }
    search_piece(core, segment, search.into, bytes, search);
    search.into += bytes.size();
    search.searched += bytes.size();
  }
  const bool is_done = search.segment >= core.segments().size() || search.searched > core.file_size();
  search.is_done = is_done ? 1 : 0;
  return {0, {reinterpret_cast<const char*>(&search), sizeof(search)}, OpenFile()};
}

Answer core_spans_work(std::uint32_t /*pid*/, std::string_view request, OpenFile file) {
  CoreMemory core;
  if (const std::string why = core.open(file.get()); !why.empty()) return {EBADMSG, "", OpenFile()};
  std::uint64_t gate_address = 0;
  std::memcpy(&gate_address, request.data(), sizeof(gate_address));
  const ReadRanges read = [&core](std::span<const MemoryRange> ranges, void* to) {
    auto* at = static_cast<char*>(to);
    for (const MemoryRange& range : ranges) {
      if (!core.read(range.address, at, range.size)) return false;
      at += range.size;
    }
    return true;
  };
  // A core file does not have the time at which it was written.
  return pack_open_spans(read, gate_address, [] { return std::uint64_t{0}; });
}

}  // namespace

CoreFile::CoreFile(const std::string& path) {
  const auto refuse = [&path](const std::string& why) { throw Failure(path + ": " + why, Failure::kUsageError); };
  const auto check = [&refuse](const Answer& answer) {
    if (answer.error == ENOEXEC) refuse(answer.bytes);
    if (has_blocked(answer)) refuse("reading it blocked, or crashed the reader");
    if (answer.error != 0) refuse(std::strerror(answer.error));
  };
  Answer opened = read_process(0, open_core_work, path);
  check(opened);
  file_ = std::move(opened.file);
  Search search{};
  while (search.is_done == 0 && !stopping) {
    const std::string request(reinterpret_cast<const char*>(&search), sizeof(search));
    const Answer answer = read_process(0, search_work, request, file_.get());
    check(answer);
    if (answer.bytes.size() != sizeof(search)) refuse("its headers are damaged");
    std::memcpy(&search, answer.bytes.data(), sizeof(search));
  }
  pid_ = search.pid;
  comm_.assign(search.comm, strnlen(search.comm, sizeof(search.comm)));
  is_truncated_ = search.is_truncated != 0;
  gates_.assign(search.gates.begin(), search.gates.begin() + std::min<std::uint64_t>(search.gate_count, kMostGates));
  if (gates_.empty() && !stopping)
    refuse(is_truncated_ ? "it is truncated, and the rest has no nopspan library"
                         : "it has no nopspan library that shows open spans");
}

int CoreFile::read_open_spans(std::uint64_t gate_address, OpenSpans& open) const {
  const std::string_view request(reinterpret_cast<const char*>(&gate_address), sizeof(gate_address));
  return unpack_open_spans(read_process(0, core_spans_work, request, file_.get()), open);
}

}  // namespace nopspan::collector
