// SPDX-License-Identifier: Apache-2.0
// attach(), attach_many(), detach() and list_handlers().
#include "recorded.h"

#include <nopspan/detail/gate.h>
#include <nopspan/execute.h>

#include <atomic>
#include <thread>

namespace {

const auto kNothing = [](const Event&) {};

std::vector<std::string> listed(std::string_view prefix) {
  std::vector<std::string> list;
  for (const nopspan::HandlerInfo& info : nopspan::list_handlers(prefix)) list.push_back(info.id + " " + info.event);
  return list;
}

// Detaches the handlers that a test has attached.
class Registry : public ::testing::Test {
 protected:
  void TearDown() override {
    while (!nopspan::list_handlers().empty()) static_cast<void>(nopspan::detach(nopspan::list_handlers()[0].id));
  }
};

TEST_F(Registry, RefusesAnIdThatExistsWhateverItsEvents) {
  int calls = 0;
  ASSERT_EQ(nopspan::attach("id", "a.b", [&](const Event&) { ++calls; }), Errc::ok);
  EXPECT_EQ(nopspan::attach("id", "a.b", kNothing), Errc::already_exists);
  EXPECT_EQ(nopspan::attach("id", "c.d", kNothing), Errc::already_exists);
  EXPECT_EQ(nopspan::attach_many("id", {"e.f"}, kNothing), Errc::already_exists);
  EXPECT_EQ(nopspan::attach_many("id", {}, kNothing), Errc::already_exists);
  nopspan::execute("a.b");
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(nopspan::attach_many("twice", {"c.d", "c.d"}, kNothing), Errc::ok);
  EXPECT_THAT(listed(""), ElementsAre("id a.b", "twice c.d"));
  detach_ok("twice");
}

TEST_F(Registry, RefusesWhatIsNoEventName) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".a"), std::string("a."), std::string("a..b"), std::string("a\nb"),
        std::string("a\0b", 3), std::string("a\x7f"), std::string(64, 'a'), std::string("a\xff"),
        std::string(64, 'a') + ".stop", std::string("a*"), std::string("*.stop"), std::string("a.*.stop"),
        std::string(".*"), std::string("a.*.*")}) {
    EXPECT_EQ(nopspan::attach("id", name, kNothing), Errc::invalid_argument) << name;
  }
  for (const std::string& name :
       {std::string("a"), std::string(63, 'a'), std::string(63, 'a') + ".exception", std::string("zażółć.x"),
        std::string("a b"), std::string("*"), std::string(63, 'a') + ".*"}) {
    EXPECT_EQ(nopspan::attach(name, name, kNothing), Errc::ok) << name;
  }
}

TEST_F(Registry, RefusesAnEmptyHandlerAndAnEmptyId) {
  EXPECT_EQ(nopspan::attach("id", "a.b", {}), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach("", "a.b", kNothing), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach_many("id", {"a.b"}, {}), Errc::invalid_argument);
  EXPECT_THAT(listed(""), IsEmpty());
}

TEST_F(Registry, RegistersNothingForNoEvents) {
  EXPECT_EQ(nopspan::attach_many("id", {}, kNothing), Errc::ok);
  EXPECT_EQ(nopspan::detach("id"), Errc::not_found);
  EXPECT_EQ(nopspan::detail::gate() & (nopspan::detail::kGateSpanHandlers | nopspan::detail::kGatePointHandlers), 0U);
}

TEST_F(Registry, CallsInOrderOfAttachment) {
  std::string order;
  for (const char* id : {"z", "m", "a", "q"}) {
    EXPECT_EQ(nopspan::attach(id, "a.b", [&order, id](const Event&) { order += id; }), Errc::ok);
  }
  nopspan::execute("a.b");
  EXPECT_EQ(order, "zmaq");
  EXPECT_EQ(nopspan::detach("m"), Errc::ok);
  EXPECT_EQ(nopspan::attach("m", "a.b", [&](const Event&) { order += "m"; }), Errc::ok);
  nopspan::execute("a.b");
  EXPECT_EQ(order, "zmaqzaqm");
}

