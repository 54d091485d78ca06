// SPDX-License-Identifier: Apache-2.0
// A canary emits one event of each kind. When a tracer reports it, the tracer is attached.
#pragma once

#include "commands.h"

#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <stdexcept>
#include <string>

// A name of a catalogue, so that the span is recorded whichever probe is attached.
inline constexpr nopspan::SpanName<nopspan::engine::RequestFields> canary{"canary"};

// Fires each of the ten probes once, if a tracer is attached to it.
inline void emit_each(const std::string& id) {
  try {
    nopspan::span(
        canary,
        [&](auto& m) { m.model(id).queue_ns(1).input_tokens(1).output_tokens(1).set("tool_name", "canary.tool"); },
        [](nopspan::Span& span) {
          span.first_token();
          nopspan::execute("canary.event");
          nopspan::gauge("canary.gauge", 1, [](auto& g) { g.engine("canary"); });
          nopspan::llm::retry([](auto& r) { r.attempt(1); });
          throw std::runtime_error("canary");
        });
  } catch (const std::runtime_error&) {
  }
}

// The command `canary ID`.
inline std::string canary_command(std::istringstream& arguments) {
  emit_each(word(arguments));
  return "done";
}
