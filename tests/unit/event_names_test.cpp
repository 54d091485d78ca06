// SPDX-License-Identifier: Apache-2.0
// The lists of the event names in each catalogue.
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/llm.h>
#include <nopspan/registry.h>
#include <nopspan/types.h>

#include <list>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace {

using nopspan::EventNames;

TEST(EventNames, OfTheLlmCatalogueAreItsSpansAndTheRetry) {
  std::vector<std::string> expected =
      Recorder::span_events({"llm.generate", "llm.stream", "llm.step", "llm.chat", "llm.tool", "llm.image"});
  expected.emplace_back("llm.adapter.retry");
  const std::vector<std::string> names = nopspan::llm::event_names();
  EXPECT_EQ(names, expected);
  EXPECT_THAT(names, SizeIs(19));
}

TEST(EventNames, OfTheEngineAreItsSpansEventsAndGauges) {
  std::vector<std::string> expected =
      Recorder::span_events({"engine.request", "engine.queue", "engine.prefill", "engine.decode", "engine.step",
                             "engine.load", "engine.transfer", "engine.device"});
  for (const char* event : {"preempted", "swapped", "evicted", "prefix_cache", "rejected", "stats"}) {
    expected.push_back(std::string("engine.") + event);
  }
  EXPECT_EQ(std::vector<std::string>(nopspan::engine::event_names()), expected);
  EXPECT_EQ(nopspan::engine::event_prefix(), "engine");
}

TEST(EventNames, AreWhatAttachManyTakes) {
  unsigned events = 0;
  attach_many_ok("all", nopspan::llm::event_names(), [&](const nopspan::Event&) { ++events; });
  EXPECT_THAT(nopspan::list_handlers("llm"), SizeIs(19));
  { const Span span{nopspan::llm::chat}; }
  nopspan::llm::retry([](auto&) {});
  detach_ok("all");
  EXPECT_EQ(events, 3U);
}

TEST(EventNames, ConvertToOtherContainersOfStrings) {
  const EventNames names = nopspan::agent::event_names();
  EXPECT_THAT(std::set<std::string>(names), SizeIs(44));
  EXPECT_THAT(std::vector<std::string_view>(names), SizeIs(44));
  EXPECT_EQ(std::list<std::string>(names).front(), "agent.llm.start");
  static_assert(!std::is_convertible_v<EventNames, std::string>);
  static_assert(!std::is_convertible_v<EventNames, std::vector<int>>);
  const Recorder recorder(names);
  EXPECT_EQ(recorder.error(), Errc::ok);
}

TEST(EventNames, AreAListLikeOthers) {
  const EventNames names = nopspan::llm::event_names();
  EXPECT_FALSE(names.empty());
  EXPECT_EQ(names[0], "llm.generate.start");
  EXPECT_EQ(static_cast<std::size_t>(names.end() - names.begin()), names.size());
  EXPECT_TRUE(EventNames().empty());
  EXPECT_THAT(std::vector<std::string>(EventNames()), IsEmpty());
}

TEST(EventNames, CoverEverySpanOfTheirCatalogue) {
  const Recorder recorder(nopspan::engine::event_names());
  { const Span span{nopspan::engine::step}; }
  nopspan::gauge("running", 1);
  EXPECT_THAT(recorder.names(), ElementsAre("engine.step.start", "engine.step.stop", "engine.stats"));
}

}  // namespace
