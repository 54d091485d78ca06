// SPDX-License-Identifier: Apache-2.0
// A process that records requests with given times: convert_examples FILE [DEPTH]. With DEPTH, there is instead one
// request of so many spans, each inside the one before.
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/recording.h>
#include <nopspan/span.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

namespace {

using nopspan::AsyncSpan;
using nopspan::Context;
using nopspan::ContextRef;
using nopspan::SpanOptions;

std::uint64_t begin_ns = 0;  // of what happens, by CLOCK_MONOTONIC
nopspan::Time at(std::uint64_t us) { return begin_ns + us * 1000; }

template <class M>
AsyncSpan begun(const nopspan::Name& name, ContextRef parent, std::uint64_t us, const M& fields) {
  return AsyncSpan{name, parent, SpanOptions{nopspan::SpanKind::internal, at(us)}, fields};
}
AsyncSpan begun(const nopspan::Name& name, ContextRef parent, std::uint64_t us) {
  return begun(name, parent, us, [](nopspan::Fields&) {});
}
void end(AsyncSpan& span, std::uint64_t us) {
  span.end_at(at(us));
  span.end();
}

void serve() {
  AsyncSpan server = begun("http.server", Context(), 0, [](auto& m) { m.tenant("acme"); });
  AsyncSpan query = begun("db.query", server, 1, [](auto& m) {
    m.set("db.rows", 42).set("ok", true).set("ratio", 0.5).set("list", {"a", "b"}).set("table", "größe");
  });
  query.event("cache.miss", [](auto& m) { m.set("key", "k"); });
  query.end();  // later than all others
  server.end();
}

void run_agent() {
  AsyncSpan turn = begun("agent.turn", Context(), 20);
  AsyncSpan one = begun("tool.one", turn, 21);
  AsyncSpan two = begun("tool.two", turn, 23);
  end(one, 25);
  end(two, 28);
  end(turn, 30);
}

// Six steps. The fourth one is late.
void generate() {
  AsyncSpan request = begun("llm.generate", Context(), 40);
  std::uint64_t number = 0;
  for (const std::uint64_t us : {50, 60, 70, 200, 210, 220}) {
    nopspan::gauge("running", ++number, [](auto& g) { g.engine("vllm").model("m"); });
    const nopspan::engine::Member member = nopspan::engine::Member::of(request, 1);
    AsyncSpan step{nopspan::engine::step, Context(), SpanOptions{nopspan::SpanKind::internal, at(us)},
                   [&](auto& m) { m.engine("vllm").instance(7).number(number).members(&member, 1); }};
    end(step, us + 8);
  }
  end(request, 9000);
}

void nest(int depth) {
  std::vector<AsyncSpan> open;
  const Context none;
  for (int i = 0; i < depth; ++i) open.push_back(begun("inner", i == 0 ? none : open.back().context(), 0));
  while (!open.empty()) {
    end(open.back(), 1);
    open.pop_back();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: convert_examples FILE [DEPTH]\n";
    return 2;
  }
  const AsyncSpan early{"early"};
  nopspan::recording::Writer recording;
  if (const std::string error = recording.open(argv[1]); !error.empty()) {
    std::cerr << error << "\n";
    return 1;
  }
  begin_ns = nopspan::Time(std::chrono::steady_clock::now()).ns();
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  if (argc > 2) {
    nest(std::atoi(argv[2]));
  } else {
    serve();
    run_agent();
    generate();
    AsyncSpan late = begun("late", early.context(), 100);
    end(late, 110);
  }
  return recording.close() ? 0 : 1;
}
