// SPDX-License-Identifier: Apache-2.0
#include "host/elf_file.h"

#include <gelf.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace nopspan::collector {
namespace {

// The most bytes that are read from one file, summed over its sections. Real files need far less. Without a limit a
// hostile file could make the collector read without end, because several section headers may name the same bytes.
constexpr std::uint64_t kMaximumRead = 128U << 20U;
constexpr std::size_t kMaximumName = 63;

// Returns why the file is not read; "" if it may be. Runs before libelf sees the file, because libelf allocates as much
// memory as the headers ask for.
std::string why_refused(const Elf64_Ehdr& header) {
  const unsigned char* ident = header.e_ident;
  if (std::memcmp(ident, ELFMAG, SELFMAG) != 0) return "it is not an ELF file";
  if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB) return "it is not 64-bit little-endian";
  if (header.e_machine != kElfMachine) return "it is for another architecture";
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) return "it is neither a program nor a shared library";
  if (header.e_shoff == 0 || header.e_shnum == 0) return "it has no section headers";
  const bool is_damaged =
      header.e_shentsize != sizeof(Elf64_Shdr) || header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == PN_XNUM;
  return is_damaged ? "its headers are damaged" : "";
}

}  // namespace

void for_each_note(Elf_Data* data, const OnNote& on_note) {
  if (data == nullptr || data->d_buf == nullptr) return;
  const auto* bytes = static_cast<const char*>(data->d_buf);
  GElf_Nhdr note;
  std::size_t name_at = 0;
  std::size_t description_at = 0;
  for (std::size_t at = 0, next = 0; (next = gelf_getnote(data, at, &note, &name_at, &description_at)) > at;
       at = next) {
    // n_namesz includes the NUL.
    const std::string_view name(bytes + name_at, note.n_namesz == 0 ? 0 : note.n_namesz - 1);
    on_note(name, note.n_type, {bytes + description_at, note.n_descsz});
  }
}

std::optional<ElfFile> ElfFile::open(int fd, std::uint64_t size, std::string& why_not) {
  ElfFile file;
  file.fd_ = fd;
  file.size_ = size;
  Elf64_Ehdr header{};
  why_not = file.read(0, &header, sizeof(header)) ? why_refused(header) : "it is not an ELF file";
  if (!why_not.empty()) return std::nullopt;
  elf_version(EV_CURRENT);
  file.elf_.reset(elf_begin(fd, ELF_C_READ, nullptr));
  if (!file.elf_ || !file.read_segments() || !file.read_sections(why_not)) {
    if (why_not.empty()) why_not = "its headers are damaged";
    return std::nullopt;
  }
  return file;
}

bool ElfFile::read_segments() {
  std::size_t count = 0;
  if (elf_getphdrnum(elf_.get(), &count) != 0) return false;
  for (std::size_t i = 0; i < count; ++i) {
    GElf_Phdr header;
    if (gelf_getphdr(elf_.get(), static_cast<int>(i), &header) == nullptr) return false;
    if (header.p_type != PT_LOAD) continue;
    segments_.push_back(
        {header.p_vaddr, header.p_offset, header.p_filesz, (header.p_flags & PF_X) != 0, (header.p_flags & PF_W) != 0});
  }
  return true;
}

std::string ElfFile::read_bytes(std::uint64_t offset, std::uint64_t size) const {
  if (offset > size_ || size > size_ - offset || size > kMaximumRead - read_) return {};
  read_ += size;
  std::string bytes(size, '\0');
  if (!read(offset, bytes.data(), bytes.size())) return {};
  return bytes;
}

bool ElfFile::read_sections(std::string& why_not) {
  std::size_t names_index = 0;
  if (elf_getshdrstrndx(elf_.get(), &names_index) != 0) return false;
  GElf_Shdr header;
  if (gelf_getshdr(elf_getscn(elf_.get(), names_index), &header) == nullptr) return false;
  const std::string names = read_bytes(header.sh_offset, header.sh_size);
  for (Elf_Scn* section = elf_nextscn(elf_.get(), nullptr); section != nullptr;
       section = elf_nextscn(elf_.get(), section)) {
    if (gelf_getshdr(section, &header) == nullptr) return false;
    if (header.sh_name >= names.size()) continue;
    const std::string_view name = std::string_view(names).substr(header.sh_name, kMaximumName);
    const bool is_loaded = (header.sh_flags & SHF_ALLOC) != 0;
    sections_.push_back({std::string(name.substr(0, name.find('\0'))), elf_ndxscn(section), header.sh_type,
                         header.sh_addr, header.sh_offset, header.sh_size, header.sh_link, is_loaded,
                         (header.sh_flags & SHF_TLS) != 0 && header.sh_type == SHT_NOBITS});
  }
  if (sections_.empty()) why_not = "its section headers cannot be read";
  return !sections_.empty();
}

const ElfFile::Section* ElfFile::section(std::string_view name) const {
  for (const Section& section : sections_)
    if (section.name == name) return &section;
  return nullptr;
}

std::optional<std::uint64_t> ElfFile::offset_of(std::uint64_t address, Use use) const {
  for (const Segment& segment : segments_) {
    if (use == Use::code ? !segment.is_code : !segment.is_data || segment.is_code) continue;
    if (address < segment.address || address - segment.address >= segment.size) continue;
    const std::uint64_t into = address - segment.address;
    if (segment.offset >= size_ || into >= size_ - segment.offset) continue;
    return segment.offset + into;
  }
  return std::nullopt;
}

bool ElfFile::read(std::uint64_t offset, void* to, std::size_t size) const {
  if (offset > INT64_MAX - size) return false;
  return pread(fd_, to, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

void ElfFile::for_each_note(const Section& section, const OnNote& on_note) const {
  if (section.type != SHT_NOTE || section.size > kMaximumRead - read_) return;
  read_ += section.size;
  Elf_Scn* handle = elf_getscn(elf_.get(), section.index);
  collector::for_each_note(handle == nullptr ? nullptr : elf_getdata(handle, nullptr), on_note);
}

std::optional<std::uint64_t> ElfFile::symbol(std::string_view name) const {
  for (const Section& section : sections_) {
    if ((section.type != SHT_SYMTAB && section.type != SHT_DYNSYM)) continue;
    const auto names_section = std::find_if(sections_.begin(), sections_.end(),
                                            [&](const Section& other) { return other.index == section.link; });
    if (names_section == sections_.end()) continue;
    const std::string names = read_bytes(names_section->offset, names_section->size);
    const std::string symbols = read_bytes(section.offset, section.size);
    for (std::size_t at = 0; symbols.size() - at >= sizeof(Elf64_Sym); at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, symbols.data() + at, sizeof(symbol));
      if (symbol.st_name >= names.size() || symbol.st_shndx == SHN_UNDEF) continue;
      const std::string_view rest = std::string_view(names).substr(symbol.st_name, name.size() + 1);
      if (rest.size() == name.size() + 1 && rest.starts_with(name) && rest.back() == '\0') return symbol.st_value;
    }
  }
  return std::nullopt;
}

}  // namespace nopspan::collector
