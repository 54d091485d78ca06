// SPDX-License-Identifier: Apache-2.0
// The attributes of an entry as they leave the host: the process's own, then the fields of the entry that these lack,
// under the names of the conventions. Fields that only a recording needs (sequence numbers, the word of flags) are left
// out.
#pragma once

#include "base/byte_buffer.h"
#include "model/entry.h"
#include "model/otlp_wire.h"
#include "model/service.h"

#include <nopspan/probes.h>
#include <nopspan/semconv.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The options for the content of an export.
struct ExportOptions {
  Semconv semconv = Semconv::v1_41;
  // Added to the attributes of each process, unless the process has an attribute of this name itself.
  NamesAndValues resource_attributes;
  bool logs = true;                            // without: log records are left out, also those of late events
  std::size_t step_links = 0;                  // links of a step: those to its first members
  std::uint64_t max_age_ns = 300'000'000'000;  // how long events wait for the end of their span
};

// The attributes that the export reads, or adds if they are missing.
inline constexpr auto kKnownKeys = std::to_array<std::string_view>({
    NOPSPAN_ATTRIBUTE_LINKS,
    semconv::gen_ai_operation_name,
    semconv::gen_ai_request_model,
    semconv::gen_ai_tool_name,
    semconv::gen_ai_agent_name,
    semconv::gen_ai_workflow_name,
    semconv::gen_ai_data_source_id,
    semconv::gen_ai_prompt_name,
    semconv::mcp_method_name,
    semconv::error_type,
    semconv::gen_ai_usage_input_tokens,
    semconv::gen_ai_usage_output_tokens,
    semconv::gen_ai_usage_cache_read_input_tokens,
    semconv::gen_ai_usage_reasoning_output_tokens,
    semconv::gen_ai_response_time_to_first_chunk,
    "nopspan.engine",
    "nopspan.tenant",
    semconv::extension::request_id,
    "nopspan.arrival_ns",
    "nopspan.queue_ns",
    "nopspan.prefill_ns",
    "nopspan.decode_ns",
    "nopspan.prefill_tokens",
    "nopspan.decode_tokens",
    "nopspan.preemptions",
    "nopspan.ttft_ns",
    "nopspan.time_to_first_token_ns",
    "nopspan.exception.kind",
    "nopspan.cancel.reason",
    "retry.attempt",
    "retry.delay_ms",
    "retry.reason",
    "thread.id",
    "nopspan.name",
    "nopspan.outcome",
    "nopspan.status",
    "nopspan.partial",
    "otel.scope.name",
    "otel.scope.version",
    "otel.scope.schema_url",
    "otel.status_code",
    "otel.status_description",
});
static_assert(kKnownKeys.size() < 64);

// One of them. Another key does not compile.
struct Known {
  consteval Known(std::string_view key) {
    while (kKnownKeys.at(number) != key) ++number;
  }
  consteval Known(const char* key) : Known(std::string_view(key)) {}
  [[nodiscard]] std::string_view text() const { return kKnownKeys[number]; }

  std::size_t number = 0;
};

class ExportedAttributes {
 public:
  explicit ExportedAttributes(Semconv semconv) : semconv_(semconv) {}

  // Reads the process's own attributes. The functions below refer to `entry` until the next call.
  void read(const Entry& entry);
  // How many attributes of the entry were dropped because no receiver would accept them.
  [[nodiscard]] std::uint32_t dropped() const { return dropped_; }
  // The value of the process's own attribute if it is a text, otherwise "".
  [[nodiscard]] std::string_view text(Known key) const { return text_of(key.number); }
  // What the process's own attributes say of the error that ended a span. Empty if it does not capture content.
  struct ErrorTexts {
    std::string_view message;
    std::string stacktrace;  // a line for each call
  };
  [[nodiscard]] ErrorTexts error_texts() const;
  // The attributes of which these texts have everything are not written, because they are in the event `exception`.
  void leave_out(const ErrorTexts& error);
  // What NOPSPAN_ATTRIBUTE_LINKS says of the links, which the export writes into them.
  [[nodiscard]] std::string_view link_states() const { return link_states_; }
  // The instrumentation scope of a span, if the process names one, and the status that it set itself. OTLP has fields
  // for these; attributes carry them where a format has none.
  struct Scope {
    std::string_view name, version, schema_url;
    auto operator<=>(const Scope&) const = default;
  };
  [[nodiscard]] Scope scope() const {
    return {text("otel.scope.name"), text("otel.scope.version"), text("otel.scope.schema_url")};
  }
  [[nodiscard]] std::string_view status_code() const { return text("otel.status_code"); }
  [[nodiscard]] std::string_view status_description() const { return text("otel.status_description"); }
  // "" if the span did not fail.
  [[nodiscard]] std::string_view error_type() const;
  // The name of a span in the GenAI conventions. The name that the process gave if the span is not one of theirs.
  [[nodiscard]] std::string_view span_name();

