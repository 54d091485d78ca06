// SPDX-License-Identifier: Apache-2.0
// What several processes may claim about the steps of an engine. Each four bytes of an input are an entry, or time that
// passes. There are few ids, so that entries refer to each other.
#include "require.h"

#include "../collector/adds_up.h"
#include "../collector/kept_entry.h"

#include "model/steps.h"
#include "trace/trace_assembler.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

constexpr std::uint64_t kTick = 20'000'000;
constexpr std::size_t kMostMemory = 32'768, kMostBeyond = 65'536;  // an open trace, a step and a request may stay
constexpr std::size_t kMostClaims = 100;                           // of an input, because each takes much time

TraceLimits small_limits() {
  TraceLimits limits;
  limits.bytes = kMostMemory;
  limits.bytes_per_trace = kMostMemory / 8;
  limits.traces = 5;
  limits.entries_per_trace = 10;
  limits.linked_kept = 3;
  limits.remembered = 4;
  return limits;
}

class Claims {
 public:
  void run(std::string_view script) {
    std::uint64_t now = kSecond;
    script = script.substr(0, 4 * kMostClaims);
    for (; script.size() >= 4; script.remove_prefix(4)) {
      const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(script[i]); };
      if (byte(0) >> 5U == 7) {
        assembler_.tick(now += kTick * byte(1));
      } else {
        add(byte(0), byte(1), byte(2), byte(3));
      }
      require(adds_up(assembler_), "everything is counted exactly once");
      require(assembler_.bytes() <= kMostMemory + kMostBeyond, "the memory is bounded");
    }
    assembler_.finish();
    require(adds_up(assembler_), "everything is counted exactly once");
    const StepCounts& counts = assembler_.step_counts();
    require(assembler_.counts().held + counts.members.held + counts.inside.held == 0, "nothing is left at the end");
  }

 private:
  // a: kind, process. b: ids. c: parent or number of members, and duration. d: name, flags, and what a step announces.
  void add(unsigned a, unsigned b, unsigned c, unsigned d) {
    static const ProcessPointer processes[] = {make_process(1), make_process(2), make_process(3)};
    static constexpr std::string_view kNames[] = {"engine.step", "engine.request", "gpu", "copy"};
    Entry entry;
    entry.process = &processes[a % 32 % 3];
    entry.thread_id = entry.sequence_id = a % 32 % 3;
    entry.sequence = sequence_++;
    entry.trace_id.bytes[0] = b % 8;
    entry.span_id = entry.root_id = b / 8;
    entry.start_unix_ns = kSecond + d;
    entry.duration_ns = std::uint64_t{1} << (c % 64);
    entry.name = kNames[d % std::size(kNames)];
    entry.status = d % 7 == 0 ? kError : kOk;
    nopspan_step facts{};
    std::vector<nopspan_member> members(c % 5);
    for (nopspan_member& member : members) {
      member.request = (b + d * static_cast<unsigned>(&member - members.data())) % 32;
      member.prefill_tokens = member.context_tokens = ~0U;
      member.flags = d / 32;
    }
    switch (a / 32) {
      case 0:
        entry.parent_id = 0;
        break;
      case 1:
        entry.parent_id = c % 32;
        entry.flags = d % 2 != 0 ? NOPSPAN_FLAG_REMOTE_PARENT : 0;
        break;
      case 2:
        entry.kind = Kind::event;
        break;
      case 3:
        entry.parent_id = c % 32;
        entry.flags = NOPSPAN_FLAG_ORPHAN;
        break;
      case 4:
        entry.kind = Kind::part;
        entry.number = d;
        break;
      default:
        facts.members = std::max<unsigned>(d == UINT8_MAX ? ~0U : d, static_cast<unsigned>(members.size()));
        facts.dropped = d;
        facts.instance = facts.number = facts.decode_tokens = ~0UL - c;
        entry.step = &facts;
        entry.parent_id = a / 32 == 6 ? c % 32 : 0;
    }
    if (entry.kind == Kind::part || entry.step != nullptr) {
      entry.members = {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)};
    }
    assembler_.add(entry);
  }

  std::uint64_t sequence_ = 0;
  TraceAssembler assembler_{small_limits(), {}, [](const AssembledTrace& /*trace*/) { return true; }};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Claims().run({reinterpret_cast<const char*>(data), size});
  return 0;
}
