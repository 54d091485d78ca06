// SPDX-License-Identifier: Apache-2.0
// Opens spans with nobody listening, so that a reader can find them: `opened hold|storm|fork|many`. Each waits for the
// end of standard input. `hold` prints what a reader must find. `storm` makes and ends spans whose name, start, labels
// and tokens belong together. `fork` does what `hold` does, and prints the pid of a child that has one span of its own.
// The spans of `many` take more than a pipe has room for.
#include <nopspan/context.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>
#include <nopspan/stream.h>

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

void wait_for_end() {
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
}

// Reports that the spans are open.
void be_ready() {
  std::puts("ready");
  std::fflush(stdout);
  wait_for_end();
}

void print(const nopspan::Context& context, std::uint64_t parent, const char* rest) {
  std::printf("%s %016llx %016llx %s\n", std::string(context.trace_id()).c_str(),
              static_cast<unsigned long long>(context.span_id()), static_cast<unsigned long long>(parent), rest);
  std::fflush(stdout);
}

void hold(bool forks) {
  { const nopspan::Span gone{"held.gone"}; }
  const nopspan::ContextScope scope{nopspan::Context::with_request_id("order-7")};
  const nopspan::Span request{"held.request", nopspan::SpanOptions{nopspan::SpanKind::server, 1000},
                              [](nopspan::Fields& f) { f.set("tenant", "acme").label("shard", "eu"); }};
  const nopspan::Span step{"held.step", nopspan::SpanOptions{nopspan::SpanKind::internal, 2000}};
  nopspan::AsyncSpan chat{"held.chat", step.context(), nopspan::SpanOptions{nopspan::SpanKind::client, 3000}};
  chat.set("model", "gpt-x").set("engine", "vllm");
  nopspan::StreamMeter meter{std::move(chat)};
  meter.token(2);
  meter.token(3);
  const std::uint64_t root = request.context().span_id();
  print(request.context(), 0,
        "held.request start=1000 tokens=0 first=0 engine=- model=- tenant=acme shard=eu id=order-7");
  print(step.context(), root, "held.step start=2000 tokens=0 first=0 engine=- model=- tenant=acme shard=eu id=order-7");
  print(meter.span().context(), step.context().span_id(),
        "held.chat start=3000 tokens=5 first=1 engine=vllm model=gpt-x tenant=acme shard=eu id=order-7");
  if (forks) {
    const pid_t child = fork();
    if (child == 0) {
      const nopspan::Span own{"held.child", nopspan::SpanOptions{nopspan::SpanKind::internal, 4000}};
      std::printf("%d\n", static_cast<int>(getpid()));
      print(own.context(), step.context().span_id(),
            "held.child start=4000 tokens=0 first=0 engine=- model=- tenant=acme shard=eu id=order-7");
      be_ready();
      _exit(0);
    }
    wait_for_end();  // the child reports
  } else {
    be_ready();
  }
}

// The parts of a span that belong together all come from one number.
void storm() {
  std::atomic<bool> ends{false};
  std::vector<std::thread> threads;
  for (unsigned first = 0; first < 3; ++first) {
    threads.emplace_back([&, first] {
      for (unsigned i = first; !ends; i = (i + 3) % 1000) {
        const std::string number = std::to_string(i);
        const nopspan::ContextScope scope{nopspan::Context::with_request_id("id-" + number)};
        const nopspan::Span outer{"storm." + number, nopspan::SpanOptions{nopspan::SpanKind::internal, 1000 + i},
                                  [&](nopspan::Fields& f) { f.set("tenant", "t" + number).set("output_tokens", i); }};
        nopspan::AsyncSpan inner{"inner." + number, outer.context(),
                                 nopspan::SpanOptions{nopspan::SpanKind::internal, 1000 + i}};
        inner.end();
      }
    });
  }
  be_ready();
  ends = true;
  for (std::thread& thread : threads) thread.join();
}

void many() {
  constexpr int kSpans = 10'000;
  std::vector<nopspan::AsyncSpan> spans;
  for (int i = 0; i < kSpans; ++i) spans.emplace_back("held.many");
  be_ready();
}

}  // namespace

int main(int argc, char** argv) {
  nopspan::keep_open_spans(true);
  if (argc > 1 && std::strcmp(argv[1], "storm") == 0) {
    storm();
  } else if (argc > 1 && std::strcmp(argv[1], "many") == 0) {
    many();
  } else {
    hold(argc > 1 && std::strcmp(argv[1], "fork") == 0);
  }
  return 0;
}
