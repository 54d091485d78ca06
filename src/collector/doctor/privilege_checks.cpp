// SPDX-License-Identifier: Apache-2.0
#include "base/failure.h"
#include "base/open_file.h"
#include "doctor/checks.h"
#include "host/maps.h"
#include "host/privileges.h"
#include "host/process_facts.h"
#include "live/kernel_programs.h"
#include "live/probe_link.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <string_view>

// A probe in this program itself. Attaching to it shows whether tracing works here, without disturbing other programs.
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

// In a user namespace, capabilities do not count for tracing. Only the initial namespace maps all 4294967295 uids.
bool is_in_user_namespace() {
  const std::string map = read_small_file("/proc/self/uid_map", 4096);
  return map.find("4294967295") == std::string::npos;
}

// The capabilities that this program has, or does not have.
std::string names_of_those(const std::vector<Capability>& capabilities, bool that_it_has) {
  std::string names;
  for (const Capability capability : capabilities)
    if (has_capability(capability) == that_it_has) names += (names.empty() ? "" : ", ") + to_string(capability);
  return names;
}

// The advice for an operation that needs the capabilities `wanted` and that the kernel refused with `error`.
std::string advice(int error, const std::vector<Capability>& wanted) {
  if (error == ENOSYS || error == ENOTSUP)
    return "use a kernel that supports this, or a container whose seccomp filter permits it";
  if (error != EPERM && error != EACCES) return "";
  if (is_in_user_namespace())
    return "run nopspan on the host as root: capabilities in a user namespace do not permit this";
  const std::string names = names_of_those(wanted, false);
  if (!names.empty())
    return "run nopspan as root, or grant it " + names + " (setcap, or AmbientCapabilities= in its systemd unit)";
  if (inherited_limits().seccomp == "2")  // not nopspan's own filter (privileges.h)
    return "run the container with --security-opt seccomp=unconfined, or run nopspan on the host: the seccomp filter "
           "of this container forbids it";
  return "see the kernel log: nopspan has the capabilities, so a security module or lockdown forbids it";
}

void check_self(Checks& checks) {
  const std::vector<Capability> all = tracing_capabilities(true);
  const std::string has = names_of_those(all, true), lacks = names_of_those(all, false);
  checks.ok("capabilities",
            (has.empty() ? "none of those that tracing needs" : has) + (lacks.empty() ? "" : "; missing: " + lacks));
  if (is_in_user_namespace())
    checks.warn("user namespace", "not the initial one, so capabilities do not permit tracing",
                "run nopspan on the host");
  const auto& [seccomp, no_new_privileges] = inherited_limits();
  const bool is_bound = no_new_privileges == "1";
  checks.ok("seccomp", std::string(seccomp == "2"   ? "a filter"
                                   : seccomp == "1" ? "strict"
                                                    : "none") +
                           (is_bound ? "; NoNewPrivs is set, so file capabilities (setcap) have no effect" : ""));
}

void check_ring_buffer(Checks& checks) {
  const auto page = static_cast<std::uint32_t>(sysconf(_SC_PAGESIZE));
  const OpenFile map(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "nopspan_doctor", 0, 0, page, nullptr));
  if (map) {
    checks.ok("ring buffer", "can be created");
  } else if (errno == EINVAL) {
    checks.fail("ring buffer", "the kernel does not support it", "use Linux 5.8 or later");
  } else {
    checks.fail("ring buffer", std::string("cannot be created: ") + std::strerror(errno),
                advice(errno, {Capability::bpf}));
  }
}

struct SelfProbe {
  // The step that the kernel refused, and its errno; `none` and 0 if all steps succeeded.
  enum class Step : std::uint8_t { load, attach, none };
  Step refused = Step::none;
  int error = 0;
  std::uint64_t hits = 0;       // counted by the BPF program; 1 is right
  bool semaphore_rose = false;  // while the probe was attached
  bool semaphore_fell = false;  // after the detach
};

// In .data, because the kernel finds a semaphore by its offset in the file. As a zero it would be in .bss, which is not
// in the file.
[[gnu::section(".data"), gnu::used]] volatile std::uint16_t semaphore = 0;

// The offset in this program's file; 0 if it is not mapped from there.
std::uint64_t own_offset_of(std::uint64_t address) {
  std::uint64_t offset = 0;
  Mappings(static_cast<std::uint32_t>(getpid())).for_each([&](const Mapping& mapping) {
    if (address < mapping.start || address >= mapping.end) return true;
    offset = mapping.offset + (address - mapping.start);
    return false;
  });
  return offset;
}

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

// Loads a BPF program that counts hits, attaches it to a site in this program for all processes, as the collector does
// (probe_link.h), calls the site once, and detaches.
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
    const OpenFile link = attach_uprobe(program.get(), "/proc/self/exe",
                                        own_offset_of(reinterpret_cast<std::uint64_t>(&nopspan_doctor_site)),
                                        own_offset_of(reinterpret_cast<std::uint64_t>(&semaphore)), -1);
    if (!link) return refuse(SelfProbe::Step::attach);
    result.semaphore_rose = semaphore != 0;
    nopspan_doctor_site();
    const std::uint32_t key = 0;
    bpf_map_lookup_elem(map.get(), &key, &result.hits);
  }
  result.semaphore_fell = semaphore == 0;
  return result;
}

