// SPDX-License-Identifier: Apache-2.0
// The stack of one call does not grow without a bound, nor do the spans inside each other.
#include "every_call.h"
#include "fault.h"
#include "raised_gate.h"

#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <iterator>
#include <thread>

namespace {

using nopspan::Errc;
using nopspan::Event;
using nopspan::Span;

TEST(WorkFaults, DeeplyNestedSpansMayEachHaveTokens) {
  constexpr unsigned kDepth = 20'000;
  const CountingHandler handler({"work"});
  const std::function<void(unsigned)> nest_tokens = [&](unsigned depth) {
    const Span span{"work", [](nopspan::Fields& f) { f.input_tokens(10).output_tokens(1); }};
    if (depth > 1) nest_tokens(depth - 1);
  };
  nest_tokens(kDepth);
  EXPECT_EQ(handler.starts, kDepth);
  EXPECT_EQ(handler.ends, kDepth);
}

// How much of an alternate signal stack is used if a new thread calls `handler` on it.
std::size_t stack_used(void (*handler)(int)) {
  static unsigned char stack[256 * 1024];
  constexpr unsigned char kUnused = 0x5a;
  std::memset(stack, kUnused, sizeof(stack));
  std::thread([&] {
    const stack_t alternate{stack, 0, sizeof(stack)};
    EXPECT_EQ(sigaltstack(&alternate, nullptr), 0);
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK;
    EXPECT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
    raise(SIGUSR1);
  }).join();
  const auto* const first = std::find_if(std::begin(stack), std::end(stack), [](auto byte) { return byte != kUnused; });
  return static_cast<std::size_t>(std::end(stack) - first);
}

TEST(WorkFaults, ASpanNeedsLittleStack) {
  const CountingHandler handler({"llm.misnamed"});
  ASSERT_EQ(nopspan::attach("reader", "llm.chat.stop", [](const Event& event) { (void)event.attributes(); }), Errc::ok);
  const RaisedGate tracer(RaisedGate::batch);
  static Call now;
  const auto used = [frame = stack_used([](int) {})] { return stack_used([](int) { now.make(1); }) - frame; };
  now = {"misnamed span", [](unsigned) { const Span span{"llm.misnamed"}; }};
  EXPECT_LT(used(), now.stack);
  now = {"chat", [](unsigned) {
           const Span span{nopspan::llm::chat, [](auto& metadata) {
                             metadata.model("gpt-4o").input_tokens(1).finish_reasons({"a", "b"});
                           }};
         }};
  EXPECT_LT(used(), now.stack);
  for (const Call& call : every_call) {
    now = call;
    EXPECT_LT(used(), now.stack) << now.what;
  }
  EXPECT_EQ(nopspan::detach("reader"), Errc::ok);
}

template <class Thrown>
void leave_a_span(int) {
  try {
    nopspan::span("work", [] { throw Thrown(); });
  } catch (...) {
  }
}

template <class T, unsigned count>
struct PointerTo {
  using Type = typename PointerTo<T*, count - 1>::Type;
};
template <class T>
struct PointerTo<T, 0> {
  using Type = T;
};

TEST(WorkFaults, ASpanThatAnExceptionLeavesNeedsABoundedStack) {
  const CountingHandler handler({"work"});
  const RaisedGate tracer(RaisedGate::batch);
  const std::size_t frame = stack_used([](int) {});
  for (const auto work :
       {leave_a_span<std::string>, leave_a_span<PointerTo<int, 120>::Type>, leave_a_span<PointerTo<int, 500>::Type>}) {
    EXPECT_LT(stack_used(work) - frame, 48 * 1024);  // the bound that span.h states
  }
}

}  // namespace
