// SPDX-License-Identifier: Apache-2.0
#include "open/open_requests.h"

#include "batch_builder.h"
#include "model/service.h"
#include "open/open_list.h"
#include "open_memory.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstring>
#include <random>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr std::uint64_t kMs = 1'000'000;

std::vector<OpenProcess> two_processes() {
  std::vector<OpenProcess> processes(2);
  const char* const names[] = {"agent", "chat_server"};
  for (std::size_t i = 0; i < 2; ++i) {
    auto process = std::make_shared<Process>();
    process->pid = static_cast<std::uint32_t>(10 + i);
    process->comm = names[i];
    processes[i].process = process;
    processes[i].known = OpenProcess::Known::always;
  }
  return processes;
}

OpenSpan open_span_of(const std::string& name, std::uint64_t id, std::uint64_t parent, std::uint64_t age_ns,
                      std::size_t process = 0) {
  OpenSpan span;
  span.trace_id.bytes[0] = 1;
  span.name = name;
  span.span_id = id;
  span.parent_id = parent;
  span.age_ns = age_ns;
  span.process = process;
  return span;
}

std::vector<std::string> open_names_of(const OpenRequest& request) {
  std::vector<std::string> names;
  for (const OpenSpan& span : request.spans) names.push_back(std::string(span.depth, '.') + span.name);
  return names;
}

OpenRequest only(std::vector<OpenSpan> spans) {
  const auto requests = open_requests(std::move(spans), two_processes());
  EXPECT_THAT(requests, SizeIs(1));
  return requests.empty() ? OpenRequest() : requests.front();
}

TEST(OpenRequests, JoinTheSpansOfAllProcesses) {
  const OpenRequest request = only({open_span_of("decode", 4, 3, 10 * kMs, 1), open_span_of("chat", 1, 0, 40 * kMs),
                                    open_span_of("request", 3, 2, 20 * kMs, 1), open_span_of("step", 2, 1, 30 * kMs)});
  EXPECT_THAT(open_names_of(request), ElementsAre("chat", ".step", "..request", "...decode"));
  EXPECT_EQ(request.age_ns, 40 * kMs);
  EXPECT_FALSE(request.spans[2].has_children && request.spans[3].has_children);
  EXPECT_FALSE(request.spans[3].has_children);
}

TEST(OpenRequests, AreOldestFirst) {
  OpenSpan other = open_span_of("older", 9, 0, 50 * kMs);
  other.trace_id.bytes[0] = 2;
  const auto requests = open_requests({open_span_of("younger", 1, 0, 40 * kMs), other}, two_processes());
  ASSERT_THAT(requests, SizeIs(2));
  EXPECT_EQ(requests[0].spans[0].name, "older");
}

TEST(OpenList, HasRequestsOfWhichOnlyAKeyIsKnown) {
  auto processes = two_processes();
  EXPECT_EQ(open_text({}, processes), "");
  EXPECT_EQ(in_flight_text({.processes = processes}), "0 requests in flight");
  processes[1].early = {7, 9};
  EXPECT_EQ(in_flight_text({.processes = processes}), "0 requests in flight, 2 more known from steps only");
  const std::string text = open_text({}, processes);
  EXPECT_THAT(text, HasSubstr("key 7"));
  EXPECT_THAT(text, HasSubstr("chat_server[11]"));
  EXPECT_EQ(to_json(processes[1])["early_request_keys"], nlohmann::ordered_json({7, 9}));
  EXPECT_FALSE(to_json(processes[0]).contains("early_request_keys"));
}

TEST(OpenList, IsShortenedForAPage) {
  OpenNow now;
  now.processes = two_processes();
  now.processes[0].early = std::vector<std::uint64_t>(150, 7);
  now.processes[1].early = std::vector<std::uint64_t>(150, 9);
  std::vector<OpenSpan> spans = {open_span_of("root", 1, 0, 90 * kMs)};
  for (std::uint64_t i = 0; i < 30; ++i) spans.push_back(open_span_of("inner", 2 + i, 1, 50 * kMs));
  for (std::uint64_t i = 0; i < 1100; ++i) {
    spans.push_back(open_span_of("younger", 100 + i, 0, 10 * kMs));
    std::memcpy(&spans.back().trace_id.bytes[2], &i, 4);
  }
  now.requests = open_requests(spans, now.processes);
  shorten(now);
  ASSERT_THAT(now.requests, SizeIs(1000));
  EXPECT_THAT(now.requests[0].spans, SizeIs(20));
  EXPECT_THAT(now.processes[1].early, SizeIs(50));
  EXPECT_EQ(now.processes[1].early_unread, 100);
  EXPECT_EQ(to_json(now)["requests"][0]["spans"].size(), 20);
}