TEST_F(Registry, ListsByPrefixOfWholeSegmentsInOrderOfAttachment) {
  EXPECT_EQ(nopspan::attach("1", "llm.chat.stop", kNothing, 7), Errc::ok);
  EXPECT_EQ(nopspan::attach_many("2", {"llm.chat.start", "llm.tool.stop"}, kNothing), Errc::ok);
  EXPECT_EQ(nopspan::attach("3", "llm.chatter", kNothing), Errc::ok);
  EXPECT_EQ(nopspan::attach("4", "llmx", kNothing), Errc::ok);
  EXPECT_THAT(listed(""),
              ElementsAre("1 llm.chat.stop", "2 llm.chat.start", "2 llm.tool.stop", "3 llm.chatter", "4 llmx"));
  EXPECT_THAT(listed("llm"), ElementsAre("1 llm.chat.stop", "2 llm.chat.start", "2 llm.tool.stop", "3 llm.chatter"));
  EXPECT_THAT(listed("llm.chat"), ElementsAre("1 llm.chat.stop", "2 llm.chat.start"));
  EXPECT_THAT(listed("llm.chat.stop"), ElementsAre("1 llm.chat.stop"));
  EXPECT_THAT(listed("llm.cha"), IsEmpty());
  EXPECT_THAT(listed("llm.chat.stop.more"), IsEmpty());
  EXPECT_EQ(nopspan::list_handlers("llm.chat.stop").at(0).config, Value(7));
}

TEST_F(Registry, RaisesTheGateWhileAnyHandlerIsAttached) {
  using nopspan::detail::gate;
  constexpr std::uint64_t kHandlers = nopspan::detail::kGatePointHandlers | nopspan::detail::kGateSpanHandlers;
  constexpr std::uint64_t kRaised = kHandlers & 0x0101010101010101U;
  EXPECT_EQ(gate() & kHandlers, 0U);
  EXPECT_EQ(nopspan::attach("point", "cache.hit", kNothing), Errc::ok);
  EXPECT_EQ(gate() & kHandlers, kRaised);
  EXPECT_EQ(nopspan::attach("span", "work.stop", kNothing), Errc::ok);
  EXPECT_EQ(gate() & kHandlers, kRaised);
  EXPECT_EQ(nopspan::detach("point"), Errc::ok);
  EXPECT_EQ(gate() & kHandlers, kRaised);
  EXPECT_EQ(nopspan::detach("span"), Errc::ok);
  EXPECT_EQ(gate() & kHandlers, 0U);
}

TEST_F(Registry, LetsSpansRunForAHandlerOfAnotherEvent) {
  const Recorder recorder{"cache.hit"};
  const Span outer{"outer"};
  const Span inner{"inner"};
  nopspan::execute("cache.hit");
  ASSERT_THAT(recorder.events(), SizeIs(1));
  const nopspan::OwnedEvent event = recorder.events()[0];
  EXPECT_NE(event->span_id(), 0U);
  EXPECT_EQ(event->span_id(), id_of(inner));
  EXPECT_EQ(event->parent_id(), id_of(outer));
  EXPECT_EQ(event->request_id(), outer.context().request_id());
}

TEST_F(Registry, FindsEveryOneOfManyEvents) {
  std::vector<std::string> events;
  for (int i = 0; i < 300; ++i) events.push_back("many.event" + std::to_string(i));
  int calls = 0;
  ASSERT_EQ(nopspan::attach_many("id", events, [&](const Event&) { ++calls; }), Errc::ok);
  for (const std::string& event : events) nopspan::execute(nopspan::Name::intern(event));
  EXPECT_EQ(calls, 300);
}

TEST_F(Registry, FindsTheHandlersThatAreLeftOfMany) {
  std::vector<std::string> ids;
  std::vector<std::string> seen;
  for (int i = 0; i < 300; ++i) ids.push_back(std::to_string(i));
  for (const std::string& id : ids) {
    ASSERT_EQ(nopspan::attach_many(id, {"many.own" + id, "many.common"}, [&, id](const Event&) { seen.push_back(id); }),
              Errc::ok);
  }
  for (int i = 0; i < 300; ++i) {
    if (i % 100 == 7) continue;
    ASSERT_EQ(nopspan::detach(ids[i]), Errc::ok);
  }
  nopspan::execute("many.common");
  nopspan::execute("many.own107");
  nopspan::execute("many.own108");
  EXPECT_THAT(seen, ElementsAre("7", "107", "207", "107"));
  ASSERT_EQ(nopspan::attach("108", "many.own108", [&](const Event&) { seen.emplace_back("again"); }), Errc::ok);
  nopspan::execute("many.own108");
  EXPECT_EQ(seen.back(), "again");
}