// Returns whether BPF programs can be loaded. If not, checks that need one are skipped.
bool check_self_probe(Checks& checks) {
  SelfProbe probe = probe_once();
  // Another process with this program may hit its site at the same moment.
  for (int i = 0; i < 5 && probe.hits > 1; ++i) probe = probe_once();
  const auto refused = [&probe](const char* what) { return std::string(what) + ": " + std::strerror(probe.error); };
  using Step = SelfProbe::Step;
  if (probe.refused == Step::load) {
    checks.fail("BPF program", refused("cannot be loaded"),
                advice(probe.error, {Capability::bpf, Capability::perfmon}));
    return false;
  }
  checks.ok("BPF program", "can be loaded");
  if (probe.refused != Step::none) {
    // For a uprobe through perf events the kernel requires CAP_SYS_ADMIN since a fix of 2025. Before that fix,
    // CAP_PERFMON was enough.
    std::vector<Capability> wanted = {Capability::perfmon};
    if (!has_uprobe_multi()) wanted.push_back(Capability::sys_admin);
    checks.fail("attach", refused("cannot attach a uprobe to this program"), advice(probe.error, wanted));
    return true;
  }
  if (probe.hits != 1) {
    checks.fail("attach", "a uprobe in this program was hit once, but counted " + std::to_string(probe.hits) + " hits",
                "copy nopspan to another file system: the one of /proc/self/exe may not support uprobes. If that does "
                "not help, the kernel has a defect");
  } else if (!probe.semaphore_rose || !probe.semaphore_fell) {
    checks.fail("attach", "a uprobe in this program counted its hit, but did not raise and lower its semaphore",
                "use Linux 4.20 or later, which has reference counters for uprobes");
  } else {
    checks.ok("attach", "a uprobe in this program works, including its semaphore");
  }
  return true;
}

std::unique_ptr<KernelPrograms> check_own_programs(Checks& checks) {
  try {
    auto programs = std::make_unique<KernelPrograms>(std::uint64_t{1} << 16U, settings_of_namespaces(),
                                                     [](const nopspan_message&, std::string_view) { return true; });
    checks.ok("nopspan's programs",
              programs->sees_ends() ? "can be loaded, including the one for thread exits" : "can be loaded");
    if (!programs->sees_ends())
      checks.warn("thread exits", "cannot be traced: the entries that a killed thread held are counted but not fetched",
                  "use Linux 6.16 or later, or a kernel with kprobes");
    if (!programs->sees_below())
      checks.warn("pid namespaces below",
                  "processes in them are not traced, because this kernel has no BTF or does not let BPF programs read "
                  "its memory",
                  "run nopspan in the pid namespace of the host (docker run --pid=host)");
    return programs;
  } catch (const Failure& failure) {
    std::string what = failure.what();
    what.resize(std::min(what.find('\n'), what.size()));
    checks.fail("nopspan's programs", what,
                is_confidential() ? "see the check `lockdown`"
                                  : "if the check `BPF program` is ok, report this as a bug, with the kernel version");
    return nullptr;
  }
}

// Privileges that the attach itself does not need: to find processes, fetch batches, and list tracers.
void check_others(Checks& checks) {
  // Newer kernels let CAP_PERFMON read the maps of a process, but neither its memory nor this link.
  char target;
  if (readlink("/proc/1/exe", &target, 1) > 0 || has_capability(Capability::sys_ptrace)) {
    checks.ok("other users' processes", "can be examined");
  } else {
    checks.fail("other users' processes", "cannot be examined: only processes of this user are found",
                advice(EPERM, {Capability::sys_ptrace}));
  }
  if (has_capability(Capability::checkpoint_restore) || has_capability(Capability::sys_admin)) {
    checks.ok("deleted files", "can be opened while a process maps them");
  } else {
    checks.warn("deleted files", "cannot be opened: a process whose library was replaced cannot be traced",
                advice(EPERM, {Capability::checkpoint_restore}));
  }
  std::uint32_t id = 0;
  if (bpf_link_get_next_id(0, &id) == 0 || errno == ENOENT) {
    checks.ok("tracers", "can be listed");
  } else {
    checks.warn("tracers", std::string("cannot be listed: ") + std::strerror(errno),
                advice(errno, {Capability::sys_admin}));
  }
}

}  // namespace

std::unique_ptr<KernelPrograms> check_privileges(Checks& checks) {
  check_self(checks);
  std::unique_ptr<KernelPrograms> programs;
  if (check_self_probe(checks)) {
    check_ring_buffer(checks);
    programs = check_own_programs(checks);
  }
  check_others(checks);
  return programs;
}

}  // namespace nopspan::collector
