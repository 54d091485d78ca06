// SPDX-License-Identifier: Apache-2.0
#include "live/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace nopspan::collector {
namespace {

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
