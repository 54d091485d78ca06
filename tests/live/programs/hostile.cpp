// SPDX-License-Identifier: Apache-2.0
// Passes arbitrary data to the batch site, as a broken or hostile process might do. It has the library's site and the
// page of the gate, as every static program has, and uses nothing else of the library.
//
// Takes commands (commands.h). Each answers with the number of entries that it claimed to flush.
#include "batch_builder.h"
#include "commands.h"

#include <nopspan/probes.h>
#include <nopspan/span.h>

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

extern "C" {
__attribute__((visibility("hidden"))) void nopspan_site_batch(const void*, std::uint64_t, std::uint64_t, std::uint64_t,
                                                              std::uint64_t, const void*);
extern __attribute__((visibility("hidden"))) nopspan_gate_page nopspan_gate;
}

namespace {

using nopspan::collector::BatchBuilder;

std::mt19937_64 chance(11);  // NOLINT: the same in every run

void pass(const void* bytes, std::uint64_t size, std::uint64_t count, const nopspan_thread* header) {
  nopspan_site_batch(bytes, size, count, chance() % 1000, 0, header);
}

const void* wild(std::uint64_t address) { return reinterpret_cast<const void*>(address); }

nopspan_thread header_of(std::uint64_t sequence_id, std::uint64_t first, std::uint64_t next) {
  nopspan_thread header{};
  header.magic = NOPSPAN_THREAD_MAGIC;
  header.size = offsetof(nopspan_thread, reserved);
  header.mark = 1;
  header.sequence_id = sequence_id;
  header.first = first;
  header.next = next;
  header.capacity = 32768;
  return header;
}

// Valid entries with one name.
std::string entries(int count, const std::string& name) {
  BatchBuilder batch;
  for (int i = 0; i < count; ++i) batch.span(name, chance());
  return batch.raw();
}

// A valid thread.
std::uint64_t good_stream = 4711, good_next = 0;
int pass_good(int count, const std::string& bytes) {
  const nopspan_thread header = header_of(good_stream, good_next, good_next + count);
  good_next += count;
  pass(bytes.data(), bytes.size(), count, &header);
  return count;
}
int good(int count, const std::string& name) { return pass_good(count, entries(count, name)); }

// Spans of requests that never end, each with attributes of 4 KiB.
int unending(int count) {
  constexpr std::size_t kText = 4000;
  constexpr std::size_t kValue = kText + 3, kKeyValue = kValue + 6;
  const auto length = [](std::size_t size) {
    return std::string{static_cast<char>(size % 128 + 128), static_cast<char>(size / 128)};
  };
  const std::string attributes = "\x4a" + length(kKeyValue) + "\x0a\x01k\x12" +  // NOLINT: bytes
                                 length(kValue) + "\x0a" + length(kText) + std::string(kText, 'x');
  for (int i = 0; i < count; ++i) {
    BatchBuilder batch;
    batch.span("hostile.unending", chance()).attributes(attributes);
    for (char& byte : batch.request().trace_id) byte = static_cast<char>(chance());
    batch.last().parent_id = batch.request().root_id = chance();
    pass_good(1, batch.raw());
  }
  return count;
}

constexpr int kMembers = 500;

// Steps with many members, which nothing claims; parts of them that do not fit; and steps that lack what they announce.
int steps(int count) {
  std::vector<nopspan_member> members(kMembers);
  for (int i = 0; i < count; ++i) {
    for (nopspan_member& member : members) {
      member.request = chance();
      member.context_tokens = ~0U;
      member.flags = static_cast<unsigned short>(chance());
    }
    BatchBuilder batch;
    batch.step(chance(), members, i % 3 == 0 ? ~0U : kMembers);
    for (char& byte : batch.request().trace_id) byte = static_cast<char>(chance());
    if (i % 4 == 3) batch.last().kind = batch.form().entry_kind = NOPSPAN_ENTRY_MEMBERS;
    if (i % 2 != 0) batch.text(&nopspan_form::name, "hostile.step");
    auto& step = *reinterpret_cast<nopspan_step*>(batch.words().data());
    step.kind = ~0U;
    step.instance = step.number = step.device_ns = ~0UL;
    step.dropped = ~0U;
    pass_good(1, batch.raw());
  }
  return count;
}

// A step without end: it announces 4 billion members, and has this many parts. Each member has a key of its own.
int endless_step(int parts) {
  BatchBuilder begin;
  begin.step(77, {}, ~0U);
  auto& step = *reinterpret_cast<nopspan_step*>(begin.words().data());
  step.prefill_tokens = step.decode_tokens = ~0UL;
  pass_good(1, begin.raw());
  std::vector<nopspan_member> members(kMembers);
  std::uint64_t before = 0;
  for (int i = 0; i < parts; ++i) {
    const std::uint64_t first = before;
    for (nopspan_member& member : members) {
      member.request = ++before;
      member.flags = NOPSPAN_MEMBER_OWN_KEY;
    }
    BatchBuilder part;
    part.members(77, members, first).text(&nopspan_form::name, "engine.step");
    pass_good(1, part.raw());
  }
  return parts + 1;
}

int wild_pointers() {
  const nopspan_thread header = header_of(1, 0, 3);
  for (const std::uint64_t address : {0UL, 1UL, 0xdeadbeefUL, 0x7fffffffffffUL, 0xffff888000000000UL, ~0UL}) {
    pass(wild(address), 512, 3, &header);
    pass(&header, 512, 3, static_cast<const nopspan_thread*>(wild(address)));
  }
  return 12 * 3;
}

int wrong_sizes() {
  const std::string bytes = entries(3, "hostile.sizes");
  nopspan_thread header = header_of(2, 0, 3);
  const auto hit_batch = [&](std::uint64_t size, std::uint64_t count) {
    pass(bytes.data(), size, count, &header);
    header.first = header.next;
    header.next += 3;
  };
  for (const std::uint64_t size :
       {1UL, 7UL, 31UL, 32UL, 131072UL, 131073UL, 1UL << 20U, 1UL << 32U, 1UL << 63U, ~0UL}) {
    hit_batch(size, 3);
  }
  for (const std::uint64_t count : {0UL, 1UL, 4UL, 8193UL, 1UL << 40U, ~0UL}) hit_batch(bytes.size(), count);
  hit_batch(0, 3);
  return 0;
}

int garbage(int hits) {
  for (int i = 0; i < hits; ++i) {
    std::string bytes = entries(8, "hostile.garbage");
    for (int n = static_cast<int>(chance() % 20); n >= 0; --n)
      bytes[chance() % bytes.size()] = static_cast<char>(chance());
    nopspan_thread header = header_of(3 + chance() % 4, chance() % 100, 0);
    header.next = header.first + 8;
    pass(bytes.data(), bytes.size(), 8, &header);
  }
  return 8 * hits;
}

int endless_streams(int hits) {
  const std::string bytes = entries(1, "hostile.sequence_id");
  for (int i = 0; i < hits; ++i) {
    const nopspan_thread header = header_of(chance(), 0, 1);
    pass(bytes.data(), bytes.size(), 1, &header);
  }
  return hits;
}

int wild_sequences() {
  const std::string bytes = entries(2, "hostile.sequence");
  for (const std::uint64_t first : {0UL, 1UL << 62U, ~0UL, ~0UL - 2, 5UL, 1UL << 40U, 1UL << 33U}) {
    const nopspan_thread header = header_of(20, first, first + 2);
    pass(bytes.data(), bytes.size(), 2, &header);
  }
  return 14;
}

int escapes() {
  int count = 0;
  for (const char* name :
       {"\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\xff\xfe\xc3\x28", "a\nb\rc\td", "\u202e\u0085x"}) {
    count += good(1, name);
  }
  return count;
}

int strange_numbers() {
  struct Numbers {
    const char* name;
    std::uint64_t duration_ns;
    std::uint8_t status;
  };
  int count = 0;
  for (const Numbers& numbers : {Numbers{"hostile.long", ~0UL, 0}, Numbers{"hostile.long", ~0UL - 1, 0},
                                 Numbers{"hostile.zero", 0, 0}, Numbers{"hostile.status", 7, 255}}) {
    BatchBuilder batch;
    batch.span(numbers.name, chance()).part(NOPSPAN_PART_TIMES, {1000, numbers.duration_ns});
    batch.last().status = numbers.status;
    count += pass_good(1, batch.raw());
  }
  return count;
}

// A thousand entries whose attributes are the same bytes.
int amplified() {
  constexpr int kCount = 200;
  BatchBuilder batch;
  batch.span("hostile.amplified", chance()).text(NOPSPAN_PART_ATTRIBUTES, std::string(8192, 'a'));
  const nopspan_text where = batch.written(NOPSPAN_PART_ATTRIBUTES);
  for (int i = 1; i < kCount; ++i) batch.span("hostile.amplified", chance()).text_at(NOPSPAN_PART_ATTRIBUTES, where);
  const nopspan_thread header = header_of(30, 0, kCount);
  pass(batch.raw().data(), batch.raw().size(), kCount, &header);
  return kCount;
}

// Entries on a page that is not in memory.
int absent(int count) {
  const std::string bytes = entries(count, "hostile.absent");
  void* page = mmap(nullptr, 1U << 20U, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const nopspan_thread header = header_of(40, 0, count);
  pass(page, bytes.size(), count, &header);
  munmap(page, 1U << 20U);
  return count;
}

// The list of threads, which the collector reads from outside.
std::vector<nopspan_thread> listed;
std::uint64_t mark = 1;
void publish() {
  nopspan_gate.process_mark = reinterpret_cast<std::uintptr_t>(&mark);
  nopspan_gate.threads = reinterpret_cast<std::uintptr_t>(listed.data());
}
int list_without_end() {
  listed.assign(100'000, header_of(50, 0, 5));
  for (std::size_t i = 0; i < listed.size(); ++i) {
    nopspan_thread& header = listed[i];
    header.sequence_id = 1000 + i;
    header.buffer = i % 3 == 0 ? 0xdeadbeef : reinterpret_cast<std::uintptr_t>(listed.data());
    header.bytes = i % 5 == 0 ? ~0UL : 4096;
    header.next_thread = reinterpret_cast<std::uintptr_t>(&listed[(i + 1) % listed.size()]);
  }
  publish();
  return 0;
}
// Threads that all claim to hold the same 512 KiB, which are valid entries.
std::string held;
int heavy_list(int threads) {
  constexpr std::size_t kBytes = 512U << 10U;
  BatchBuilder batch;
  batch.entry();
  batch.attributes(std::string(32, '\0'));  // so that it has no more entries than a batch may have
  const std::string one(batch.bytes());
  // The places of the form and the request are those at the front.
  const std::string_view entry = std::string_view(one).substr(batch.entry_at());
  held = one;
  while (held.size() + entry.size() <= kBytes) held += entry;
  listed.assign(threads, header_of(70, 0, 1 + (held.size() - one.size()) / entry.size()));
  for (std::size_t i = 0; i < listed.size(); ++i) {
    nopspan_thread& header = listed[i];
    header.sequence_id = 1000 + i;
    header.buffer = reinterpret_cast<std::uintptr_t>(held.data());
    header.bytes = held.size();
    header.written_ns = ~0UL >> 1U;  // far in the future, so not due yet
    header.next_thread = i + 1 < listed.size() ? reinterpret_cast<std::uintptr_t>(&listed[i + 1]) : 0;
  }
  publish();
  return 0;
}
int discarding_list() {
  listed.assign(1, header_of(80, 5, 5));
  listed[0].discarded = 5;
  publish();
  return 5;
}
int list_to_itself() {
  listed.assign(1, header_of(60, 0, 5));
  listed[0].next_thread = reinterpret_cast<std::uintptr_t>(listed.data());
  listed[0].buffer = ~0UL;
  listed[0].bytes = 8;
  publish();
  return 0;
}
int wild_list() {
  nopspan_gate.threads = 0xdeadbeef;
  nopspan_gate.process_mark = ~0UL;
  nopspan_gate.size = ~0UL;
  return 0;
}

}  // namespace

int main() {
  // The constructor that fills the gate's page is only linked into a program that uses the library.
  { nopspan::Span span{"hostile.begins"}; }
  Commands commands;
  const auto number = [](std::istringstream& a) {
    int value = 0;
    a >> value;
    return value;
  };
  commands["gate"] = [](std::istringstream&) { return std::to_string(nopspan_gate.gate); };
  commands["good"] = [&](std::istringstream& a) { return std::to_string(good(number(a), "hostile.good")); };
  commands["unending"] = [&](std::istringstream& a) { return std::to_string(unending(number(a))); };
  commands["steps"] = [&](std::istringstream& a) { return std::to_string(steps(number(a))); };
  commands["endless_step"] = [&](std::istringstream& a) { return std::to_string(endless_step(number(a))); };
  commands["wild_pointers"] = [](std::istringstream&) { return std::to_string(wild_pointers()); };
  commands["wrong_sizes"] = [](std::istringstream&) { return std::to_string(wrong_sizes()); };
  commands["garbage"] = [&](std::istringstream& a) { return std::to_string(garbage(number(a))); };
  commands["endless_streams"] = [&](std::istringstream& a) { return std::to_string(endless_streams(number(a))); };
  commands["wild_sequences"] = [](std::istringstream&) { return std::to_string(wild_sequences()); };
  commands["escapes"] = [](std::istringstream&) { return std::to_string(escapes()); };
  commands["strange_numbers"] = [](std::istringstream&) { return std::to_string(strange_numbers()); };
  commands["amplified"] = [](std::istringstream&) { return std::to_string(amplified()); };
  commands["absent"] = [&](std::istringstream& a) { return std::to_string(absent(number(a))); };
  commands["list_without_end"] = [](std::istringstream&) { return std::to_string(list_without_end()); };
  commands["heavy_list"] = [&](std::istringstream& a) { return std::to_string(heavy_list(number(a))); };
  commands["discarding_list"] = [](std::istringstream&) { return std::to_string(discarding_list()); };
  commands["list_to_itself"] = [](std::istringstream&) { return std::to_string(list_to_itself()); };
  commands["wild_list"] = [](std::istringstream&) { return std::to_string(wild_list()); };
  return serve(commands);
}
