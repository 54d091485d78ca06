// SPDX-License-Identifier: Apache-2.0
#include "host/probe_file.h"

#include "base/text.h"
#include "host/elf_file.h"
#include "host/process_reader.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <nopspan/probes.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

namespace nopspan::collector {

void to_json(nlohmann::json& json, const FileId& id) {
  json = {id.device, id.inode, id.size, id.modified_ns, id.changed_ns};
}
void from_json(const nlohmann::json& json, FileId& id) {
  try {
    json.at(0).get_to(id.device);
    json.at(1).get_to(id.inode);
    json.at(2).get_to(id.size);
    json.at(3).get_to(id.modified_ns);
    json.at(4).get_to(id.changed_ns);
  } catch (const nlohmann::json::exception&) {
    id = FileId();
  }
}
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Probe, provider, name, offset, address, semaphore_address, semaphore_offset, nop)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ProbeFile::Gate, address, offset, section_size, is_page_aligned, is_alone,
                                   abi_version)

// One note in the format of sys/sdt.h.
struct ProbeNote {
  std::uint64_t address, base, semaphore;
  std::string_view provider, name;
};

namespace {

// A library has about a dozen sites. Some linkers keep several copies of one object.
constexpr std::size_t kMaximumSites = 256;
constexpr std::string_view kNotes = ".note.stapsdt";
constexpr std::string_view kSection = ".probes";

#if defined(__aarch64__)
constexpr std::uint64_t kGatePage = 65536;
#else
constexpr std::uint64_t kGatePage = 4096;
#endif

std::optional<ProbeNote> parse_note(std::string_view description) {
  std::array<std::uint64_t, 3> words{};
  if (description.size() < sizeof(words)) return std::nullopt;
  std::memcpy(words.data(), description.data(), sizeof(words));
  description.remove_prefix(sizeof(words));
  if (std::count(description.begin(), description.end(), '\0') < 2) return std::nullopt;
  return ProbeNote{words[0], words[1], words[2], take_before(description, '\0'), take_before(description, '\0')};
}

NopKind nop_at(const ElfFile& elf, std::uint64_t offset) {
  std::array<unsigned char, 5> site{};
  if (!elf.read(offset, site.data(), site.size())) return NopKind::other;
  const auto is = [&site](std::initializer_list<unsigned char> what) {
    return std::equal(what.begin(), what.end(), site.begin());
  };
#if defined(__aarch64__)
  if (is({0x1f, 0x20, 0x03, 0xd5})) return NopKind::one_byte;  // aarch64 has only one nop
#else
  if (is({0x90})) return NopKind::one_byte;
  if (is({0x0f, 0x1f, 0x44, 0x00, 0x00})) return NopKind::five_byte;
#endif
  return NopKind::other;
}

// The address of the gate in a file without notes; 0 if it has none.
std::uint64_t gate_by_symbol(const ElfFile& elf) {
  if (const auto gate = elf.symbol("nopspan_gate")) return *gate;
  const ElfFile::Section* section = elf.section(kSection);
  if (section == nullptr) return 0;
  // Other libraries have semaphores in a section of this name. Without a symbol, accept the section only if it looks
  // like a gate's page.
  std::array<std::uint64_t, 2> words{};
  if (section->address % kGatePage != 0 || section->size < kGatePage) return 0;
  if (!elf.read(section->offset, words.data(), sizeof(words))) return 0;
  const bool looks_like_one = words[0] == 0 && words[1] >= 1 && words[1] < 256;
  return looks_like_one || elf.symbol("nopspan_gate_ptr") ? section->address : 0;
}

}  // namespace

bool ProbeFile::read_notes(const ElfFile& elf, std::string& why_not) {
  const ElfFile::Section* base = elf.section(".stapsdt.base");
  bool too_many = false;
  for (const ElfFile::Section& section : elf.sections()) {
    if (section.name != kNotes) continue;
    elf.for_each_note(section, [&](std::string_view name, std::uint32_t type, std::string_view description) {
      if (name != "stapsdt" || type != 3) return;
      const auto note = parse_note(description);
      if (!note || (note->provider != NOPSPAN_PROVIDER && note->provider != NOPSPAN_BATCH_PROVIDER)) return;
      if (probes_.size() == kMaximumSites) too_many = true;
      // prelink moves sections without updating the notes. The section's address shows by how much.
      else
        add_site(elf, *note, base != nullptr && note->base != 0 ? base->address - note->base : 0);
    });
  }
  if (too_many) why_not = "it has more than " + std::to_string(kMaximumSites) + " probe sites";
  return !too_many;
}

