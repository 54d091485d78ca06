// SPDX-License-Identifier: Apache-2.0
// Threads that have no room for their entries, because the library has reached its memory limit.
//
// `starved N` makes N spans on one thread, and one span on another. The second thread reuses the first one's header
// before the kernel sees the first one end. The answer is the number of spans.
//
// `limited N` makes N spans on the main thread, in a process that may not map more memory. It had no span before, so
// the library has no memory for its state. The answer is the library's own count.
#include "commands.h"

#include <nopspan/probes.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>

#include <thread>

extern "C" {
extern __attribute__((visibility("hidden"))) nopspan_gate_page nopspan_gate;
}

namespace {

constexpr unsigned long kAllThereIs = 1UL << 40U;

sem_t heir_has_told;
sem_t first_has_ended;
std::thread heir;

void make_spans(int count) {
  for (int i = 0; i < count; ++i) {
    const nopspan::Span span{"starved"};
  }
}

// Runs after the library has released the thread's state, while the thread still exists.
void leave_to_heir(void*) {
  heir = std::thread([] {
    make_spans(1);
    sem_post(&heir_has_told);
    sem_wait(&first_has_ended);
  });
  sem_wait(&heir_has_told);
}

int starved(int count) {
  __atomic_fetch_add(&nopspan_gate.memory_bytes, kAllThereIs, __ATOMIC_RELAXED);
  sem_init(&heir_has_told, 0, 0);
  sem_init(&first_has_ended, 0, 0);
  pthread_key_t end;
  if (pthread_key_create(&end, leave_to_heir) != 0) return -1;
  std::thread([count, end] {
    pthread_setspecific(end, &heir);
    make_spans(count);
  }).join();
  sem_post(&first_has_ended);
  heir.join();
  pthread_key_delete(end);
  __atomic_fetch_sub(&nopspan_gate.memory_bytes, kAllThereIs, __ATOMIC_RELAXED);
  return count + 1;
}

std::string limited(int count) {
  const rlimit none{4096, RLIM_INFINITY};
  setrlimit(RLIMIT_AS, &none);
  make_spans(count);
  const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_AS, &all);
  return std::to_string(nopspan::stats().spans_dropped);
}

}  // namespace

int main() {
  Commands commands;
  commands["gate"] = [](std::istringstream&) { return std::to_string(nopspan_gate.gate); };
  commands["starved"] = [](std::istringstream& a) {
    int count = 0;
    a >> count;
    return std::to_string(starved(count));
  };
  commands["limited"] = [](std::istringstream& a) {
    int count = 0;
    a >> count;
    return limited(count);
  };
  return serve(commands);
}
