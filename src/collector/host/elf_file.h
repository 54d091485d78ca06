// SPDX-License-Identifier: Apache-2.0
// The parts of ELF files that a reader of probes needs. The file may have any content, even hostile content.
#pragma once

#include <libelf.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The machine of this program, as ELF names it.
#if defined(__aarch64__)
inline constexpr unsigned kElfMachine = EM_AARCH64;
#else
inline constexpr unsigned kElfMachine = EM_X86_64;
#endif

struct EndElf {
  void operator()(Elf* elf) const { elf_end(elf); }
};

using OnNote = std::function<void(std::string_view name, std::uint32_t type, std::string_view description)>;
// For the notes in the data of a section or segment, which may be null.
void for_each_note(Elf_Data* data, const OnNote& on_note);

// A program or shared library: 64-bit, little-endian, for this machine. It is read with pread(2) and never mapped,
// because a file that is truncated while it is mapped would kill the collector with SIGBUS.
class ElfFile {
 public:
  // `fd` must stay open. Empty if the file is not such a file; `why_not` then has the reason.
  static std::optional<ElfFile> open(int fd, std::uint64_t size, std::string& why_not);

  struct Section {
    std::string name;  // at most its first 63 characters
    std::uint64_t index = 0, type = 0, address = 0, offset = 0, size = 0, link = 0;
    bool is_loaded = false;
    bool is_tls_bss = false;  // occupies no memory at its address
  };
  [[nodiscard]] const std::vector<Section>& sections() const { return sections_; }
  [[nodiscard]] const Section* section(std::string_view name) const;  // the first with this name; null if there is none

  enum class Use : std::uint8_t { code, data };
  // The file offset of an address of the program. Empty if no executable segment (for code) or writable segment (for
  // data) has the address.
  [[nodiscard]] std::optional<std::uint64_t> offset_of(std::uint64_t address, Use use) const;
  // Returns whether all bytes could be read.
  [[nodiscard]] bool read(std::uint64_t offset, void* to, std::size_t size) const;

  void for_each_note(const Section& section, const OnNote& on_note) const;
  // The value of a symbol that the file defines, in either symbol table. Empty if there is none.
  [[nodiscard]] std::optional<std::uint64_t> symbol(std::string_view name) const;

 private:
  struct Segment {
    std::uint64_t address, offset, size;
    bool is_code, is_data;
  };

  ElfFile() = default;
  [[nodiscard]] std::string read_bytes(std::uint64_t offset, std::uint64_t size) const;
  bool read_sections(std::string& why_not);
  bool read_segments();

  int fd_ = -1;
  std::uint64_t size_ = 0;
  mutable std::uint64_t read_ = 0;  // bytes of sections read so far
  std::unique_ptr<Elf, EndElf> elf_;
  std::vector<Section> sections_;
  std::vector<Segment> segments_;
};

}  // namespace nopspan::collector
