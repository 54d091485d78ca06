// SPDX-License-Identifier: Apache-2.0
// Uses CPU time in functions with names that a profile shows, inside and outside of spans.
//
// Takes commands (commands.h):
// `burn NAME FUNCTION` runs burn_in_FUNCTION inside a span NAME. `nest NAME` does so inside nested spans NAME, and
// `outside` outside of any span. `at_once` uses two threads with a span each. `async NAME` runs inside an AsyncSpan.
// `begin NAME` and `end` begin and end a span. `leave NAME` runs inside a span that never ends.
#include "commands.h"

#include <nopspan/context.h>
#include <nopspan/span.h>

#include <time.h>

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

// Measured as CPU time of the thread, so the load of the machine does not matter. About 12 samples at 99 Hz.
constexpr std::uint64_t kBurnNs = 120'000'000;

std::uint64_t cpu_ns() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

// The functions compute different values, because the compiler would otherwise merge them. They are in no namespace, so
// that their names are easy to read.
#define BURN_IN(function, factor)                                     \
  __attribute__((noinline)) void burn_in_##function() {               \
    volatile std::uint64_t value = 1;                                 \
    const std::uint64_t end = cpu_ns() + kBurnNs;                     \
    while (cpu_ns() < end) {                                          \
      for (int i = 0; i < 200'000; ++i) value = value * (factor) + 1; \
    }                                                                 \
  }
BURN_IN(a, 3)
BURN_IN(b, 5)
BURN_IN(outside, 7)

namespace {

void burn(const std::string& function) {
  if (function == "a") burn_in_a();
  if (function == "b") burn_in_b();
}

void nest(nopspan::Name name, int depth) {
  nopspan::Span span{name};
  burn_in_a();
  if (depth > 1) nest(name, depth - 1);
}

}  // namespace

int main() {
  std::vector<std::unique_ptr<nopspan::Span>> open;
  Commands commands;
  commands["burn"] = [](std::istringstream& a) {
    nopspan::Span span{nopspan::Name::intern(word(a))};
    burn(word(a));
    return "done";
  };
  commands["nest"] = [](std::istringstream& a) {
    nest(nopspan::Name::intern(word(a)), 3);
    return "done";
  };
  commands["outside"] = [](std::istringstream&) {
    burn_in_outside();
    return "done";
  };
  commands["at_once"] = [](std::istringstream&) {
    std::thread other([] {
      nopspan::Span span{"burn.b"};
      burn_in_b();
    });
    {
      nopspan::Span span{"burn.a"};
      burn_in_a();
    }
    other.join();
    return "done";
  };
  commands["async"] = [](std::istringstream& a) {
    nopspan::AsyncSpan span{nopspan::Name::intern(word(a))};
    burn_in_b();
    span.end();
    return "done";
  };
  commands["begin"] = [&](std::istringstream& a) {
    open.push_back(std::make_unique<nopspan::Span>(nopspan::Name::intern(word(a))));
    return "begun";
  };
  commands["end"] = [&](std::istringstream&) {
    open.pop_back();
    return "ended";
  };
  bool has_left = false;
  commands["leave"] = [&](std::istringstream& a) {
    // In memory that is never freed, because the process ends first.
    new nopspan::Span{nopspan::Name::intern(word(a))};
    burn_in_b();
    has_left = true;
    return "left";
  };
  const int status = serve(commands);
  if (has_left) _exit(status);  // exit() would end the span
  return status;
}
