// SPDX-License-Identifier: Apache-2.0
// What the programs of bench/export.sh share: a pace for traces of 16 spans, and the CPU time of the process.
#pragma once

#include "../clock.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>

namespace bench {

inline constexpr int kSpansPerTrace = 16;

inline double cpu_ns(clockid_t clock) {
  timespec used;
  clock_gettime(clock, &used);
  return static_cast<double>(used.tv_sec) * 1e9 + static_cast<double>(used.tv_nsec);
}

// Prints the CPU time per span in ns since it was made: of the thread that makes the spans, and of the other threads.
class CpuMeter {
 public:
  void print(long spans) const {
    const double thread = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - thread_;
    const double process = cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - process_;
    std::printf("%.0f %.0f\n", thread / static_cast<double>(spans), (process - thread) / static_cast<double>(spans));
  }

 private:
  double thread_ = cpu_ns(CLOCK_THREAD_CPUTIME_ID), process_ = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
};

struct Load {
  bool chats = false;
  long spans = 0;
  double rate = 0;  // per second
};

// Arguments: bare|chat SPANS RATE. Exits if they are wrong.
inline Load load_of(int argc, char** argv) {
  const std::string_view kind = argc == 4 ? argv[1] : "";
  const Load load{kind == "chat", argc == 4 ? std::atol(argv[2]) : 0, argc == 4 ? std::atof(argv[3]) : 0};
  if ((!load.chats && kind != "bare") || load.spans < 1 || load.rate <= 0) {
    std::fprintf(stderr, "usage: %s bare|chat SPANS RATE\n", argv[0]);
    std::exit(2);
  }
  return load;
}

// Calls make_trace, which makes kSpansPerTrace spans, in slices of 10 ms: with shorter ones, sleeping is what is
// measured.
template <class MakeTrace>
void paced(const Load& load, const MakeTrace& make_trace) {
  const double began = now_ns();
  for (long done = 0; done < load.spans;) {
    if (static_cast<double>(done) >= (now_ns() - began) * load.rate / 1e9) {
      const timespec slice{0, 10'000'000};
      nanosleep(&slice, nullptr);
      continue;
    }
    make_trace();
    done += kSpansPerTrace;
  }
}

}  // namespace bench
