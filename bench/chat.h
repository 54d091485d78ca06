// SPDX-License-Identifier: Apache-2.0
// A typical chat span of a service: twelve attributes, four of them from the response.
#pragma once

#include <nopspan/llm.h>
#include <nopspan/span.h>

namespace bench {

inline void chat(int& turns) {
  namespace llm = nopspan::llm;
  nopspan::Span span{llm::chat, [](auto& m) {
                       m.engine("llama.cpp").model("llama-3").temperature(0.7).top_p(0.9).max_tokens(256).seed(7);
                       m.conversation_id("c-17").server("127.0.0.1", 8080);
                     }};
  ++turns;
  span.with<llm::ChatFields>([&](auto& m) { m.input_tokens(100).output_tokens(turns).finish_reason("stop"); });
}

}  // namespace bench
