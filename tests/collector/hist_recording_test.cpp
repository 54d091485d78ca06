// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_recording.h"

#include "invented_spans.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

// A recording: spans of some names, each of a process, and what was lost on the way.
class Recorded : public Source {
 public:
  std::vector<std::pair<ProcessPointer, std::string>> spans;
  Ledger told;

  void run(Sink& sink, Deadline& /*until*/) override {
    for (const auto& [process, name] : spans) {
      Span span;
      span.process = &process;
      span.name = name;
      sink.on_span(span);
    }
  }
  [[nodiscard]] Ledger ledger() const override { return told; }
};

TEST(HistRecording, HasALedgerOfWhatWasTakenAndOfWhatTheRecorderLostByProcess) {
  Recorded recorded;
  const ProcessPointer first = invented_process(1), second = invented_process(2), third = invented_process(3);
  recorded.spans = {{first, "wanted"}, {second, "wanted"}, {first, "unwanted"}, {first, "wanted"}};
  // Of all entries: events among them.
  recorded.told.processes = {{first, {.emitted = 9, .delivered = 5, .ring_full = 4}},
                             {third, {.emitted = 2, .missed = 2}}};
  recorded.told.others_processes = 6;
  recorded.told.total = {.emitted = 20, .delivered = 10, .ring_full = 4, .missed = 2, .discarded = 3};

  HistOptions options;
  options.by = {find_key_part("name")};
  options.of = find_quantity("duration");
  options.filter.name = "wanted";
  const Ledger ledger = read_recording(recorded, {}, options).ledger.ledger();
  ASSERT_EQ(ledger.processes.size(), 3U);
  const Counts of_first = {.emitted = 7, .delivered = 2, .filtered = 1, .ring_full = 4};
  const Counts of_second = {.emitted = 1, .delivered = 1};
  const Counts of_third = {.emitted = 2, .missed = 2};
  const Counts of_others = {.emitted = 3, .discarded = 3};
  EXPECT_EQ(ledger.processes[0].counts, of_first);
  EXPECT_EQ(ledger.processes[1].counts, of_second);
  EXPECT_EQ(ledger.processes[2].counts, of_third);
  EXPECT_EQ(ledger.others, of_others);
  EXPECT_EQ(ledger.others_processes, 6U);
  EXPECT_TRUE(ledger.total.closes());
}

}  // namespace
}  // namespace nopspan::collector
