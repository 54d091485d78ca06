// SPDX-License-Identifier: Apache-2.0
// attach(), attach_many(), detach() and list_handlers().
#include "recorded.h"

#include <nopspan/detail/gate.h>
#include <nopspan/execute.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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

TEST_F(Registry, CallsAHandlerForItsEventAndNoOther) {
  std::vector<std::string> seen;
  ASSERT_EQ(nopspan::attach("id", "work.stop", [&](const Event& e) { seen.emplace_back(e.name()); }), Errc::ok);
  { const Span span{"work"}; }
  { const Span span{"other"}; }
  nopspan::execute("work.stopped");
  EXPECT_THAT(seen, ElementsAre("work.stop"));
}

TEST_F(Registry, CallsNoHandlerOnceItIsDetached) {
  int calls = 0;
  EXPECT_EQ(nopspan::attach("id", "work.stop", [&](const Event&) { ++calls; }), Errc::ok);
  EXPECT_EQ(nopspan::detach("id"), Errc::ok);
  { const Span span{"work"}; }
  EXPECT_EQ(calls, 0);
}

TEST_F(Registry, RefusesAnIdThatExistsWhateverItsEvents) {
  int calls = 0;
  ASSERT_EQ(nopspan::attach("id", "a.b", [&](const Event&) { ++calls; }), Errc::ok);
  EXPECT_EQ(nopspan::attach("id", "a.b", kNothing), Errc::already_exists);
  EXPECT_EQ(nopspan::attach("id", "c.d", kNothing), Errc::already_exists);
  EXPECT_EQ(nopspan::attach_many("id", {"e.f"}, kNothing), Errc::already_exists);
  EXPECT_EQ(nopspan::attach_many("id", {}, kNothing), Errc::already_exists);
  nopspan::execute("a.b");
  EXPECT_EQ(calls, 1);
  EXPECT_THAT(listed(""), ElementsAre("id a.b"));
}

TEST_F(Registry, AllowsAnIdAgainOnceItIsDetached) {
  ASSERT_EQ(nopspan::attach("id", "a.b", kNothing), Errc::ok);
  ASSERT_EQ(nopspan::detach("id"), Errc::ok);
  EXPECT_EQ(nopspan::attach("id", "a.b", kNothing), Errc::ok);
}

TEST_F(Registry, DoesNotFindAnUnknownId) {
  EXPECT_EQ(nopspan::detach("nobody"), Errc::not_found);
  EXPECT_EQ(nopspan::detach(""), Errc::not_found);
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

TEST_F(Registry, AttachesOneHandlerToManyEvents) {
  std::vector<std::string> seen;
  ASSERT_EQ(nopspan::attach_many("id", {"a.b", "work.start", "work.stop"},
                                 [&](const Event& e) { seen.emplace_back(e.name()); }),
            Errc::ok);
  { const Span span{"work"}; }
  nopspan::execute("a.b");
  EXPECT_THAT(seen, ElementsAre("work.start", "work.stop", "a.b"));
  EXPECT_EQ(nopspan::detach("id"), Errc::ok);
  nopspan::execute("a.b");
  EXPECT_EQ(seen.size(), 3U);
  EXPECT_THAT(listed(""), IsEmpty());
}

TEST_F(Registry, AttachesAllOrNothing) {
  EXPECT_EQ(nopspan::attach_many("id", {"a.b", "", "c.d"}, kNothing), Errc::invalid_argument);
  EXPECT_THAT(listed(""), IsEmpty());
  EXPECT_EQ(nopspan::detach("id"), Errc::not_found);
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

TEST_F(Registry, GivesEachHandlerItsOwnConfig) {
  std::vector<Value> seen;
  const auto record = [&](const Event& e) { seen.push_back(e.config()); };
  EXPECT_EQ(nopspan::attach("one", "a.b", record, Value::map({{"threshold", 5}})), Errc::ok);
  EXPECT_EQ(nopspan::attach("two", "a.b", record, "text"), Errc::ok);
  EXPECT_EQ(nopspan::attach("three", "a.b", record), Errc::ok);
  nopspan::execute("a.b");
  EXPECT_THAT(seen, ElementsAre(Value::map({{"threshold", 5}}), Value("text"), Value()));
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

TEST_F(Registry, DestroysWhatAHandlerHeldByTheTimeDetachReturns) {
  auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> watched = held;
  EXPECT_EQ(nopspan::attach(
                "id", "a.b", [held](const Event&) {}, "config"),
            Errc::ok);
  held.reset();
  nopspan::execute("a.b");
  EXPECT_FALSE(watched.expired());
  EXPECT_EQ(nopspan::detach("id"), Errc::ok);
  EXPECT_TRUE(watched.expired());
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
  int calls = 0;
  EXPECT_EQ(nopspan::attach("id", "work.stop", [&](const Event&) { ++calls; }), Errc::ok);
  { const Span first{"work"}; }
  const std::size_t before = allocations();
  { const Span span{"work"}; }
  EXPECT_EQ(allocations(), before);
  EXPECT_EQ(calls, 2);
}

TEST_F(Registry, SaysWhatEachErrorMeans) {
  for (const Errc error :
       {Errc::ok, Errc::already_exists, Errc::not_found, Errc::invalid_argument, Errc::out_of_memory}) {
    EXPECT_GT(std::string(nopspan::describe(error)).size(), 1U);
  }
  EXPECT_STREQ(nopspan::describe(Errc::ok), "ok");
}

}  // namespace
