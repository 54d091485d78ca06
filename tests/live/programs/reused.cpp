// SPDX-License-Identifier: Apache-2.0
// Two consecutive processes with the same pid, which the program prints. The second one outlasts the time for which the
// collector keeps the first one's account open.
#include <nopspan/span.h>

#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <ctime>

namespace {

// fork() with a given pid, which must be free.
pid_t fork_as(pid_t pid) {
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uintptr_t>(&pid);
  arguments.set_tid_size = 1;
  return static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof(arguments)));
}

[[noreturn]] void work(const char* name, int spans) {
  const nopspan::Name interned = nopspan::Name::intern(name);
  for (int i = 0; i < spans; ++i) {
    { const nopspan::Span span{interned}; }
    const timespec pause{0, 5'000'000};
    nanosleep(&pause, nullptr);
  }
  _exit(0);
}

bool run(pid_t pid, const char* name, int spans) {
  const pid_t child = fork_as(pid);
  if (child == 0) work(name, spans);
  int status = 1;
  return child == pid && waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace

int main() {
  const pid_t pid = fork();
  if (pid == 0) _exit(0);
  if (pid < 0 || waitpid(pid, nullptr, 0) != pid) return 1;
  const timespec pause{0, 20'000'000};  // so that the two do not start in the same tick
  if (!run(pid, "reused.first", 1) || nanosleep(&pause, nullptr) != 0 || !run(pid, "reused.second", 400)) {
    std::perror("clone3 with a pid");
    return 1;
  }
  std::printf("%d\n", pid);
  return 0;
}
