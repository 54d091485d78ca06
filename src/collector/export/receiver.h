// SPDX-License-Identifier: Apache-2.0
// What an exporter sends entries to: an OTLP receiver on the network, or files.
#pragma once

#include "export/export_body.h"
#include "export/export_feed.h"
#include "export/held_events.h"
#include "export/receiver_account.h"
#include "model/entry.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// What another entry is in a request. If its span does not arrive, an event is a log record instead.
inline ItemCounts items_of(const Entry& entry) {
  ItemCounts items;
  ++(entry.kind == Kind::span ? items.spans : is_span_event(entry) ? items.span_events : items.logs);
  return items;
}

// Only account() may be called by another thread than that of the source.
class Receiver {
 public:
  virtual ~Receiver() = default;
  // The entry must be encodable.
  virtual void add(const Entry& entry) = 0;
  // Passes on what was added, at least once per second.
  virtual void on_tick(std::uint64_t now_unix_ns) = 0;
  // Takes the metrics of now.
  virtual void add_metrics(std::vector<ExportBody> bodies) = 0;
  // Ends at most after `time`.
  virtual void finish(std::chrono::nanoseconds time) = 0;
  // The user has the account.
  virtual void note_reported() {}

  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual ReceiverAccount& account() = 0;
  [[nodiscard]] virtual ExportFeed::Counts counts() const = 0;
};

}  // namespace nopspan::collector
