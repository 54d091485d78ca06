// SPDX-License-Identifier: Apache-2.0
// Tells the user that a filter matches nothing, for example because a request id or a tenant is mistyped.
#pragma once

#include "model/source.h"
#include "model/source_options.h"

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace nopspan::collector {

// Passes everything on to `sink`. If the source is live and nothing has matched for 5 s, writes so to stderr, once.
class MatchWatch : public Sink, private BatchSink {
 public:
  // Without `has_matched`, every entry that arrives has matched. `filter` is what the user asked for. `sink` must
  // outlive this object.
  MatchWatch(Sink& sink, Filter filter, std::string from, std::function<bool()> has_matched = nullptr)
      : sink_(sink), filter_(std::move(filter)), from_(std::move(from)), has_matched_(std::move(has_matched)) {}

  // A batch has entries of several requests.
  [[nodiscard]] BatchSink* batches() override {
    batches_ = filter_.request.empty() ? sink_.batches() : nullptr;
    return batches_ != nullptr ? this : nullptr;
  }
  void on_entry(const Entry& entry) override {
    has_entries_ = true;
    sink_.on_entry(entry);
  }
  void on_tick(std::uint64_t now_unix_ns) override;
  // The exit status of a command that has run to the end of its source: 1, with a message, if nothing in a recording
  // matches the filter.
  [[nodiscard]] int exit_status() const;

 private:
  [[nodiscard]] bool matches_nothing() const {
    return !filter_.empty() && !(has_matched_ ? has_matched_() : has_entries_);
  }

  void on_batch(const EntryBatch& batch) override {
    has_entries_ = true;
    batches_->on_batch(batch);
  }

  Sink& sink_;
  BatchSink* batches_ = nullptr;  // of the sink
  const Filter filter_;
  const std::string from_;  // the recording; empty if the source is live
  const std::function<bool()> has_matched_;
  bool has_entries_ = false, is_told_ = false;
  std::uint64_t began_unix_ns_ = 0;  // time of the first tick
};

}  // namespace nopspan::collector