  // These append attributes as the field `field`.
  void write_own(ByteBuffer& out, unsigned field);
  // The facts of an event: its outcome, or those of a retry.
  void write_event_facts(ByteBuffer& out, unsigned field);
  // The name that the process gave.
  void write_name(ByteBuffer& out, unsigned field) { add_text(out, field, "nopspan.name", entry_->name); }
  // The facts of a span: its outcome, tokens, times, tool, and those of a step.
  void write_span_facts(ByteBuffer& out, unsigned field);
  // Labels and the thread. An event in a span does not repeat those of its span, but a log record does.
  void write_labels(ByteBuffer& out, unsigned field);

  // A text that is UTF-8: `text`, or a repaired copy. Repairs are counted. Valid until the next call of read().
  std::string_view valid_text(std::string_view text);
  [[nodiscard]] std::uint64_t repaired() const { return repaired_; }

 private:
  struct Own {
    std::string_view key_value;
    bool is_renamed;  // by the conventions that are written
  };

  void note(std::string_view key_value, const Attribute& attribute);
  [[nodiscard]] bool is_repeated(const Attribute& attribute) const;
  [[nodiscard]] bool is_in(const ErrorTexts& error, const Own& own) const;
  [[nodiscard]] bool has(Known key) const { return (present_ >> key.number & 1U) != 0; }
  [[nodiscard]] std::string_view text_of(std::size_t number) const {
    return (present_ >> number & 1U) != 0 ? texts_[number] : std::string_view();
  }
  void write_renamed(ByteBuffer& out, unsigned field, std::string_view key_value);
  void add_text(ByteBuffer& out, unsigned field, Known key, std::string_view text);
  void add_number(ByteBuffer& out, unsigned field, Known key, std::uint64_t value);
  void write_outcome(ByteBuffer& out, unsigned field);
  void write_step(ByteBuffer& out, unsigned field) const;
  void write_thread(ByteBuffer& out, unsigned field);

  Semconv semconv_;
  const Entry* entry_ = nullptr;
  std::uint64_t present_ = 0, repaired_ = 0;
  std::uint32_t dropped_ = 0;
  bool is_unchanged_ = true;  // the process's own attributes can be copied as they are
  std::vector<Own> own_;
  std::array<std::string_view, kKnownKeys.size()> texts_;  // of those that are present
  std::deque<std::string> kept_;                           // repaired texts
  std::string_view link_states_;
  std::string name_;
  std::uint32_t thread_ = 0;  // for which `thread_attribute_` is, in `thread_field_`
  unsigned thread_field_ = 0;
  ByteBuffer thread_attribute_;
};

// Returns a KeyValue with U+FFFD for the bytes of its texts that are not UTF-8. "" if it would be refused for another
// reason too.
std::string repaired_attribute(std::string_view key_value);

// A process as an OTLP Resource.

// Encodes a Resource. What the process declares (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) replaces what nopspan
// knows of it. A text that is not UTF-8 is repaired, and counted in `repaired`.
std::string exported_resource(const Process& process, const ExportOptions& options, std::uint64_t& repaired);

// The uid of a Kubernetes pod from the path of a cgroup, as the API shows it. "" if the cgroup is not of a pod.
std::string pod_uid(std::string_view cgroup);

}  // namespace nopspan::collector
