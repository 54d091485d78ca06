// SPDX-License-Identifier: Apache-2.0
// The attributes of an entry as they leave the host: the process's own, then the fields of the entry that these lack,
// under the names of the conventions. Fields that only a recording needs (sequence numbers, the word of flags) are left
// out.
#pragma once

#include "base/byte_buffer.h"
#include "model/entry.h"
#include "model/otlp_wire.h"
#include "model/service.h"

#include <nopspan/semconv.h>

#include <array>
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
  bool traces = true;                          // without: spans are left out
  bool logs = true;                            // without: log records are left out, also those of late events
  std::size_t step_links = 0;                  // links of a step: those to its first members
  std::uint64_t max_age_ns = 300'000'000'000;  // how long events wait for the end of their span
};

// The attributes that the export reads, or adds if they are missing.
enum class Known : std::uint8_t {
  operation,
  request_model,
  tool_name,
  agent_name,
  workflow_name,
  data_source,
  prompt_name,
  mcp_method,
  error_type,
  input_tokens,
  output_tokens,
  cached_tokens,
  reasoning_tokens,
  cache_creation_tokens,
  reasoning_effort,
  top_k,
  first_chunk,
  engine,
  tenant,
  request_id,
  arrival_ns,
  queue_ns,
  prefill_ns,
  decode_ns,
  prefill_tokens,
  decode_tokens,
  preemptions,
  ttft_ns,
  time_to_first_token_ns,
  exception_kind,
  cancel_reason,
  error_message,
  retry_attempt,
  retry_delay,
  retry_reason,
  thread_id,
  name,
  outcome,
  status,
  partial,
  count
};
inline constexpr auto kKnown = static_cast<std::size_t>(Known::count);

class ExportedAttributes {
 public:
  explicit ExportedAttributes(Semconv semconv) : semconv_(semconv) {}

  // Reads the process's own attributes. The functions below refer to `entry` until the next call.
  void read(const Entry& entry);
  // How many attributes of the entry were dropped because no receiver would accept them.
  [[nodiscard]] std::uint32_t dropped() const { return dropped_; }
  // The value of the process's own attribute if it is a text, otherwise "".
  [[nodiscard]] std::string_view text(Known key) const {
    return has(key) ? texts_[static_cast<std::size_t>(key)] : std::string_view();
  }
  // The name of a span in the GenAI conventions. The name that the process gave if the span is not one of theirs.
  [[nodiscard]] std::string_view span_name();

  // These append attributes as the field `field`.
  void write_own(ByteBuffer& out, unsigned field);
  // The facts of an event: its outcome, or those of a retry.
  void write_event_facts(ByteBuffer& out, unsigned field);
  // The name that the process gave.
  void write_name(ByteBuffer& out, unsigned field) { add_text(out, field, Known::name, entry_->name); }
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
    Known key;
  };

  void note(std::string_view key_value, const Attribute& attribute);
  [[nodiscard]] bool has(Known key) const { return (present_ >> static_cast<unsigned>(key) & 1U) != 0; }
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
  std::array<std::string_view, kKnown> texts_;  // of those that are present
  std::deque<std::string> kept_;                // repaired texts
  std::string name_;
  std::uint32_t thread_ = 0;  // for which `thread_attribute_` is, in `thread_field_`
  unsigned thread_field_ = 0;
  ByteBuffer thread_attribute_;
};
static_assert(kKnown <= 64);

// Returns a KeyValue with U+FFFD for the bytes of its texts that are not UTF-8. "" if it would be refused for another
// reason too.
std::string repaired_attribute(std::string_view key_value);

// A process as an OTLP Resource.

// Encodes a Resource. The process may name its service and add attributes (OTEL_SERVICE_NAME,
// OTEL_RESOURCE_ATTRIBUTES), but does not replace what nopspan knows of it. A text that is not UTF-8 is repaired, and
// counted in `repaired`.
std::string exported_resource(const Process& process, const ExportOptions& options, std::uint64_t& repaired);

// The value of service.instance.id, in the form of a UUID: the same for all entries of one process, and for no other
// process.
std::string service_instance_id(const Process& process);

// The uid of a Kubernetes pod from the path of a cgroup, as the API shows it. "" if the cgroup is not of a pod.
std::string pod_uid(std::string_view cgroup);

}  // namespace nopspan::collector
