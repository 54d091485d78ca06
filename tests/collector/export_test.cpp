// SPDX-License-Identifier: Apache-2.0
// Entries as OTLP requests. export_format_test.py checks the bytes with protoc.
#include "invented_spans.h"
#include "kept_entry.h"

#include "base/utf8.h"
#include "export/export_bodies.h"
#include "export/export_body.h"
#include "export/exported_attributes.h"
#include "model/otlp_wire.h"
#include "model/service.h"
#include "recording/entry_encoder.h"
#include "recording/recorded_batches.h"

#include <nopspan/probes.h>
#include <nopspan/semconv.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace nopspan::collector;
using nlohmann::json;
using nopspan::Semconv;
using testing::ElementsAre;
using testing::IsEmpty;

namespace {

json json_of(const ExportBody& body) {
  const auto text = otlp_json(body);
  EXPECT_TRUE(text.has_value());
  return text ? json::parse(*text) : json();
}

// The items of a request: spans, or log records.
std::vector<json> items_of(const ExportBody& body) {
  const bool is_traces = body.signal == Signal::traces;
  std::vector<json> items;
  for (const json& resource : json_of(body).value(is_traces ? "resourceSpans" : "resourceLogs", json::array())) {
    for (const json& scope : resource.at(is_traces ? "scopeSpans" : "scopeLogs")) {
      for (const json& item : scope.at(is_traces ? "spans" : "logRecords")) items.push_back(item);
    }
  }
  return items;
}

// The attributes of an item as an object. A value has the one member of its AnyValue.
json attributes_of(const json& item) {
  json attributes = json::object();
  for (const json& attribute : item.value("attributes", json::array())) {
    const std::string key = attribute.value("key", "");
    EXPECT_FALSE(attributes.contains(key)) << key;
    const json value = attribute.value("value", json::object());
    attributes[key] = value.empty() ? json() : value.begin().value();
  }
  return attributes;
}

// The field that is given first has the one that is given next, and so on. The last one has the content.
std::string nested(const std::vector<unsigned>& fields, std::string content) {
  for (auto field = fields.rbegin(); field != fields.rend(); ++field) {
    std::string outer;
    append_bytes(outer, *field, content);
    content = std::move(outer);
  }
  return content;
}

class Bodies {
 public:
  explicit Bodies(const ExportOptions& options = {})
      : feed(options, [this](ExportBody body) { add(std::move(body)); }) {}
  // Of these entries.
  explicit Bodies(const std::vector<Entry>& entries, const ExportOptions& options = {}) : Bodies(options) {
    for (const Entry& entry : entries) feed.add(entry);
    feed.finish();
  }

  void add(ExportBody body) {
    for (json& item : items_of(body)) (body.signal == Signal::traces ? spans : logs).push_back(std::move(item));
    items += body.items;
    bodies.push_back(std::move(body));
  }

