// SPDX-License-Identifier: Apache-2.0
#include "live/task_layout.h"

#include "base/open_file.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <linux/bpf.h>

#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string_view>

namespace nopspan::collector {
namespace {

// The kernel refuses to load a program with a helper that it does not permit.
bool may_read_kernel() {
  const bpf_insn program[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 1, .src_reg = 10, .off = 0, .imm = 0},
      {.code = BPF_ALU64 | BPF_ADD, .dst_reg = 1, .src_reg = 0, .off = 0, .imm = -8},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .src_reg = 0, .off = 0, .imm = 8},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = BPF_FUNC_probe_read_kernel},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  return static_cast<bool>(OpenFile(
      bpf_prog_load(BPF_PROG_TYPE_KPROBE, "nopspan_read", "Dual BSD/GPL", program, std::size(program), nullptr)));
}

struct Place {
  std::uint32_t type = 0;    // of the member
  std::uint32_t offset = 0;  // in the outermost struct
};

// Finds a member of a struct, or of a struct without a name in it.
std::optional<Place> member_of(const btf* types, std::uint32_t type, std::string_view name) {
  const btf_type* outer = btf__type_by_id(types, type);
  if (outer == nullptr || !btf_is_composite(outer)) return std::nullopt;
  for (std::uint32_t i = 0; i < btf_vlen(outer); ++i) {
    const btf_member& member = btf_members(outer)[i];
    const std::uint32_t offset = btf_member_bit_offset(outer, i) / 8;
    const std::string_view found = btf__name_by_offset(types, member.name_off);
    if (found == name) return Place{member.type, offset};
    if (!found.empty()) continue;
    if (const auto inner = member_of(types, member.type, name)) return Place{inner->type, offset + inner->offset};
  }
  return std::nullopt;
}

class Layout {
 public:
  explicit Layout(const btf* types) : types_(types) {}

  // The offset of a member. `inner` is a member of that member, which is a struct.
  std::uint32_t offset(const char* of, std::string_view name, std::string_view inner = {}) {
    const std::int32_t type = btf__find_by_name_kind(types_, of, BTF_KIND_STRUCT);
    auto place = type < 0 ? std::nullopt : member_of(types_, static_cast<std::uint32_t>(type), name);
    std::uint32_t offset = place ? place->offset : 0;
    if (place && !inner.empty()) {
      place = member_of(types_, place->type, inner);
      offset += place ? place->offset : 0;
    }
    is_whole_ = is_whole_ && place.has_value();
    return offset;
  }
  std::uint32_t size(const char* of) {
    const std::int32_t type = btf__find_by_name_kind(types_, of, BTF_KIND_STRUCT);
    is_whole_ = is_whole_ && type >= 0;
    return type < 0 ? 0 : btf__type_by_id(types_, static_cast<std::uint32_t>(type))->size;
  }
  [[nodiscard]] bool is_whole() const { return is_whole_; }

 private:
  const btf* types_;
  bool is_whole_ = true;
};

}  // namespace

nopspan_task_layout find_task_layout() {
  const std::unique_ptr<btf, decltype(&btf__free)> types(btf__load_vmlinux_btf(), btf__free);
  if (!types || !may_read_kernel()) return {};
  Layout layout(types.get());
  nopspan_task_layout found{};
  found.group_leader = layout.offset("task_struct", "group_leader");
  found.thread_pid = layout.offset("task_struct", "thread_pid");
  found.level = layout.offset("pid", "level");
  found.numbers = layout.offset("pid", "numbers");
  found.number_bytes = layout.size("upid");
  found.number = layout.offset("upid", "nr");
  found.space = layout.offset("upid", "ns");
  found.inode = layout.offset("pid_namespace", "ns", "inum");
  return layout.is_whole() ? found : nopspan_task_layout{};
}

}  // namespace nopspan::collector
