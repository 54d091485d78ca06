// SPDX-License-Identifier: Apache-2.0
// On command, emits every kind of content, each with a different text (CANARY-...). One line of answer lists these
// texts. A handler of all events records which of them it received.
#include "commands.h"

#include <nopspan/agent.h>
#include <nopspan/c.h>
#include <nopspan/engine.h>
#include <nopspan/event.h>
#include <nopspan/execute.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/mcp.h>
#include <nopspan/propagation.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

namespace agent = nopspan::agent;
namespace llm = nopspan::llm;
using nopspan::Value;

std::vector<std::string> made;

// A new text to search for.
std::string canary(const std::string& kind) {
  made.push_back("CANARY-" + std::to_string(made.size()) + "-" + kind + "-END");
  return made.back();
}

void emit_llm() {
  nopspan::Span chat{llm::chat, [](auto& m) {
                       m.engine("e").model("m").system_instructions(canary("system")).tool_definitions(canary("tools"));
                       m.input_messages(Value::list({Value::map({{"content", canary("prompt")}})}));
                     }};
  {
    nopspan::Span step{llm::step};
    step.with<llm::StepFields>([](auto& m) { m.step_result(canary("step")).output_messages(canary("output")); });
    nopspan::genai::tool_call("t", [](auto& e) { e.arguments(canary("event-arguments")); });
    nopspan::Span tool{llm::tool, [](auto& m) { m.tool_name("t").arguments(canary("arguments")); }};
    tool.with<llm::ToolFields>([](auto& m) { m.result(Value::map({{"text", canary("result")}})); });
    tool.fail("failed", canary("failure"));
  }
  {
    nopspan::Span generate{llm::generate};
    generate.with<llm::GenerateFields>([](auto& m) { m.response(canary("response")); });
  }
  {
    nopspan::Span image{llm::image};
    image.with<llm::ImageFields>([](auto& m) { m.response(canary("image")).error(canary("image-error")); });
  }
  try {
    nopspan::span(llm::step, [] { throw std::runtime_error(canary("exception")); });
  } catch (const std::runtime_error&) {
  }
  chat.with<llm::ChatFields>([](auto& m) { m.chat_result(canary("chat")); });
}

// Content under keys that have another meaning for nopspan. It must not be exported with that meaning.
void emit_disguised() {
  nopspan::Span span{llm::tool, [](auto& m) {
                       for (const char* key : {"model", "engine", "tenant", "tool_name", "finish_reason", "provider",
                                               "operation", "request_id", "trace_id", "error.type", "response_model"}) {
                         m.content(key, canary(key));
                       }
                     }};
  nopspan::execute("app.event", [](nopspan::Fields& f) { f.content("text", canary("event")); });
  nopspan::AsyncSpan request{nopspan::engine::request};
  request.with([](nopspan::Fields& f) { f.content("prompt", canary("engine")); });
  request.end();
}

// Every event of the agent catalogue, with a canary under each key that the catalogue marks as content.
void emit_agent() {
  for (const auto& event : agent::catalogue()) {
    Value metadata = Value::map();
    for (const auto& field : event.metadata) {
      if (field.content) metadata.set(field.key, canary(std::string(event.name.view()) + "." + std::string(field.key)));
    }
    Value measurements = Value::map();
    for (const auto& field : event.measurements) measurements.set(field.key, 1);
    static_cast<void>(agent::emit(event.name.view(), measurements, metadata));
  }
  agent::operators::think([](auto& e) { e.thought(canary("thought")); });
  agent::operators::execute_complete([](auto& e) { e.code(canary("code")).result(canary("code-result")); });
  agent::tool_span([](auto& m) { m.tool_name("t").intent(canary("intent")); }, [] { return canary("tool-result"); });
}

