// SPDX-License-Identifier: Apache-2.0
#include "base/failure.h"
#include "base/open_file.h"
#include "doctor/host_checks.h"
#include "doctor/self_probe.h"
#include "host/capabilities.h"
#include "host/process_facts.h"
#include "live/kernel_programs.h"
#include "live/probe_link.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

namespace nopspan::collector {
namespace {

std::uint32_t own_pid() { return static_cast<std::uint32_t>(getpid()); }

// In a user namespace, capabilities do not count for tracing. Only the initial namespace maps all 4294967295 uids.
bool is_in_user_namespace() {
  const std::string map = read_small_file("/proc/self/uid_map", 4096);
  return map.find("4294967295") == std::string::npos;
}

bool has_seccomp_filter() { return process_status(own_pid(), "Seccomp") == "2"; }

std::string missing(const std::vector<Capability>& wanted) {
  std::string names;
  for (const Capability capability : wanted)
    if (!has_capability(capability)) names += (names.empty() ? "" : ", ") + to_string(capability);
  return names;
}

// The advice for an operation that needs the capabilities `wanted` and that the kernel refused with `error`.
std::string advice(int error, const std::vector<Capability>& wanted) {
  if (error == ENOSYS) return "a kernel with it, or a container whose seccomp filter lets it through";
  if (error != EPERM && error != EACCES) return "";
  if (is_in_user_namespace())
    return "this is a user namespace, where capabilities do not count for this: run it on the host, as root";
  const std::string names = missing(wanted);
  if (!names.empty())
    return "run it as root, or give it " + names + " (setcap, or AmbientCapabilities= of its systemd unit)";
  if (has_seccomp_filter())
    return "a seccomp filter of this container refuses it: run it with --security-opt seccomp=unconfined, or on the "
           "host";
  return "it has the capabilities: a security module or lockdown refuses it; see the kernel's log";
}

void check_self(Checks& checks) {
  const std::vector<Capability> all = {Capability::bpf,
                                       Capability::perfmon,
                                       Capability::sys_admin,
                                       Capability::sys_ptrace,
                                       Capability::checkpoint_restore,
                                       Capability::dac_read_search};
  std::string has;
  for (const Capability capability : all)
    if (has_capability(capability)) has += (has.empty() ? "" : ", ") + to_string(capability);
  const std::string lacks = missing(all);
  checks.ok("capabilities",
            (has.empty() ? "none of those that tracing needs" : has) + (lacks.empty() ? "" : "; not " + lacks));
  if (is_in_user_namespace())
    checks.warn("user namespace", "this is one of its own",
                "capabilities in it do not count for tracing: run it on the host");
  const std::string seccomp = process_status(own_pid(), "Seccomp");
  const bool is_bound = process_status(own_pid(), "NoNewPrivs") == "1";
  checks.ok("seccomp", std::string(seccomp == "2"   ? "a filter"
                                   : seccomp == "1" ? "strict"
                                                    : "none") +
                           (is_bound ? ", and NoNewPrivs: file capabilities (setcap) do not count" : ""));
}

void check_ring_buffer(Checks& checks) {
  const auto page = static_cast<std::uint32_t>(sysconf(_SC_PAGESIZE));
  const OpenFile map(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "nopspan_doctor", 0, 0, page, nullptr));
  if (map) {
    checks.ok("ring buffer", "can be made");
  } else if (errno == EINVAL) {
    checks.fail("ring buffer", "the kernel has none", "Linux 5.8 or later");
  } else {
    checks.fail("ring buffer", std::string("cannot be made: ") + std::strerror(errno),
                advice(errno, {Capability::bpf}));
  }
}

// Returns whether BPF programs can be loaded. If not, checks that need one are skipped.
bool check_self_probe(Checks& checks) {
  const SelfProbe probe = try_self_probe();
  const auto refused = [&probe](const char* what) { return std::string(what) + ": " + std::strerror(probe.error); };
  using Step = SelfProbe::Step;
  if (probe.refused == Step::map || probe.refused == Step::program) {
    checks.fail("BPF program", refused("the kernel refuses one"),
                advice(probe.error, {Capability::bpf, Capability::perfmon}));
    return false;
  }
  checks.ok("BPF program", "can be loaded");
  if (probe.refused != Step::none) {
    // For a uprobe through perf events the kernel requires CAP_SYS_ADMIN since a fix of 2025. Before that fix,
    // CAP_PERFMON was enough.
    std::vector<Capability> wanted = {Capability::perfmon};
    if (!has_uprobe_multi()) wanted.push_back(Capability::sys_admin);
    checks.fail("attach", refused("the kernel refuses a uprobe in this program"), advice(probe.error, wanted));
    return true;
  }
  if (probe.hits != 1) {
    checks.fail("attach",
                "a uprobe in this program was attached, but told of " + std::to_string(probe.hits) + " hits of 1",
                "the kernel has a defect, or /proc/self/exe lies on a file system that has no uprobes");
  } else if (!probe.semaphore_rose || !probe.semaphore_fell) {
    checks.fail("attach", "a uprobe in this program told of its hit, but its semaphore did not rise and fall",
                "a kernel from 4.20 on, with reference counters of uprobes");
  } else {
    checks.ok("attach", "a uprobe in this program, with its semaphore, told of its hit");
  }
  return true;
}

void check_own_programs(Checks& checks) {
  try {
    const KernelPrograms programs(std::uint64_t{1} << 16U, nopspan_settings{},
                                  [](const nopspan_record&, std::string_view) { return true; });
    checks.ok("nopspan's programs", programs.sees_ends() ? "can be loaded, and see threads end" : "can be loaded");
    if (!programs.sees_ends())
      checks.warn("ends of threads", "are not seen: what a killed thread held is not fetched, but counted",
                  "Linux 6.16, or a kernel with kprobes");
  } catch (const Failure& failure) {
    std::string what = failure.what();
    what.resize(std::min(what.find('\n'), what.size()));
    checks.fail("nopspan's programs", what,
                "if a BPF program can be loaded otherwise: report this, with the kernel's version");
  }
}

// Privileges that the attach itself does not need: to find processes, fetch batches, and list listeners.
void check_others(Checks& checks) {
  const OpenFile maps(open("/proc/1/maps", O_RDONLY | O_CLOEXEC));
  if (maps || has_capability(Capability::sys_ptrace)) {
    checks.ok("other users' processes", "may be looked at");
  } else {
    checks.fail("other users' processes", "may not be looked at: only those of this user are found",
                advice(EPERM, {Capability::sys_ptrace}));
  }
  if (has_capability(Capability::checkpoint_restore) || has_capability(Capability::sys_admin)) {
    checks.ok("deleted files", "may be opened by who maps them");
  } else {
    checks.warn("deleted files", "may not be opened: a process whose library was replaced is not seen",
                advice(EPERM, {Capability::checkpoint_restore}));
  }
  std::uint32_t id = 0;
  if (bpf_link_get_next_id(0, &id) == 0 || errno == ENOENT) {
    checks.ok("listeners", "may be listed");
  } else {
    checks.warn("listeners", std::string("may not be listed: ") + std::strerror(errno),
                advice(errno, {Capability::sys_admin}));
  }
}

}  // namespace

void check_privileges(Checks& checks) {
  check_self(checks);
  if (check_self_probe(checks)) {
    check_ring_buffer(checks);
    check_own_programs(checks);
  }
  check_others(checks);
}

}  // namespace nopspan::collector
