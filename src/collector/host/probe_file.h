// SPDX-License-Identifier: Apache-2.0
// What one ELF file has of nopspan: its probes, where they are in the file, and its gate.
#pragma once

#include "base/open_file.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct stat;

namespace nopspan::collector {

// What tells one state of a file from others, as stat(2) tells it. An inode's number alone does not: it is used again
// after the file was deleted.
struct FileId {
  std::uint64_t device = 0, inode = 0, size = 0;
  std::int64_t modified_ns = 0, changed_ns = 0;

  static FileId of(const struct stat& status);
  friend bool operator==(const FileId&, const FileId&) = default;
};
struct FileIdHash {
  std::size_t operator()(const FileId& id) const;
};

enum class NopKind : std::uint8_t {
  one_byte,   // what nopspan has
  five_byte,  // the kernel's optimised form would write into the traced function's red zone
  other,
};
const char* to_string(NopKind kind);

// One site of a probe. Offsets count from the file's first byte: what uprobes are set by.
struct Probe {
  std::string provider;  // "nopspan" or "nopspan_batch"
  std::string name;
  std::uint64_t address = 0;  // as linked
  std::uint64_t offset = 0;
  std::uint64_t semaphore_address = 0;  // as linked; 0: the note has no semaphore
  std::uint64_t semaphore_offset = 0;   // ref_ctr_offset
  std::string arguments;                // "8@%rdi 8@%rsi …"
  NopKind nop = NopKind::other;
  bool has_landing = false;  // endbr64 (x86-64) or bti c (aarch64) right before it

  friend bool operator==(const Probe&, const Probe&) = default;
};

// A file with probes of nopspan, or one that has lost its notes. It is held open, so that /proc/self/fd/N reaches it
// also when it was replaced or lies in another mount namespace, and so that nothing else gets its inode's number.
class ProbeFile {
 public:
  // Reads an opened file. Null if nopspan is not in it or it is no 64-bit little-endian ELF file for this machine;
  // `why_not` then says so. Safe with files that are damaged, hostile, or change while they are read.
  static std::shared_ptr<const ProbeFile> read(OpenFile file, std::string* why_not = nullptr);
  static std::shared_ptr<const ProbeFile> read(const std::string& path, std::string* why_not = nullptr);

  [[nodiscard]] int fd() const { return file_.get(); }
  // What to attach to: "/proc/self/fd/N", as long as this object lives.
  [[nodiscard]] const std::string& attach_path() const { return attach_path_; }
  // When it was read.
  [[nodiscard]] const FileId& id() const { return id_; }

  // All sites, as the notes have them. Empty only if notes_are_missing().
  [[nodiscard]] const std::vector<Probe>& probes() const { return probes_; }
  // The first site of a probe; null if there is none.
  [[nodiscard]] const Probe* find(std::string_view provider, std::string_view name) const;
  // The probe that nopspan attaches to. Null if there is none: then nopspan cannot trace the file.
  [[nodiscard]] const Probe* batch_probe() const;
  // Why there is no batch probe, for people.
  [[nodiscard]] const char* why_not_traceable() const;
  // nopspan is inside, but its notes are not: llvm-strip deletes them.
  [[nodiscard]] bool notes_are_missing() const { return probes_.empty(); }

  // Where struct nopspan_gate_page is: in the section .probes, by the notes' semaphores or, without notes, by a symbol
  // or the section itself.
  struct Gate {
    std::uint64_t address = 0, offset = 0;  // as linked, and in the file
    std::uint64_t section_size = 0;  // of .probes; 0: the gate is not in it, so that bpftrace 0.17 does not find it
    bool is_page_aligned = false;
    bool is_alone = false;          // no other section in its page
    std::uint64_t abi_version = 0;  // as the file has it
  };
  [[nodiscard]] bool has_gate() const { return gate_.address != 0; }
  [[nodiscard]] const Gate& gate() const { return gate_; }

  // Whether both are one inode for the kernel, that is to be attached to once. In two containers of one image a file
  // has two device numbers, but one inode lies below.
  [[nodiscard]] bool is_same_inode(const ProbeFile& other) const;

 private:
  friend class ProbeFileReader;
  ProbeFile() = default;

  OpenFile file_;
  std::string attach_path_;
  FileId id_;
  bool on_overlay_ = false;
  std::vector<Probe> probes_;
  Gate gate_;
};
using ProbeFilePointer = std::shared_ptr<const ProbeFile>;

}  // namespace nopspan::collector
