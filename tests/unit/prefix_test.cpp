// SPDX-License-Identifier: Apache-2.0
// Handlers that are attached to all events below a prefix, and to names that only look like events.
#include "recorded.h"

#include <nopspan/execute.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

// Attaches a handler to one event or prefix, which adds a line to a list.
class Prefix : public ::testing::Test {
 protected:
  void attach(const std::string& id, const std::string& event) {
    const auto handler = [this, id](const Event& e) { seen_.push_back(id + " " + std::string(e.name())); };
    attach_ok(id, event, handler);
  }
  void TearDown() override {
    while (!nopspan::list_handlers().empty()) static_cast<void>(nopspan::detach(nopspan::list_handlers()[0].id));
  }
  std::vector<std::string> seen_;
};

TEST_F(Prefix, SelectsTheEventsBelowIt) {
  attach("id", "db.*");
  { const Span span{"db.query"}; }
  { const Span span{"db"}; }
  { const Span span{"dbx.query"}; }
  { const Span span{"x.db.query"}; }
  nopspan::execute("db.hit");
  nopspan::execute("db");
  EXPECT_THAT(seen_, ElementsAre("id db.query.start", "id db.query.stop", "id db.start", "id db.stop", "id db.hit"));
}

TEST_F(Prefix, MayBeANameOfASpan) {
  attach("id", "db.query.*");
  { const Span span{"db.query"}; }
  { const Span span{"db"}; }
  { const Span span{"db.query.row"}; }
  nopspan::execute("db.query");
  EXPECT_THAT(seen_,
              ElementsAre("id db.query.start", "id db.query.stop", "id db.query.row.start", "id db.query.row.stop"));
}

TEST_F(Prefix, OfNothingSelectsAllEvents) {
  attach("id", "*");
  try {
    const Span span{"a"};
    nopspan::execute("b.c");
    throw std::runtime_error("x");
  } catch (const std::runtime_error&) {
  }
  nopspan::gauge("busy", 1);
  EXPECT_THAT(seen_, ElementsAre("id a.start", "id b.c", "id a.exception", "id engine.stats"));
}

TEST_F(Prefix, KeepsTheOrderOfAttachment) {
  attach("1", "db.*");
  attach("2", "db.query.stop");
  attach("3", "*");
  attach("4", "db.query.stop");
  attach("5", "db.query.*");
  { const Span span{"db.query"}; }
  EXPECT_THAT(seen_, ElementsAre("1 db.query.start", "3 db.query.start", "5 db.query.start", "1 db.query.stop",
                                 "2 db.query.stop", "3 db.query.stop", "4 db.query.stop", "5 db.query.stop"));
}

TEST_F(Prefix, CallsAHandlerOnceForAnEvent) {
  int calls = 0;
  const auto handler = [&](const Event&) { ++calls; };
  attach_many_ok("id", {"db.*", "db.query.stop", "*", "db.query.*"}, handler);
  { const Span span{"db.query"}; }
  EXPECT_EQ(calls, 2);
  nopspan::execute("db.query.stop");
  EXPECT_EQ(calls, 3);
}

TEST_F(Prefix, MakesOnlyItsSpansComputeMetadata) {
  attach("id", "db.*");
  const Span root{"root"};  // computes its own in any case, because they may have the id of the request
  int computed = 0;
  const auto metadata = [&](Fields&) { ++computed; };
  { const Span span{"other.query", metadata}; }
  EXPECT_EQ(computed, 0);
  { const Span span{"db.query", metadata}; }
  EXPECT_EQ(computed, 1);
  detach_ok("id");
  attach("id", "else.*");
  { const Span span{"db.query", metadata}; }
  EXPECT_EQ(computed, 1);
}

TEST_F(Prefix, SelectsNoEventOnceItIsDetached) {
  attach("1", "db.*");
  attach("2", "*");
  detach_ok("1");
  nopspan::execute("db.hit");
  detach_ok("2");
  nopspan::execute("db.hit");
  EXPECT_THAT(seen_, ElementsAre("2 db.hit"));
}

TEST_F(Prefix, WhoseHandlerThrowsIsDetached) {
  const Counted failed(&nopspan::Stats::handler_failures);
  attach_ok("bad", "*", [](const Event&) { throw std::runtime_error("boom"); });
  nopspan::execute("db.hit");
  EXPECT_EQ(failed.times(), 1U);
  EXPECT_THAT(nopspan::list_handlers(), IsEmpty());
}

TEST_F(Prefix, IsListedAsItWasGiven) {
  attach("id", "db.*");
  ASSERT_THAT(nopspan::list_handlers("db"), SizeIs(1));
  EXPECT_EQ(nopspan::list_handlers("db")[0].event, "db.*");
}

TEST_F(Prefix, AllocatesNothingToDispatch) {
  int calls = 0;
  attach_ok("id", "db.*", [&](const Event&) { ++calls; });
  { const Span span{"db.query"}; }
  const std::size_t before = allocations();
  { const Span span{"db.query"}; }
  EXPECT_EQ(allocations(), before);
  EXPECT_EQ(calls, 4);
}

TEST_F(Prefix, IsSelectedFromAllOthersWhileTheyComeAndGo) {
  std::atomic<int> calls{0};
  attach_ok("kept", "db.*", [&](const Event&) { ++calls; });
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) {
      const Recorder other{"other" + std::to_string(i % 50) + ".*", "*", "db.hit"};
    }
  });
  for (int i = 0; i < 20'000; ++i) nopspan::execute("db.hit");
  stop = true;
  writer.join();
  EXPECT_EQ(calls, 20'000);
}

class NameOfASpan : public Prefix {
 protected:
  NameOfASpan() {
    nopspan::set_log_sink([this](nopspan::LogLevel, std::string_view line) { lines_.emplace_back(line); });
  }
  void TearDown() override {
    Prefix::TearDown();
    nopspan::set_log_sink({});
  }
  std::vector<std::string> lines_;
};

TEST_F(NameOfASpan, IsNoEventWhichIsLoggedOnce) {
  attach("id", "db.query");
  { const Span span{"db.queries"}; }
  nopspan::execute("db.query");
  EXPECT_THAT(lines_, IsEmpty());
  { const Span span{"db.query"}; }
  { const Span span{"db.query"}; }
  attach("other", "db.query");
  { const Span span{"db.query"}; }
  EXPECT_THAT(lines_, ElementsAre("a handler is attached to \"db.query\", but this is a span, whose events are "
                                  "db.query.start, .stop and .exception"));
}

TEST_F(NameOfASpan, IsLoggedForAsyncAndFinishedSpansToo) {
  attach("id", "a");
  attach("other", "b");
  { AsyncSpan span{"a"}; }
  nopspan::complete("b", Context(), 1, 1);
  EXPECT_THAT(lines_, SizeIs(2));
}

TEST_F(NameOfASpan, IsNotLoggedIfAnEventOfTheSpanHasTheHandler) {
  attach("id", "db.query.stop");
  attach("other", "db.*");
  { const Span span{"db.query"}; }
  EXPECT_THAT(lines_, IsEmpty());
}

}  // namespace
