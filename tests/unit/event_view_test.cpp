// SPDX-License-Identifier: Apache-2.0
// The types that a handler reads: Event, FieldsView and ValueView. Also OwnedEvent, which a handler may keep.
#include "recorded.h"

#include <nopspan/execute.h>
#include <nopspan/span.h>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using nopspan::FieldsView;
using nopspan::OwnedEvent;
using nopspan::ValueView;

OwnedEvent event_with(void (*fill)(Fields&)) {
  const Recorder recorder{"a.b"};
  nopspan::execute("a.b", fill);
  return recorder.events().at(0);
}

TEST(ValueView, OfAnAbsentKeyGivesTheFallbacks) {
  const OwnedEvent event = event_with([](Fields&) {});
  for (const ValueView& view : {event->metadata("none"), event->measurement("none"), ValueView()}) {
    EXPECT_FALSE(view.exists());
    EXPECT_TRUE(view.is_null());
    EXPECT_EQ(view.type(), Value::Type::null);
    EXPECT_EQ(view.as_int(), 0);
    EXPECT_EQ(view.as_int(7), 7);
    EXPECT_TRUE(view.as_bool(true));
    EXPECT_EQ(view.as_double(0.5), 0.5);
    EXPECT_EQ(view.as_string("fallback"), "fallback");
    EXPECT_FALSE(view.find("deeper").exists());
    EXPECT_TRUE(view.copy().is_null());
  }
}

TEST(ValueView, GivesTheFallbackForAnotherType) {
  const OwnedEvent event = event_with([](Fields& f) { f.set("i", 1).set("d", 1.5).set("b", true).set("s", "1"); });
  EXPECT_EQ(event->metadata("d").as_int(9), 9);
  EXPECT_EQ(event->metadata("i").as_double(9), 1.0);  // the only conversion
  EXPECT_EQ(event->metadata("b").as_int(9), 9);
  EXPECT_EQ(event->metadata("s").as_int(9), 9);
  EXPECT_FALSE(event->metadata("i").as_bool(false));
  EXPECT_EQ(event->metadata("i").as_string("no"), "no");
  EXPECT_EQ(event->metadata("d").as_double(), 1.5);
  EXPECT_TRUE(event->metadata("b").as_bool());
  EXPECT_EQ(event->metadata("s").as_string(), "1");
}

TEST(ValueView, TellsANullFromAnAbsentKey) {
  const OwnedEvent event = event_with([](Fields& f) { f.set("null", nullptr); });
  EXPECT_TRUE(event->metadata("null").exists());
  EXPECT_TRUE(event->metadata("null").is_null());
  EXPECT_FALSE(event->metadata("absent").exists());
}

TEST(ValueView, FindsInsideMaps) {
  const OwnedEvent event = event_with([](Fields& f) {
    f.set("map", Value::map({{"a", Value::map({{"b", 7}})}, {"list", Value::list({1, 2})}, {"", "empty key"}}));
  });
  const ValueView map = event->metadata("map");
  EXPECT_EQ(map.type(), Value::Type::map);
  EXPECT_EQ(map.find("a").find("b").as_int(), 7);
  EXPECT_EQ(map.find("").as_string(), "empty key");
  EXPECT_FALSE(map.find("b").exists());
  EXPECT_FALSE(map.find("list").find("").exists());
  EXPECT_EQ(map.copy().to_string(), R"({"a":{"b":7},"list":[1,2],"":"empty key"})");
}

TEST(ValueView, KeepsEmbeddedNuls) {
  const OwnedEvent event = event_with([](Fields& f) { f.set("s", std::string("a\0b", 3)); });
  EXPECT_EQ(event->metadata("s").as_string(), std::string_view("a\0b", 3));
}

TEST(FieldsView, KeepsTheOrderAndTheTwoSortsApart) {
  const OwnedEvent event =
      event_with([](Fields& f) { f.set("z", 1).measure("m", 2).set("a", 3).measure("b", 4).set("m", 5); });
  std::vector<std::string> order;
  const auto visit = [&](std::string_view key, ValueView value) {
    order.push_back(std::string(key) + "=" + value.copy().to_string());
  };
  event->metadata().for_each(visit);
  event->measurements().for_each(visit);
  EXPECT_THAT(order, ElementsAre("z=1", "a=3", "m=5", "m=2", "b=4"));
  EXPECT_EQ(event->metadata().size(), 3U);
  EXPECT_EQ(event->measurements().size(), 2U);
  EXPECT_EQ(event->metadata()["a"].as_int(), 3);
  EXPECT_EQ(event->metadata().copy(), Value::map({{"z", 1}, {"a", 3}, {"m", 5}}));
}

TEST(FieldsView, OfNothingIsEmpty) {
  const OwnedEvent event = event_with([](Fields&) {});
  EXPECT_TRUE(event->metadata().empty());
  EXPECT_TRUE(event->measurements().empty());
  EXPECT_EQ(event->metadata().copy(), Value::map());
  const FieldsView nothing;
  EXPECT_EQ(nothing.size(), 0U);
}

