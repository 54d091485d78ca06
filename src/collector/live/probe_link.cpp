// SPDX-License-Identifier: Apache-2.0
#include "live/probe_link.h"

#include "base/failure.h"
#include "host/process_facts.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace nopspan::collector {
namespace {

// The part of union bpf_attr that creates such a link.
struct CreateUprobeMulti {
  std::uint32_t program, target, attach_type, flags;
  std::uint64_t path, offsets, semaphore_offsets, cookies;
  std::uint32_t count, multi_flags, pid, padding;
};
constexpr auto kAttachType = static_cast<bpf_attach_type>(kUprobeMulti);

// A program that returns 0.
OpenFile load_empty_program() {
  const bpf_insn instructions[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  bpf_prog_load_opts options = {};
  options.sz = sizeof(options);
  options.expected_attach_type = kAttachType;
  OpenFile program(bpf_prog_load(BPF_PROG_TYPE_KPROBE, "nopspan_empty", "Dual BSD/GPL", instructions, 2, &options));
  if (!program && is_file_limit(errno)) throw Failure("cannot load a BPF program: " + errno_text(errno));
  return program;
}

int empty_program() {
  static const OpenFile program = load_empty_program();
  return program.get();
}

OpenFile create_uprobe_multi(int program, const char* path, std::uint64_t offset, std::uint64_t semaphore_offset,
                             std::uint32_t pid) {
  CreateUprobeMulti create = {};
  create.program = static_cast<std::uint32_t>(program);
  create.attach_type = kUprobeMulti;
  create.path = reinterpret_cast<std::uintptr_t>(path);
  create.offsets = reinterpret_cast<std::uintptr_t>(&offset);
  create.semaphore_offsets = semaphore_offset == 0 ? 0 : reinterpret_cast<std::uintptr_t>(&semaphore_offset);
  create.count = 1;
  create.pid = pid;
  return OpenFile(static_cast<int>(syscall(SYS_bpf, BPF_LINK_CREATE, &create, sizeof(create))));
}

// Makes two calls that must fail, and checks their errors. First, attaching to a folder fails with EBADF if the kernel
// knows this kind of link. Second, a negative pid fails with EINVAL, before the file is examined, on kernels that
// handle pids correctly. Kernels before Linux 6.10 (and before the fixes in stable series) take the pid for a thread's
// id and miss the process's other threads. libbpf uses the same check.
bool try_uprobe_multi() {
  const OpenFile program = load_empty_program();
  if (!program) return false;
  if (create_uprobe_multi(program.get(), "/", 0, 0, 0) || errno != EBADF) return false;
  return !create_uprobe_multi(program.get(), "/", 0, 0, UINT32_MAX) && errno == EINVAL;
}

// For kernels without this kind of link.
OpenFile create_event(int program, const char* path, std::uint64_t offset, std::uint64_t semaphore_offset, int pid) {
  perf_event_attr attributes = {};
  attributes.size = sizeof(attributes);
  attributes.type = static_cast<std::uint32_t>(
      std::strtoul(read_small_file("/sys/bus/event_source/devices/uprobe/type").c_str(), nullptr, 10));
  if (attributes.type == 0 || semaphore_offset > UINT32_MAX) {
    errno = ENOTSUP;
    return {};
  }
  attributes.config = semaphore_offset << 32U;  // config:32-63 in /sys/bus/event_source/devices/uprobe/format
  attributes.uprobe_path = reinterpret_cast<std::uintptr_t>(path);
  attributes.probe_offset = offset;
  // An event of one CPU raises the semaphore for all.
  OpenFile event(
      static_cast<int>(syscall(SYS_perf_event_open, &attributes, pid, pid < 0 ? 0 : -1, -1, PERF_FLAG_FD_CLOEXEC)));
  if (event && program >= 0 && ioctl(event.get(), PERF_EVENT_IOC_SET_BPF, program) != 0) {
    const int error = errno;
    event.reset();
    errno = error;
  }
  return event;
}

// Closes all descriptors but those in `kept`, which are in order.
void close_others(const std::vector<unsigned>& kept) {
  unsigned first = 0;
  for (const unsigned fd : kept) {
    if (fd > first) syscall(SYS_close_range, first, fd - 1, 0U);
    first = fd + 1;
  }
  syscall(SYS_close_range, first, ~0U, 0U);
}

// The process has one thread, of a program that had several. So it only makes system calls.
[[noreturn]] void keep(const std::vector<LeftLink>& links, std::vector<pollfd>& processes,
                       const std::vector<unsigned>& kept) {
  close_others(kept);
  setsid();
  prctl(PR_SET_NAME, "nopspan-keeper");
  for (std::size_t left = processes.size(); left > 0;) {
    if (poll(processes.data(), processes.size(), -1) < 0 && errno != EINTR) break;
    for (std::size_t i = 0; i < processes.size(); ++i) {
      if (processes[i].fd < 0 || processes[i].revents == 0) continue;
      close(links[i].link.get());
      processes[i].fd = -1;
      --left;
    }
  }
  _exit(0);
}

}  // namespace

bool has_uprobe_multi() {
  static const bool has = try_uprobe_multi();
  return has;
}

OpenFile attach_uprobe(int program, const char* path, std::uint64_t offset, std::uint64_t semaphore_offset, int pid) {
  if (!has_uprobe_multi()) return create_event(program, path, offset, semaphore_offset, pid);
  return create_uprobe_multi(program < 0 ? empty_program() : program, path, offset, semaphore_offset,
                             pid < 0 ? 0 : static_cast<std::uint32_t>(pid));
}

OpenFile attach_to_probe(int program, const ProbeFile& file, int pid, WhyNot& why_not) {
  const Probe* site = file.batch_probe();
  if (site == nullptr) {
    why_not.text = file.why_not_traceable();
    return {};
  }
  OpenFile link = attach_uprobe(program, file.attach_path().c_str(), site->offset, site->semaphore_offset, pid);
  if (!link) why_not = why_not_attached(errno);
  return link;
}

WhyNot why_not_attached(int error) {
  std::string why = errno_text(error);
  if (error == EPERM || error == EACCES) {
    why += has_uprobe_multi() ? ": run nopspan as root, or grant it CAP_BPF and CAP_PERFMON"
                              : ": run nopspan as root, or grant it CAP_PERFMON and, on some kernels, CAP_SYS_ADMIN";
    why += "; see nopspan doctor";
  }
  return {error, why};
}

bool leave_until_ended(const std::vector<LeftLink>& links) {
  if (links.empty()) return true;
  std::vector<pollfd> processes;
  std::vector<unsigned> kept;
  for (const LeftLink& link : links) {
    processes.push_back({link.process.get(), POLLIN, 0});
    kept.push_back(static_cast<unsigned>(link.link.get()));
    kept.push_back(static_cast<unsigned>(link.process.get()));
  }
  std::sort(kept.begin(), kept.end());
  int closed[2] = {-1, -1};
  if (pipe2(closed, O_CLOEXEC) != 0) return false;
  OpenFile read_end(closed[0]), write_end(closed[1]);
  // Nobody waits for a process whose parent has ended.
  const pid_t child = fork();
  if (child == 0) {
    const pid_t keeper = fork();
    if (keeper == 0) keep(links, processes, kept);
    _exit(keeper < 0 ? 1 : 0);
  }
  int status = 1;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  // The keeper also has descriptors of all other links, and they are detached when nobody has them. It closes the pipe
  // with them.
  write_end.reset();
  char none = 0;
  while (read(read_end.get(), &none, 1) < 0 && errno == EINTR) {
  }
  return child > 0 && status == 0;
}

}  // namespace nopspan::collector
