// SPDX-License-Identifier: Apache-2.0
#include "base/gzip.h"
#include "base/open_file.h"
#include "base/text.h"
#include "doctor/checks.h"
#include "host/process_facts.h"
#include "host/tracers.h"
#include "live/kernel_programs.h"
#include "live/probe_link.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string_view>

namespace nopspan::collector {
namespace {

std::string setting(const std::string& path) {
  const std::string text = read_line(path);
  return text.empty() ? "unknown" : text;
}

void check_version(Checks& checks) {
  utsname name{};
  uname(&name);
  const std::string found = std::string(name.release) + ", " + name.machine;
  if (is_kernel_before(5, 10)) {
    checks.warn("kernel", found,
                "upgrade: nopspan is tested with Linux 5.10 and later, and needs the ring buffer of 5.8");
  } else {
    checks.ok("kernel", found);
  }
}

void check_uprobes(Checks& checks) {
  if (access("/sys/bus", F_OK) != 0) {
    checks.warn("uprobes", "not known, because /sys is not mounted",
                "mount -t sysfs sysfs /sys; the check `attach` shows whether they work");
  } else if (access("/sys/bus/event_source/devices/uprobe", F_OK) != 0) {
    checks.fail("uprobes", "the kernel does not support them", "use a kernel with CONFIG_UPROBE_EVENTS=y");
  } else if (access("/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset", F_OK) != 0) {
    checks.fail("uprobes", "no reference counters, so the gate would not be raised", "use Linux 4.20 or later");
  } else {
    checks.ok("uprobes", "supported, with reference counters");
  }
}

constexpr std::size_t kMostConfig = std::size_t{4} << 20U;

Preemption of_model(std::string_view model) {
  if (model == "none" || model == "voluntary") return Preemption::no;
  return model == "full" || model == "lazy" ? Preemption::yes : Preemption::unknown;
}

// The last of the words "preempt=MODEL".
Preemption of_command_line(const std::string& command_line) {
  constexpr std::string_view kOption = "preempt=";
  Preemption found = Preemption::unknown;
  std::istringstream words(command_line);
  for (std::string word; words >> word;) {
    if (!word.starts_with(kOption)) continue;
    const Preemption asked = of_model(std::string_view(word).substr(kOption.size()));
    if (asked != Preemption::unknown) found = asked;
  }
  return found;
}

Preemption of_config(const std::string& config) {
  std::istringstream lines(config);
  for (std::string line; std::getline(lines, line);) {
    if (line == "CONFIG_PREEMPT_NONE=y" || line == "CONFIG_PREEMPT_VOLUNTARY=y") return Preemption::no;
    if (line == "CONFIG_PREEMPT=y" || line == "CONFIG_PREEMPT_LAZY=y") return Preemption::yes;
  }
  return Preemption::unknown;
}

// Loads a program with two functions that together need more stack than a thread has for BPF programs. The kernel
// refuses it, unless each function has a private stack. Returns nothing if this program may not load BPF programs.
std::optional<bool> gives_private_stacks() {
  constexpr std::int16_t kStack = -320;  // bytes; a thread has 512
  const bpf_insn use_stack{
      .code = BPF_ST | BPF_DW | BPF_MEM, .dst_reg = BPF_REG_10, .src_reg = 0, .off = kStack, .imm = 0};
  const bpf_insn return_0{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = 0};
  const bpf_insn exit{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0};
  const bpf_insn skip_two{.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = BPF_PSEUDO_CALL, .off = 0, .imm = 2};
  const std::array program = {use_stack, skip_two, return_0, exit, use_stack, return_0, exit};
  const OpenFile loaded(
      bpf_prog_load(BPF_PROG_TYPE_KPROBE, "nopspan_stacks", "Dual BSD/GPL", program.data(), program.size(), nullptr));
  if (loaded) return true;
  if (errno != EACCES) return std::nullopt;
  return false;
}

// nopspan's programs have no private stacks (probes/collector.bpf.c), but those of bpftrace have.
void check_private_stacks(Checks& checks) {
  constexpr const char* kName = "private BPF stacks";
  const std::optional<bool> has = gives_private_stacks();
  if (!has) return;
  const PreemptionFacts facts = preemption_facts();
  const Preemption preemption = preemption_of(facts);
  if (!*has) {
    checks.ok(kName, "not used by this kernel");
  } else if (preemption == Preemption::no) {
    checks.ok(kName, "used by this kernel, which does not preempt BPF programs");
  } else if (preemption == Preemption::unknown) {
    checks.ok(kName, "used by this kernel; whether it preempts BPF programs is not known (docs/security.md)");
  } else {
    checks.warn(kName,
                "used by this kernel, which preempts BPF programs: in bpftrace's programs on probes, threads can "
                "overwrite each other's data and even crash the kernel; nopspan's own programs are safe",
                facts.major >= 7
                    ? "use nopspan's commands instead of bpftrace scripts, or a kernel before 6.13 (docs/security.md)"
                    : "before you use bpftrace scripts, boot with preempt=none (docs/security.md)");
  }
}

// Before Linux 5.11, the memory of BPF programs and maps counts against RLIMIT_MEMLOCK.
void check_memlock(Checks& checks) {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
  const std::string found = limit.rlim_cur == RLIM_INFINITY ? "no limit" : bytes_text(limit.rlim_cur);
  const bool can_raise = setrlimit(RLIMIT_MEMLOCK, &none) == 0;
  if (can_raise) setrlimit(RLIMIT_MEMLOCK, &limit);
  const bool counts = is_kernel_before(5, 11);
  if (counts && !can_raise && limit.rlim_cur != RLIM_INFINITY) {
    checks.warn("RLIMIT_MEMLOCK", found + ", and this program may not raise it",
                "grant CAP_SYS_RESOURCE, or set LimitMEMLOCK=infinity in the systemd unit");
  } else {
    checks.ok("RLIMIT_MEMLOCK", found + (counts ? "" : " (does not limit BPF memory since Linux 5.11)"));
  }
}

void check_settings(Checks& checks) {
  const std::string lockdown = setting("/sys/kernel/security/lockdown");
  if (is_confidential()) {
    checks.fail("lockdown", "confidentiality: the kernel refuses to load nopspan's programs", kWithoutConfidentiality);
  } else {
    checks.ok("lockdown", lockdown == "unknown" ? "none" : lockdown);
  }
  if (access("/proc/self/cgroup", F_OK) != 0)
    checks.fail("cgroups", "the kernel does not support them", "use a kernel with CONFIG_CGROUPS=y");
  checks.ok("unprivileged_bpf_disabled", setting("/proc/sys/kernel/unprivileged_bpf_disabled"));
  checks.ok("perf_event_paranoid", setting("/proc/sys/kernel/perf_event_paranoid"));
  checks.ok("kptr_restrict", setting("/proc/sys/kernel/kptr_restrict"));
  const bool has_btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0;
  checks.ok("BTF", has_btf ? "available" : "not available (not needed)");
  const std::string folder = tracefs();
  if (folder.empty()) {
    checks.warn("tracefs", "not mounted, or not readable; `nopspan ps` does not see events of perf",
                "mount -t tracefs tracefs /sys/kernel/tracing (not needed for tracing)");
  } else {
    checks.ok("tracefs", folder);
  }
}

}  // namespace

Preemption preemption_of(const PreemptionFacts& facts) {
  bool is_dynamic = false, is_built_in = false;
  std::istringstream words(facts.version);
  for (std::string word; words >> word;) {
    if (!word.starts_with("PREEMPT")) continue;
    (word == "PREEMPT_DYNAMIC" ? is_dynamic : is_built_in) = true;
  }
  if (!is_dynamic) return is_built_in ? Preemption::yes : Preemption::no;
  // From 7.0 on, the only models are full and lazy on processors that have lazy preemption.
  if (facts.major >= 7) return Preemption::yes;
  // It lists all models, with the current one in parentheses.
  const std::size_t open = facts.model.find('('), close = facts.model.find(')');
  if (open < close && close != std::string::npos) return of_model(facts.model.substr(open + 1, close - open - 1));
  const Preemption asked = of_command_line(facts.command_line);
  return asked != Preemption::unknown ? asked : of_config(facts.config);
}

PreemptionFacts preemption_facts() {
  utsname name{};
  uname(&name);
  PreemptionFacts facts;
  facts.major = static_cast<unsigned>(std::strtoul(name.release, nullptr, 10));
  facts.version = name.version;
  facts.model = read_small_file("/sys/kernel/debug/sched/preempt");
  facts.command_line = read_small_file("/proc/cmdline");
  facts.config = read_small_file("/boot/config-" + std::string(name.release), kMostConfig);
  if (facts.config.empty())
    facts.config = gunzipped(read_small_file("/proc/config.gz", kMostConfig), kMostConfig).value_or("");
  return facts;
}

void check_kernel(Checks& checks) {
  check_version(checks);
  check_uprobes(checks);
  checks.ok("uprobe links", has_uprobe_multi() ? "supported (uprobe_multi)"
                                               : "not supported or not permitted; perf events are used instead");
  check_private_stacks(checks);
  check_memlock(checks);
  check_settings(checks);
}

}  // namespace nopspan::collector
