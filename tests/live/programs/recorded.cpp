// SPDX-License-Identifier: Apache-2.0
// A program that records itself. Takes commands (commands.h):
//
//   open TARGET [BUFFER_BYTES]  begins a recording, and answers "" or why not
//   everything                  emits entries of every kind, on two threads
//   spans NAME COUNT            emits spans
//   signal NAME COUNT           emits spans in a signal handler, while the thread emits spans itself
//   copies COUNT                calls reseed() so often, while two threads emit spans
//   fork                        a child emits spans and writes a recording of its own to the given file
//   leave                       leaves spans open: of this thread, of another one, and an AsyncSpan
//   statistics, close, exit     exit: calls exit() without close()
#include "commands.h"

#include <nopspan/agent.h>
#include <nopspan/context.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/genai.h>
#include <nopspan/llm.h>
#include <nopspan/propagation.h>
#include <nopspan/recording.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <future>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

nopspan::recording::Writer writer;

void emit_model_calls() {
  nopspan::Span chat{nopspan::llm::chat, [](auto& m) { m.engine("llama.cpp").model("tiny-1").tenant("acme"); }};
  {
    nopspan::Span step{nopspan::llm::step, [](auto& m) { m.model("tiny-2"); }};
    nopspan::llm::retry([](auto& r) { r.attempt(2).delay_ms(500).reason("rate_limit").status_code(429); });
    step.first_token(3);
    step.with([](nopspan::Fields& f) { f.input_tokens(11).output_tokens(7).cached_tokens(5).reasoning_tokens(2); });
    step.content("gen_ai.input.messages", "a prompt");
  }
  chat.with([](nopspan::Fields& f) { f.input_tokens(11).output_tokens(7); });
  nopspan::Span tool{nopspan::llm::tool, [](auto& m) { m.tool_name("calculator").tool_call_id("call-1"); }};
  tool.fail("division_by_zero");
  nopspan::execute("app.cache_hit", [](nopspan::Fields& f) { f.set("shard", 4); });
  nopspan::gauge("kv_cache_used", 123, [](auto& g) { g.engine("engine-0").maximum(4096); });
  nopspan::gauge("waiting", 2, [](auto& g) { g.engine("engine-0").label("reason", "slots"); });
  nopspan::counter("aborted", 7);
}

void emit_engine() {
  nopspan::AsyncSpan request{
      nopspan::engine::request, nopspan::Context::current(), {nopspan::SpanKind::server}, [](auto& m) {
        m.queue_ns(1000).prefill_ns(2000).decode_ns(3000).preemptions(4).input_tokens(21).output_tokens(22);
      }};
  request.first_token();
  for (std::size_t members : {1, 2, 700, 701}) {
    nopspan::Span step{nopspan::engine::step};
    std::vector<nopspan::engine::Member> served(members, nopspan::engine::Member::of(request.context(), 1));
    for (std::size_t i = 1; i < served.size(); ++i) {
      served[i].request = i;
      served[i].flags = nopspan::engine::Member::kOwnKey;
      served[i].decode_tokens = 1;
    }
    step.with<nopspan::engine::StepFields>([&](auto& m) { m.members(served.data(), served.size()).number(members); });
  }
  request.end();
}

void emit_agents() {
  namespace agent = nopspan::agent;
  {
    const nopspan::Span iteration{agent::operator_iteration, [](auto& m) { m.operator_name("ets").iteration(1); }};
    agent::operators::state_change([](auto& e) { e.operator_name("ets").from("healthy").to("warning"); });
    agent::tool_span([](auto& m) { m.tool_name("memory"); }, [] { return 1024; });
  }
  const nopspan::Span compaction{agent::compaction, [](auto& m) { m.message_count(40).strategy("summarize"); }};
}

