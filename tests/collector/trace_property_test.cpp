// SPDX-License-Identifier: Apache-2.0
// Random trees are delivered in random order with random losses. The assembled trace must be exactly the tree of the
// delivered spans.
#include "assembled_traces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace nopspan::collector {
namespace {

struct Sent {
  Entry entry;
  bool lost = false;
};

class RandomTraces {
 public:
  explicit RandomTraces(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t bound) { return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_); }
  bool one_in(std::size_t n) { return below(n) == 0; }

  // A tree over several processes. The parent of a span is a random earlier one.
  std::vector<Sent> trace(std::uint8_t number) {
    std::vector<Sent> sent(1 + below(60));
    for (std::size_t i = 0; i < sent.size(); ++i) {
      Entry& entry = sent[i].entry = span_of(random_() | 1U, 0);
      entry.trace_id = trace_number(number);
      entry.start_unix_ns = kBegin + below(1000);
      entry.process = &processes_[below(processes_.size())];
      if (i == 0) continue;
      const Entry& parent = sent[below(i)].entry;
      entry.parent_id = parent.span_id;
      if (parent.process != entry.process) entry.flags = NOPSPAN_FLAG_REMOTE_PARENT;
    }
    for (Sent& one : sent) one.lost = one_in(5);
    return sent;
  }
  template <class T>
  void shuffle(std::vector<T>& items) {
    std::shuffle(items.begin(), items.end(), random_);
  }

 private:
  std::mt19937_64 random_;
  std::vector<ProcessPointer> processes_ = {process_number(1), process_number(2), process_number(3)};
};

void expect_tree(const Seen& seen, const std::vector<Sent>& sent) {
  std::map<std::uint64_t, std::uint64_t> parents;
  std::map<std::uint64_t, RootKind> roots;
  for (const Sent& one : sent) {
    if (!one.lost) parents[one.entry.span_id] = 0;
  }
  for (const Sent& one : sent) {
    if (one.lost) continue;
    if (parents.contains(one.entry.parent_id)) {
      parents[one.entry.span_id] = one.entry.parent_id;
    } else {
      roots[one.entry.span_id] = one.entry.parent_id == 0 ? RootKind::request
                                 : one.entry.flags != 0   ? RootKind::remote
                                                          : RootKind::missing;
    }
  }
  EXPECT_EQ(seen.parents, parents);
  EXPECT_EQ(seen.roots, roots);
}

TEST(TraceProperty, GivesTheTreeThatIsLeftWhateverTheOrderAndTheLoss) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomTraces random(seed);
    std::vector<std::vector<Sent>> traces;
    std::vector<Entry> delivered;
    for (std::uint8_t number = 0; number < 8; ++number) {
      traces.push_back(random.trace(number));
      for (const Sent& one : traces.back()) {
        if (!one.lost) delivered.push_back(one.entry);
      }
    }
    random.shuffle(delivered);
    Assembly assembly;
    for (const Entry& entry : delivered) {
      assembly.add(entry);
      if (random.one_in(4)) assembly.wait(kMillisecond);
      ASSERT_TRUE(assembly.adds_up());
    }
    assembly.assembler.finish();
    EXPECT_EQ(assembly.assembler.counts().assembled, delivered.size());
    std::size_t whole = 0;
    for (const Seen& seen : assembly.seen) {
      const std::vector<Sent>& sent = traces[seen.id.bytes[0]];
      expect_tree(seen, sent);
      whole += sent[0].lost ? 0 : 1;
      EXPECT_TRUE(sent[0].lost || seen.end == TraceEnd::finished);
    }
    EXPECT_GE(assembly.assembler.counts().finished, whole);
  }
}

}  // namespace
}  // namespace nopspan::collector
