// SPDX-License-Identifier: Apache-2.0
#include "export/export_bodies.h"

#include <nopspan/probes.h>

#include <string_view>

namespace nopspan::collector {
namespace {

// An estimate, rather too high: of what an item has beside its texts, links and events, with a new resource.
constexpr std::size_t kFixedParts = 12'000;

std::size_t estimated_bytes(const Entry& entry, std::size_t step_links) {
  constexpr std::size_t kLinkBytes = 40, kRepaired = 3;                    // U+FFFD has three bytes
  std::size_t texts = entry.attributes.size() * (entry.failed() ? 3 : 1);  // also in its status and an event
  for (const std::string_view text : {entry.name, entry.engine, entry.model, entry.tenant, entry.exception_kind,
                                      entry.error_type, entry.foreign_id, entry.tracestate, entry.text}) {
    texts += text.size();
  }
  const std::size_t links = entry.links.size() / sizeof(nopspan_link) + (entry.step == nullptr ? 0 : step_links);
  return kFixedParts + kRepaired * texts + kLinkBytes * links;
}

}  // namespace

ExportBodies::ExportBodies(const ExportOptions& options, OnBody on_body)
    : on_body_(std::move(on_body)),
      step_links_(options.step_links),
      traces_(Signal::traces, options),
      logs_(Signal::logs, options),
      held_(options, [this](const HeldEvent& event) {
        make_room(logs_, event.bytes());
        logs_.add(event);
        ++counts_.late_events;
      }) {}

void ExportBodies::flush(ExportEncoder& encoder) {
  if (encoder.items().total() > 0) on_body_(encoder.finish());
}

void ExportBodies::make_room(ExportEncoder& encoder, std::size_t bytes) {
  if (encoder.bytes() + bytes > kMostBytes) flush(encoder);
}

void ExportBodies::add_span(const Entry& entry) {
  const std::vector<HeldEvent> events = held_.take(entry);
  std::size_t bytes = estimated_bytes(entry, step_links_);
  for (const HeldEvent& event : events) bytes += event.bytes();
  make_room(traces_, bytes);
  traces_.add(entry, events);
}

void ExportBodies::add(const Entry& entry) {
  traces_.note_trace(entry);
  if (is_measured(entry)) {
    ++counts_.measured;
  } else if (entry.kind == Kind::span) {
    add_span(entry);
  } else if (is_span_event(entry)) {
    held_.add(entry);
  } else {
    make_room(logs_, estimated_bytes(entry, step_links_));
    logs_.add(entry);
  }
}

void ExportBodies::on_tick(std::uint64_t now_unix_ns, std::chrono::nanoseconds longest_wait) {
  logs_.set_now(now_unix_ns);
  held_.on_tick(now_unix_ns, longest_wait);
}

void ExportBodies::flush() {
  flush(traces_);
  flush(logs_);
}

void ExportBodies::finish() {
  held_.finish();
  flush();
}

ItemCounts ExportBodies::waiting() const {
  ItemCounts items = traces_.items();
  items += logs_.items();
  items.span_events += held_.events();
  return items;
}

ExportBodies::Counts ExportBodies::counts() const {
  Counts counts = counts_;
  counts.made_events = traces_.made_events();
  counts.repaired_texts = traces_.repaired_texts() + logs_.repaired_texts() + held_.repaired_texts();
  counts.dropped_attributes = traces_.dropped_attributes() + logs_.dropped_attributes() + held_.dropped_attributes();
  return counts;
}

}  // namespace nopspan::collector
