// SPDX-License-Identifier: Apache-2.0
// Interrupts code at a chosen instruction. The processor traps after each instruction. Only for x86_64.
#pragma once

#include <gtest/gtest.h>

#include <signal.h>
#include <sys/random.h>
#include <ucontext.h>
#include <x86intrin.h>

inline constexpr unsigned long kTrapFlag = 0x100;
inline volatile unsigned long step = 0;
inline volatile unsigned long last_step = 0;
inline void (*interrupt)() = nullptr;

// A thread whose signals are blocked is killed by a trap. Newer glibcs block them in a thread's first getrandom().
inline void make_state_of_getrandom() {
  unsigned char byte = 0;
  static_cast<void>(getrandom(&byte, 1, 0));
}

// Runs `work`, and calls `act` in a signal handler at its instruction number `at`. False if it has fewer instructions.
template <class Work>
bool run_interrupted(unsigned long at, void (*act)(), Work work) {
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t*, void* context) {
    step = step + 1;
    if (step != last_step) return;
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
    interrupt();
  };
  EXPECT_EQ(sigaction(SIGTRAP, &action, nullptr), 0);
  interrupt = act;
  last_step = at;
  step = 0;
  make_state_of_getrandom();
  __writeeflags(__readeflags() | kTrapFlag);
  work();
  __writeeflags(__readeflags() & ~kTrapFlag);
  return step >= at;
}
