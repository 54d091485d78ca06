// SPDX-License-Identifier: Apache-2.0
// Traces as JSON.
#include "assembled_traces.h"
#include "kept_entry.h"
#include "model/service.h"

#include <gmock/gmock.h>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

Json encoded(const std::vector<Entry>& spans) {
  Assembly assembly;
  assembly.encodes = true;
  for (const Entry& entry : spans) assembly.add(entry);
  assembly.assembler.finish();
  return assembly.seen.size() == 1 ? assembly.seen[0].json : Json("not one trace");
}

TEST(TraceJson, HasTheTraceAndItsIds) {
  const Json json = encoded({span_of(1, 0)});
  EXPECT_EQ(json["type"], "trace");
  EXPECT_EQ(json["request_id"], "AQAAAAAAAAAAAAAAAAAAAQ");
  EXPECT_EQ(json["trace_id"], "01000000000000000000000000000001");
  EXPECT_EQ(json["end"], "finished");
  EXPECT_EQ(json["start_unix_ns"], kBegin + 1);
  EXPECT_EQ(json["duration_ns"], kSecond);
  EXPECT_EQ(json["span_count"], 1);
  EXPECT_EQ(json["error_count"], 0);
  ASSERT_EQ(json["processes"].size(), 1U);
  EXPECT_EQ(json["processes"][0]["pid"], 7);
  EXPECT_EQ(json["processes"][0]["comm"], "service");
  EXPECT_EQ(json["processes"][0]["resource"], Json({{"service.name", "service"}}));
}

TEST(TraceJson, HasWhatAProcessDeclares) {
  Process process = *process_number(1);
  set_service(process, "checkout", "service.name=other,service.version=1.5.0");
  const auto declaring = std::make_shared<const Process>(process);
  Entry span = span_of(1, 0);
  span.process = &declaring;
  const Json wanted = {{"service.name", "checkout"}, {"service.version", "1.5.0"}};
  EXPECT_EQ(encoded({span})["processes"][0]["resource"], wanted);
}

TEST(TraceJson, TellsThatATraceIsPartialAndWhichSpansBeganBeforeTheAttach) {
  Entry root = span_of(1, 0);
  root.before_attach = true;
  const Json json = encoded({root, span_of(2, 1)});
  EXPECT_EQ(json["end"], "partial");
  EXPECT_EQ(json["spans"][0]["flags"], Json::array({"before_attach"}));
  EXPECT_FALSE(json["spans"][1].contains("flags"));
}

TEST(TraceJson, HasAllThatASpanTells) {
  Entry entry = span_of(0x0102030405060708, 0xf0, "llm.chat");
  entry.flags =
      NOPSPAN_FLAG_REMOTE_PARENT | NOPSPAN_FLAG_ASYNC | NOPSPAN_FLAG_ABANDONED | 3U << NOPSPAN_FLAG_KIND_SHIFT;
  entry.status = kException;
  entry.error_type = "std::bad_alloc";
  entry.exception_kind = "error";
  entry.engine = "llama.cpp";
  entry.model = "tiny-1";
  entry.tenant = "acme";
  entry.text = "calculator";
  entry.tracestate = "a=b";
  entry.has_usage = entry.has_first_token = entry.has_engine_times = true;
  entry.usage = {.input = 1, .output = 2, .cached = 3, .reasoning = 4};
  entry.first_token_ns = 5;
  entry.engine_times = {6, 7, 8, 9, 10, 11, 12};
  const std::string attributes = integer_attribute("shard", -4);
  entry.attributes = attributes;
  nopspan_link link{};
  link.trace_id[0] = 1;
  link.span_id = 2;
  std::string links(reinterpret_cast<const char*>(&link), sizeof(link));
  entry.links = links;
  const Json json = encoded({entry})["spans"][0];
  EXPECT_EQ(nlohmann::json(json), nlohmann::json::parse(R"({
    "span_id": "0102030405060708", "parent_id": "00000000000000f0", "root": "remote", "name": "llm.chat",
    "kind": "client", "start_unix_ns": )" + std::to_string(entry.start_unix_ns) +
                                                        R"(, "duration_ns": 1000000000,
    "status": "exception", "error_type": "std::bad_alloc", "exception_kind": "error", "engine": "llama.cpp",
    "model": "tiny-1", "tenant": "acme", "tool": "calculator",
    "usage": {"input": 1, "output": 2, "cached": 3, "reasoning": 4}, "first_token_ns": 5,
    "engine_times": {"arrival_ns": 6, "queue_ns": 7, "prefill_ns": 8, "decode_ns": 9, "prefill_tokens": 10,
                     "decode_tokens": 11, "preemptions": 12},
    "self_ns": 1000000000, "process": 0, "thread_id": 7, "flags": ["remote_parent", "abandoned", "async"], "tracestate": "a=b",
    "attributes": {"shard": -4},
    "links": [{"trace_id": "01000000000000000000000000000000", "span_id": "0000000000000002"}]
  })"));
}

