// SPDX-License-Identifier: Apache-2.0
// Makes one chat on command: with a retry, a tool, a stream and a failure. `setters` uses the library's catalogue,
// `names` spans of its own with the names of OpenTelemetry's conventions, `async` the same with AsyncSpan, and `c` the
// C API.
#include "commands.h"

#include <nopspan/c.h>
#include <nopspan/llm.h>
#include <nopspan/span.h>

namespace {

namespace llm = nopspan::llm;
using nopspan::AsyncSpan;
using nopspan::Span;

std::string by_setters(std::istringstream&) {
  Span chat{llm::chat, [](auto& m) { m.engine("vllm").model("m").tenant("acme").provider("openai"); }};
  llm::retry([](auto& r) { r.attempt(2).delay_ms(500).reason("rate_limit"); });
  {
    const Span tool{llm::tool, [](auto& m) { m.tool_name("calc"); }};
  }
  {
    Span stream{llm::stream};
    stream.first_token();
    stream.with<llm::GenerateFields>(
        [](auto& m) { m.input_tokens(100).output_tokens(20).cached_tokens(40).reasoning_tokens(5); });
  }
  Span{llm::step}.with<llm::StepFields>([](auto& m) { m.http_status(503); });
  return "made";
}

constexpr nopspan::SpanOptions kClient{nopspan::SpanKind::client};

std::string by_names(std::istringstream&) {
  Span chat{"chat m", kClient, [](nopspan::Fields& f) {
              f.set("gen_ai.operation.name", "chat").set("gen_ai.request.model", "m");
              f.set("gen_ai.provider.name", "openai").engine("vllm").tenant("acme");
            }};
  chat.event("gen_ai.retry", [](nopspan::Fields& f) {
    f.set("retry.attempt", 2).set("retry.delay_ms", 500).set("retry.reason", "rate_limit");
  });
  {
    const Span tool{"execute_tool calc", [](nopspan::Fields& f) {
                      f.set("gen_ai.operation.name", "execute_tool").set("gen_ai.tool.name", "calc");
                    }};
  }
  {
    Span stream{"chat m", kClient, [](nopspan::Fields& f) { f.set("gen_ai.operation.name", "chat"); }};
    stream.event("gen_ai.stream.first_token");
    stream.set("gen_ai.usage.input_tokens", 100).set("gen_ai.usage.output_tokens", 20);
    stream.set("gen_ai.usage.cache_read.input_tokens", 40).set("gen_ai.usage.reasoning.output_tokens", 5);
  }
  const Span step{"chat m", kClient, [](nopspan::Fields& f) {
                    f.set("gen_ai.operation.name", "chat").set("http.response.status_code", 503);
                  }};
  return "made";
}

std::string by_async_spans(std::istringstream&) {
  AsyncSpan chat{"chat m", nopspan::Context(), kClient, [](nopspan::Fields& f) {
                   f.set("gen_ai.operation.name", "chat").set("gen_ai.request.model", "m");
                   f.set("gen_ai.provider.name", "openai").engine("vllm").tenant("acme");
                 }};
  llm::retry(chat, [](auto& r) { r.attempt(2).delay_ms(500).reason("rate_limit"); });
  AsyncSpan tool{"execute_tool calc", chat, [](nopspan::Fields& f) {
                   f.set("gen_ai.operation.name", "execute_tool").set("gen_ai.tool.name", "calc");
                 }};
  tool.end();
  AsyncSpan stream{"chat m", chat, kClient, [](nopspan::Fields& f) { f.set("gen_ai.operation.name", "chat"); }};
  stream.first_token();
  stream.set("gen_ai.usage.input_tokens", 100).set("gen_ai.usage.output_tokens", 20);
  stream.set("gen_ai.usage.cache_read.input_tokens", 40).set("gen_ai.usage.reasoning.output_tokens", 5);
  stream.end();
  AsyncSpan step{"chat m", chat, kClient, [](nopspan::Fields& f) {
                   f.set("gen_ai.operation.name", "chat").set("http.response.status_code", 503);
                 }};
  step.end();
  chat.end();
  return "made";
}

std::string in_c(std::istringstream&) {
  const nopspan_handle chat = nopspan_request_begin_later("llm.chat");
  nopspan_span_engine(chat, "vllm");
  nopspan_span_model(chat, "m");
  nopspan_span_tenant(chat, "acme");
  nopspan_span_set_text(chat, "provider", "openai");
  nopspan_span_start(chat);
  nopspan_retry(chat, 2, 500, "rate_limit");
  const nopspan_handle tool = nopspan_span_begin("llm.tool", chat);
  nopspan_span_set_text(tool, "tool_name", "calc");
  nopspan_span_end(tool);
  const nopspan_handle stream = nopspan_span_begin("llm.stream", chat);
  nopspan_span_first_token(stream);
  nopspan_span_usage(stream, 100, 20, 40, 5);
  nopspan_span_end(stream);
  const nopspan_handle step = nopspan_span_begin("llm.step", chat);
  nopspan_span_set_int(step, "http_status", 503);
  nopspan_span_end(step);
  nopspan_span_end(chat);
  return "made";
}

}  // namespace

int main() {
  Commands commands;
  commands["setters"] = by_setters;
  commands["names"] = by_names;
  commands["async"] = by_async_spans;
  commands["c"] = in_c;
  return serve(commands);
}
