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
    inference_s,    // gen_ai.latency.time_in_model_inference
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

// Finds requests to models that have another one inside, in the same process. A chat of several steps is one, and its
// steps are the requests. Spans arrive in the order in which they end, so those inside come first. If one arrives
// later, because it ended on another thread, both count.
class OuterRequests {
 public:
  // Must be called with each span. Returns whether there is a request inside.
  bool take(const Entry& span);
  // For a request.
  void add_inner(const Entry& inside);

 private:
  static constexpr std::size_t kMost = 65536;
  using Id = std::pair<std::uint64_t, std::uint64_t>;  // process, span
  struct IdHash {
    std::size_t operator()(const Id& id) const { return std::hash<std::uint64_t>()(id.first * 31 + id.second); }
  };

  std::unordered_set<Id, IdHash> outer_;  // spans that have not ended
  std::deque<Id> order_;
};

class GenAiMetrics {
 public:
  GenAiMetrics(MetricRegistry& registry, Semconv semconv);
  // Must be called with each span, also those of which add() is not called afterwards.
  void note(const Entry& span) { has_request_inside_ = outer_.take(span); }
  void add(MetricWriter& writer, const Entry& entry, const GenAiSpan& span, const Exemplar* exemplar);

 private:
  void add_client(MetricWriter& writer, const Entry& entry, const GenAiSpan& span, const Exemplar* exemplar);
  void add_server(MetricWriter& writer, const Entry& entry, const GenAiSpan& span, const Exemplar* exemplar);
  void add_internal(MetricWriter& writer, const Entry& entry, const GenAiSpan& span, const Exemplar* exemplar);

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
  OuterRequests outer_;
  bool has_request_inside_ = false;
  Gaps gaps_;
};

}  // namespace nopspan::collector
