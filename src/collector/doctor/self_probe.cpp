// SPDX-License-Identifier: Apache-2.0
#include "doctor/self_probe.h"

#include "base/open_file.h"
#include "host/maps.h"
#include "live/probe_link.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <optional>

// Written in assembler like the library's sites, so that the compiler does not inline, clone or change it.
asm(".pushsection .text\n"
    ".balign 16\n"
    ".globl nopspan_doctor_site\n"
    ".hidden nopspan_doctor_site\n"
    ".type nopspan_doctor_site, %function\n"
    "nopspan_doctor_site:\n"
    "nop\n"
    "ret\n"
    ".size nopspan_doctor_site, .-nopspan_doctor_site\n"
    ".popsection\n");
extern "C" void nopspan_doctor_site();

namespace nopspan::collector {
namespace {

// In .data, because the kernel finds a semaphore by its offset in the file. As a zero it would be in .bss, which is not
// in the file.
[[gnu::section(".data"), gnu::used]] volatile std::uint16_t semaphore = 0;

constexpr const char* kOwnFile = "/proc/self/exe";

std::optional<std::uint64_t> own_offset_of(std::uint64_t address) {
  std::optional<std::uint64_t> offset;
  for_each_mapping(static_cast<std::uint32_t>(getpid()), [&](const Mapping& mapping) {
    if (address < mapping.start || address >= mapping.end) return true;
    offset = mapping.offset + (address - mapping.start);
    return false;
  });
  return offset;
}

std::uint64_t site_offset() { return own_offset_of(reinterpret_cast<std::uint64_t>(&nopspan_doctor_site)).value_or(0); }

// Loads a BPF program that adds 1 to the value in the map.
OpenFile load_program(int map, std::uint32_t expected_attach_type) {
  const bpf_insn program[] = {
      // NOLINTNEXTLINE(misc-redundant-expression): named constants that are 0
      {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_VALUE, .off = 0, .imm = map},
      {},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .src_reg = 0, .off = 0, .imm = 1},
      {.code = BPF_STX | BPF_DW | BPF_ATOMIC, .dst_reg = BPF_REG_1, .src_reg = BPF_REG_2, .off = 0, .imm = BPF_ADD},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  bpf_prog_load_opts options{};  // LIBBPF_OPTS is not standard C++
  options.sz = sizeof options;
  options.expected_attach_type = static_cast<bpf_attach_type>(expected_attach_type);
  return OpenFile(
      bpf_prog_load(BPF_PROG_TYPE_KPROBE, "nopspan_doctor", "Dual BSD/GPL", program, std::size(program), &options));
}

std::uint64_t semaphore_offset() { return own_offset_of(reinterpret_cast<std::uint64_t>(&semaphore)).value_or(0); }

SelfProbe probe_once() {
  SelfProbe result;
  const auto refuse = [&result](SelfProbe::Step step) {
    result.refused = step;
    result.error = errno;
    return result;
  };
  const OpenFile map(
      bpf_map_create(BPF_MAP_TYPE_ARRAY, "nopspan_doctor", sizeof(std::uint32_t), sizeof(std::uint64_t), 1, nullptr));
  if (!map) return refuse(SelfProbe::Step::load);
  const OpenFile program = load_program(map.get(), has_uprobe_multi() ? kUprobeMulti : 0);
  if (!program) return refuse(SelfProbe::Step::load);
  {
    const OpenFile link = attach_uprobe(program.get(), kOwnFile, site_offset(), semaphore_offset(), -1);
    if (!link) return refuse(SelfProbe::Step::attach);
    result.semaphore_rose = semaphore != 0;
    nopspan_doctor_site();
    const std::uint32_t key = 0;
    bpf_map_lookup_elem(map.get(), &key, &result.hits);
  }
  result.semaphore_fell = semaphore == 0;
  return result;
}

}  // namespace

SelfProbe try_self_probe() {
  SelfProbe result = probe_once();
  // Another process with this program may hit its site at the same moment.
  for (int i = 0; i < 5 && result.hits > 1; ++i) result = probe_once();
  return result;
}

}  // namespace nopspan::collector
