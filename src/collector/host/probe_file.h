// SPDX-License-Identifier: Apache-2.0
// The parts of nopspan in one ELF file: its probes, their offsets in the file, and its gate.
#pragma once

#include "base/open_file.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct statx;

namespace nopspan::collector {

class ElfFile;
struct ProbeNote;

// Identifies one state of a file by the fields of statx(2). The inode number alone is not enough, because it is reused
// after the file is deleted.
struct FileId {
  std::uint64_t device = 0, inode = 0, size = 0;
  std::int64_t modified_ns = 0, changed_ns = 0;

  static FileId of(const struct statx& status);
  // Of an open file, from what the kernel knows, because a file server may not answer. Empty if that fails.
  static std::optional<FileId> of(int fd);
  // The regular file at a path, looked up in the child that reads (process_reader.h). Empty if there is none; `error`
  // then has an errno value.
  static std::optional<FileId> at(const std::string& path, int* error = nullptr);
  friend bool operator==(const FileId&, const FileId&) = default;
};
void to_json(nlohmann::json& json, const FileId& id);
// If `json` is damaged, all fields are 0.
void from_json(const nlohmann::json& json, FileId& id);
struct FileIdHash {
  std::size_t operator()(const FileId& id) const;
};

enum class NopKind : std::uint8_t {
  one_byte,   // the one that nopspan emits
  five_byte,  // the kernel's optimised form would write into the traced function's red zone
  other,
};
const char* to_string(NopKind kind);

// One site of a probe. Offsets count from the file's first byte, as uprobes expect.
struct Probe {
  std::string provider;  // "nopspan" or "nopspan_batch"
  std::string name;
  std::uint64_t offset = 0;
  std::uint64_t address = 0;            // as linked
  std::uint64_t semaphore_address = 0;  // as linked; 0 if the note has no semaphore
  std::uint64_t semaphore_offset = 0;   // ref_ctr_offset
  NopKind nop = NopKind::other;

  friend bool operator==(const Probe&, const Probe&) = default;
};

// Opens a file for reading only if it is regular, because opening a device may have an effect: opening /dev/watchdog
// starts a timer that resets the machine. The path may lead to another file at any time, so the check follows the open.
// A file that is not regular is only opened with O_PATH. If the file is not `wanted` (nullptr: any), the result is
// empty and errno is ENOENT.
OpenFile open_regular(const std::string& path, const FileId* wanted = nullptr);

// A file with nopspan's probes, or one that has lost its notes. It is held open for two reasons. /proc/self/fd/N
// reaches it even if it was replaced or is in another mount namespace, and its inode number cannot be reused.
class ProbeFile {
 public:
  // Reads an open file. Null if it does not contain nopspan or is not a 64-bit little-endian ELF file for this machine;
  // `why_not` then has the reason. Safe with files that are damaged, hostile, or change while they are read.
  static std::shared_ptr<const ProbeFile> read(OpenFile file, std::string* why_not = nullptr);

  // A description of everything but the open file, and the object that it describes. Null if it is damaged.
  [[nodiscard]] std::string packed() const;
  static std::shared_ptr<const ProbeFile> unpacked(std::string_view description, OpenFile file);

  [[nodiscard]] int fd() const { return file_.get(); }
  // The path to attach to, "/proc/self/fd/N". Valid as long as this object exists.
  [[nodiscard]] const std::string& attach_path() const { return attach_path_; }
  // The file's state when it was read.
  [[nodiscard]] const FileId& id() const { return id_; }

  // All sites that the notes describe. Empty only if notes_are_missing().
  [[nodiscard]] const std::vector<Probe>& probes() const { return probes_; }
  // The first site of a probe. Null if there is none.
  [[nodiscard]] const Probe* find(std::string_view provider, std::string_view name) const;
  // The probe that nopspan attaches to. Null if there is none; nopspan then cannot trace the file.
  [[nodiscard]] const Probe* batch_probe() const;
  // Whether it has several gates, of which only the batch probe's can be raised by nopspan: nopspan_mini.h and the
  // static library together. Newer ones cannot be linked into one file.
  [[nodiscard]] bool has_several_gates() const;
  // The reason why there is no batch probe, for people.
  [[nodiscard]] const char* why_not_traceable() const;
  // Whether the file contains nopspan but not its notes. llvm-strip deletes them.
  [[nodiscard]] bool notes_are_missing() const { return probes_.empty(); }

  // The place of struct nopspan_gate_page, normally in the section .probes. It is found by the notes' semaphores, or
  // without notes by a symbol or by the section itself.
  struct Gate {
    std::uint64_t address = 0, offset = 0;  // the address as linked, and the file offset
    // The size of .probes. 0 if the gate is in another section, where bpftrace 0.17 does not find it.
    std::uint64_t section_size = 0;
    bool is_page_aligned = false;
    bool is_alone = false;          // no other section is in its page
    std::uint64_t abi_version = 0;  // as the file has it
  };
  [[nodiscard]] bool has_gate() const { return gate_.address != 0; }
  [[nodiscard]] const Gate& gate() const { return gate_; }

  // Whether the kernel sees both files as one inode, which must be attached to only once. In two containers of one
  // image a file has two device numbers, but one inode below the overlay.
  [[nodiscard]] bool is_same_inode(const ProbeFile& other) const;
  // The same for a file that is not open here. If only its device and inode are known, the inode decides.
  [[nodiscard]] bool may_be(const FileId& other) const;

 private:
  ProbeFile() = default;
  // These read one file, in this order.
  bool read_notes(const ElfFile& elf, std::string& why_not);
  void add_site(const ElfFile& elf, const ProbeNote& note, std::uint64_t shift);
  void find_gate(const ElfFile& elf);
  void look_at_gate(const ElfFile& elf, std::uint64_t address);
  void set_file(OpenFile file);

  OpenFile file_;
  std::string attach_path_;
  FileId id_;
  bool on_overlay_ = false;
  std::vector<Probe> probes_;
  Gate gate_;
};
using ProbeFilePointer = std::shared_ptr<const ProbeFile>;

}  // namespace nopspan::collector
