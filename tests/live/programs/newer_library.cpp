// SPDX-License-Identifier: Apache-2.0
// Imitates a program with a future library: the record of its probe is longer than today's, and its size says so.
#include "commands.h"

#include <nopspan/probes.h>

#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

extern "C" {
__attribute__((section(".probes"))) volatile unsigned short nopspan_span_stop_semaphore = 0;
}

namespace {

struct NewerRecord {
  nopspan_span span;
  unsigned long gpu_ns;
  char reserved[120];
};
static_assert(sizeof(NewerRecord) == 384);

__attribute__((noinline)) void fire(const NewerRecord* record) {
  const auto* id = reinterpret_cast<const char*>(record->span.request_id);
  const auto* name = reinterpret_cast<const char*>(record->span.name);
  STAP_PROBE6(nopspan, span_stop, id, name, record->span.duration_ns, "newer", 0UL, record);
}

}  // namespace

int main() {
  Commands commands;
  commands["span"] = [](std::istringstream&) {
    static const char name[] = "newer.span";
    NewerRecord record{};
    record.span.size = sizeof(record);
    record.span.span_id = 17;
    record.span.root_id = 17;
    record.span.duration_ns = 4711;
    __builtin_memcpy(record.span.request_id, "AAAAAAAAAAAAAAAAAAAAAQ", 22);
    record.span.name = reinterpret_cast<unsigned long>(name);
    record.gpu_ns = 1234;
    if (nopspan_span_stop_semaphore != 0) fire(&record);
    return "done";
  };
  commands["gate"] = [](std::istringstream&) { return std::to_string(nopspan_span_stop_semaphore); };
  return serve(commands);
}
