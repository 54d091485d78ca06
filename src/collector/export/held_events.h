// SPDX-License-Identifier: Apache-2.0
// Point events and retries that wait for their span. OTLP has them inside the span, but a process reports them first.
#pragma once

#include "export/exported_attributes.h"
#include "model/entry.h"

#include <nopspan/probes.h>
#include <nopspan/semconv.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace nopspan::collector {

// The events that the conventions define as log records.
struct Severity {
  unsigned number;  // opentelemetry.proto.logs.v1.SeverityNumber
  std::string_view text;
};
inline constexpr Severity kDebug{5, "DEBUG"}, kInfo{9, "INFO"}, kWarn{13, "WARN"};

struct LogEvent {
  std::string_view name;
  Severity severity;
};
inline constexpr LogEvent kLogEvents[] = {
    {semconv::event::client_inference_operation_details, kDebug},
    {semconv::event::evaluation_result, kInfo},
    {semconv::event::client_operation_exception, kWarn},
};

// Null if it is not one of these events.
inline const LogEvent* log_event(std::string_view name) {
  for (const LogEvent& event : kLogEvents) {
    if (event.name == name) return &event;
  }
  return nullptr;
}

// Whether the entry is an event that belongs into its span. All other events are log records: those without a span, and
// those that the conventions define as log records.
bool is_span_event(const Entry& entry);

// The flags of W3C.
inline std::uint32_t trace_flags(std::uint32_t entry_flags) {
  return ((entry_flags & NOPSPAN_FLAG_SAMPLED) != 0 ? 1U : 0U) | ((entry_flags & NOPSPAN_FLAG_RANDOM) != 0 ? 2U : 0U);
}

// An event of a span, encoded.
struct HeldEvent {
  TraceId trace_id;
  std::uint64_t span_id = 0;
  ProcessPointer process;
  std::uint32_t trace_flags = 0;
  bool is_retry = false;
  std::string event;   // the message Span.Event
  std::string labels;  // attributes that its span has too, as fields of a LogRecord

  [[nodiscard]] std::size_t bytes() const { return sizeof(HeldEvent) + event.size() + labels.size(); }
};

// The events that wait. They are bounded in bytes and by age. An event whose span does not arrive is passed to the
// function that receives log records.
class HeldEvents {
 public:
  using OnLog = std::function<void(const HeldEvent&)>;
  static constexpr std::size_t kMostBytes = std::size_t{16} << 20U;
  // As in OpenTelemetry's SDKs. Further events of a span are log records.
  static constexpr std::size_t kMostOfSpan = 128, kMostBytesOfSpan = std::size_t{256} << 10U;

  HeldEvents(const ExportOptions& options, OnLog on_log, std::size_t most_bytes = kMostBytes)
      : attributes_(options.semconv),
        max_age_ns_(options.max_age_ns),
        most_bytes_(most_bytes),
        on_log_(std::move(on_log)) {}

  // The entry is an event for which is_span_event() is true.
  void add(const Entry& entry);
  // Returns the events of the span, and forgets them.
  std::vector<HeldEvent> take(const Entry& span);
  // Passes on the events that have waited too long: for max_age_ns of the options by the source's clock, which may be
  // set back and stands still while a recording's writer is silent, or for `longest_wait` by this program's clock.
  void on_tick(std::uint64_t now_unix_ns, std::chrono::nanoseconds longest_wait = std::chrono::nanoseconds::max());
  // Passes on all events.
  void finish();

  [[nodiscard]] std::size_t events() const { return events_; }
  [[nodiscard]] std::uint64_t repaired_texts() const { return attributes_.repaired(); }
  [[nodiscard]] std::uint64_t dropped_attributes() const { return dropped_attributes_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Group {  // the events of one span
    std::uint64_t span_id, since_unix_ns;
    Clock::time_point since;
    ProcessPointer process;
    std::vector<HeldEvent> events;
    std::size_t bytes = 0;
  };
  using Groups = std::list<Group>;

  // A span id, and what identifies its process (is_same_process()). Hostile processes could choose ids that make many
  // hashes equal.
  using Key = std::tuple<std::uint64_t, std::uint32_t, std::uint64_t, std::string_view>;
  static Key key_of(const Process& process, std::uint64_t span_id) {
    return {span_id, process.pid, process.start_ticks, process.host};
  }
  Groups::iterator find(const Entry& entry);
  std::vector<HeldEvent> remove(Groups::iterator group);
  void pass_on_oldest();
  HeldEvent encoded(const Entry& entry);

  ExportedAttributes attributes_;
  const std::uint64_t max_age_ns_;
  const std::size_t most_bytes_;
  const OnLog on_log_;
  Groups groups_;                            // the oldest first
  std::map<Key, Groups::iterator> by_span_;  // its views are of the groups' processes
  std::size_t bytes_ = 0, events_ = 0;
  std::uint64_t now_unix_ns_ = 0, dropped_attributes_ = 0;
  Clock::time_point now_ = Clock::now();  // of the last tick
  ByteBuffer buffer_;
};

}  // namespace nopspan::collector
