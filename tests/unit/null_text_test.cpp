// SPDX-License-Identifier: Apache-2.0
// A null pointer in place of a text must never crash.
#include "recorded.h"

#include <nopspan/context.h>
#include <nopspan/llm.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

namespace {

using nopspan::Text;

const char* const kNull = nullptr;

TEST(NullText, IsNullAndEmpty) {
  for (const Text& text : {Text(), Text(nullptr), Text(kNull), Text(kNull, 5), Text(std::string_view())}) {
    EXPECT_TRUE(text.is_null());
    EXPECT_TRUE(text.empty());
    EXPECT_TRUE(text.view().empty());
  }
  EXPECT_FALSE(Text("").is_null());
  EXPECT_TRUE(Text("").empty());
  EXPECT_EQ(Text("ab\0c", 4).size(), 4U);
}

TEST(NullText, IsNoHandlersIdAndNoEventsName) {
  const auto handler = [](const Event&) {};
  EXPECT_EQ(nopspan::attach(nullptr, "a.b", handler), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach(kNull, "a.b", handler), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach("id", nullptr, handler), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach("id", "a.b", nullptr), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach_many(nullptr, {"a.b"}, handler), Errc::invalid_argument);
  EXPECT_EQ(nopspan::detach(nullptr), Errc::not_found);
  EXPECT_EQ(nopspan::list_handlers(nullptr).size(), nopspan::list_handlers("").size());
}

TEST(NullText, IsNoKey) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  Span{"work", [](Fields& f) { f.set(nullptr, 1).set("", 1).content(nullptr, "x").measure(nullptr, 1); }}
      .set(nullptr, "text")
      .measure(kNull, 1.5)
      .set(nullptr, Value::map({{"a", 1}}))
      .set(nullptr, nullptr);
  EXPECT_EQ(dropped.times(), 8U);
  EXPECT_EQ(recorder.stop()->metadata().size(), 3U);  // the three ids
}

TEST(NullText, IsANullValue) {
  const SpanRecorder recorder("work");
  Span{"work", [](Fields& f) { f.engine(nullptr).model(kNull).tenant(nullptr).content("c", kNull); }}
      .set("k", kNull)
      .set("literal", nullptr);
  for (const char* key : {"engine", "model", "tenant", "c", "k", "literal"}) {
    EXPECT_THAT(recorder.stop(), HasMetadata(key, nullptr));
  }
  EXPECT_TRUE(Value(kNull).is_null());
  EXPECT_TRUE(Value(Text()).is_null());
}

TEST(NullText, IsNoReason) {
  const SpanRecorder recorder("work");
  Span{"work"}.fail(nullptr, nullptr);
  Span{"work"}.cancel(nullptr);
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_THAT(stops[0], HasStatus(Status::error));
  EXPECT_THAT(stops[1], HasStatus(Status::cancelled));
  nopspan::llm::retry([](auto& r) { r.reason(nullptr); });
}

TEST(NullText, IsNoIdOfARequest) {
  const Counted invalid(&nopspan::Stats::invalid_ids);
  EXPECT_FALSE(Context::with_request_id(nullptr).empty());
  EXPECT_FALSE(Context::with_request_id(kNull).request_id().empty());
  EXPECT_EQ(invalid.times(), 2U);
}

TEST(NullText, IsNoTraceparent) {
  EXPECT_TRUE(Context::from_traceparent(nullptr).empty());
  EXPECT_TRUE(Context::from_traceparent(kNull, kNull).empty());
  const Context context = Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", nullptr);
  EXPECT_FALSE(context.empty());
  EXPECT_EQ(context.tracestate(), "");
}

TEST(NullText, IsNoLogSink) { nopspan::set_log_sink(nullptr); }

}  // namespace