  std::vector<ExportBody> bodies;
  std::vector<json> spans, logs;
  ItemCounts items;
  ExportBodies feed;
};

Entry chat(std::uint64_t span_id = 2) {
  Entry entry = invented("llm.chat", "");
  std::memset(entry.trace_id.bytes, 7, sizeof(entry.trace_id.bytes));
  entry.span_id = span_id;
  entry.start_unix_ns = kNoon;
  return entry;
}

Entry event_of(const Entry& span, std::string_view name) {
  Entry entry = span;
  entry.kind = Kind::event;
  entry.text = span.name;
  entry.name = name;
  entry.attributes = {};
  entry.duration_ns = 0;
  return entry;
}

// The only span that is made of an entry.
json span_of(const Entry& entry, const ExportOptions& options = {}) {
  const Bodies bodies({entry}, options);
  EXPECT_EQ(bodies.spans.size(), 1U);
  return bodies.spans.empty() ? json() : bodies.spans.front();
}

struct Named {
  const char* name;
  std::vector<std::pair<std::string, std::string>> attributes;
  const char* expected;
};
class SpanName : public testing::TestWithParam<Named> {};

TEST_P(SpanName, IsThatOfTheConventions) {
  std::string attributes;
  for (const auto& [key, value] : GetParam().attributes) attributes += text_attribute(key, value);
  Entry entry = chat();
  entry.name = GetParam().name;
  entry.attributes = attributes;
  const json span = span_of(entry), added = attributes_of(span);
  EXPECT_EQ(span["name"], GetParam().expected);
  EXPECT_EQ(added.value("nopspan.name", GetParam().expected), GetParam().name);
}

INSTANTIATE_TEST_SUITE_P(
    Export, SpanName,
    testing::Values(
        Named{"db.query", {}, "db.query"}, Named{"db.query", {{"gen_ai.request.model", "small"}}, "db.query"},
        Named{"llm.chat", {{"gen_ai.operation.name", "chat"}, {"gen_ai.request.model", "small"}}, "chat small"},
        Named{"llm.chat", {{"gen_ai.operation.name", "chat"}}, "chat"},
        Named{"llm.tool",
              {{"gen_ai.operation.name", "execute_tool"}, {"gen_ai.tool.name", "search"}},
              "execute_tool search"},
        Named{"gen_ai.plan", {{"gen_ai.operation.name", "plan"}, {"gen_ai.agent.name", "cook"}}, "plan cook"},
        Named{"gen_ai.retrieval",
              {{"gen_ai.operation.name", "retrieval"}, {"gen_ai.data_source.id", "docs"}},
              "retrieval docs"},
        Named{"gen_ai.invoke_workflow",
              {{"gen_ai.operation.name", "invoke_workflow"}, {"gen_ai.workflow.name", "w"}},
              "invoke_workflow w"},
        Named{"gen_ai.search_memory",
              {{"gen_ai.operation.name", "search_memory"}, {"gen_ai.request.model", "small"}},
              "search_memory"},
        Named{"mcp.client",
              {{"mcp.method.name", "tools/call"},
               {"gen_ai.operation.name", "execute_tool"},
               {"gen_ai.tool.name", "weather"}},
              "tools/call weather"},
        Named{"mcp.server", {{"mcp.method.name", "prompts/get"}, {"gen_ai.prompt.name", "hello"}}, "prompts/get hello"},
        Named{"mcp.client", {{"mcp.method.name", "initialize"}}, "initialize"}));

TEST(Export, UsesFieldsWhereTheAttributesLackThem) {
  Entry entry = chat();
  const std::string attributes =
      text_attribute("gen_ai.operation.name", "chat") + text_attribute("error.type", "timeout");
  entry.attributes = attributes;
  entry.model = "small";
  entry.engine = "llama.cpp";
  entry.tenant = "acme";
  entry.status = kError;
  entry.error_type = "other";
  entry.has_usage = entry.has_engine_times = true;
  entry.usage = {10, 0, 4, 2};
  entry.engine_times.queue_ns = 5;
  entry.thread_id = 9;
  const json span = span_of(entry);
  EXPECT_EQ(span["name"], "chat small");
  EXPECT_EQ(span["status"], json({{"code", 2}}));
  EXPECT_EQ(attributes_of(span["events"].at(0)), json({{"exception.type", "timeout"}}));
  EXPECT_EQ(attributes_of(span), json::parse(R"({"gen_ai.operation.name": "chat", "error.type": "timeout",
      "nopspan.name": "llm.chat", "gen_ai.usage.input_tokens": "10", "gen_ai.usage.cache_read.input_tokens": "4",
      "gen_ai.usage.reasoning.output_tokens": "2", "nopspan.queue_ns": "5", "gen_ai.request.model": "small",
      "nopspan.engine": "llama.cpp", "nopspan.tenant": "acme", "thread.id": "9"})"));
}

// Without its lists of objects.
json fields_of(json item) {
  for (const char* const list : {"attributes", "events", "links"}) item.erase(list);
  return item;
}

TEST(Export, WritesTheFieldsOfAChatAndItsEvents) {
  const KeptEntry kept = chat_span(make_process(12));
  Entry sent = event_of(kept.entry(), "gen_ai.prompt.sent"), retry = event_of(kept.entry(), "llm.adapter.retry");
  const std::string attributes = text_attribute("prompt", "größe", true) + integer_attribute("turn", -3, true);
  sent.attributes = attributes;
  retry.kind = Kind::retry;
  retry.value = 500'000'000;
  retry.number = 2;
  retry.error_type = "rate_limit";
  const Bodies bodies({sent, retry, kept.entry()});
  const json& span = bodies.spans.at(0);
  EXPECT_EQ(fields_of(span), json::parse(R"({"traceId": "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
      "spanId": "0123456789abcdef", "parentSpanId": "00000000000000ff", "traceState": "vendor=1", "name": "chat small-1",
      "kind": 3, "startTimeUnixNano": "1790000000123456789", "endTimeUnixNano": "1790000000469135690", "flags": 257,
      "droppedLinksCount": 1})"))
      << "a link has no trace id";
  EXPECT_EQ(span["links"], json::parse(R"([{"traceId": "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
                                            "spanId": "0000000000000063", "flags": 1}])"));
  EXPECT_EQ(attributes_of(span), json::parse(R"({"gen_ai.operation.name": "chat", "gen_ai.request.model": "small-1",
      "nopspan.engine": "llama.cpp", "gen_ai.usage.input_tokens": "12", "gen_ai.usage.output_tokens": "30",
      "nopspan.name": "llm.chat", "gen_ai.response.time_to_first_chunk": 0.045, "nopspan.tenant": "acme",
      "thread.id": "4711"})"));
  const json& events = span["events"];
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(fields_of(events[0]), json({{"name", "gen_ai.prompt.sent"}, {"timeUnixNano", "1790000000123456789"}}));
  EXPECT_EQ(attributes_of(events[0]), json({{"prompt", "größe"}, {"turn", "-3"}}));
  EXPECT_EQ(attributes_of(events[1]),
            json({{"retry.attempt", "2"}, {"retry.delay_ms", "500"}, {"retry.reason", "rate_limit"}}));
  EXPECT_EQ(fields_of(events[2]),
            json({{"name", "gen_ai.stream.first_token"}, {"timeUnixNano", "1790000000168456789"}}));
  EXPECT_EQ(attributes_of(events[2]), json({{"time_to_first_token", "45000000"}}));
  EXPECT_EQ(bodies.feed.counts().made_events, 1U);
}

// How a span ended: the attributes of a catalogue's span have a prefix.
TEST(Export, WritesTheErrorOfASpanAsStatusAndEvent) {
  const std::string_view prefixes[] = {"", "nopspan."};
  for (const std::string_view prefix : prefixes) {
    for (const bool is_thrown : {false, true}) {
      for (const bool has_content : {false, true}) {
        SCOPED_TRACE(testing::Message() << prefix << is_thrown << has_content);
        const auto key = [&](const char* name) { return std::string(prefix) + name; };
        std::string attributes, reason, frames;
        append_text_attribute(reason, 1, "type", "std::runtime_error");
        append_text_attribute(reason, 1, "message", "no such table");
        for (const char* const frame : {"server+0x10", "main+0x4"}) frames += nested({1, 1}, frame);
        if (has_content && is_thrown) {
          append_delimited_value(attributes, kSpanAttributes, key("reason"), 6, reason);
          append_delimited_value(attributes, kSpanAttributes, key("stacktrace"), 5, frames);
        } else if (has_content) {
          attributes = text_attribute(key("error.message"), "no such table");
        }
        Entry failed = chat();
        failed.duration_ns = 7;
        failed.attributes = attributes;
        failed.status = is_thrown ? kException : kError;
        failed.error_type = "std::runtime_error";
        const json span = span_of(failed);
        json status = {{"code", 2}}, event = {{"exception.type", "std::runtime_error"}};
        if (has_content) status["message"] = event["exception.message"] = "no such table";
        if (has_content && is_thrown) event["exception.stacktrace"] = "server+0x10\nmain+0x4";
        EXPECT_EQ(span["status"], status);
        ASSERT_EQ(span["events"].size(), 1U);
        EXPECT_EQ(fields_of(span["events"][0]),
                  json({{"name", "exception"}, {"timeUnixNano", std::to_string(kNoon + 7)}}));
        EXPECT_EQ(attributes_of(span["events"][0]), event);
        for (const char* const name : {"reason", "stacktrace", "error.message"}) {
          EXPECT_FALSE(attributes_of(span).contains(key(name))) << name << " is in the event";
        }
      }
    }
  }
}

