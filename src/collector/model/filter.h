// SPDX-License-Identifier: Apache-2.0
// The requests that a command wants, and the options of its source. Kernel programs decide as much as they can. The
// rest is decided when a trace is complete.
#pragma once

#include "model/entry.h"
#include "model/ledger.h"
#include "model/source.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

struct Filter {
  struct Condition {
    std::string key, value;
  };
  static constexpr std::size_t kMostConditions = 16;

  std::string request;               // an id in any of its forms
  std::string name;                  // traces that have a span of this name
  std::string model;                 // traces that have a span of this model
  std::string tenant;                // traces that have a span of this tenant
  std::vector<Condition> where;      // traces that have spans with these labels and attributes
  std::vector<std::uint32_t> pids;   // processes, by the collector's pid namespace; empty: all
  std::string cgroup;                // a path under /sys/fs/cgroup, or the beginning of a container's id
  std::uint64_t slower_than_ns = 0;  // traces with a root span that took at least this long
  bool errors = false;               // traces with an error or exception
  std::string error_type;            // traces with an error or exception of this type
  std::uint32_t sample_one_in = 1;   // by the trace's random bits (sampling.h), as every host does
  bool sampled_only = false;         // traces that a caller in another process, if there is one, has sampled
  // Entries that had not ended before the first time, and had begun before the second one: as the user wrote them
  // (base/named_time.h), and what set_times() makes of them.
  std::string since, until;
  std::uint64_t since_unix_ns = 0, until_unix_ns = UINT64_MAX;

  [[nodiscard]] bool empty() const;
  // For a recording from `first` to `last`. Throws Failure if --until is not later than --since.
  void set_times(std::uint64_t first_unix_ns, std::uint64_t last_unix_ns);
  // True if the user gave times of day, and all of that recording is between them.
  [[nodiscard]] bool has_idle_times(std::uint64_t first_unix_ns, std::uint64_t last_unix_ns) const;
  // Whether a request of which only the trace id is known may be wanted (by request and sample).
  [[nodiscard]] bool may_want(const TraceId& id) const;
  // Whether the entry's own request may be wanted (also by its sampled flag).
  [[nodiscard]] bool may_want_own_request_of(const Entry& entry) const {
    return wants_all_requests() || wants_own_request_of(entry);
  }
  // The same, or any request that a linked span links to (steps.h). A step with members may be of any request.
  [[nodiscard]] bool may_want_request_of(const Entry& entry) const {
    return may_want_own_request_of(entry) || wants_linked_request_of(entry);
  }
  // Whether the entry's time and process are wanted (by pid and cgroup).
  [[nodiscard]] bool is_in_scope(const Entry& entry) const;
  // Whether a span's request may be wanted, as far as this span alone shows (by request, pid, cgroup and sample).
  [[nodiscard]] bool may_want(const Entry& entry) const;
  // Whether this span satisfies the condition. A trace needs one span that does.
  [[nodiscard]] bool has_name(const Entry& entry) const { return name.empty() || entry.name == name; }
  [[nodiscard]] bool has_model(const Entry& entry) const { return model.empty() || entry.model == model; }
  [[nodiscard]] bool has_tenant(const Entry& entry) const { return tenant.empty() || entry.tenant == tenant; }
  [[nodiscard]] bool has_error_type(const Entry& entry) const {
    return error_type.empty() || (entry.failed() && entry.error_type == error_type);
  }
  static bool has_value(const Entry& entry, const Condition& condition);
  [[nodiscard]] bool has_values(const Entry& entry) const;
  // Whether a command that shows single entries wants this one: it alone satisfies all these conditions. A retry has
  // the name of its span. --errors, --error and --slower-than want spans only.
  [[nodiscard]] bool selects(const Entry& entry) const;
  [[nodiscard]] bool wants_errors() const { return errors || !error_type.empty(); }

 private:
  // Without a call, because it is asked of each entry.
  [[nodiscard]] bool wants_all_requests() const { return request.empty() && sample_one_in <= 1 && !sampled_only; }
  [[nodiscard]] bool wants_own_request_of(const Entry& entry) const;
  [[nodiscard]] bool wants_linked_request_of(const Entry& entry) const;
};

// A name, label or error type as the library records it: of more than 63 bytes, it keeps 60 and adds "…".
std::string as_recorded(std::string text);
// Whether the text of an entry is the wanted one, or that one as the library records it.
bool is_recorded_as(std::string_view text, const std::string& wanted);

// The options of a filter, as on the command line: "--name llm.chat --errors".
std::string to_text(const Filter& filter);

// Whether `cgroup` is `wanted` or below it. Both are paths.
bool is_below_cgroup(std::string_view cgroup, std::string_view wanted);

// The options of all commands that read spans.
struct SourceOptions {
  Filter filter;
  std::string from;                          // a recording; empty for this host's processes
  std::string binary;                        // attach to this file too, even if no process maps it yet
  std::string leave_out;                     // a file with processes not to attach to (host/leave_out.h)
  std::uint64_t buffer_bytes = 16U << 20U;   // size of the kernel's ring buffer
  std::uint64_t max_age_ns = 1'000'000'000;  // batches that a thread has held for longer are fetched
  std::uint64_t duration_ns = 0;             // 0 means until SIGINT or SIGTERM
  std::string metrics;                       // the file for the ledger's metrics; empty for none
};

// Removes the entries that a command does not select, and counts them as filtered in the ledger.

// The entries that a source delivered and a command removed, by process.
class FilteredCounts {
 public:
  void add(const ProcessPointer& process);
  // Call it at each tick, so that ended processes are forgotten before there are too many.
  void forget_ended(const Source& source);
  // The source's ledger, in which these entries count as filtered.
  [[nodiscard]] Ledger ledger(const Source& source) const;

 private:
  LedgerSum filtered_;
  ProcessPointer last_process_;
  Counts* last_ = nullptr;  // of `last_process_`
};

// A source that delivers only the entries that Filter::selects().
class FilteredSource : public Source, private Sink {
 public:
  FilteredSource(std::unique_ptr<Source> source, Filter filter)
      : source_(std::move(source)), filter_(std::move(filter)) {}

  void run(Sink& sink, Deadline& until) override;
  [[nodiscard]] Ledger ledger() const override { return filtered_.ledger(*source_); }
  [[nodiscard]] std::string remark() const override { return source_->remark(); }
  [[nodiscard]] bool is_cut() const override { return source_->is_cut(); }
  [[nodiscard]] std::size_t processes() const override { return source_->processes(); }
  [[nodiscard]] std::optional<std::uint64_t> reader_restarts() const override { return source_->reader_restarts(); }
  [[nodiscard]] std::optional<Writers> writers() const override { return source_->writers(); }
  [[nodiscard]] std::optional<ClockState> clock() const override { return source_->clock(); }
  [[nodiscard]] std::optional<TimeRange> times() const override { return source_->times(); }

 private:
  [[nodiscard]] BatchSink* batches() override { return filter_.empty() ? sink_->batches() : nullptr; }
  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;

  const std::unique_ptr<Source> source_;
  const Filter filter_;
  FilteredCounts filtered_;
  Sink* sink_ = nullptr;
};

}  // namespace nopspan::collector
