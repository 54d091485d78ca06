// SPDX-License-Identifier: Apache-2.0
// The metrics of OpenTelemetry's GenAI and MCP conventions.
#pragma once

#include "facts/engine_facts.h"
#include "metric/metric_registry.h"
#include "model/entry.h"

#include <nopspan/semconv.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace nopspan::collector {

// The attributes of a span that metrics need. Texts are views of the entry's.
class GenAiSpan {
 public:
  enum Text : std::uint8_t {
    operation,
    provider,
    request_model,
    response_model,
    server_address,
    server_port,
    tool_name,
    tool_type,
    agent_name,
    workflow_name,
    prompt_name,
    mcp_method,
    transport,
    rpc_status,
    text_count
  };
  enum Number : std::uint8_t {
    first_chunk_s,  // gen_ai.response.time_to_first_chunk
    first_token_s,  // gen_ai.latency.time_to_first_token
    inference_calls,
    tool_calls,
    number_count
  };

  // False if the span is not an operation of the conventions. Then there are no texts and numbers.
  bool read(const Entry& entry);

  [[nodiscard]] std::string_view text(Text which) const { return texts_[which]; }
  // Negative if the span does not have it.
  [[nodiscard]] double number(Number which) const { return numbers_[which]; }

 private:
  std::array<std::string_view, text_count> texts_;
  std::array<double, number_count> numbers_{};
  std::array<NumberText, text_count> written_{};  // numbers as texts
};

class GenAiMetrics {
 public:
  GenAiMetrics(MetricRegistry& registry, Semconv semconv);
  // Must be called with each span.
  void add(MetricWriter& writer, const Entry& span, const Exemplar* exemplar);

 private:
  using Id = std::pair<std::uint64_t, std::uint64_t>;  // process, span
  struct IdHash {
    std::size_t operator()(const Id& id) const { return std::hash<std::uint64_t>()(id.first * 31 + id.second); }
  };

  // Whether a request to a model is inside the span, in the same process.
  bool take_outer(const Entry& span);
  void add_outer(const Entry& inside);
  void add_client(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar, bool has_request_inside);
  void add_server(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar);
  void add_internal(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar);

  MetricFamily& token_usage_;
  MetricFamily& client_duration_;
  MetricFamily& first_chunk_;
  MetricFamily& per_chunk_;
  MetricFamily& server_duration_;
  MetricFamily& first_token_;
  MetricFamily& per_token_;
  MetricFamily& mcp_client_;
  MetricFamily& mcp_server_;
  // Null unless the conventions are the next ones.
  MetricFamily* execute_tool_ = nullptr;
  MetricFamily* invoke_agent_ = nullptr;
  MetricFamily* invoke_workflow_ = nullptr;
  MetricFamily* inference_calls_ = nullptr;
  MetricFamily* tool_calls_ = nullptr;
  GenAiSpan span_;  // the current span; it keeps its memory
  Gaps gaps_;
  // Spans that have not ended and have a request to a model inside. A chat of several steps is a request too, but only
  // its steps count. Spans arrive in the order in which they end, so those inside come first. If one arrives later,
  // because it ended on another thread, both count.
  std::unordered_set<Id, IdHash> outer_;
  std::deque<Id> outer_order_;
};

}  // namespace nopspan::collector