void ProbeFile::add_site(const ElfFile& elf, const ProbeNote& note, std::uint64_t shift) {
  Probe probe;
  const auto offset = elf.offset_of(note.address + shift, ElfFile::Use::code);
  if (!offset) return;  // the kernel would reject it
  probe.provider = note.provider;
  probe.name = note.name.substr(0, 63);
  probe.offset = *offset;
  probe.address = note.address + shift;
  if (note.semaphore != 0) {
    const auto semaphore = elf.offset_of(note.semaphore + shift, ElfFile::Use::data);
    if (!semaphore) return;
    probe.semaphore_address = note.semaphore + shift;
    probe.semaphore_offset = *semaphore;
  }
  probe.nop = nop_at(elf, probe.offset);
  probes_.push_back(std::move(probe));
}

void ProbeFile::find_gate(const ElfFile& elf) {
  // The span probes' semaphore is the first part of the gate.
  for (const Probe& probe : probes_)
    if (probe.semaphore_address != 0 && probe.name.starts_with("span_"))
      return look_at_gate(elf, probe.semaphore_address);
  if (probes_.empty() && elf.section(kSection) != nullptr) look_at_gate(elf, gate_by_symbol(elf));
}

void ProbeFile::look_at_gate(const ElfFile& elf, std::uint64_t address) {
  const auto offset = elf.offset_of(address, ElfFile::Use::data);
  if (address == 0 || !offset) return;
  Gate& gate = gate_;
  gate.address = address;
  gate.offset = *offset;
  gate.is_page_aligned = address % kGatePage == 0;
  gate.is_alone = true;
  const std::uint64_t page = address / kGatePage * kGatePage;
  for (const ElfFile::Section& section : elf.sections()) {
    if (!section.is_loaded || section.size == 0) continue;
    const bool has_gate = section.address <= address && address - section.address < section.size;
    if (has_gate && section.name == kSection) {
      gate.section_size = section.size;
      if (section.address > page || address - section.address + kGatePage > section.size) gate.is_alone = false;
    } else if (section.address < page + kGatePage && page < section.address + section.size && !section.is_tls_bss) {
      gate.is_alone = false;
    }
  }
  std::uint64_t version = 0;
  if (elf.read(gate.offset + offsetof(nopspan_gate_page, abi_version), &version, sizeof(version)))
    gate.abi_version = version;
}

ProbeFilePointer ProbeFile::read(OpenFile file, std::string* why_not) {
  std::string ignored;
  std::string& reason = why_not != nullptr ? *why_not : ignored;
  const auto refuse = [&reason](const char* why) {
    reason = why;
    return nullptr;
  };
  struct statx status {};
  if (statx(file.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status) != 0) return refuse(std::strerror(errno));
  if (!S_ISREG(status.stx_mode)) return refuse("it is not a regular file");
  const auto elf = ElfFile::open(file.get(), status.stx_size, reason);
  if (!elf) return nullptr;
  std::shared_ptr<ProbeFile> result(new ProbeFile);
  if (!result->read_notes(*elf, reason)) return nullptr;
  result->find_gate(*elf);
  if (result->probes_.empty() && !result->has_gate()) return refuse("it has no nopspan probes");
  struct statfs system {};
  result->on_overlay_ = fstatfs(file.get(), &system) == 0 && system.f_type == OVERLAYFS_SUPER_MAGIC;
  result->id_ = FileId::of(status);
  result->set_file(std::move(file));
  return result;
}

FileId FileId::of(const struct statx& status) {
  const auto ns = [](const statx_timestamp& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; };
  return {makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino, status.stx_size, ns(status.stx_mtime),
          ns(status.stx_ctime)};
}

std::optional<FileId> FileId::of(int fd) {
  struct statx status {};
  if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &status) != 0) return std::nullopt;
  return of(status);
}

