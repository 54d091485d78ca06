// SPDX-License-Identifier: Apache-2.0
// What signals do to a command, by its phase.
#include "base/stop_signals.h"

#include "base/stopping.h"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <thread>

namespace nopspan::collector {
namespace {

constexpr int kEnded = 7;  // exit status of a command that ended by itself

void compute_for_ever() {
  for (;;) pause();
}

// The status of wait(2) of a command that does this in a process of its own.
int status_of(const std::function<void()>& command) {
  const pid_t pid = fork();
  if (pid == 0) {
    stopping = interrupted = hurried = is_read = ends_in_order = finishing = false;  // other tests may have set them
    stop_on_signals();
    command();
    _exit(kEnded);
  }
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

// As a user sends another one, not as timeout(1) sends the same one twice.
void raise_after_a_while(int number) {
  std::this_thread::sleep_for(std::chrono::milliseconds(110));
  raise(number);
}

bool is_killed_by(int number, int status) { return WIFSIGNALED(status) && WTERMSIG(status) == number; }
bool has_ended(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == kEnded; }

TEST(StopSignals, TheFirstOneOnlyAsksTheCommandToStop) {
  EXPECT_TRUE(has_ended(status_of([] {
    raise(SIGINT);
    if (!stopping || !interrupted || hurried) _exit(1);
  })));
}

TEST(StopSignals, ThoseAtOnceAreOne) {
  EXPECT_TRUE(has_ended(status_of([] {
    for (int i = 0; i < 3; ++i) raise(SIGTERM);
    if (!stopping || hurried) _exit(1);
  })));
}

TEST(StopSignals, TheSecondOneKillsACommandThatLosesNothing) {
  EXPECT_TRUE(is_killed_by(SIGINT, status_of([] {
                             raise(SIGINT);
                             raise_after_a_while(SIGINT);
                           })));
}

TEST(StopSignals, AreCountedByTheirKind) {
  EXPECT_TRUE(has_ended(status_of([] {
    raise(SIGINT);
    raise(SIGTERM);
    if (hurried) _exit(1);
  })));
}

TEST(StopSignals, TheSecondOneLetsALiveCommandEndWithWhatItHas) {
  EXPECT_TRUE(has_ended(status_of([] {
    ends_in_order = true;
    raise(SIGINT);
    raise_after_a_while(SIGINT);
    if (!hurried) _exit(1);
  })));
}

TEST(StopSignals, TheSecondOneEndsALiveCommandThatComputesForEver) {
  EXPECT_TRUE(is_killed_by(SIGINT, status_of([] {
                             ends_in_order = true;
                             raise(SIGINT);
                             raise_after_a_while(SIGINT);
                             compute_for_ever();
                           })));
}

TEST(StopSignals, TheThirdOneKillsAtOnce) {
  EXPECT_TRUE(is_killed_by(SIGTERM, status_of([] {
                             ends_in_order = finishing = true;
                             raise(SIGTERM);
                             raise_after_a_while(SIGTERM);
                             if (!hurried) _exit(1);
                             raise_after_a_while(SIGTERM);
                           })));
}

TEST(StopSignals, TheFirstOneAfterTheReadingEndsWhatComputesForEver) {
  EXPECT_TRUE(is_killed_by(SIGTERM, status_of([] {
                             is_read = true;
                             raise(SIGTERM);
                             if (!stopping || !hurried) _exit(1);
                             compute_for_ever();
                           })));
}

TEST(StopSignals, ACommandThatHasReturnedIsNotKilledForBeingLate) {
  EXPECT_TRUE(has_ended(status_of([] {
    is_read = true;
    raise(SIGTERM);
    command_has_returned();
    if (alarm(0) != 0) _exit(1);
  })));
}

}  // namespace
}  // namespace nopspan::collector
