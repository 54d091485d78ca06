// SPDX-License-Identifier: Apache-2.0
// Prints how many allocations a chat span with twelve attributes makes: `bench_allocations handler|attributes|probe`.
#include "chat.h"

#include <nopspan/registry.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

extern "C" void* __libc_malloc(std::size_t);
extern "C" void* __libc_calloc(std::size_t, std::size_t);
extern "C" void* __libc_realloc(void*, std::size_t);

namespace {
unsigned long allocations = 0;
}

// The library calls these functions too, because the program's symbols take precedence.
extern "C" void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
extern "C" void* calloc(std::size_t count, std::size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
extern "C" void* realloc(void* memory, std::size_t size) {
  ++allocations;
  return __libc_realloc(memory, size);
}

int main(int argc, char** argv) {
  const std::string_view listener = argc == 2 ? argv[1] : "";
  if (listener == "probe") {
    ++*reinterpret_cast<std::uint16_t*>(const_cast<std::uint64_t*>(nopspan_gate_ptr));
  } else if (listener == "handler" || listener == "attributes") {
    const bool reads = listener == "attributes";
    static_cast<void>(nopspan::attach("bench", "llm.chat.stop", [reads](const nopspan::Event& e) {
      if (reads) static_cast<void>(e.attributes());
    }));
  } else {
    std::fputs("usage: bench_allocations handler|attributes|probe\n", stderr);
    return 2;
  }
  int turns = 0;
  bench::chat(turns);  // makes the thread's first allocations
  constexpr unsigned long kSpans = 10000;
  const unsigned long before = allocations;
  for (unsigned long i = 0; i < kSpans; ++i) bench::chat(turns);
  std::printf("%.2f\n", static_cast<double>(allocations - before) / static_cast<double>(kSpans));
}
