// SPDX-License-Identifier: Apache-2.0
// OpenTelemetry's GenAI conventions: from metadata to attributes, names, status and metrics. Spans of the llm, agent
// and engine catalogues carry these attributes by themselves (docs/genai.md); the functions here are for metadata that
// comes from elsewhere, and give the same.
//
// The rules are ReqLLM.OpenTelemetry.Attributes' (https://hexdocs.pm/req_llm). `metadata` is a map:
//   request_id, operation, provider, model {id, provider}, mode ("stream"), finish_reason, http_status, error,
//   request_options {temperature, top_p, …}, server {address, port, path}, reasoning {requested_effort, …},
//   usage {tokens {input, output, …}} or usage {input_tokens, …}, with input_cost, output_cost, …,
//   response_payload {id, model, provider_meta}, response_summary {dimensions}, streaming {time_to_first_chunk}.
// What is missing, null, or no map where a map is read is left out. All functions are thread-safe, and throw only
// std::bad_alloc.
#ifndef NOPSPAN_GENAI_H
#define NOPSPAN_GENAI_H

#include <nopspan/config.h>
#include <nopspan/genai_events.h>
#include <nopspan/semconv.h>
#include <nopspan/text.h>
#include <nopspan/value.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::genai {

// The attributes of a span, as a map: at its start; what its end adds; what an exception adds (error.type, always).
NOPSPAN_API Value start(const Value& metadata);
NOPSPAN_API Value terminal(const Value& metadata);
NOPSPAN_API Value exception(const Value& metadata);
// The attributes of the event `exception`: exception.type, and exception.message where there is one.
NOPSPAN_API Value exception_event(const Value& metadata);

// The exception's type, the error's name, the HTTP status, or "_OTHER".
NOPSPAN_API std::string error_type(const Value& metadata);
// A list of type and description ("503", "HTTP 503") for an http_status from 400 on; otherwise null.
NOPSPAN_API Value error_status(const Value& metadata);
// A string, or null. The conventions' name of the provider, where they have one.
NOPSPAN_API Value provider_name(const Value& metadata);
// A string (which may be empty), or null.
NOPSPAN_API Value request_model(const Value& metadata);
// Seconds, a multiple of 1e-6; null if it was no stream, or had no chunk.
NOPSPAN_API Value streaming_ttfc_seconds(const Value& metadata);
// A map of input, output, reasoning and total, as far as they are known; null if none is.
NOPSPAN_API Value cost_breakdown(const Value& metadata);
// `value` itself; null (the pointer) for null and for the empty string.
NOPSPAN_API const Value* present(const Value& value) noexcept;

// gen_ai.operation.name: "chat", if the metadata names no operation.
NOPSPAN_API std::string operation_name(const Value& metadata);
// gen_ai.output.type: a string, or null.
NOPSPAN_API Value output_type(const Value& metadata);
// "{operation} {model}"; the operation alone without a model. `operation` as in metadata; null is "chat".
NOPSPAN_API std::string span_name(Text operation, Text model);
// A list: "ok", or "error" and a description.
NOPSPAN_API Value span_status(const Value& metadata);

namespace detail {
struct PriceAccess;
}

// A value that a histogram of the conventions takes.
struct Metric {
  std::string_view name;
  std::string_view unit;
  Value value;  // an integer for tokens, a double for seconds
  const double* boundaries;
  std::size_t boundary_count;
  Value attributes;  // a map
};
// What the end of a span, or its exception, records. A negative duration is "unknown": nothing.
NOPSPAN_API std::vector<Metric> metrics_stop(const Value& metadata, std::int64_t duration_ns);
NOPSPAN_API std::vector<Metric> metrics_exception(const Value& metadata, std::int64_t duration_ns);

// What models cost, as data.
class PriceTable {
 public:
  PriceTable() noexcept = default;

  // Reads JSON: {"unit": "per_million_tokens", "models": {"gpt-5": {"input": 1.25, "cached_input": 0.125,
  // "output": 10.0, "reasoning": 10.0}}}. "unit" may also be per_thousand_tokens or per_token. All prices are optional:
  // cached_input and cache_creation fall back to input, and reasoning is part of output unless it has a price of its
  // own. False, and a message that names the place in `error`, for anything else: unknown keys, a key twice, prices
  // that are negative or no numbers. The table then stays what it was.
  NOPSPAN_API bool parse(Text json, std::string& error);

  // `usage` (as in metadata) with input_cost, output_cost, reasoning_cost and total_cost added, as far as counts and
  // prices are known. Costs that it already has stay, and count in the total, which needs the cost of everything that
  // was counted. For an unknown model nothing is added: no cost, never zero.
  //
  // As in the conventions, the input includes what was read from and written to the cache, and the output the
  // reasoning: where a part is larger than the whole, it counts as the whole. A negative count is unknown.
  [[nodiscard]] NOPSPAN_API Value with_costs(const Value& usage, Text model) const;

  [[nodiscard]] bool empty() const noexcept { return models_.empty(); }

 private:
  friend struct detail::PriceAccess;
  struct Price {
    std::string model;
    double input = -1, cached_input = -1, cache_creation = -1, output = -1, reasoning = -1;  // of one token; -1: none
  };
  [[nodiscard]] const Price* find(std::string_view model) const noexcept;

  std::vector<Price> models_;  // by name
};

// What spans of the catalogues cost from now on: their ends carry gen_ai.usage.cost and
// langfuse.observation.cost_details where the model, or the one that answered, has a price. A table that is replaced
// stays in memory: set few. Thread-safe.
NOPSPAN_API void set_prices(const PriceTable& table);

}  // namespace nopspan::genai

#endif  // NOPSPAN_GENAI_H
