// SPDX-License-Identifier: Apache-2.0
// Processes that a seccomp filter kills.
#include "host/obstacles.h"

#include "in_child.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <string>

namespace nopspan::collector {
namespace {

// Reads the time-stamp counter, if the CPU has one.
char read_counter() {
#if defined(__x86_64__)
  return static_cast<char>(__builtin_ia32_rdtsc());
#else
  return 0;
#endif
}

// Whether the kernel can forbid to read it, as it does in strict mode. On some virtual CPUs it cannot.
bool can_forbid_counter() {
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
    [[maybe_unused]] const volatile char now = read_counter();
    _exit(0);
  }
  return !wait_for(child).empty();
}

// A process whose filter kills it for getppid(), or in strict mode. It calls getppid(), reads the time-stamp counter,
// or ends when it receives a byte.
class Child {
 public:
  explicit Child(int mode = SECCOMP_MODE_FILTER) {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends_), 0);
    pid_ = fork();
    if (pid_ != 0) {
      char ready = 0;
      EXPECT_EQ(read(ends_[0], &ready, 1), 1);
      return;
    }
    std::array filter{sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
                      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program{filter.size(), filter.data()};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, mode, &program) != 0) _exit(2);
    char what = 'r';
    if (write(ends_[1], &what, 1) != 1 || read(ends_[1], &what, 1) != 1) _exit(3);
    if (what == 'k') syscall(SYS_getppid);
    if (what == 't') what = read_counter();
    syscall(SYS_exit, 0);  // which strict mode allows
  }
  ~Child() {
    for (const int end : ends_) close(end);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }
  // Waits for its end, but leaves it as a zombie.
  void send(char what) const {
    EXPECT_EQ(write(ends_[0], &what, 1), 1);
    siginfo_t info{};
    EXPECT_EQ(waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT), 0);
  }
  std::string reap() const { return wait_for(pid_); }

 private:
  int ends_[2] = {};
  pid_t pid_ = 0;
};

TEST(Sandboxed, FindsTheProcessThatItsFilterHasKilled) {
  Sandboxed sandboxed;
  const Child killed, ended, running;
  for (const std::uint32_t pid : {killed.pid(), ended.pid(), running.pid()}) sandboxed.watch(pid, false);
  EXPECT_TRUE(sandboxed.take_killed().empty());
  killed.send('k');
  ended.send('e');
  const auto found = sandboxed.take_killed();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].pid, killed.pid());
  EXPECT_FALSE(found[0].comm.empty());
  EXPECT_TRUE(sandboxed.take_killed().empty());
  EXPECT_EQ(killed.reap(), "killed by signal " + std::to_string(SIGSYS));
  EXPECT_EQ(ended.reap(), "");
  running.send('e');
  EXPECT_EQ(running.reap(), "");
}

TEST(Sandboxed, FindsTheProcessThatStrictModeHasKilled) {
  Sandboxed sandboxed;
  const Child killed(SECCOMP_MODE_STRICT), ended(SECCOMP_MODE_STRICT);
  EXPECT_EQ(seccomp_of(killed.pid(), true), Seccomp::strict);
  EXPECT_EQ(seccomp_of(static_cast<std::uint32_t>(getpid()), true), Seccomp::none);
  for (const std::uint32_t pid : {killed.pid(), ended.pid()}) sandboxed.watch(pid, true);
  killed.send(can_forbid_counter() ? 't' : 'k');
  ended.send('e');
  const auto found = sandboxed.take_killed();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].pid, killed.pid());
  EXPECT_TRUE(found[0].is_strict);
  EXPECT_THAT(killed.reap(), testing::StartsWith("killed by signal "));
  EXPECT_EQ(ended.reap(), "");
}

}  // namespace
}  // namespace nopspan::collector
