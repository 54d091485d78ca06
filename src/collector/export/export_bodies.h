// SPDX-License-Identifier: Apache-2.0
// Makes request bodies of entries: spans with their events, and log records.
#pragma once

#include "export/export_body.h"
#include "export/export_encoder.h"
#include "export/held_events.h"
#include "export/receiver_account.h"
#include "model/entry.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Entries that have no item of their own in OTLP: gauges, and parts of steps. Metrics report them.
inline bool is_measured(const Entry& entry) { return entry.kind == Kind::gauge || entry.kind == Kind::part; }

class ExportBodies {
 public:
  using OnBody = std::function<void(ExportBody)>;
  // Limit for a body. A body of only one item may exceed it.
  static constexpr std::size_t kMostBytes = 1'000'000;

  struct Counts {
    std::uint64_t measured = 0;     // gauges and parts of steps: metrics report them
    std::uint64_t late_events = 0;  // log records of events whose span did not arrive in time
    std::uint64_t made_events = 0;  // of spans: the exception and the first token
    std::uint64_t repaired_texts = 0, dropped_attributes = 0;
  };

  ExportBodies(const ExportOptions& options, OnBody on_body);

  // The entry must be encodable.
  void add(const Entry& entry);
  // Events that have waited for their span for `longest_wait` become log records (HeldEvents::on_tick()).
  void on_tick(std::uint64_t now_unix_ns, std::chrono::nanoseconds longest_wait = std::chrono::nanoseconds::max());
  // Passes on what is encoded so far.
  void flush();
  // Passes on everything, also the events that wait for their span.
  void finish();

  [[nodiscard]] Counts counts() const;
  // The items that were added and not passed on yet.
  [[nodiscard]] ItemCounts waiting() const;

 private:
  void add_span(const Entry& entry);
  void make_room(ExportEncoder& encoder, std::size_t bytes);
  void flush(ExportEncoder& encoder);

  OnBody on_body_;
  const std::size_t step_links_;
  ExportEncoder traces_, logs_;
  HeldEvents held_;
  Counts counts_;
};

// What an exporter sends entries to: an OTLP receiver on the network, or files.

// What another entry is in a request. If its span does not arrive, an event is a log record instead.
inline ItemCounts items_of(const Entry& entry) {
  ItemCounts items;
  ++(entry.kind == Kind::span ? items.spans : is_span_event(entry) ? items.span_events : items.logs);
  return items;
}

// Only account() may be called by another thread than that of the source.
class Receiver {
 public:
  // `on_body` takes the requests.
  Receiver(std::string name, const ExportOptions& options, ExportBodies::OnBody on_body)
      : bodies_(options, std::move(on_body)), name_(std::move(name)) {}
  virtual ~Receiver() = default;
  // The entry must be encodable.
  virtual void add(const Entry& entry) { bodies_.add(entry); }
  // Passes on what was added, at least once per second.
  virtual void on_tick(std::uint64_t now_unix_ns) = 0;
  // Takes the metrics of now.
  virtual void add_metrics(std::vector<ExportBody> bodies) = 0;
  // Ends at most after `time`.
  virtual void finish(std::chrono::nanoseconds time) = 0;
  // The user has the account.
  virtual void note_reported() {}

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] ReceiverAccount& account() { return account_; }
  [[nodiscard]] ExportBodies::Counts counts() const { return bodies_.counts(); }

 protected:
  ReceiverAccount account_;
  ExportBodies bodies_;

 private:
  const std::string name_;
};

}  // namespace nopspan::collector
