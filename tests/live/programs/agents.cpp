// SPDX-License-Identifier: Apache-2.0
// Agents and their coordinator on several threads. The program records what a handler receives of each event. Handlers
// receive no end of an iteration, so it also records the iterations itself.
//
// Takes commands (commands.h). `run FILE [TENANT]` writes one JSON object per line to FILE. `rows COUNT` makes
// iterations and state changes of that many operators. `canary ID` emits a canary.
#include "canary.h"
#include "commands.h"

#include <nopspan/agent.h>
#include <nopspan/event.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <time.h>

#include <cstdint>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

namespace agent = nopspan::agent;
namespace coordinator = nopspan::agent::coordinator;
namespace operators = nopspan::agent::operators;
using nopspan::Span;
using nopspan::Value;

constexpr int kThreads = 4;
constexpr int kRounds = 25;

std::uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

class Record {
 public:
  explicit Record(const std::string& file) : file_(file) {
    std::vector<std::string> events;
    for (const std::string_view name : agent::event_names()) events.emplace_back(name);
    error_ = nopspan::attach_many("record", events, [this](const nopspan::Event& event) { write(event); });
  }
  ~Record() { static_cast<void>(nopspan::detach("record")); }
  [[nodiscard]] nopspan::Errc error() const { return error_; }

  void span(std::string_view name, std::string_view of, std::uint64_t duration_ns, int status) {
    Value line = Value::map();
    line.set("span", name);
    line.set("of", of);
    line.set("duration_ns", duration_ns);
    line.set("status", status);
    write(line);
  }

 private:
  void write(const nopspan::Event& event) {
    Value line = Value::map();
    line.set("event", event.name());
    line.set("status", static_cast<int>(event.status()));
    line.set("duration_ns", event.duration_ns());
    for (const char* key : {"operator", "from", "to", "skill", "ms", "model", "tool_name", "strategy"}) {
      if (event.metadata(key).exists()) line.set(key, event.metadata(key).copy());
    }
    write(line);
  }

  void write(const Value& line) {
    const std::lock_guard<std::mutex> lock(mutex_);
    file_ << line.to_string() << '\n';
  }

  std::mutex mutex_;
  std::ofstream file_;
  nopspan::Errc error_ = nopspan::Errc::ok;
};

// Names with lengths just below and above those at which their encoding changes. The last one is a key that the script
// must not take for a name.
const std::string kOperators[] = {"ets",
                                  "disk",
                                  "grün",
                                  std::string(63, 'a'),
                                  std::string(64, 'b'),
                                  std::string(127, 'c'),
                                  std::string(128, 'd'),
                                  std::string(300, 'e'),
                                  "nopspan.from"};

void operator_events(const std::string& name, int round) {
  const auto as = [&](auto& event) -> auto& { return event.operator_name(name); };
  operators::started([&](auto& event) { as(event); });
  operators::state_change([&](auto& event) { as(event).from("healthy").to("warning").reason("a reason is content"); });
  if (round % 2 == 0) operators::state_change([&](auto& event) { as(event).from("warning").to("healthy"); });
  operators::think([&](auto& event) { as(event).thought("a thought is content"); });
  operators::take_snapshot([&](auto& event) { as(event).snapshot_id("s-1"); });
  operators::wait([&](auto& event) { as(event).ms(round == 0 ? 0 : 1LL << round); });
  operators::execute_start([&](auto& event) { as(event).code("return 1"); });
  if (round % 5 == 0) operators::execute_error([&](auto& event) { as(event).code("return 1").reason("syntax"); });
  if (round % 3 == 0) operators::llm_error([&](auto& event) { as(event).retry_count(round).will_retry(true); });
  operators::done([&](auto& event) { as(event); });
  operators::loop_stopped([&](auto& event) { as(event).final_state("healthy"); });
}

