// SPDX-License-Identifier: Apache-2.0
// A request, as an agent service and its engine process it together: twenty spans, with events and gauges between them.
#pragma once

#include <nopspan/agent.h>
#include <nopspan/engine.h>
#include <nopspan/llm.h>
#include <nopspan/span.h>

namespace bench {

inline constexpr int kSpansOfARequest = 20;

// engine.request with its three phases, and two steps of the engine: six spans in total.
inline void serve() {
  namespace engine = nopspan::engine;
  nopspan::AsyncSpan request{engine::request, nopspan::Context::current(), {nopspan::SpanKind::server}, [](auto& m) {
                               m.engine("bench").model("llama-3").tenant("acme").arrival_ns(0);
                             }};
  const nopspan::Context context = request.context();
  nopspan::AsyncSpan{engine::queue, context}.end();
  nopspan::AsyncSpan{engine::prefill, context}.end();
  {
    const nopspan::AsyncSpan decode{engine::decode, context};
    request.first_token();
    for (int i = 0; i < 2; ++i) {
      const nopspan::Span step{engine::step,
                               [&](auto& m) { m.batch_size(1).prefill_tokens(8).decode_tokens(1).link(context); }};
    }
  }
  engine::stats([](auto& m) { m.engine("bench").running(3).waiting(1).kv_cache_used(100).kv_cache_total(4096); });
  request.with<engine::RequestFields>([](auto& m) {
    m.queue_ns(100).prefill_ns(1000).decode_ns(10000).input_tokens(100).output_tokens(20).finish_reason("stop");
  });
  request.end();
}

inline void request() {
  namespace agent = nopspan::agent;
  namespace llm = nopspan::llm;
  const nopspan::Span chat{llm::chat, [](auto& m) { m.engine("bench").model("llama-3").tenant("acme"); }};
  for (int i = 0; i < 2; ++i) {
    const nopspan::Span iteration{agent::operator_iteration,
                                  [&](auto& m) { m.operator_name("helper").iteration(i).operator_state("healthy"); }};
    {
      nopspan::Span step{llm::step, [](auto& m) { m.model("llama-3").temperature(0.7).max_tokens(256); }};
      serve();
      step.first_token();
      if (i == 0) llm::retry([](auto& r) { r.attempt(1).delay_ms(0).reason("rate_limit"); });
      step.with<llm::StepFields>([](auto& m) { m.input_tokens(100).output_tokens(20).finish_reason("stop"); });
    }
    agent::operators::state_change([](auto& e) { e.operator_name("helper").from("healthy").to("warning"); });
    const nopspan::Span tool{llm::tool, [](auto& m) { m.tool_name("calculator").tool_call_id("call-1"); }};
  }
  nopspan::Span query{"db.query"};
  query.fail("timeout");
}

}  // namespace bench