// What the event lacks stays an attribute of the span.
TEST(Export, KeepsWhatIsNotInTheEventOfAnException) {
  std::string attributes = text_attribute("error.message", "another one"), reason, cause;
  append_text_attribute(cause, 1, "message", "disk full");
  append_text_attribute(reason, 1, "message", "not saved");
  append_delimited_value(reason, 1, "cause", 6, cause);
  append_delimited_value(attributes, kSpanAttributes, "reason", 6, reason);
  attributes += text_attribute("stacktrace", "a text");
  Entry thrown = chat();
  thrown.attributes = attributes;
  thrown.status = kException;
  const json all = attributes_of(span_of(thrown));
  for (const char* const name : {"reason", "stacktrace"}) EXPECT_TRUE(all.contains(name)) << name;
  EXPECT_EQ(all["error.message"], "another one");

  // A cancelled span has no such event, and a program may report its own.
  attributes = text_attribute("error.message", "gone");
  thrown.attributes = attributes;
  thrown.status = kCancelled;
  EXPECT_EQ(attributes_of(span_of(thrown))["error.message"], "gone");
  thrown.status = kError;
  const Bodies bodies({event_of(thrown, "exception"), thrown});
  EXPECT_EQ(attributes_of(bodies.spans.at(0))["error.message"], "gone");
}

TEST(Export, DoesNotRepeatTheEventsOfAProgram) {
  Entry span = chat();
  span.status = kError;
  span.has_first_token = true;
  const Bodies bodies({event_of(span, "exception"), event_of(span, "gen_ai.stream.first_token"), span});
  EXPECT_EQ(bodies.spans.at(0)["events"].size(), 2U);
  EXPECT_EQ(bodies.feed.counts().made_events, 0U);
}

// A span of no catalogue has its labels under their own names too.
TEST(Export, WritesAFactUnderOneName) {
  Entry span = chat();
  span.status = kCancelled;
  span.error_type = "deadline";
  span.model = "small";
  span.tenant = "acme";
  const std::string attributes =
      text_attribute("model", "small") + text_attribute("tenant", "own") + text_attribute("cancel.reason", "deadline");
  span.attributes = attributes;
  EXPECT_EQ(attributes_of(span_of(span)), json::parse(R"({"tenant": "own", "nopspan.outcome": "cancelled",
      "nopspan.cancel.reason": "deadline", "gen_ai.request.model": "small", "nopspan.tenant": "acme"})"));
}

TEST(Export, WritesHowASpanEnded) {
  Entry thrown = chat();
  thrown.status = kException;
  thrown.exception_kind = "error";
  thrown.error_type = "std::runtime_error";
  json span = span_of(thrown);
  EXPECT_EQ(attributes_of(span), json::parse(R"({"nopspan.outcome": "exception", "nopspan.exception.kind": "error",
      "error.type": "std::runtime_error"})"));
  Entry cancelled = chat();
  cancelled.status = kCancelled;
  cancelled.error_type = "deadline";
  cancelled.flags = NOPSPAN_FLAG_FOREIGN_ID | NOPSPAN_FLAG_REMOTE_PARENT | NOPSPAN_FLAG_SAMPLED | NOPSPAN_FLAG_RANDOM;
  cancelled.foreign_id = "req-17";
  cancelled.text = "search";
  span = span_of(cancelled);
  EXPECT_FALSE(span.contains("status"));
  EXPECT_EQ(span["flags"], 0x303);
  EXPECT_EQ(attributes_of(span), json::parse(R"({"nopspan.outcome": "cancelled", "nopspan.cancel.reason": "deadline",
      "nopspan.request_id": "req-17", "gen_ai.tool.name": "search"})"));
}

TEST(Export, WritesTheFactsOfAStepAndLinksToItsFirstMembers) {
  nopspan_step facts{};
  facts.kind = NOPSPAN_STEP_MIXED;
  facts.number = 4;
  facts.members = facts.batch_size = 3;
  facts.members_with_prefill = 1;
  facts.prefill_tokens = 128;
  facts.decode_tokens = 2;
  facts.device_ns = 900;
  facts.kv_used = 77;
  nopspan_member members[3] = {};
  for (nopspan_member& member : members) member.request = 5;
  members[1].flags = NOPSPAN_MEMBER_OWN_KEY;  // the engine's own key is not a span
  Entry step = chat(9);
  step.name = "engine.step";
  step.step = &facts;
  step.members = {reinterpret_cast<const char*>(members), sizeof(members)};
  const std::string attributes = text_attribute("nopspan.device", "gpu0") + integer_attribute("nopspan.batch_size", 7);
  step.attributes = attributes;
  ExportOptions options;
  options.step_links = 2;
  const Bodies bodies({chat(5), step}, options);
  const json& span = bodies.spans.at(1);
  EXPECT_EQ(attributes_of(span), json::parse(R"({"nopspan.device": "gpu0", "nopspan.step.kind": "mixed",
      "nopspan.step.instance": "0", "nopspan.step.number": "4", "nopspan.step.members": "3",
      "nopspan.step.members_with_prefill": "1", "nopspan.batch_size": "3", "nopspan.prefill_tokens": "128",
      "nopspan.decode_tokens": "2", "nopspan.device_ns": "900",
      "nopspan.kv_used": "77"})"));
  EXPECT_EQ(span["links"], json::parse(R"([{"traceId": "07070707070707070707070707070707",
                                            "spanId": "0000000000000005"}])"));
  EXPECT_EQ(span["droppedLinksCount"], 1);
}