TEST_F(Registry, AttachesAndDetachesInProportionToWhatItHas) {
  const auto cost = [](int handlers, const char* event) {
    const std::size_t before = allocated_bytes();
    for (int i = 0; i < handlers; ++i) {
      const std::string id = std::to_string(i);
      EXPECT_EQ(nopspan::attach(id, *event == '\0' ? "many." + id : event, kNothing), Errc::ok);
    }
    for (int i = 0; i < handlers; ++i) EXPECT_EQ(nopspan::detach(std::to_string(i)), Errc::ok);
    return allocated_bytes() - before;
  };
  for (const char* event : {"", "many.common"}) EXPECT_LT(cost(4000, event), 6 * cost(1000, event)) << event;
}

TEST_F(Registry, AllocatesNothingToDispatch) {
  for (const auto& [event, calls_of_one] : {std::pair("work.stop", 1), std::pair("work.*", 2)}) {
    int calls = 0;
    attach_ok("id", event, [&calls](const Event&) { ++calls; });
    { const Span first{"work"}; }
    const std::size_t before = allocations();
    { const Span span{"work"}; }
    EXPECT_EQ(allocations(), before) << event;
    EXPECT_EQ(calls, 2 * calls_of_one);
    detach_ok("id");
  }
}

TEST_F(Registry, SaysWhatEachErrorMeans) {
  for (const Errc error :
       {Errc::ok, Errc::already_exists, Errc::not_found, Errc::invalid_argument, Errc::out_of_memory}) {
    EXPECT_GT(std::string(nopspan::describe(error)).size(), 1U);
  }
  EXPECT_STREQ(nopspan::describe(Errc::ok), "ok");
}

// ---- Handlers that are attached to all events below a prefix, and to names that only look like events.

// Attaches a handler to one event or prefix, which adds a line to a list.
class Prefix : public Registry {
 protected:
  void attach(const std::string& id, const std::string& event) {
    const auto handler = [this, id](const Event& e) { seen_.push_back(id + " " + std::string(e.name())); };
    attach_ok(id, event, handler);
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

TEST_F(Prefix, IsListedAndSelectsEventsUntilItIsDetached) {
  attach("1", "db.*");
  attach("2", "*");
  ASSERT_EQ(nopspan::list_handlers("db").size(), 1U);
  EXPECT_EQ(nopspan::list_handlers("db")[0].event, "db.*");
  detach_ok("1");
  nopspan::execute("db.hit");
  detach_ok("2");
  nopspan::execute("db.hit");
  EXPECT_THAT(seen_, ElementsAre("2 db.hit"));
  const Counted failed(&nopspan::Stats::handler_failures);
  ASSERT_EQ(nopspan::attach("bad", "*", [](const Event&) { throw std::runtime_error("boom"); }), Errc::ok);
  nopspan::execute("db.hit");
  EXPECT_EQ(failed.times(), 1U);
  EXPECT_THAT(nopspan::list_handlers(), IsEmpty()) << "a handler that throws is detached";
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
  const LoggedLines log_;
};

TEST_F(NameOfASpan, IsNoEventWhichIsLoggedOnce) {
  attach("id", "db.query");
  { const Span span{"db.queries"}; }
  nopspan::execute("db.query");
  EXPECT_THAT(log_.lines, IsEmpty());
  { const Span span{"db.query"}; }
  { const Span span{"db.query"}; }
  attach("other", "db.query");
  { const Span span{"db.query"}; }
  EXPECT_THAT(log_.lines, ElementsAre("a handler is attached to \"db.query\", but this is a span, whose events are "
                                      "db.query.start, .stop and .exception"));
}

TEST_F(NameOfASpan, IsLoggedForAsyncAndFinishedSpansToo) {
  attach("id", "a");
  attach("other", "b");
  { AsyncSpan span{"a"}; }
  nopspan::complete("b", Context(), 1, 1);
  EXPECT_THAT(log_.lines, SizeIs(2));
}

TEST_F(NameOfASpan, IsNotLoggedIfAnEventOfTheSpanHasTheHandler) {
  attach("id", "db.query.stop");
  attach("other", "db.*");
  { const Span span{"db.query"}; }
  EXPECT_THAT(log_.lines, IsEmpty());
}

}  // namespace
