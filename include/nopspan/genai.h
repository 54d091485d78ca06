// SPDX-License-Identifier: Apache-2.0
/// @file
/// OpenTelemetry's GenAI conventions: these functions convert metadata to attributes, names, status, metrics and costs.
/// The spans of the llm, agent and engine catalogues have these attributes already (docs/genai.md), so nopspan itself
/// does not call these functions for spans. They are for programs that export:
///
/// - A handler that exports events takes the attributes from Event::attributes(). The functions that take an Event
///   return what the conventions have beside attributes: the name of the span, its exception, and its metrics.
/// - The functions that take `metadata` are for metadata that does not come from the catalogues, for example of a
///   client library that has its own telemetry. The results are the same. The rules are those of
///   ReqLLM.OpenTelemetry.Attributes (https://hexdocs.pm/req_llm).
///
/// @code
/// using nopspan::Value;
/// Value metadata = Value::map({{"model", Value::map({{"id", "gpt-5"}})}, {"provider", "openai"}});
/// Value attributes = nopspan::genai::start(metadata);       // gen_ai.request.model and others
/// std::string name = nopspan::genai::span_name("chat", "gpt-5");  // "chat gpt-5"
///
/// nopspan::genai::PriceTable prices;
/// std::string error;
/// if (!prices.parse(R"({"unit": "per_million_tokens", "models": {"gpt-5": {"input": 1.25, "output": 10}}})", error)) {
///   fprintf(stderr, "prices: %s\n", error.c_str());
/// }
/// nopspan::genai::set_prices(prices);
/// @endcode
///
/// `metadata` is a map with the keys below. A key may be missing or null. If a map is expected and the value is
/// something else, it is ignored.
///
/// | key | value |
/// | --- | --- |
/// | request_id, operation, provider | strings |
/// | model | a map of id, provider |
/// | mode | "stream" for a stream |
/// | finish_reason, http_status, error | how the request ended |
/// | request_options | a map of temperature, top_p, … |
/// | server | a map of address, port, path |
/// | reasoning | a map of requested_effort, … |
/// | usage | a map of counts (input, output, …, or input_tokens, …) and costs (input_cost, output_cost, …) |
/// | tokens in usage | optional: a map that has the counts instead |
/// | response_payload | a map of id, model, provider_meta |
/// | response_summary | a map of dimensions |
/// | streaming | a map of time_to_first_chunk |
///
/// All functions throw std::bad_alloc if there is no memory, and nothing else.
///
/// Thread safety: all functions may be called from any thread at any time. A PriceTable is an ordinary value.
#ifndef NOPSPAN_GENAI_H
#define NOPSPAN_GENAI_H

#include <nopspan/detail/config.h>
#include <nopspan/event.h>
#include <nopspan/genai_spans.h>
#include <nopspan/semconv.h>
#include <nopspan/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {
class Event;
}