TEST(Export, WritesTheFieldsOfALogRecord) {
  Bodies bodies;
  bodies.feed.on_tick(kNoon + 5 * kSecond);
  Entry event = event_of(chat(), "gen_ai.evaluation.result"), late = event_of(chat(), "gen_ai.retry");
  const std::string attributes = text_attribute("gen_ai.evaluation.name", "relevance", true);
  event.attributes = attributes;
  event.flags = NOPSPAN_FLAG_SAMPLED | NOPSPAN_FLAG_RANDOM;
  event.tenant = "acme";
  event.thread_id = late.thread_id = 77;
  late.kind = Kind::retry;
  late.number = 1;
  late.value = 1'500'000;
  late.model = "small-1";
  late.start_unix_ns = kNoon + 6 * kSecond;
  bodies.feed.add(event);
  bodies.feed.add(late);
  bodies.feed.finish();
  ASSERT_EQ(bodies.logs.size(), 2U);
  EXPECT_EQ(fields_of(bodies.logs[0]), json({{"timeUnixNano", std::to_string(kNoon)},
                                             {"observedTimeUnixNano", std::to_string(kNoon + 5 * kSecond)},
                                             {"severityNumber", 9},
                                             {"severityText", "INFO"},
                                             {"flags", 3},
                                             {"traceId", "07070707070707070707070707070707"},
                                             {"spanId", "0000000000000002"},
                                             {"eventName", "gen_ai.evaluation.result"}}));
  EXPECT_EQ(attributes_of(bodies.logs[0]),
            json({{"gen_ai.evaluation.name", "relevance"}, {"nopspan.tenant", "acme"}, {"thread.id", "77"}}));
  EXPECT_EQ(bodies.logs[1]["severityText"], "WARN");
  EXPECT_EQ(bodies.logs[1]["observedTimeUnixNano"], std::to_string(kNoon + 6 * kSecond)) << "not before its own time";
  EXPECT_EQ(attributes_of(bodies.logs[1]), json::parse(R"({"retry.attempt": "1", "retry.delay_ms": 1.5,
      "gen_ai.request.model": "small-1", "thread.id": "77"})"));
}

TEST(Export, GivesAnErrorWithoutATypeTheConventionsOther) {
  Entry entry = chat();
  entry.status = kError;
  EXPECT_EQ(attributes_of(span_of(entry)), json({{"error.type", "_OTHER"}}));
}

TEST(Export, RenamesAttributesForTheNextConventions) {
  std::string attributes = integer_attribute("gen_ai.usage.cache_creation.input_tokens", 3) +
                           text_attribute("gen_ai.request.reasoning.effort", "low") + text_attribute("own", "1");
  append_real_attribute(attributes, kSpanAttributes, "gen_ai.request.top_k", 40);
  Entry entry = chat();
  entry.attributes = attributes;
  EXPECT_EQ(attributes_of(span_of(entry)),
            json::parse(R"({"gen_ai.usage.cache_creation.input_tokens": "3", "gen_ai.request.reasoning.effort": "low",
                            "own": "1", "gen_ai.request.top_k": 40.0})"));
  ExportOptions next;
  next.semconv = Semconv::next;
  EXPECT_EQ(attributes_of(span_of(entry, next)),
            json::parse(R"({"gen_ai.usage.cache_write.input_tokens": "3", "gen_ai.request.reasoning.level": "low",
                            "own": "1", "gen_ai.request.top_k": "40"})"));
  attributes += text_attribute("gen_ai.operation.name", "retrieval");
  entry.attributes = attributes;
  EXPECT_EQ(attributes_of(span_of(entry, next))["gen_ai.retrieval.top_k"], "40");
}

TEST(Export, PutsNothingOfTheRecordingIntoASpan) {
  Entry entry = chat();
  entry.sequence_id = 17;
  entry.sequence = 18;
  entry.root_id = 19;
  entry.before_attach = true;
  entry.flags = NOPSPAN_FLAG_ORPHAN | NOPSPAN_FLAG_ASYNC;
  EXPECT_EQ(attributes_of(span_of(entry)), json::object());
}

TEST(Export, KeepsEventsUntilTheirSpanComes) {
  const Entry span = chat(2), other = chat(3);
  Bodies bodies;
  bodies.feed.add(event_of(span, "one"));
  bodies.feed.add(event_of(other, "two"));
  bodies.feed.add(event_of(span, "three"));
  EXPECT_EQ(bodies.feed.waiting().span_events, 3U);
  bodies.feed.add(span);
  bodies.feed.flush();
  EXPECT_EQ(bodies.feed.waiting().span_events, 1U);
  ASSERT_EQ(bodies.spans.size(), 1U);
  const json& events = bodies.spans[0]["events"];
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0]["name"], "one");
  EXPECT_EQ(events[1]["name"], "three");
  EXPECT_THAT(bodies.logs, IsEmpty());
  bodies.feed.finish();
  ASSERT_EQ(bodies.logs.size(), 1U);
  EXPECT_EQ(bodies.logs[0]["eventName"], "two");
  EXPECT_EQ(bodies.logs[0]["spanId"], "0000000000000003");
  EXPECT_EQ(bodies.feed.counts().late_events, 1U);
}

TEST(Export, DoesNotMixTheEventsOfTwoProcesses) {
  const ProcessPointer two = invented_process(200);
  Entry span = chat(2), same_id = chat(2);
  same_id.process = &two;
  const Bodies bodies({event_of(same_id, "of two"), span, same_id});
  ASSERT_EQ(bodies.spans.size(), 2U);
  EXPECT_FALSE(bodies.spans[0].contains("events"));
  EXPECT_EQ(bodies.spans[1]["events"][0]["name"], "of two");
}

