// SPDX-License-Identifier: Apache-2.0
// The program that most live tests trace. On command it makes spans and events, and prints its gate.
//
//   traced             executes commands (commands.h)
//   traced canary ID   emits one event of each kind under the model ID, and exits
#include "canary.h"
#include "plugin_commands.h"

#include <nopspan/context.h>
#include <nopspan/detail/gate.h>
#include <nopspan/engine.h>
#include <nopspan/event.h>
#include <nopspan/execute.h>
#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

// Fires every probe that does not belong to spans, with different numbers for each.
void emit_points() {
  nopspan::Span chat{nopspan::llm::chat, [](auto& m) { m.engine("llama.cpp").model("tiny-1").tenant("acme"); }};
  {
    nopspan::Span step{nopspan::llm::step, [](auto& m) { m.model("tiny-2"); }};
    nopspan::llm::retry([](auto& r) { r.attempt(2).delay_ms(500).reason("rate_limit").status_code(429); });
    step.first_token(3);
    step.with([](nopspan::Fields& f) { f.input_tokens(11).output_tokens(7).cached_tokens(5).reasoning_tokens(2); });
  }
  // The enclosing span reports usage too, but the probe fires for the innermost span only.
  chat.with([](nopspan::Fields& f) { f.input_tokens(11).output_tokens(7); });
  {
    nopspan::Span tool{nopspan::llm::tool, [](auto& m) { m.tool_name("calculator").tool_call_id("call-1"); }};
    tool.fail("division_by_zero");
  }
  nopspan::execute("app.cache_hit", [](nopspan::Fields& f) { f.set("shard", 4); });
  nopspan::gauge("kv_cache_used", 123, [](auto& g) { g.engine("engine-0").maximum(4096); });
  nopspan::gauge("drift", -5, [](auto& g) { g.engine("engine-0"); });
  nopspan::AsyncSpan request{
      nopspan::engine::request, nopspan::Context::current(), {nopspan::SpanKind::server}, [](auto& m) {
        m.queue_ns(1000).prefill_ns(2000).decode_ns(3000).preemptions(4);
        m.input_tokens(21).output_tokens(22);
      }};
  request.first_token();
  request.end();
}

// Labels of a span with an application-defined name, which the catalogues' spans inside inherit.
void emit_within_a_plain_span() {
  const nopspan::Span outer{"app.request", [](nopspan::Fields& f) { f.tenant("acme").model("outer-model"); }};
  {
    nopspan::Span step{nopspan::llm::step};
    nopspan::llm::retry([](auto& r) { r.attempt(1).reason("busy"); });
    step.with([](nopspan::Fields& f) { f.input_tokens(3).output_tokens(2); });
  }
  {
    const nopspan::Span tool{nopspan::llm::tool, [](auto& m) { m.tool_name("calculator"); }};
  }
  nopspan::AsyncSpan request{nopspan::engine::request, nopspan::Context::current(), [](auto& m) { m.queue_ns(1000); }};
  request.cancel("deadline");
}

// The mapping of this program's text, as in /proc/self/maps.
struct Text {
  std::uintptr_t start = 0;
  std::size_t size = 0;
  long offset = 0;
};
Text own_text() {
  std::ifstream maps("/proc/self/maps");
  const auto own = reinterpret_cast<std::uintptr_t>(&emit_points);
  for (std::string line; std::getline(maps, line);) {
    unsigned long start = 0, end = 0, offset = 0;
    std::sscanf(line.c_str(), "%lx-%lx %*s %lx", &start, &end, &offset);
    if (own >= start && own < end) return {start, end - start, static_cast<long>(offset)};
  }
  std::abort();
}

std::string put_at(const Text& text, void* copy, int protection = PROT_READ | PROT_EXEC) {
  void* const place = reinterpret_cast<void*>(text.start);
  if (mremap(copy, text.size, text.size, MREMAP_MAYMOVE | MREMAP_FIXED, place) != place) return "not moved";
  return mprotect(place, text.size, protection) == 0 ? "moved" : "not protected";
}