// A span with given times, so that its duration is known.
template <class SpanName, class Metadata, class Work>
void given(Record& record, const SpanName& name, const std::string& of, int round, const Metadata& metadata,
           const Work& work) {
  const std::uint64_t duration_ns = (std::uint64_t{1} << (round % 20 + 10)) + static_cast<std::uint64_t>(round);
  const std::uint64_t start_ns = now_ns() - 2'000'000'000U;
  const int status = round % 6 == 1 ? 1 : round % 6 == 2 ? 2 : 0;
  Span span{name, {nopspan::SpanKind::internal, start_ns}, metadata};
  work();
  if (status == 1) span.fail("gave_up");
  if (status == 2) span.cancel("stopped");
  span.end_at(start_ns + duration_ns);
  record.span(name.view(), of, duration_ns, status);
}

void calls(Record& record, int round) {
  {
    Span call{agent::llm,
              [&](auto& m) { m.iteration(round).context_size(3).model(round % 2 == 0 ? "tiny" : "small"); }};
    call.with<agent::LlmFields>([](auto& m) { m.tool_selected("memory").intent("an intent is content"); });
    if (round % 4 == 0) call.fail("timeout", "a message");
  }
  agent::tool_span([](auto& m) { m.tool_name("memory").intent("an intent"); }, [] { return 1024; });
  try {
    nopspan::span(
        agent::tool, [](auto& m) { m.tool_name("broken"); }, [] { throw std::runtime_error("why"); });
  } catch (const std::runtime_error&) {
  }
  static_cast<void>(agent::emit_tool_stop(Value::map({{"tool_name", "late"}}), 1, now_ns() - 5'000'000));
  given(
      record, agent::compaction, "summarize", round, [](auto& m) { m.message_count(40).strategy("summarize"); }, [] {});
}

void coordinate(Record& record, int round) {
  coordinator::started([](auto& event) { event.running(true).notification_count(0); });
  given(
      record, agent::coordinator_iteration, "", round, [&](auto& m) { m.iteration(round); },
      [&] {
        coordinator::think([](auto& event) { event.thought("a thought"); });
        coordinator::invoke_operators([](auto& event) { event.skills({"ets", "disk"}); });
        coordinator::get_operator_statuses([](auto&) {});
        coordinator::message_operator([&](auto& event) { event.skill(kOperators[round % 3]); });
        coordinator::wait([&](auto& event) { event.ms(127 + round % 2); });
      });
  coordinator::operator_complete([](auto& event) { event.skill("ets").result(Value::map({{"state", "healthy"}})); });
  if (round % 5 == 0) coordinator::operator_crashed([](auto& event) { event.skill("disk").reason("killed"); });
  coordinator::insight_produced([](auto& event) { event.insight("an insight is content"); });
  if (round % 10 == 0) coordinator::max_iterations_reached([&](auto& event) { event.iteration(round); });
  coordinator::done([](auto& event) { event.has_unread(false).unread_count(0); });
}

std::string run(const std::string& file, const std::string& tenant) {
  Record record(file);
  if (record.error() != nopspan::Errc::ok) return nopspan::describe(record.error());
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      const Span root{"work.root", [&](nopspan::Fields& f) { f.tenant(tenant); }};
      for (int round = 0; round < kRounds; ++round) {
        for (const std::string& name : kOperators) {
          given(
              record, agent::operator_iteration, name, round,
              [&](auto& m) {
                // Other attributes precede and follow the name.
                m.set("zone", "eu");
                m.operator_name(name).iteration(round).operator_state("healthy");
                m.label("gen_ai.agent.nam", "shorter").label("gen_ai.agent.names", "longer");
              },
              [&] {
                operator_events(name, round);
                calls(record, round);
              });
        }
        coordinate(record, round);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return "done";
}

void rows(int count) {
  for (int i = 0; i < count; ++i) {
    const std::string name = "operator-" + std::to_string(i);
    const Span iteration{agent::operator_iteration, [&](auto& m) { m.operator_name(name); }};
    operators::state_change([&](auto& event) { event.operator_name(name).from("healthy").to("warning"); });
  }
}

}  // namespace

int main() {
  Commands commands;
  commands["run"] = [](std::istringstream& a) {
    const std::string file = word(a);
    return run(file, word(a));
  };
  commands["rows"] = [](std::istringstream& a) {
    int count = 0;
    a >> count;
    rows(count);
    return "done";
  };
  commands["canary"] = [](std::istringstream& a) {
    emit_each(word(a));
    return "done";
  };
  return serve(commands);
}