TEST(Export, MakesLogRecordsOfEventsWhoseSpanIsLate) {
  ExportOptions options;
  options.max_age_ns = 10 * kSecond;
  Bodies bodies(options);
  bodies.feed.on_tick(kNoon);
  const Entry span = chat();
  bodies.feed.add(event_of(span, "one"));
  bodies.feed.on_tick(kNoon + 9 * kSecond);
  EXPECT_EQ(bodies.feed.waiting().span_events, 1U);
  bodies.feed.on_tick(kNoon - 100 * kSecond);  // the clock is set back
  bodies.feed.on_tick(kNoon - 91 * kSecond);
  EXPECT_EQ(bodies.feed.waiting().span_events, 1U);
  bodies.feed.on_tick(kNoon - 90 * kSecond);
  EXPECT_EQ(bodies.feed.waiting().span_events, 0U);
  bodies.feed.add(span);
  bodies.feed.finish();
  EXPECT_FALSE(bodies.spans.at(0).contains("events"));
  EXPECT_EQ(bodies.logs.at(0)["eventName"], "one");
  EXPECT_EQ(bodies.logs.at(0)["observedTimeUnixNano"], std::to_string(kNoon)) << "not before its own time";
}

TEST(Export, BoundsTheEventsOfASpan) {
  Bodies bodies;
  const Entry span = chat();
  for (int i = 0; i < 1000; ++i) bodies.feed.add(event_of(span, "again"));
  EXPECT_EQ(bodies.feed.waiting().span_events, HeldEvents::kMostOfSpan);
  bodies.feed.add(span);
  bodies.feed.finish();
  EXPECT_EQ(bodies.spans.at(0)["events"].size(), HeldEvents::kMostOfSpan);
  EXPECT_EQ(bodies.logs.size(), 1000 - HeldEvents::kMostOfSpan);
}

TEST(HeldEvents, PassesOnTheOldestIfThereAreTooManyBytes) {
  const ExportOptions options;
  std::uint64_t passed_on = 0;
  HeldEvents held(
      options, [&](const HeldEvent&) { ++passed_on; }, 20'000);
  for (std::uint64_t id = 1; id <= 1000; ++id) held.add(event_of(chat(id), "one"));
  EXPECT_EQ(held.events() + passed_on, 1000U);
  EXPECT_GT(held.events(), 20U);
  EXPECT_LT(held.events(), 100U);
  EXPECT_THAT(held.take(chat(1)), IsEmpty());
  EXPECT_EQ(held.take(chat(1000)).size(), 1U);
  EXPECT_THAT(held.take(chat(1000)), IsEmpty());
}

TEST(Export, MakesLogRecordsOfTheConventionsLogEvents) {
  Bodies bodies;
  const Entry span = chat();
  const std::array<std::pair<const char*, int>, 3> events = {{{"gen_ai.client.inference.operation.details", 5},
                                                              {"gen_ai.evaluation.result", 9},
                                                              {"gen_ai.client.operation.exception", 13}}};
  for (const auto& [name, severity] : events) bodies.feed.add(event_of(span, name));
  Entry outside = event_of(span, "cache.cleared");
  outside.span_id = 0;
  bodies.feed.add(outside);
  bodies.feed.flush();
  ASSERT_EQ(bodies.logs.size(), 4U);
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(bodies.logs[i]["eventName"], events[i].first);
    EXPECT_EQ(bodies.logs[i]["severityNumber"], events[i].second);
  }
  EXPECT_EQ(bodies.feed.counts().late_events, 0U);
}