std::optional<FileId> FileId::at(const std::string& path, int* error) {
  const auto work = [](std::uint32_t, std::string_view name, OpenFile) -> Answer {
    struct statx status {};
    if (statx(AT_FDCWD, std::string(name).c_str(), AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &status) != 0)
      return {errno, "", OpenFile()};
    if (!S_ISREG(status.stx_mode)) return {EINVAL, "", OpenFile()};
    const FileId id = of(status);
    return {0, {reinterpret_cast<const char*>(&id), sizeof(id)}, OpenFile()};
  };
  const Answer answer = read_process(0, work, path);
  if (error != nullptr) *error = answer.error;
  FileId id;
  if (answer.error != 0 || answer.bytes.size() != sizeof(id)) return std::nullopt;
  std::memcpy(&id, answer.bytes.data(), sizeof(id));
  return id;
}

std::size_t FileIdHash::operator()(const FileId& id) const {
  static_assert(std::has_unique_object_representations_v<FileId>);
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(&id), sizeof(id)});
}

const char* to_string(NopKind kind) {
  return kind == NopKind::one_byte ? "1-byte" : kind == NopKind::five_byte ? "5-byte" : "other";
}

OpenFile open_regular(const std::string& path, const FileId* wanted) {
  OpenFile file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat status {};
  if (!file || fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return file;
  if (wanted != nullptr && (status.st_dev != wanted->device || status.st_ino != wanted->inode)) {
    errno = ENOENT;
    return OpenFile();
  }
  return OpenFile(::open(("/proc/self/fd/" + std::to_string(file.get())).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

void ProbeFile::set_file(OpenFile file) {
  attach_path_ = "/proc/self/fd/" + std::to_string(file.get());
  file_ = std::move(file);
}

std::string ProbeFile::packed() const {
  const nlohmann::json description{{"id", id_}, {"on_overlay", on_overlay_}, {"probes", probes_}, {"gate", gate_}};
  std::string bytes;
  nlohmann::json::to_cbor(description, bytes);
  return bytes;
}

ProbeFilePointer ProbeFile::unpacked(std::string_view description, OpenFile file) {
  try {
    const auto json = nlohmann::json::from_cbor(description);
    std::shared_ptr<ProbeFile> result(new ProbeFile);
    json.at("id").get_to(result->id_);
    json.at("on_overlay").get_to(result->on_overlay_);
    json.at("probes").get_to(result->probes_);
    json.at("gate").get_to(result->gate_);
    if (!file || result->probes_.size() > kMaximumSites) return nullptr;
    result->set_file(std::move(file));
    return result;
  } catch (const nlohmann::json::exception&) {
    return nullptr;
  }
}

const Probe* ProbeFile::find(std::string_view provider, std::string_view name) const {
  const auto found = std::find_if(probes_.begin(), probes_.end(),
                                  [&](const Probe& probe) { return probe.provider == provider && probe.name == name; });
  return found == probes_.end() ? nullptr : &*found;
}

const Probe* ProbeFile::batch_probe() const { return find(NOPSPAN_BATCH_PROVIDER, "batch"); }

bool ProbeFile::has_several_gates() const {
  const Probe* first = batch_probe();
  return first != nullptr && std::any_of(probes_.begin(), probes_.end(), [first](const Probe& probe) {
           return probe.provider == first->provider && probe.semaphore_address != first->semaphore_address;
         });
}

const char* ProbeFile::why_not_traceable() const {
  return notes_are_missing() ? "its notes are missing (llvm-strip deletes them)"
                             : "it has nopspan probes, but not the batch probe, which nopspan needs";
}

bool ProbeFile::is_same_inode(const ProbeFile& other) const {
  auto a = FileId::of(fd());
  const auto b = FileId::of(other.fd());
  if (!a || !b) return false;
  // Both files are open, so neither inode number can have been reused.
  if (a->device == b->device) return a->inode == b->inode;
  if (!on_overlay_ && !other.on_overlay_) return false;
  a->device = b->device;
  return a == b;
}

bool ProbeFile::may_be(const FileId& other) const {
  // First, because a process may map 65,000 files.
  if (id_.inode != other.inode) return false;
  auto mine = FileId::of(fd());
  if (!mine) return false;
  if (mine->device == other.device || other.changed_ns == 0) return true;
  // Nobody can set the time of a change.
  mine->device = other.device;
  return mine == other;
}

}  // namespace nopspan::collector