void emit_other_spans() {
  const std::map<std::string, std::string> headers = {
      {"traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}, {"tracestate", "vendor=opaque"}};
  const nopspan::Context caller = nopspan::extract(headers);
  const nopspan::ContextScope scope{caller};
  nopspan::Span served{"app.served", nopspan::SpanKind::server};
  served.set("text", "grün \"quoted\"").set("bad", "\xff bytes").set("list", std::vector<int>{1, 2, 3});
  served.set("map", nopspan::Value::map({{"inner", nopspan::Value::map({{"real", 1.5}})}})).set("none", nullptr);
  served.set("long", std::string(300, 'x')).measure("rows", 12);
  try {
    nopspan::span("app.throws", [] { throw std::runtime_error("for a reason"); });
  } catch (const std::runtime_error&) {
  }
  nopspan::Span linked{"app.linked"};
  linked.link(caller);
  nopspan::AsyncSpan cancelled{"app.cancelled", nopspan::Context::current()};
  cancelled.cancel("deadline");
  { const nopspan::AsyncSpan abandoned{"app.abandoned", nopspan::Context::current()}; }
  nopspan::span(
      "app.foreign", [](auto& m) { m.request_id("order-17"); }, [] {});
  nopspan::complete("app.complete", nopspan::Context::current(), nopspan::now_ns() - 1000, 500);
}

std::string emit_everything() {
  emit_other_spans();
  std::thread other([] {
    emit_model_calls();
    emit_engine();
  });
  other.join();
  emit_agents();
  emit_model_calls();
  return "done";
}

std::string emit_spans(const char* name, int count) {
  const nopspan::Name interned = nopspan::Name::intern(name);
  for (int i = 0; i < count; ++i) const nopspan::Span span{interned};
  return "done";
}

std::string spans(std::istringstream& arguments) {
  const std::string name = word(arguments);
  int count = 0;
  arguments >> count;
  return emit_spans(name.c_str(), count);
}

volatile sig_atomic_t in_signals = 0;

// Emits spans until a signal handler has emitted `count`. Answers how many this thread has emitted.
std::string in_signal(std::istringstream& arguments) {
  int count = 0, outside = 0;
  arguments >> count;
  in_signals = 0;
  struct sigaction action {};
  action.sa_handler = [](int) {
    const nopspan::Span span{"in.signal"};
    if (span) in_signals = in_signals + 1;
  };
  sigaction(SIGALRM, &action, nullptr);
  const itimerval every{{0, 200}, {0, 200}};
  setitimer(ITIMER_REAL, &every, nullptr);
  while (in_signals < count) {
    const nopspan::Span span{"in.thread"};
    ++outside;
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  return std::to_string(outside) + " " + std::to_string(in_signals);
}

std::string leave_open(std::istringstream&) {
  static auto* const scope = new nopspan::Span{"left.scope", [](auto& m) { m.tenant("acme"); }};
  scope->set("n", 7);
  static auto* const async = new nopspan::AsyncSpan{"left.async", nopspan::Context::current()};
  async->set("n", 8);
  std::promise<void> begun;
  std::thread([&] {
    const nopspan::Span of_thread{"left.on_thread"};
    begun.set_value();
    pause();
  }).detach();
  begun.get_future().wait();
  { const nopspan::Span ended{"ended"}; }
  return "done";
}

// Each copy has recorded something before the next one is made.
std::string be_copied(std::istringstream& arguments) {
  int count = 0;
  arguments >> count;
  std::atomic<bool> stops{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stops) const nopspan::Span span{"in.copy"};
    });
  }
  constexpr std::uint64_t kBytes = 100'000;
  std::uint64_t before = 0;
  for (int copies = 0; copies <= count; ++copies) {
    if (copies > 0) nopspan::reseed();
    const auto is_recorded = [&] {
      const nopspan::recording::Statistics now = writer.statistics();
      return now.connections == static_cast<std::uint64_t>(copies) + 1 && now.bytes > before + kBytes;
    };
    while (!is_recorded()) usleep(1000);
    before = writer.statistics().bytes;
  }
  stops = true;
  for (std::thread& thread : threads) thread.join();
  return "done";
}

std::string in_child(std::istringstream& arguments) {
  const std::string file = word(arguments);
  const pid_t child = fork();
  if (child == 0) {
    emit_spans("in.child", 10);
    nopspan::recording::Writer own;
    if (!own.open(file).empty()) _exit(1);
    emit_spans("in.child.recorded", 20);
    if (!own.close()) _exit(2);
    std::exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

}  // namespace

int main() {
  Commands commands;
  commands["open"] = [](std::istringstream& a) {
    const std::string target = word(a);
    nopspan::recording::Options options;
    options.close_timeout_ms = 500;
    a >> options.buffer_bytes;
    if (a.fail()) options.buffer_bytes = nopspan::recording::Options().buffer_bytes;
    return writer.open(target, options);
  };
  commands["close"] = [](std::istringstream&) { return std::string(writer.close() ? "complete" : "incomplete"); };
  commands["everything"] = [](std::istringstream&) { return emit_everything(); };
  commands["spans"] = spans;
  commands["signal"] = in_signal;
  commands["copies"] = be_copied;
  commands["fork"] = in_child;
  commands["leave"] = leave_open;
  commands["exit"] = [](std::istringstream&) -> std::string { std::exit(0); };
  commands["statistics"] = [](std::istringstream&) {
    const nopspan::recording::Statistics s = writer.statistics();
    std::ostringstream json;
    json << R"({"emitted": )" << s.emitted << R"(, "delivered": )" << s.delivered << R"(, "dropped": )" << s.dropped
         << R"(, "discarded": )" << s.discarded << R"(, "connections": )" << s.connections << R"(, "bytes": )"
         << s.bytes << "}";
    return json.str();
  };
  return serve(commands);
}
