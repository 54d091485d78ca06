// SPDX-License-Identifier: Apache-2.0
// Model calls and tool calls with given names and numbers: calls that the example service never makes, and more names
// than a script has rows.
//
// Takes commands (commands.h), and `canary ID`. A tenant of "-" means none.
//
//   call MODEL TENANT INPUT OUTPUT CACHED REASONING [early]
//                                                       a streamed llm.step within an llm.chat. With `early` its given
//                                                       end is before its first token
//   retry MODEL TENANT REASON ATTEMPT DELAY_MS REQUEST  a retry within an llm.step, with this request id
//   tool NAME TENANT ok|fail|cancel|throw TYPE          a call of a tool
#include "canary.h"
#include "commands.h"

#include <nopspan/context.h>
#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace llm = nopspan::llm;

namespace {

// A chat around `work`. Spans inside inherit its tenant.
template <class Work>
std::string within_chat(const std::string& tenant, Work work) {
  const nopspan::Span chat{llm::chat, [&](auto& m) {
                             if (tenant != "-") m.tenant(tenant);
                           }};
  work();
  return "done";
}

std::string call(std::istringstream& a) {
  const std::string model = word(a);
  const std::string tenant = word(a);
  std::int64_t input = 0, output = 0, cached = 0, reasoning = 0;
  a >> input >> output >> cached >> reasoning;
  return within_chat(tenant, [&] {
    nopspan::Span step{llm::step, [&](auto& m) { m.model(model); }};
    step.first_token();
    step.with([&](nopspan::Fields& f) {
      f.input_tokens(input).output_tokens(output).cached_tokens(cached).reasoning_tokens(reasoning);
    });
    if (word(a) == "early") step.end_at(1);
  });
}

std::string retry(std::istringstream& a) {
  const std::string model = word(a);
  const std::string tenant = word(a);
  const std::string reason = word(a);
  std::int64_t attempt = 0, delay_ms = 0;
  a >> attempt >> delay_ms;
  const nopspan::ContextScope request{nopspan::Context::with_request_id(word(a))};
  return within_chat(tenant, [&] {
    const nopspan::Span step{llm::step, [&](auto& m) { m.model(model); }};
    llm::retry([&](auto& r) { r.attempt(attempt).delay_ms(delay_ms).reason(reason); });
  });
}

std::string tool(std::istringstream& a) {
  const std::string name = word(a);
  const std::string tenant = word(a);
  const std::string how = word(a);
  const std::string type = word(a);
  return within_chat(tenant, [&] {
    try {
      nopspan::span(
          llm::tool, [&](auto& m) { m.tool_name(name); },
          [&](nopspan::Span& span) {
            if (how == "fail") span.fail(type);
            if (how == "cancel") span.cancel(type);
            if (how == "throw") throw std::runtime_error("a tool that throws");
          });
    } catch (const std::runtime_error&) {
    }
  });
}

}  // namespace

int main() {
  Commands commands;
  commands["call"] = call;
  commands["retry"] = retry;
  commands["tool"] = tool;
  commands["canary"] = [](std::istringstream& a) {
    emit_each(word(a));
    return "done";
  };
  return serve(commands);
}
