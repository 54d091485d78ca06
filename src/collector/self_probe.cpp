// SPDX-License-Identifier: Apache-2.0
#include "self_probe.h"

#include "maps.h"
#include "open_file.h"
#include "process_facts.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>

// In assembler, as the library's own: a function that nobody inlines, clones or changes.
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

// In a part of memory that is in the file: zeroes are not, elsewhere.
[[gnu::section(".data"), gnu::used]] volatile std::uint16_t semaphore = 0;

constexpr const char* kOwnFile = "/proc/self/exe";
constexpr std::uint32_t kTraceUprobeMulti = 48;  // BPF_TRACE_UPROBE_MULTI, of newer headers than ours may be

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

// Adds 1 to the value of the map. With no map: does nothing.
OpenFile load_program(int map, std::uint32_t expected_attach_type) {
  const auto instruction = [](std::uint8_t code, std::uint8_t to, std::uint8_t from, std::int32_t value) {
    bpf_insn result{};
    result.code = code;
    result.dst_reg = to & 0xfU;
    result.src_reg = from & 0xfU;
    result.imm = value;
    return result;
  };
  const std::array program = {
      instruction(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, map < 0 ? 0 : BPF_PSEUDO_MAP_VALUE, map < 0 ? 0 : map),
      instruction(0, 0, 0, 0),
      instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 1),
      map < 0 ? instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 2)
              : instruction(BPF_STX | BPF_DW | BPF_ATOMIC, BPF_REG_1, BPF_REG_2, BPF_ADD),
      instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0),
      instruction(BPF_JMP | BPF_EXIT, 0, 0, 0),
  };
  LIBBPF_OPTS(bpf_prog_load_opts, options);
  options.expected_attach_type = static_cast<bpf_attach_type>(expected_attach_type);
  return OpenFile(
      bpf_prog_load(BPF_PROG_TYPE_KPROBE, "nopspan_doctor", "Dual BSD/GPL", program.data(), program.size(), &options));
}

OpenFile open_uprobe() {
  const std::string type = read_small_file("/sys/bus/event_source/devices/uprobe/type", 16);
  if (type.empty()) {
    errno = ENOSYS;
    return OpenFile();
  }
  perf_event_attr attributes{};
  attributes.size = sizeof(attributes);
  attributes.type = static_cast<std::uint32_t>(std::strtoul(type.c_str(), nullptr, 10));
  attributes.uprobe_path = reinterpret_cast<std::uint64_t>(kOwnFile);
  attributes.probe_offset = site_offset();
  attributes.config = own_offset_of(reinterpret_cast<std::uint64_t>(&semaphore)).value_or(0) << 32U;
  // For all processes, as the collector attaches: any CPU will do, the program runs on all.
  return OpenFile(static_cast<int>(syscall(SYS_perf_event_open, &attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC)));
}

}  // namespace

SelfProbe try_self_probe() {
  SelfProbe result;
  const auto refuse = [&result](SelfProbe::Step step) {
    result.refused = step;
    result.error = errno;
    return result;
  };
  const OpenFile map(
      bpf_map_create(BPF_MAP_TYPE_ARRAY, "nopspan_doctor", sizeof(std::uint32_t), sizeof(std::uint64_t), 1, nullptr));
  if (!map) return refuse(SelfProbe::Step::map);
  const OpenFile program = load_program(map.get(), 0);
  if (!program) return refuse(SelfProbe::Step::program);
  {
    const OpenFile event = open_uprobe();
    if (!event) return refuse(SelfProbe::Step::event);
    if (ioctl(event.get(), PERF_EVENT_IOC_SET_BPF, program.get()) != 0 ||
        ioctl(event.get(), PERF_EVENT_IOC_ENABLE, 0) != 0)
      return refuse(SelfProbe::Step::attach);
    result.semaphore_rose = semaphore != 0;
    nopspan_doctor_site();
    const std::uint32_t key = 0;
    bpf_map_lookup_elem(map.get(), &key, &result.hits);
  }
  result.semaphore_fell = semaphore == 0;
  return result;
}

int try_uprobe_multi() {
  const OpenFile program = load_program(-1, kTraceUprobeMulti);
  if (!program) return errno;
  const std::uint64_t offset = site_offset();
  // union bpf_attr's link_create, as newer headers have it.
  struct {
    std::uint32_t program, target, type, flags;
    std::uint64_t path, offsets, semaphore_offsets, cookies;
    std::uint32_t count, multi_flags, pid, padding;
  } attributes{};
  attributes.program = static_cast<std::uint32_t>(program.get());
  attributes.type = kTraceUprobeMulti;
  attributes.path = reinterpret_cast<std::uint64_t>(kOwnFile);
  attributes.offsets = reinterpret_cast<std::uint64_t>(&offset);
  attributes.count = 1;
  const OpenFile link(static_cast<int>(syscall(SYS_bpf, BPF_LINK_CREATE, &attributes, sizeof(attributes))));
  return link ? 0 : errno;
}

}  // namespace nopspan::collector