TEST(Event, OfNothingGivesZeroesAndEmptyTexts) {
  const Event event;
  EXPECT_EQ(event.name(), "");
  EXPECT_EQ(event.request_id(), "");
  EXPECT_EQ(event.span_id(), 0U);
  EXPECT_EQ(event.parent_id(), 0U);
  EXPECT_EQ(event.status(), Status::ok);
  EXPECT_EQ(event.duration_ns(), 0);
  EXPECT_EQ(event.monotonic_time_ns(), 0);
  EXPECT_EQ(event.system_time_ns(), 0);
  EXPECT_FALSE(event.is_orphan());
  EXPECT_EQ(event.link_count(), 0U);
  EXPECT_TRUE(event.config().is_null());
  EXPECT_TRUE(event.metadata().empty());
  const OwnedEvent owned(event);
  EXPECT_EQ(owned->name(), "");
}

static_assert(!std::is_copy_constructible_v<Event> && !std::is_copy_assignable_v<Event>);
static_assert(std::is_copy_constructible_v<nopspan::OwnedEvent>);

TEST(Event, MayBeKeptInsideTheHandler) {
  std::string first;
  std::string second;
  attach_ok("id", "work.stop", [&](const Event& event) {
    const nopspan::OwnedEvent copy(event);
    second = copy->metadata().copy().to_string();
    first = event.metadata().copy().to_string();
  });
  short_span("work", [](Fields& f) { f.set("k", 1); });
  detach_ok("id");
  EXPECT_EQ(first, second);
  EXPECT_EQ(first.find("span_id"), first.rfind("span_id"));  // the id appears once
}

TEST(Event, ShowsTheSameToEveryHandler) {
  std::vector<std::string> seen;
  const auto record = [&](const Event& event) {
    seen.push_back(event.metadata().copy().to_string() + event.measurements().copy().to_string());
  };
  attach_ok("one", "work.stop", record);
  attach_ok("two", "work.stop", record);
  Span{"work", [](Fields& f) { f.set("big", std::string(5000, 'x')); }}.measure("rows", 1);
  detach_ok("one");
  detach_ok("two");
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0], seen[1]);
}

TEST(Event, ShowsMeasurementsToAHandlerThatLooksAtThemFirst) {
  attach_ok("id", "work.stop", [](const Event& event) {
    const FieldsView measurements = event.measurements();
    EXPECT_EQ(keys_of(event.metadata()).size(), 4U);
    EXPECT_THAT(keys_of(measurements), ElementsAre("duration", "monotonic_time"));  // still valid
    EXPECT_THAT(keys_of(event.measurements()), ElementsAre("duration", "monotonic_time"));
  });
  short_span("work", [](Fields& f) { f.set("k", std::string(700, 'x')); });
  detach_ok("id");
}

TEST(OwnedEvent, OutlivesTheSpanAndTheHandler) {
  std::vector<OwnedEvent> kept;
  attach_ok(
      "id", "work.stop", [&](const Event& event) { kept.emplace_back(event); }, "config");
  const nopspan::Context request = nopspan::Context::make();
  {
    Span span{"work", [](Fields& f) { f.set("k", Value::list({1, "two"})); }};
    span.link(request);
    span.measure("rows", 3);
  }
  detach_ok("id");
  { const Span other{"other"}; }
  ASSERT_EQ(kept.size(), 1U);
  const OwnedEvent copy = kept[0];
  OwnedEvent moved = std::move(kept[0]);
  kept.clear();
  kept.shrink_to_fit();
  for (const OwnedEvent* event : {&copy, static_cast<const OwnedEvent*>(&moved)}) {
    EXPECT_EQ((*event)->name(), "work.stop");
    EXPECT_EQ((*event)->request_id().size(), 22U);
    EXPECT_EQ((*event)->metadata("k").copy(), Value::list({1, "two"}));
    EXPECT_EQ((*event)->metadata("span_id").as_string().size(), 16U);
    EXPECT_EQ((*event)->measurement("rows").as_int(), 3);
    EXPECT_EQ((*event)->config(), Value("config"));
    EXPECT_EQ((*event)->link_count(), 1U);
  }
  moved = copy;
  const OwnedEvent& same = moved;
  moved = same;
  EXPECT_EQ(moved->name(), "work.stop");
}

TEST(OwnedEventView, IsAnEmptyEventOnceItIsMovedFrom) {
  OwnedEvent event = event_with([](Fields& f) { f.set("s", "text"); });
  auto heir = std::make_unique<OwnedEvent>(std::move(event));
  EXPECT_EQ((*heir)->metadata("s").as_string(), "text");
  heir.reset();
  const OwnedEvent copy(event);  // NOLINT(bugprone-use-after-move,hicpp-invalid-access-moved)
  EXPECT_TRUE(copy->name().empty());
  EXPECT_TRUE(copy->metadata().empty());
  EXPECT_EQ(copy->span_id(), 0U);
}

}  // namespace