TEST(OpenList, TellsHowManyRequestsOfLargeStepsMayBeMissing) {
  auto processes = two_processes();
  EXPECT_THAT(known_text(processes), Not(HasSubstr("from steps only")));
  processes[1].early_unread = 3072;
  EXPECT_THAT(known_text(processes), HasSubstr("up to 3072 requests known from steps only were not read"));
  EXPECT_EQ(to_json(processes[1])["early_requests_unread"], 3072);
  EXPECT_FALSE(to_json(processes[0]).contains("early_requests_unread"));
}

TEST(OpenList, MarksSpansThatMayBePartOfAnEarlierRequest) {
  OpenSpan phase = open_span_of("engine.decode", 1, 0, 40 * kMs);
  phase.flags = NOPSPAN_FLAG_ORPHAN;
  const auto processes = two_processes();
  const auto requests = open_requests({phase, open_span_of("inside", 2, 1, 30 * kMs)}, processes);
  EXPECT_THAT(open_text(requests, processes), HasSubstr("may be part of an earlier request > engine.decode > inside"));
  const auto json = to_json(requests[0], processes);
  EXPECT_EQ(json["spans"][0]["root"], "orphan");
  EXPECT_FALSE(json["spans"][1].contains("root"));
}

TEST(OpenRequests, AreNotStepsOfAnEngine) {
  OpenSpan step = open_span_of("engine.step", 1, 0, 40);
  step.flags = NOPSPAN_FLAG_STEP;
  const OpenSpan inside = open_span_of("llama.gpu", 2, 1, 30);
  EXPECT_THAT(open_requests({step, inside}, two_processes()), IsEmpty());
  const OpenSpan other = open_span_of("chat", 3, 99, 20, 1);  // of another process that has the same trace id
  EXPECT_THAT(open_requests({step, inside, other}, two_processes()), SizeIs(1));
}

TEST(OpenRequests, CountTokensOnceForClientAndServer) {
  OpenSpan client = open_span_of("step", 1, 0, 40);
  OpenSpan server = open_span_of("request", 2, 1, 30, 1);
  OpenSpan beside = open_span_of("step", 3, 0, 20);
  client.output_tokens = 14;
  server.output_tokens = 15;
  beside.output_tokens = 100;
  EXPECT_EQ(only({client, server, beside}).output_tokens, 115U);
  client.output_tokens = 40;  // also of a call that has ended
  EXPECT_EQ(only({client, server, beside}).output_tokens, 140U);
}

TEST(OpenRequests, OfADamagedMemoryHaveEachSpanOnce) {
  const OpenRequest circle =
      only({open_span_of("a", 1, 2, 30), open_span_of("b", 2, 1, 20), open_span_of("self", 3, 3, 10)});
  EXPECT_THAT(open_names_of(circle), testing::UnorderedElementsAre("a", ".b", "self"));
  const OpenRequest twice =
      only({open_span_of("a", 1, 0, 30), open_span_of("b", 1, 0, 20), open_span_of("c", 2, 1, 10)});
  EXPECT_THAT(open_names_of(twice), ElementsAre("a", ".c", "b"));
}

TEST(OpenRequests, HaveTheSpansOfSharedMemoryOnce) {
  OpenSpan root = open_span_of("chat", 1, 0, 30);
  OpenSpan of_child = open_span_of("chat", 1, 0, 31, 1);  // between vfork() and exec
  OpenSpan other = open_span_of("chat", 1, 0, 20, 1);     // of a memory that claims the same id
  root.mark = of_child.mark = 7;
  EXPECT_THAT(only({root, of_child}).spans, SizeIs(1));
  EXPECT_THAT(only({root, other}).spans, SizeIs(2));
}

