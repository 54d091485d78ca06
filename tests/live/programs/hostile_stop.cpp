// SPDX-License-Identifier: Apache-2.0
// Passes the site of span_stop with whatever it likes: what a broken or hostile process may do to a tracer. It has the
// library's site, as every static program has, and uses nothing else of the library.
//
// Takes commands (commands.h), each of which answers how often it passed the site.
#include "commands.h"

#include <nopspan/probes.h>
#include <nopspan/span.h>

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <string>

extern "C" __attribute__((visibility("hidden"))) void nopspan_site_span_stop(const void*, const void*, std::uint64_t,
                                                                             const void*, std::uint64_t, const void*);

namespace {

const void* wild(std::uint64_t address) { return reinterpret_cast<const void*>(address); }
constexpr std::uint64_t kWild[] = {0, 1, 0xdeadbeef, 0x7fffffffffff, 0xffff888000000000, UINT64_MAX};

nopspan_span record_of(std::uint64_t stream, std::uint64_t sequence) {
  nopspan_span record{};
  record.size = sizeof(record);
  record.stream = stream;
  record.sequence = sequence;
  return record;
}

std::uint64_t next_sequence = 0;
int pass(const void* name, std::uint64_t duration_ns, const void* model = "", std::uint64_t status = 0) {
  const nopspan_span record = record_of(1, next_sequence++);
  nopspan_site_span_stop("", name, duration_ns, model, status, &record);
  return 1;
}

int wild_texts() {
  int hits = 0;
  for (const std::uint64_t address : kWild) {
    hits += pass(wild(address), 1);
    hits += pass("hostile.model", 1, wild(address));
  }
  return hits;
}

int wild_records() {
  int hits = 0;
  for (const std::uint64_t address : kWild) {
    nopspan_site_span_stop(wild(address), "hostile.record", 5, "", 0, wild(address));
    ++hits;
  }
  return hits;
}

// A text that ends with the memory, and one that does not end where a tracer stops reading.
int endless_texts() {
  constexpr std::size_t kPage = 4096;
  char* pages =
      static_cast<char*>(mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  std::memset(pages, 'x', 2 * kPage);
  munmap(pages + kPage, kPage);
  const int hits = pass(pages, 1) + pass(pages + kPage - 8, 1);
  munmap(pages, kPage);
  return hits;
}

int strange_texts() {
  int hits = 0;
  for (const char* name :
       {"\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\xff\xfe\xc3\x28", "a\nb\rc\td", "\u202e\u0085x"}) {
    hits += pass(name, 1);
  }
  return hits;
}

int strange_numbers() {
  return pass("hostile.long", UINT64_MAX) + pass("hostile.long", UINT64_MAX - 1) + pass("hostile.zero", 0) +
         pass("hostile.status", 7, "", UINT64_MAX) + pass("hostile.status", 7, "", 1U << 31U);
}

}  // namespace

int main() {
  // What else the library has is linked with whatever uses it.
  { nopspan::Span span{"hostile.begins"}; }
  Commands commands;
  const auto add = [&](const char* name, int (*run)()) {
    commands[name] = [run](std::istringstream&) { return std::to_string(run()); };
  };
  add("wild_texts", wild_texts);
  add("wild_records", wild_records);
  add("endless_texts", endless_texts);
  add("strange_texts", strange_texts);
  add("strange_numbers", strange_numbers);
  // sequences STREAM SEQUENCE...: a hit of each.
  commands["sequences"] = [](std::istringstream& a) {
    std::uint64_t stream = 0, sequence = 0;
    a >> stream;
    int hits = 0;
    for (; a >> sequence; ++hits) {
      const nopspan_span record = record_of(stream, sequence);
      nopspan_site_span_stop("", "hostile.sequence", 1, "", 0, &record);
    }
    return std::to_string(hits);
  };
  return serve(commands);
}
