// SPDX-License-Identifier: Apache-2.0
// Encodes entries as the OTLP requests that leave the host. docs/export.md describes the mapping of each field.
#pragma once

#include "base/byte_buffer.h"
#include "export/export_body.h"
#include "export/exported_attributes.h"
#include "export/held_events.h"
#include "model/entry.h"
#include "model/otlp_wire.h"
#include "model/steps.h"

#include <nopspan/probes.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Remembers to which traces spans belong. The members of a step are span ids, and a link needs the trace id too.
class RequestTraces {
 public:
  // Remembers the trace of an entry's span and of the spans around it. A request's own span ends last, but its phases
  // end before, and name it as their parent.
  void add(const Entry& entry) {
    if (entry.trace_id.empty() || entry.step != nullptr) return;
    for (const std::uint64_t id : {entry.span_id, entry.parent_id, entry.root_id}) {
      if (id != 0) recent_[id] = entry.trace_id;
    }
    if (recent_.size() >= kMost) older_ = std::exchange(recent_, {});
  }
  // Returns the empty id if the member is no span, or one that is not known, or not any longer.
  [[nodiscard]] TraceId trace_of(const nopspan_member& member) const {
    if (named_by(member) != NamedBy::span) return {};
    for (const auto* traces : {&recent_, &older_}) {
      if (const auto found = traces->find(member.request); found != traces->end()) return found->second;
    }
    return {};
  }

 private:
  static constexpr std::size_t kMost = 65'536;  // of each map
  std::unordered_map<std::uint64_t, TraceId> recent_, older_;
};

// Writes messages whose lengths, which precede them, are known only afterwards. Most messages of one kind have lengths
// of the same size, so the size of the last one is reserved.
class MessageFrame {
 public:
  explicit MessageFrame(unsigned field) : tag_(static_cast<char>(field << 3U | 2U)) {}  // `field` is at most 15

  // Returns where the message begins, for end().
  std::size_t begin(ByteBuffer& out) const {
    const std::size_t begin = out.size();
    out.extend(1 + length_bytes_);
    return begin;
  }
  void end(ByteBuffer& out, std::size_t begin) {
    const std::size_t bytes = out.size() - begin - 1 - length_bytes_;
    if (const std::size_t needed = varint_bytes(bytes); needed != length_bytes_) {
      if (needed > length_bytes_) out.extend(needed - length_bytes_);
      std::memmove(out.at(begin + 1 + needed), out.at(begin + 1 + length_bytes_), bytes);
      length_bytes_ = needed;
      out.shrink(begin + 1 + needed + bytes);
    }
    *out.at(begin) = tag_;
    put_varint(out.at(begin + 1), bytes);
  }

 private:
  char tag_;
  std::size_t length_bytes_ = 1;
};

// Collects spans, or log records, and encodes them as one request. Each process is a resource. The scope is the one
// that a span names, otherwise nopspan with the version of the process's library.
class ExportEncoder {
 public:
  // `signal` is traces or logs.
  ExportEncoder(Signal signal, const ExportOptions& options);

  // Whether OTLP can represent the entry. A span must have an id and a trace.
  static bool is_encodable(const Entry& entry) {
    return entry.kind != Kind::span || (!entry.trace_id.empty() && entry.span_id != 0);
  }
  // Adds a span with its events, or an event or retry as a log record. The entry must be encodable.
  void add(const Entry& entry, std::span<const HeldEvent> events = {});
  // Adds an event whose span did not arrive, as a log record.
  void add(const HeldEvent& event);
  // Links of steps need the traces of requests: call this for all entries.
  void note_trace(const Entry& entry) {
    if (options_.step_links > 0) traces_.add(entry);
  }
  // The time at which log records are observed.
  void set_now(std::uint64_t now_unix_ns) { now_unix_ns_ = now_unix_ns; }

  [[nodiscard]] const ItemCounts& items() const { return items_; }
  // An estimate of the body's size.
  [[nodiscard]] std::size_t bytes() const { return buffer_.size() + head_bytes_; }
  // Returns the request, and begins a new one.
  ExportBody finish();

  // Since the beginning:
  [[nodiscard]] std::uint64_t made_events() const { return made_events_; }
  [[nodiscard]] std::uint64_t repaired_texts() const { return attributes_.repaired() + repaired_; }
  [[nodiscard]] std::uint64_t dropped_attributes() const { return dropped_attributes_; }

 private:
  using Scope = ExportedAttributes::Scope;
  using ShareKey = std::pair<const Process*, Scope>;

  struct Share {
    ProcessPointer process;
    std::array<std::string, 3> names;  // the texts of its scope
    ShareKey key;
    std::string resource, scope;  // encoded, with their tags and schema_url
    std::size_t bytes = 0;        // of the items
  };
  struct Run {
    std::uint32_t share;
    std::size_t begin, end;
  };

  std::size_t begin_item(const ProcessPointer& process, const Scope& scope);
  void end_item(std::size_t begin);
  void write_span(const Entry& entry, std::span<const HeldEvent> events);
  void write_links(const Entry& entry);
  // Whether the exporter writes the error of the span, as its status and an event.
  [[nodiscard]] bool has_failure(const Entry& entry) const;
  void write_failure(const Entry& entry, const ExportedAttributes::ErrorTexts& error,
                     std::span<const HeldEvent> events);
  void write_made_event(std::uint64_t unix_ns, std::string_view name, std::string_view attributes,
                        std::span<const HeldEvent> events);
  void write_log(const Entry& entry);
  void write_log_context(const TraceId& trace_id, std::uint64_t span_id, std::uint32_t flags, std::uint64_t unix_ns);
  void write_severity(std::string_view name, bool is_retry);
  void write_status(const Entry& entry);  // that the program set itself
  std::uint32_t share_of(const ProcessPointer& process, const Scope& scope);

  const Signal signal_;
  const ExportOptions options_;
  ExportedAttributes attributes_;
  RequestTraces traces_;
  ItemCounts items_;
  ByteBuffer buffer_;
  MessageFrame frame_{2};     // spans and log_records have the same number
  std::deque<Share> shares_;  // the keys point into them
  std::map<ShareKey, std::uint32_t> share_numbers_;
  std::vector<Run> runs_;
  std::size_t head_bytes_ = 0;
  std::uint64_t now_unix_ns_ = 0, repaired_ = 0, dropped_attributes_ = 0, made_events_ = 0;
};

}  // namespace nopspan::collector