// The operations of genai_spans.h, and MCP.
void emit_operations() {
  namespace genai = nopspan::genai;
  {
    const nopspan::Span found{genai::retrieval,
                              [](auto& m) { m.query(canary("query")).documents(canary("documents")); }};
  }
  {
    const nopspan::Span memory{genai::search_memory,
                               [](auto& m) { m.query(canary("memory-query")).records(canary("records")); }};
    genai::evaluation_result("relevance", [](auto& e) { e.explanation(canary("explanation")); });
  }
  {
    const nopspan::Span agent{genai::invoke_agent, [](auto& m) {
                                m.system_instructions(canary("agent-system")).input_messages(canary("agent-input"));
                                m.output_messages(canary("agent-output"));
                              }};
  }
  const nopspan::Span message{nopspan::mcp::client, [](auto& m) {
                                m.method("tools/call").arguments(canary("mcp-arguments")).result(canary("mcp-result"));
                              }};
}

// Content that is set as if it were none: its key alone says what it is.
void emit_by_key() {
  nopspan::Span span{"by.key"};
  for (const char* key : {"gen_ai.input.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions",
                          "gen_ai.completion", "gen_ai.prompt.0.content", "exception.message", "exception.stacktrace",
                          "error.message", "otel.status_description", "nopspan.response"}) {
    span.set(key, canary(std::string("set-") + key));
  }
  span.set("row", "public").set("gen_ai.prompt", canary("set-literal"));
  span.set("gen_ai.output.messages", Value::list({Value::map({{"content", canary("set-list")}})}));
  span.label("gen_ai.tool.call.arguments", canary("label"));
  const nopspan::Span inside{"by.key.inside"};
  span.event("exception", [](nopspan::Fields& f) { f.set("exception.message", canary("event")); });
  span.event("gen_ai.user.message", [](nopspan::Fields& f) { f.set("content", canary("message")); });
  nopspan::execute("app.event", [](nopspan::Fields& f) { f.set("gen_ai.tool.call.result", canary("execute")); });
  nopspan::AsyncSpan async{"by.key.async", span.context()};
  async.set("gen_ai.retrieval.documents", canary("async"));
  async.end();
  const nopspan_handle in_c = nopspan_request_begin("by.key.c");
  nopspan_span_set_text(in_c, "gen_ai.input.messages", canary("c").c_str());
  nopspan_span_end(in_c);
}

// Content that other processes send, or that a context has. It is forwarded, and not recorded.
void emit_from_elsewhere() {
  const std::map<std::string, std::string> headers{
      {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
      {"baggage", "gen_ai.prompt=CANARY-baggage,tenant=acme"}};
  const nopspan::ContextScope scope{nopspan::extract(headers).with_label("gen_ai.input.messages", "CANARY-label")};
  nopspan::Span span{"from.elsewhere"};
  span.link(nopspan::extract(headers));
}

}  // namespace

int main() {
  std::mutex mutex;
  std::set<std::string> handled;
  std::vector<std::string> names{"app.event.x"};
  for (const auto& list : {llm::event_names(), agent::event_names(), nopspan::engine::event_names(),
                           nopspan::genai::span_event_names(), nopspan::mcp::event_names()}) {
    for (const std::string_view name : list) names.emplace_back(name);
  }
  for (const char* name : {"app.event", "gen_ai.tool.call", "gen_ai.evaluation.result", "by.key.stop", "exception",
                           "gen_ai.user.message", "by.key.async.stop", "by.key.c.stop"}) {
    names.emplace_back(name);
  }
  static_cast<void>(nopspan::attach_many("canaries", names, [&](const nopspan::Event& event) {
    const std::string text = event.metadata().copy().to_string();
    const std::lock_guard<std::mutex> lock(mutex);
    for (const std::string& each : made) {
      if (text.find(each) != std::string::npos) handled.insert(each);
    }
  }));
  Commands commands;
  commands["emit"] = [](std::istringstream&) {
    emit_llm();
    emit_disguised();
    emit_agent();
    emit_operations();
    emit_by_key();
    emit_from_elsewhere();
    std::string all;
    for (const std::string& each : made) all += each + " ";
    return all;
  };
  commands["emit_by_key"] = [](std::istringstream&) {
    emit_by_key();
    return "done";
  };
  commands["handled"] = [&](std::istringstream&) { return std::to_string(handled.size()); };
  return serve(commands);
}
