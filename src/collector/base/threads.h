// SPDX-License-Identifier: Apache-2.0
// Threads that leave the signals of the user to the main thread.
#pragma once

#include <pthread.h>

#include <csignal>
#include <system_error>
#include <thread>
#include <utility>

namespace nopspan::collector {

// Starts a thread that receives no signals, so that one interrupts the main thread's poll(). Throws std::system_error.
template <class Run>
std::thread thread_without_signals(Run run) {
  const struct Blocked {
    Blocked() {
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    ~Blocked() { pthread_sigmask(SIG_SETMASK, &before, nullptr); }
    sigset_t before = {};
  } blocked;
  return std::thread(std::move(run));
}

}  // namespace nopspan::collector