TEST(OpenSpanLimit, LeavesRoomForOtherUsers) {
  OpenSpanLimit limit;
  const auto kept = [&limit](std::uint32_t user) {
    OpenSpans open;
    open.unread = 1;
    open.spans.resize(65536);
    limit.apply(user, open);
    EXPECT_EQ(open.spans.size() + open.unread, 65537U);
    return open.spans.size();
  };
  EXPECT_EQ(kept(1000), 65536U);
  EXPECT_EQ(kept(1000), 65536U);
  for (unsigned i = 0; i < 10; ++i) EXPECT_EQ(kept(1000), 0U);
  EXPECT_EQ(kept(0), 65536U);
  EXPECT_EQ(kept(0), 0U);
  for (std::uint32_t user = 1; user <= 20; ++user) kept(user);
  EXPECT_EQ(kept(2'000'000), 0U);
}

OpenProcess known_process(OpenProcess::Known known, std::uint64_t since_ns = 0) {
  OpenProcess process = two_processes().front();
  process.known = known;
  process.since_ns = since_ns;
  return process;
}

TEST(KnownTimes, AreNotBeforeTheGateWasSeenDown) {
  using Known = OpenProcess::Known;
  KnownTimes times;
  const auto update = [&times](const OpenProcess& process, std::uint64_t now_ns) {
    std::vector<OpenProcess> processes{process};
    times.update(processes, now_ns);
    return std::pair(processes[0].known, processes[0].since_ns);
  };
  EXPECT_EQ(update(known_process(Known::not_now), 1000), std::pair(Known::not_now, std::uint64_t{0}));
  // The library has not noticed that an earlier tracer was detached.
  EXPECT_EQ(update(known_process(Known::since, 900'000), 2000), std::pair(Known::since, std::uint64_t{1}));
  EXPECT_EQ(update(known_process(Known::since, 900'500), 2500), std::pair(Known::since, std::uint64_t{500}));
  EXPECT_EQ(update(known_process(Known::always), 2600), std::pair(Known::since, std::uint64_t{600}));
  EXPECT_EQ(update(known_process(Known::since, 0), 2700), std::pair(Known::since, std::uint64_t{700}));
  EXPECT_EQ(update(known_process(Known::since, 100), 2800), std::pair(Known::since, std::uint64_t{100}));
  EXPECT_EQ(update(known_process(Known::not_now), 2900), std::pair(Known::not_now, std::uint64_t{0}));
  EXPECT_EQ(update(known_process(Known::always), 3000), std::pair(Known::since, std::uint64_t{1}));
  // A process that was never seen down.
  KnownTimes others;
  std::vector<OpenProcess> processes{known_process(Known::always)};
  others.update(processes, 1000);
  others.update(processes, 2000);
  EXPECT_EQ(processes[0].known, Known::always);
}

TEST(OpenRequests, MayBeAsDeepAsTheyHaveSpans) {
  std::vector<OpenSpan> spans;
  for (std::uint64_t i = 0; i < 60000; ++i) spans.push_back(open_span_of("s", i + 1, i, 60000 - i));
  const OpenRequest request = only(std::move(spans));
  EXPECT_EQ(request.spans.back().depth, 59999U);
  EXPECT_THAT(open_text({request}, two_processes()), HasSubstr("… 59988 more > s > s"));
}

TEST(OpenRequests, AreFiltered) {
  OpenSpan root = open_span_of("chat", 1, 0, 40 * kMs);
  OpenSpan step = open_span_of("step", 2, 1, 30 * kMs);
  step.model = "gpt-x";
  root.tenant = "acme";
  root.foreign_id = "order-7";
  step.labels = {{"shard", "eu"}, {"route", "/chat"}};
  const OpenRequest request = only({root, step});
  EXPECT_EQ(request.request_id, "order-7");
  auto processes = two_processes();
  auto agent = *processes[0].process;
  set_service(agent, "shop", "service.version=1.5.0");
  processes[0].process = std::make_shared<const Process>(agent);
  const auto wants = [&](OpenFilter filter) { return filter.wants(request, processes); };
  EXPECT_TRUE(wants({.where = {{"service.version", "1.5.0"}, {"service.name", "shop"}}}));
  EXPECT_FALSE(wants({.where = {{"service.version", "1.4.0"}}}));
  EXPECT_TRUE(wants({}));
  EXPECT_TRUE(wants({.name = "step"}));
  EXPECT_FALSE(wants({.name = "ste"}));
  EXPECT_TRUE(wants({.model = "gpt-x", .tenant = "acme", .older_than_ns = 40 * kMs}));
  EXPECT_FALSE(wants({.tenant = "other"}));
  EXPECT_TRUE(wants({.where = {{"route", "/chat"}, {"model", "gpt-x"}, {"tenant", "acme"}}}));
  EXPECT_FALSE(wants({.where = {{"route", "/chat"}, {"model", "gpt-y"}}}));
  EXPECT_FALSE(wants({.where = {{"engine", "vllm"}}}));
  EXPECT_FALSE(wants({.older_than_ns = 40 * kMs + 1}));
  EXPECT_TRUE(wants({.request = "01000000000000000000000000000000"}));
  EXPECT_FALSE(wants({.request = "02000000000000000000000000000000"}));
}

TEST(OpenList, HasARowForEachPlace) {
  OpenSpan step = open_span_of("step", 2, 1, 30 * kMs);
  step.model = "gpt-x";
  step.output_tokens = 7;
  const OpenRequest request =
      only({open_span_of("chat", 1, 0, 40 * kMs), step, open_span_of("request", 3, 2, 20 * kMs, 1),
            open_span_of("tool\x1b", 4, 1, 10 * kMs)});
  EXPECT_EQ(open_text({request}, two_processes()),
            "    AGE  REQUEST                 TENANT  MODEL  TOKENS  PROCESS    IN LAST  OPEN SPANS\n"
            "40.0 ms  AQAAAAAAAAAAAAAAAAAAAA  -       gpt-x       7  agent[10]  20.0 ms  chat > step > "
            "chat_server[11]: request\n"
            "                                                                   10.0 ms  chat > tool\\x1b\n");
}

TEST(OpenList, ShowsTheFirstPlacesOfARequest) {
  std::vector<OpenSpan> spans{open_span_of("chat", 1, 0, 1000)};
  for (std::uint64_t i = 0; i < 30; ++i) spans.push_back(open_span_of("tool", i + 2, 1, 900 - i));
  const std::string text = open_text({only(std::move(spans))}, two_processes());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 22);
  EXPECT_THAT(text, HasSubstr("and 10 more places\n"));
}

TEST(OpenList, ExplainsSinceWhenRequestsAreKnown) {
  OpenMemory memory;
  const auto known = [&](std::uint64_t gate, std::uint64_t raised_ns) {
    memory.page.gate = gate;
    memory.page.raised_ns = raised_ns;
    OpenSpans open;
    EXPECT_EQ(memory.read(open, 5000), 0);
    std::vector<OpenProcess> processes = two_processes();
    processes.resize(1);
    std::vector<OpenSpan> spans;
    add_open_spans(open, 0, processes[0], spans);
    return known_text(processes);
  };
  EXPECT_EQ(known(1, 1), "");
  EXPECT_EQ(known(std::uint64_t{2} << 32U, 1), "");  // NOPSPAN_KEEP_OPEN=1
  EXPECT_THAT(known(1, 2000), HasSubstr("agent[10]: only its requests that began in the last 3.00 us"));
  EXPECT_THAT(known(1, 4999), HasSubstr("agent[10]: its requests are known from now on. Older ones may be missing"));
  EXPECT_THAT(known(1U << 16U, 0), HasSubstr("it is not known since when"));
  EXPECT_THAT(known(std::uint64_t{1} << 48U, 2000),
              HasSubstr("its requests are not recorded. Start it with"));  // points alone
}

TEST(OpenList, HasTheSameAsJson) {
  OpenMemory memory;
  nopspan_open& span = memory.add("request", 0x12, 0, 1000);
  span.labels[2] = 3;
  span.labels[3] = 5;
  span.output_tokens = 4;
  span.thread_id = 8;
  memory.add("later than now", 0x13, 0x12, 9000);
  OpenSpans open;
  ASSERT_EQ(memory.read(open, 5000), 0);
  std::vector<OpenProcess> processes = two_processes();
  std::vector<OpenSpan> spans;
  add_open_spans(open, 1, processes[1], spans);
  const auto requests = open_requests(std::move(spans), processes);
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(to_json(requests[0], processes), nlohmann::ordered_json::parse(R"({
    "request_id": "CQAAAAAAAAAAAAAAAAAAAA", "trace_id": "09000000000000000000000000000000", "age_ns": 4000,
    "age_is_least": false, "tenant": "acme", "output_tokens": 4, "spans": [
      {"span_id": "0000000000000012", "name": "request", "age_ns": 4000, "is_innermost": false, "tenant": "acme",
       "labels": {"shard": "eu"}, "output_tokens": 4, "pid": 11, "thread_id": 8},
      {"span_id": "0000000000000013", "parent_id": "0000000000000012", "name": "later than now", "age_ns": 0,
       "is_innermost": true, "output_tokens": 0, "pid": 11, "thread_id": 0}]})"));
  EXPECT_EQ(to_json(processes[1]), nlohmann::ordered_json::parse(R"({"pid": 11, "comm": "chat_server",
    "known": "always", "age_is_least": false, "unread": 0})"));
}

std::vector<nopspan_member> with_keys(const std::vector<unsigned long>& keys) {
  std::vector<nopspan_member> members;
  for (const unsigned long key : keys) members.push_back({key, 0, 0, 1, 0, 0, NOPSPAN_MEMBER_OWN_KEY});
  return members;
}

TEST(EarlyRequests, AreThoseOfTheLastStepWithItsParts) {
  const nopspan_member recorded{4711, 0, 0, 1, 0, 0, 0};
  const nopspan_member by_trace{4712, 0, 0, 1, 0, 0, NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY};
  BatchBuilder batch;
  batch.step(1, with_keys({1, 2, 3}), 3).step(2, with_keys({2, 3}), 5).members(2, with_keys({5}), 2);
  batch.members(2, {recorded, by_trace}, 3).members(1, with_keys({6}), 9);
  EarlyRequests requests;
  EXPECT_THAT(requests.keys(), IsEmpty());
  requests.add(batch.bytes(), batch.count());
  EXPECT_THAT(requests.keys(), ElementsAre(2, 3, 5));
}

TEST(EarlyRequests, OfAStepThatIsLargerThanTheBufferAreThoseOfItsLastParts) {
  // The library has flushed the step and its first part, and has written the others after that.
  BatchBuilder tail;
  tail.members(1, with_keys({5, 6}), 4).members(1, with_keys({7}), 6);
  EarlyRequests requests;
  requests.add(tail.bytes(), tail.count());
  EXPECT_THAT(requests.keys(), ElementsAre(5, 6, 7));
  EXPECT_EQ(requests.unread(), 4U);

  // The next step is in the same buffer, and has not been written completely.
  BatchBuilder next;
  next.members(1, with_keys({5, 6}), 4)
      .members(1, with_keys({7}), 6)
      .step(2, with_keys({7, 8}), 5)
      .members(2, with_keys({9}), 2);
  EarlyRequests later;
  later.add(next.bytes(), next.count());
  EXPECT_THAT(later.keys(), ElementsAre(7, 8, 9));
  EXPECT_EQ(later.unread(), 2U);
}

TEST(EarlyRequests, OfManyStepsAreAllThere) {
  EarlyRequests requests;
  for (unsigned long id = 1; id <= 200; ++id) {
    std::vector<unsigned long> keys(500);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = id + i;
    BatchBuilder batch;
    batch.step(id, with_keys(keys), 500);
    batch.request().start_ns = id;
    requests.add(batch.bytes(), batch.count());
  }
  EXPECT_EQ(requests.keys().size(), 500U) << "only those of the last step count";
  EXPECT_EQ(requests.unread(), 0U);
}

TEST(EarlyRequests, OfAnyBytesAreBounded) {
  std::mt19937_64 random(9);  // NOLINT: the same in every run
  EarlyRequests requests;
  for (std::uint64_t round = 0; round < 2000; ++round) {
    std::vector<unsigned long> keys(100);
    for (unsigned long& key : keys) key = random();
    BatchBuilder batch;
    batch.step(1, with_keys(keys), 100).members(1, with_keys(keys), 100);
    std::string bytes(batch.bytes());
    for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    requests.add(bytes, batch.count());
  }
  EXPECT_LE(requests.keys().size(), 65'536U);
  EXPECT_GT(requests.unread(), 0U);
}

}  // namespace
}  // namespace nopspan::collector