TEST(Export, HasALimitForBodies) {
  Bodies bodies;
  const std::string attributes = text_attribute("long", std::string(10'000, 'x'));
  Entry span = chat();
  span.attributes = attributes;
  for (span.span_id = 1; span.span_id <= 500; ++span.span_id) bodies.feed.add(span);
  bodies.feed.finish();
  EXPECT_EQ(bodies.bodies.size(), 6U);
  for (const ExportBody& body : bodies.bodies) EXPECT_LE(body.bytes.size(), ExportBodies::kMostBytes);
  EXPECT_EQ(bodies.spans.size(), 500U);
}

TEST(Export, MakesOneResourceOfAProcess) {
  const std::vector<ProcessPointer> processes = {invented_process(1), invented_process(2), invented_process(3)};
  Bodies bodies;
  Entry span = chat();
  for (span.span_id = 1; span.span_id <= 30; ++span.span_id) {
    span.process = &processes[span.span_id % processes.size()];
    span.thread_id = static_cast<std::uint32_t>(span.span_id);
    span.sequence_id = span.span_id;
    bodies.feed.add(span);
  }
  bodies.feed.finish();
  const json resources = json_of(bodies.bodies.at(0))["resourceSpans"];
  ASSERT_EQ(resources.size(), 3U);
  for (const json& resource : resources) {
    ASSERT_EQ(resource["scopeSpans"].size(), 1U);
    EXPECT_EQ(resource["scopeSpans"][0]["scope"], json({{"name", "nopspan"}}));
    EXPECT_EQ(resource["scopeSpans"][0]["spans"].size(), 10U);
  }
}

// Entries of all kinds, some of which no program would write.
TEST(Export, EndsEachEntryInOneItemOrCountsIt) {
  for (unsigned seed = 1; seed <= 6; ++seed) {
    std::mt19937_64 random(seed);
    const std::vector<ProcessPointer> processes = {make_process(1), make_process(2), make_process(15, "")};
    ExportOptions options;
    options.semconv = seed % 2 == 0 ? Semconv::next : Semconv::v1_41;
    options.step_links = seed % 3;
    Bodies bodies(options);
    std::vector<nopspan_member> members;
    std::uint64_t entries = 0, gauges = 0, parts = 0, spans = 0, events = 0;
    const auto add = [&](const Entry& entry) {
      if (!ExportEncoder::is_encodable(entry)) return;
      ++entries;
      if (entry.kind == Kind::gauge) ++gauges;
      if (entry.kind == Kind::part) ++parts;
      if (entry.kind == Kind::event || entry.kind == Kind::retry) ++events;
      if (entry.kind == Kind::span) ++spans;
      bodies.feed.add(entry);
      if (random() % 50 == 0) bodies.feed.flush();
      if (random() % 20 == 0) bodies.feed.on_tick(kNoon + random() % 200 * kSecond);
    };
    for (int i = 0; i < 500; ++i) {
      const KeptEntry span = any_span(random, processes);
      add(span.entry());
      if (random() % 4 == 0) add(event_of(span.entry(), "of it"));
      if (random() % 4 == 0) add(any_step(random, processes, members).entry());
    }
    const ExportBodies::Counts before = bodies.feed.counts();
    EXPECT_EQ(entries + before.made_events, bodies.items.total() + bodies.feed.waiting().total() + before.measured);
    bodies.feed.finish();
    const ExportBodies::Counts counts = bodies.feed.counts();
    EXPECT_EQ(bodies.feed.waiting().total(), 0U);
    EXPECT_EQ(counts.measured, gauges + parts);
    EXPECT_EQ(bodies.items.spans, spans);
    EXPECT_EQ(bodies.items.span_events + bodies.items.logs, events + counts.made_events);
    EXPECT_EQ(bodies.spans.size(), spans);
    EXPECT_EQ(bodies.logs.size(), bodies.items.logs);
    std::uint64_t inside = 0;
    for (const json& span : bodies.spans) inside += span.value("events", json::array()).size();
    EXPECT_EQ(inside, bodies.items.span_events);
    EXPECT_GT(inside, 0U);
  }
}

TEST(Export, RepairsTextsAndCountsThem) {
  Entry entry = chat();
  entry.name = "na\xffme";
  entry.tenant = "t\xc0";
  const std::string attributes = std::string("\x4a\x0b\x0a\x03k\xffy\x12\x04\x0a\x02v\xff", 13) +
                                 text_attribute("good", "1") + std::string("\x4a\x03\x12\x01\x1b", 5);
  entry.attributes = attributes;
  const Bodies bodies({entry});
  const json& span = bodies.spans.at(0);
  EXPECT_EQ(span["name"], "na\xef\xbf\xbdme");
  EXPECT_EQ(attributes_of(span),
            json({{"k\xef\xbf\xbdy", "v\xef\xbf\xbd"}, {"good", "1"}, {"nopspan.tenant", "t\xef\xbf\xbd"}}));
  EXPECT_EQ(span["droppedAttributesCount"], 1);
  EXPECT_EQ(bodies.feed.counts().repaired_texts, 3U);
  EXPECT_EQ(bodies.feed.counts().dropped_attributes, 1U);
}

// An attribute of lists in lists.
std::string deep_attribute(std::size_t levels) {
  std::string value;
  for (std::size_t i = 0; i < levels; ++i) value = nested({5, 1}, value);
  return nested({kSpanAttributes}, nested({1}, "deep") + nested({2}, value));
}

// What an attribute must not be. A receiver would refuse the whole request, with the spans of all other processes in
// it.
class HostileAttributes : public testing::TestWithParam<std::string> {};

TEST_P(HostileAttributes, AreLeftOutAndCountedAndNothingElseIs) {
  Entry entry = chat();
  const std::string attributes = text_attribute("good", "1") + GetParam() + text_attribute("better", "2");
  entry.attributes = attributes;
  json span = span_of(entry);
  json kept = attributes_of(span);
  EXPECT_EQ(kept.value("good", ""), "1") << kept;
  EXPECT_EQ(span.value("droppedAttributesCount", 0), 1);
  // If it is no attribute, nothing can be read behind it.
  kept.erase("better");
  entry.attributes = {};
  json expected = attributes_of(span_of(entry));
  expected["good"] = "1";
  EXPECT_EQ(kept, expected);
}

INSTANTIATE_TEST_SUITE_P(
    Export, HostileAttributes,
    testing::Values(std::string("\x4a\x7f rest", 6),         // longer than the data
                    std::string("\x4a\x02\x12\x7f", 4),      // a value that is too long
                    std::string("\x4a\x03\x12\x01\x1b", 5),  // a group
                    std::string("\x2a\x04more", 6),          // another field: the name
                    // Two keys, two values, and a value of two types.
                    std::string("\x4a\x0a\x0a\x01k\x0a\x01l\x12\x02\x10\x01", 12),
                    std::string("\x4a\x0b\x0a\x01k\x12\x02\x10\x01\x12\x02\x18\x01", 13),
                    std::string("\x4a\x09\x0a\x01k\x12\x04\x10\x01\x18\x01", 11),
                    // A tag that is longer than it may be, and numbers beyond 64 bits.
                    std::string("\xca\x80\x80\x80\x80\x00\x07\x0a\x01k\x12\x02\x0a\x00", 14),
                    std::string("\x4a\x10\x0a\x01k\x12\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 18),
                    std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11), deep_attribute(60)));

TEST(RepairedAttribute, RepairsTextsAtAnyDepth) {
  const std::string key_value = nested({1}, "k") + nested({2, 5, 1, 1}, "\xff");
  Attribute attribute;
  EXPECT_FALSE(read_attribute(key_value, attribute));
  const std::string repaired = repaired_attribute(key_value);
  ASSERT_TRUE(read_attribute(repaired, attribute));
  EXPECT_TRUE(is_utf8(repaired.substr(3)));
  EXPECT_EQ(attribute.type, Attribute::Type::list);
  EXPECT_EQ(repaired_attribute("\x0a\x7f"), "");
}

// The process of a recording's only span.
Process recorded(const Process& process) {
  const ProcessPointer shared = std::make_shared<const Process>(process);
  Entry entry = chat();
  entry.process = &shared;
  EntryEncoder encoder;
  encoder.add(entry);
  std::string payload;
  encoder.finish(payload);
  Process read;
  EXPECT_TRUE(RecordedBatches().read(payload, [&](const Entry& one) { read = **one.process; }));
  return read;
}

TEST(ServiceInstanceId, IsThatOfOneProcess) {
  const auto id_of = [](std::uint64_t start_ticks, const char* boot_id, std::uint64_t instance = 0) {
    Process process = *invented_process(1, start_ticks);
    process.boot_id = boot_id;
    process.instance = instance;
    EXPECT_EQ(service_instance_id(recorded(process)), service_instance_id(process));
    return service_instance_id(process);
  };
  const std::string id = id_of(100, "boot");
  EXPECT_THAT(id, testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_EQ(id, id_of(100, "boot"));
  EXPECT_NE(id, id_of(101, "boot"));
  EXPECT_NE(id, id_of(100, "another"));
  EXPECT_NE(id, id_of(100, ""));
  EXPECT_NE(id, id_of(100, "boot", 1));  // copies that record themselves
  EXPECT_NE(id_of(100, "boot", 1), id_of(100, "boot", 2));
}

TEST(PodUid, IsInTheCgroupsOfKubernetes) {
  constexpr std::string_view kUid = "6d5f1a3c-8f2e-4b6a-9c1d-0123456789ab";
  EXPECT_EQ(pod_uid("/kubepods/burstable/pod6d5f1a3c-8f2e-4b6a-9c1d-0123456789ab/4f5e"), kUid);
  EXPECT_EQ(pod_uid("/kubepods.slice/kubepods-besteffort.slice/"
                    "kubepods-besteffort-pod6d5f1a3c_8f2e_4b6a_9c1d_0123456789ab.slice/cri-containerd-4f5e.scope"),
            kUid);
  for (const std::string_view none :
       {"", "/system.slice/podman.service", "/kubepods/pod", "/kubepods/podx",
        "/kubepods/pod6d5f1a3c-8f2e-4b6a-9c1d-0123456789a", "/user.slice/pod6d5f1a3c-8f2e-4b6a-9c1d-0123456789ab"}) {
    EXPECT_EQ(pod_uid(none), "") << none;
  }
}

TEST(ExportedResource, HasWhatIsKnownOfTheProcess) {
  ExportOptions options;
  options.resource_attributes = {{"deployment.environment.name", "not this"},
                                 {"service.name", "nor this"},
                                 {"service.namespace", "shop"},
                                 {"host.name", "node-17"}};
  const ProcessPointer process = make_process(12);
  Entry span = chat();
  span.process = &process;
  const Bodies bodies({span}, options);
  const json resource = json_of(bodies.bodies.at(0))["resourceSpans"][0];
  EXPECT_EQ(resource["scopeSpans"][0]["scope"], json({{"name", "nopspan"}, {"version", "1.2.3"}}));
  for (const json& with_names : {resource, resource["scopeSpans"][0]}) {
    EXPECT_EQ(with_names["schemaUrl"], "https://opentelemetry.io/schemas/1.41.1");
  }
  options.semconv = Semconv::next;
  EXPECT_FALSE(json_of(Bodies({span}, options).bodies.at(0))["resourceSpans"][0].contains("schemaUrl"));
  json attributes = attributes_of(resource["resource"]);
  EXPECT_EQ(attributes["service.instance.id"], service_instance_id(*process));
  attributes.erase("service.instance.id");
  EXPECT_EQ(attributes, json::parse(R"({"service.name": "checkout", "host.name": "node-17", "process.pid": "12",
      "process.executable.path": "/usr/bin/server", "process.executable.name": "server",
      "process.linux.cgroup": "/system.slice/server.service", "container.id": "4f5e6d", "telemetry.sdk.name": "nopspan",
      "telemetry.sdk.language": "cpp", "telemetry.sdk.version": "1.2.3", "deployment.environment.name": "test",
      "team": "a,b", "service.namespace": "shop"})"));
}

TEST(ExportedResource, NamesTheServiceAsTheProcessDoes) {
  Process process = *invented_process(1);
  const auto attributes_with = [&](const std::string& name, const std::string& attributes) {
    set_service(process, name, attributes);
    std::uint64_t repaired = 0;
    const std::string request = nested({1, 1}, exported_resource(process, {}, repaired));
    return json_of({Signal::traces, request})["resourceSpans"][0]["resource"];
  };
  EXPECT_EQ(attributes_of(attributes_with("", ""))["service.name"], "program");
  EXPECT_EQ(attributes_of(attributes_with("", "service.name=a,team=b%2Cc"))["service.name"], "a");
  EXPECT_EQ(attributes_of(attributes_with("shop", "service.name=a,team=b%2Cc"))["service.name"], "shop");
  EXPECT_EQ(attributes_of(attributes_with("", "team=b%2Cc"))["team"], "b,c");
  // What the process declares, replaces what is known of it.
  const json declared = attributes_of(attributes_with("", "service.instance.id=pod-7,host.name=node1,process.pid=7"));
  for (const auto& [key, value] :
       {std::pair("service.instance.id", "pod-7"), {"host.name", "node1"}, {"process.pid", "7"}}) {
    EXPECT_EQ(declared.value(key, ""), value);
  }
  const json malformed = attributes_with("", "team");
  EXPECT_EQ(attributes_of(malformed)["service.name"], "program");
  EXPECT_EQ(malformed["droppedAttributesCount"], 1);
  process.pid = process.namespace_pid = 0;
  EXPECT_FALSE(attributes_of(attributes_with("", "")).contains("process.pid"));
  EXPECT_EQ(attributes_of(attributes_with("\xff", ""))["service.name"], "\xef\xbf\xbd");
}

TEST(Service, HasTheSameNameInARecording) {
  Process process = *invented_process(1);
  EXPECT_EQ(service_of(recorded(process)), "program");
  set_service(process, "", "team=b,service.name=a%20b");
  EXPECT_EQ(service_of(process), "a b");
  EXPECT_EQ(service_of(recorded(process)), "a b");
  process.service_name.clear();  // as recordings of earlier versions
  EXPECT_EQ(service_of(recorded(process)), "a b");
  set_service(process, "shop", "service.name=a");
  EXPECT_EQ(service_of(recorded(process)), "shop");
  process = {};
  EXPECT_EQ(service_of(process), "unknown_service");
}

// Requests of spans with events, of log records, and of metrics with several points.
std::vector<ExportBody> some_bodies() {
  Bodies bodies;
  const std::vector<ProcessPointer> processes = {invented_process(1), invented_process(2), invented_process(3)};
  for (std::uint64_t id = 1; id <= 11; ++id) {
    Entry span = chat(id);
    span.process = &processes[id % processes.size()];
    for (std::uint64_t i = 0; i < id % 4; ++i) bodies.feed.add(event_of(span, "event"));
    bodies.feed.add(span);
    bodies.feed.add(event_of(span, "gen_ai.evaluation.result"));
  }
  bodies.feed.finish();
  std::string points;
  for (std::uint64_t i = 0; i < 7; ++i) {
    std::string point;
    append_fixed64(point, 6, i);
    points += nested({1}, point);
  }
  const std::string metric = nested({2}, nested({1}, "gauge") + nested({5}, points));
  bodies.bodies.push_back({Signal::metrics, nested({1, 2}, metric + metric), {0, 0, 0, 14}});
  return bodies.bodies;
}

TEST(Split, HalvesABodyUntilEachHasOneItem) {
  for (const ExportBody& whole : some_bodies()) {
    std::vector<ExportBody> left = {whole}, singles;
    while (!left.empty()) {
      ExportBody body = left.back();
      left.pop_back();
      const auto [first, second] = split(body);
      EXPECT_EQ(first.signal, whole.signal);
      EXPECT_EQ(first.items.total() + second.items.total(), body.items.total());
      EXPECT_TRUE(otlp_json(first).has_value());
      if (second.items.total() == 0) {
        EXPECT_EQ(first.bytes, body.bytes);
        EXPECT_EQ(rejectable_items(first), 1U);
        singles.push_back(first);
      } else {
        EXPECT_LE(rejectable_items(first) - rejectable_items(second), 1U);
        left.push_back(second);
        left.push_back(first);
      }
    }
    ASSERT_EQ(singles.size(), rejectable_items(whole));
    if (whole.signal == Signal::metrics) continue;
    const std::vector<json> items = items_of(whole);
    for (std::size_t i = 0; i < items.size(); ++i) EXPECT_THAT(items_of(singles[i]), ElementsAre(items[i]));
  }
}

TEST(Split, LeavesWhatIsMalformed) {
  for (ExportBody body : some_bodies()) {
    body.bytes.resize(body.bytes.size() - 1);
    const auto [first, second] = split(body);
    EXPECT_EQ(first.bytes, body.bytes);
    EXPECT_EQ(first.items, body.items);
    EXPECT_EQ(second.items.total(), 0U);
    EXPECT_EQ(second.bytes, "");
  }
}

std::string json_with(std::string_view span) {
  const auto text = otlp_json({Signal::traces, nested({1, 2, 2}, std::string(span))});
  return text ? json::parse(*text)["resourceSpans"][0]["scopeSpans"][0]["spans"][0].dump() : "refused";
}

TEST(OtlpJson, RefusesWhatIsMalformed) {
  for (const std::string& text : {std::string("\x0a\x7f"), std::string("\x0b"), std::string("\x00", 1)}) {
    EXPECT_FALSE(otlp_json({Signal::traces, text}).has_value());
  }
  EXPECT_EQ(json_with("\x2a\x01\xff"), "refused") << "a text that is not UTF-8";
}

TEST(OtlpJson, PutsTheValuesOfAFieldTogether) {
  std::string span;
  append_text_attribute(span, kSpanAttributes, "a", "b");
  append_bytes(span, 5, "name");
  append_varint(span, 99, 1);  // unknown
  append_integer_attribute(span, kSpanAttributes, "c", -7);
  EXPECT_EQ(json_with(span), R"({"attributes":[{"key":"a","value":{"stringValue":"b"}},)"
                             R"({"key":"c","value":{"intValue":"-7"}}],"name":"name"})");
  append_bytes(span, 6, "not a number");
  EXPECT_EQ(json_with(span), "refused");
  // Of a value that has two types, the last one counts.
  EXPECT_EQ(json_with("\x4a\x09\x0a\x01k\x12\x04\x10\x01\x18\x01"),
            R"({"attributes":[{"key":"k","value":{"intValue":"1"}}]})");
}

TEST(OtlpJson, WritesNumbersThatJsonDoesNotHaveAsTexts) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const auto& [number, text] :
       std::vector<std::pair<double, std::string>>{{0.25, "0.25"},
                                                   {1e300, "1e+300"},
                                                   {kInfinity, "\"Infinity\""},
                                                   {-kInfinity, "\"-Infinity\""},
                                                   {std::numeric_limits<double>::quiet_NaN(), "\"NaN\""}}) {
    std::string span;
    append_real_attribute(span, kSpanAttributes, "k", number);
    EXPECT_EQ(json_with(span), R"({"attributes":[{"key":"k","value":{"doubleValue":)" + text + "}}]}");
  }
}

TEST(OtlpJson, WritesBytesAsBase64) {
  for (const auto& [bytes, text] : std::vector<std::pair<std::string, std::string>>{
           {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"\xff\xfe\xfd\xfc", "//79/A=="}}) {
    std::string span;
    append_delimited_value(span, kSpanAttributes, "k", 7, bytes);
    EXPECT_EQ(json_with(span), R"({"attributes":[{"key":"k","value":{"bytesValue":")" + text + R"("}}]})");
  }
}

TEST(OtlpJson, HasALimitForNesting) { EXPECT_EQ(json_with(deep_attribute(100)), "refused"); }

}  // namespace