TEST(TraceJson, LeavesOutWhatASpanDoesNotTell) {
  const Json json = encoded({span_of(1, 0)})["spans"][0];
  std::vector<std::string> keys;
  for (const auto& item : json.items()) keys.push_back(item.key());
  EXPECT_THAT(keys, testing::ElementsAre("span_id", "root", "name", "start_unix_ns", "duration_ns", "status", "self_ns",
                                         "process", "thread_id"));
}

TEST(TraceJson, PutsEachSpanBehindItsParent) {
  const Json json = encoded({span_of(4, 2), span_of(3, 1), span_of(2, 1), span_of(1, 0)});
  std::vector<std::string> ids;
  for (const auto& entry : json["spans"]) ids.push_back(entry["span_id"].get<std::string>().substr(15));
  EXPECT_THAT(ids, testing::ElementsAre("1", "2", "4", "3"));
}

TEST(TraceJson, KeepsEventsWithTheirSpan) {
  Entry event = event_of(1, "app.cache_hit");
  const std::string attributes = integer_attribute("shard", 4, true);
  event.attributes = attributes;
  Entry retry = event_of(1, "llm.adapter.retry");
  retry.kind = Kind::retry;
  retry.number = 2;
  retry.value = 500;
  retry.error_type = "rate_limit";
  retry.text = "step";
  Entry alone = event_of(0, "alone");
  alone.text = "alone";  // as the library reports an event that is in no recorded span
  Entry lost = event_of(0xab, "lost");
  const Json json = encoded({event, retry, alone, lost, span_of(1, 0)});
  const Json& events = json["spans"][0]["events"];
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0]["type"], "event");
  EXPECT_EQ(events[0]["name"], "app.cache_hit");
  EXPECT_EQ(events[0]["attributes"], Json::parse(R"({"shard": 4})"));
  EXPECT_EQ(events[1]["type"], "retry");
  EXPECT_EQ(events[1]["attempt"], 2);
  EXPECT_EQ(events[1]["delay_ns"], 500);
  EXPECT_EQ(events[1]["reason"], "rate_limit");
  EXPECT_EQ(events[1]["span"], "step");
  ASSERT_EQ(json["events"].size(), 2U);
  EXPECT_EQ(json["events"][0]["name"], "alone");
  EXPECT_FALSE(json["events"][0].contains("span"));
  EXPECT_EQ(json["events"][1]["span_id"], "00000000000000ab");
}

TEST(TraceJson, SaysThatAttributesAreMalformed) {
  Entry entry = span_of(1, 0);
  entry.attributes = "\x4a\xff";
  const Json json = encoded({entry})["spans"][0];
  EXPECT_EQ(json["attributes"], Json::object());
  EXPECT_EQ(json["attributes_malformed"], true);
}

TEST(TraceJson, IsOneLineOfValidJsonWhateverAProcessWrote) {
  Entry entry = span_of(1, 0, "\xff\n\x1b\"");
  entry.foreign_id = "\xfe";
  entry.links = "too short";
  const std::string text = encoded({entry}).dump(-1, ' ', false, Json::error_handler_t::replace);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_TRUE(Json::accept(text));
}

TEST(TraceJson, HasTheCounts) {
  TraceCounts counts;
  counts.entries = 3;
  counts.outside = 1;
  StepCounts steps;
  steps.all = 2;
  const Json json = to_json(counts, steps);
  EXPECT_EQ(json["entries"], 3);
  EXPECT_EQ(json["outside"], 1);
  EXPECT_EQ(json["steps"]["all"], 2);
}

}  // namespace
}  // namespace nopspan::collector