// Moves the text of this program to other memory at the same addresses, as programs do to have it in huge pages.
std::string move_text() {
  const Text text = own_text();
  void* const copy = mmap(nullptr, text.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::memcpy(copy, reinterpret_cast<void*>(text.start), text.size);
  mprotect(copy, text.size, PROT_READ | PROT_EXEC);
  return put_at(text, copy);
}

// What CRIU does when it restores this program from a checkpoint: it maps the file, writable, to somewhere else, moves
// the mapping to its place, and then writes what was in memory. The kernel puts no breakpoints into such a mapping, and
// never if it stays `writable`.
std::string restore(bool writable) {
  const Text text = own_text();
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  void* const copy = mmap(nullptr, text.size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, file, text.offset);
  close(file);
  const std::string moved = put_at(text, copy, PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0));
  __atomic_store_n(const_cast<std::uint64_t*>(nopspan_gate_ptr), 0, __ATOMIC_RELAXED);
  return moved;
}

// Starts threads that make spans and then call `at_end`. The arguments are their number, and the number of spans of
// each.
template <typename AtEnd>
std::vector<std::thread> start_threads(const std::string& prefix, std::istringstream& arguments, AtEnd at_end) {
  int count = 0, spans = 0;
  arguments >> count >> spans;
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([name = nopspan::Name::intern(prefix + std::to_string(i)), spans, at_end] {
      for (int made = 0; made < spans; ++made) nopspan::Span span{name};
      at_end();
    });
  }
  return threads;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 3 && std::string(arguments[1]) == "canary") {
    emit_each(arguments[2]);
    return 0;
  }

  // These outlive the main thread.
  auto& open = *new std::vector<std::unique_ptr<nopspan::Span>>;
  auto& scopes = *new std::vector<std::unique_ptr<nopspan::ContextScope>>;
  auto& commands = *new Commands;
  add_plugin_commands(commands);
  commands["gate"] = [](std::istringstream&) { return std::to_string(nopspan::detail::gate()); };
  commands["canary"] = canary_command;
  commands["points"] = [](std::istringstream&) {
    emit_points();
    return "done";
  };
  commands["within_plain"] = [](std::istringstream&) {
    emit_within_a_plain_span();
    return "done";
  };
  // span NAME [COUNT]: answers how many of the spans had state, which only recorded spans have.
  commands["span"] = [](std::istringstream& a) {
    const nopspan::Name name = nopspan::Name::intern(word(a));
    int times = 1;
    a >> times;
    int states = 0;
    for (int i = 0; i < times; ++i) {
      nopspan::Span span{name};
      states += span ? 1 : 0;
    }
    return std::to_string(states);
  };
  // complete NAME TIMES DURATION_NS: makes TIMES spans with this duration.
  commands["complete"] = [](std::istringstream& a) {
    const nopspan::Name name = nopspan::Name::intern(word(a));
    std::uint64_t times = 0, duration_ns = 0;
    a >> times >> duration_ns;
    const std::uint64_t start_ns = nopspan::now_ns() - duration_ns;
    for (; times > 0; --times) nopspan::complete(name, {}, start_ns, duration_ns);
    return "done";
  };
  // flood THREADS SPANS: so many threads make so many spans each. The Nth thread's have the name flood.N.
  commands["flood"] = [](std::istringstream& a) {
    for (std::thread& thread : start_threads("flood.", a, [] {})) thread.join();
    return "done";
  };
  // hold THREADS SPANS: the same with the name held.N, but the threads do not end.
  commands["hold"] = [](std::istringstream& a) {
    static std::atomic<int> holding{0};
    std::vector<std::thread> threads = start_threads("held.", a, [] {
      ++holding;
      while (true) pause();
    });
    for (std::thread& thread : threads) thread.detach();
    while (holding < static_cast<int>(threads.size())) std::this_thread::yield();
    return "done";
  };
  // at NAME START_NS: a span with this start.
  commands["at"] = [](std::istringstream& a) {
    const nopspan::Name name = nopspan::Name::intern(word(a));
    std::uint64_t start_ns = 0;
    a >> start_ns;
    nopspan::complete(name, {}, start_ns, 0);
    return "done";
  };
  // gauge ENGINE NAME VALUE MAXIMUM
  commands["gauge"] = [](std::istringstream& a) {
    const std::string engine = word(a);
    const std::string name = word(a);
    std::int64_t value = 0, maximum = 0;
    a >> value >> maximum;
    nopspan::gauge(name, value, [&](auto& g) { g.engine(engine).maximum(maximum); });
    return "done";
  };
  // cancel MODEL PREFILL_NS PREFILL_TOKENS REASON: a cancelled request to an inference server.
  commands["cancel"] = [](std::istringstream& a) {
    const std::string model = word(a);
    std::int64_t time = 0, tokens = 0;
    a >> time >> tokens;
    nopspan::AsyncSpan request{nopspan::engine::request, {}, [&](auto& m) {
                                 m.model(model).tenant("acme").queue_ns(1000).prefill_ns(time);
                                 m.set("prefill_tokens", tokens);
                               }};
    request.cancel(word(a));
    return "done";
  };
  // step MODEL BATCH PREFILL_TOKENS DECODE_TOKENS BYTES: a step of an engine. BYTES of another attribute precede its
  // own.
  commands["step"] = [](std::istringstream& a) {
    const std::string model = word(a);
    std::int64_t batch = 0, prefill = 0, decode = 0;
    std::size_t bytes = 0;
    a >> batch >> prefill >> decode >> bytes;
    nopspan::Span step{nopspan::engine::step, [&](auto& m) { m.engine("traced").model(model); }};
    step.with<nopspan::engine::StepFields>([&](auto& m) {
      if (bytes > 0) m.set("note", std::string(bytes, '.'));
      m.batch_size(batch).prefill_tokens(prefill).decode_tokens(decode);
    });
    return "done";
  };
  // A step with that many members that decode, and then one for each further number, the tokens of its prompt.
  commands["members"] = [](std::istringstream& a) {
    const std::string model = word(a);
    std::size_t decoding = 0;
    a >> decoding;
    nopspan::engine::Member member;
    member.decode_tokens = 3;
    member.drafted_tokens = 4;
    member.accepted_tokens = 2;
    std::vector<nopspan::engine::Member> members(decoding, member);
    member = {};
    while (a >> member.prefill_tokens) members.push_back(member);
    const nopspan::Span step{nopspan::engine::step,
                             [&](auto& m) { m.engine("traced").model(model).members(members.data(), members.size()); }};
    return "done";
  };
  commands["begin"] = [&](std::istringstream& a) {
    open.push_back(std::make_unique<nopspan::Span>(nopspan::Name::intern(word(a))));
    return "begun";
  };
  commands["end"] = [&](std::istringstream&) {
    open.pop_back();
    return "ended";
  };
  commands["thread_span"] = [](std::istringstream& a) {
    const nopspan::Name name = nopspan::Name::intern(word(a));
    std::thread([&] { nopspan::Span span{name}; }).join();
    return "done";
  };
  commands["attach"] = [&](std::istringstream& a) {
    scopes.push_back(std::make_unique<nopspan::ContextScope>(nopspan::Context::with_request_id(word(a))));
    return std::string(nopspan::request_id());
  };
  commands["detach"] = [&](std::istringstream&) {
    scopes.pop_back();
    return "detached";
  };
  commands["exec"] = [arguments](std::istringstream&) -> std::string {
    execv("/proc/thread-self/exe", arguments);  // the main thread may have ended
    return "exec failed";
  };
  // leave: the main thread ends, and another one executes the next commands.
  commands["leave"] = [&](std::istringstream&) -> std::string {
    std::thread([&commands] {
      std::cout << "left" << std::endl;
      _exit(execute(commands));
    }).detach();
    pthread_exit(nullptr);
  };
  commands["move_text"] = [](std::istringstream&) { return move_text(); };
  commands["restore"] = [](std::istringstream& words) {
    std::string writable;
    words >> writable;
    return restore(writable == "writable");
  };
  // fork: starts a child that does nothing, and answers with its pid. reap: ends the child.
  pid_t child = 0;
  commands["fork"] = [&](std::istringstream&) {
    child = fork();
    while (child == 0) pause();
    return std::to_string(child);
  };
  commands["reap"] = [&](std::istringstream&) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    return "reaped";
  };
  const int status = serve(commands);
  scopes.clear();
  open.clear();
  return status;
}