/// OpenTelemetry's GenAI conventions.
namespace NOPSPAN_NAMESPACE::genai {

/// The attributes of a span at its start: a map.
NOPSPAN_API Value start(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// The attributes that the end of a span adds: a map.
NOPSPAN_API Value terminal(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// The attributes that an exception adds: a map, which always has error.type.
NOPSPAN_API Value exception(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// The attributes of the event `exception`: exception.type, and exception.message if there is one.
NOPSPAN_API Value exception_event(const Value& metadata) NOPSPAN_IN_SHELL(return {});

/// The value of error.type: the exception's type, else the error's name, else the HTTP status, else "_OTHER". With the
/// finish reason "error" it is not an HTTP status below 400. A text that is not the name of a type is not used, because
/// it may be a message; see Span::fail().
NOPSPAN_API std::string error_type(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// For an http_status from 400 on, a list of type and description ("503", "HTTP 503"); otherwise null.
NOPSPAN_API Value error_status(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// The conventions' name of the provider if they have one, otherwise the name in the metadata: a string, or null.
NOPSPAN_API Value provider_name(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// The model that was asked for: a string, which may be empty; or null.
NOPSPAN_API Value request_model(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// The time to the first chunk in seconds, a multiple of 1e-6; null if there was no stream, or no chunk.
NOPSPAN_API Value streaming_ttfc_seconds(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// The costs for input, output, reasoning and total that are known: a map; null if none is known.
NOPSPAN_API Value cost_breakdown(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// The address of `value`; a null pointer if it is null or an empty string.
NOPSPAN_API const Value* present(const Value& value) noexcept NOPSPAN_IN_SHELL(return {});

/// gen_ai.operation.name; "chat" if the metadata names no operation.
NOPSPAN_API std::string operation_name(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// gen_ai.output.type: a string, or null.
NOPSPAN_API Value output_type(const Value& metadata) NOPSPAN_IN_SHELL(return {});
/// The conventions' name of a span, "{operation} {model}"; the operation alone without a model. `operation` is as in
/// metadata; null means "chat".
NOPSPAN_API std::string span_name(Text operation, Text model) NOPSPAN_IN_SHELL(return {});
/// The status of a span, as a list: "ok", or "error" and a description.
NOPSPAN_API Value span_status(const Value& metadata) NOPSPAN_IN_SHELL(return {});

/// The conventions' name of the span that `event` belongs to: "chat gpt-5", "execute_tool search", "tools/call search".
/// The span's own name if it has no operation of the conventions, and the event's own name if that is not NAME.start,
/// NAME.stop or NAME.exception.
NOPSPAN_API std::string span_name(const Event& event) NOPSPAN_IN_SHELL(return {});
/// The attributes of the span event `exception`: exception.type, and exception.message, which is content. Null if no
/// exception ended the span.
NOPSPAN_API Value exception_event(const Event& event) NOPSPAN_IN_SHELL(return {});

namespace detail {
struct PriceAccess;
}

/// A value that one of the conventions' histograms records.
struct Metric {
  std::string_view name;       ///< of the histogram
  std::string_view unit;       ///< of the value
  Value value;                 ///< an integer for tokens, a double for seconds
  const double* boundaries;    ///< upper bounds of the buckets, in static storage
  std::size_t boundary_count;  ///< how many there are
  Value attributes;            ///< a map
};
/// The values that the end of a span records. If the duration is negative, it is unknown, and the list is empty.
NOPSPAN_API NOPSPAN_CONTAINER_ABI std::vector<Metric> metrics_stop(const Value& metadata, std::int64_t duration_ns)
    NOPSPAN_IN_SHELL(return {});
/// The values that the end of a span records if an exception ended it.
NOPSPAN_API NOPSPAN_CONTAINER_ABI std::vector<Metric> metrics_exception(const Value& metadata, std::int64_t duration_ns)
    NOPSPAN_IN_SHELL(return {});
/// The values that `event` records:
///
/// - The stop of a request to a model or another service (a span of kind client with an operation of the conventions):
///   those of metrics_stop(), or those of metrics_exception() if the request failed.
/// - The end of a tool, of the invocation of an agent or of a workflow, if the span is of kind internal: its duration,
///   and an agent's inference_calls and tool_calls.
/// - The end of an mcp.client or mcp.server: its duration.
///
/// The list is empty for all other events. A chat that has steps inside records its own values too, so an exporter may
/// want to leave out llm.chat or llm.step.
NOPSPAN_API NOPSPAN_CONTAINER_ABI std::vector<Metric> metrics(const Event& event) NOPSPAN_IN_SHELL(return {});

/// The prices of models.
class NOPSPAN_CONTAINER_ABI PriceTable {
 public:
  /// A table without models.
  PriceTable() noexcept = default;

  /// Replaces the table with the prices in `json`:
  ///
  ///     {"unit": "per_million_tokens", "models": {"gpt-5":
  ///         {"input": 1.25, "cached_input": 0.125, "output": 10.0, "reasoning": 10.0}}}
  ///
  /// "unit" may also be per_thousand_tokens or per_token. All prices are optional. Without cached_input or
  /// cache_creation, the price of input is used. Without a price of its own, reasoning is part of output.
  ///
  /// @return false if `json` is not in this form, for example if it has an unknown key, a key twice, or a price that is
  ///         negative or not a number. Then the table is unchanged, and `error` names the place. Always false if
  ///         nopspan was built with NOPSPAN_PRICES=OFF, and `error` says so.
  NOPSPAN_API bool parse(Text json, std::string& error)
      NOPSPAN_IN_SHELL(error = "nopspan is a shell here, without prices"; return false);

  /// A copy of `usage` (as in metadata) with input_cost, output_cost, reasoning_cost and total_cost added, as far as
  /// counts and prices are known.
  ///
  /// - Costs that `usage` already has are kept, and count in the total.
  /// - The total is added only if the costs of all counted tokens are known.
  /// - For an unknown model nothing is added, because the cost is unknown and not zero.
  /// - As in the conventions, input includes tokens that were read from and written to the cache, and output includes
  ///   reasoning. A part that is larger than the whole counts as the whole. A negative count is unknown.
  [[nodiscard]] NOPSPAN_API Value with_costs(const Value& usage, Text model) const NOPSPAN_IN_SHELL(return usage);

  /// Whether the table has no models.
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

/// Sets the prices that the catalogues' spans use from now on. If the model that was asked for, or the one that
/// responded, has a price, the end of a span carries gen_ai.usage.cost and langfuse.observation.cost_details. A table
/// that is replaced stays in memory, so call this seldom.
NOPSPAN_API void set_prices(const PriceTable& table) NOPSPAN_IN_SHELL();

}  // namespace NOPSPAN_NAMESPACE::genai

#endif  // NOPSPAN_GENAI_H
