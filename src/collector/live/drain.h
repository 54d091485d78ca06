// SPDX-License-Identifier: Apache-2.0
// Fetches entries that threads have held for a long time. The library starts no thread in the traced programs, so a
// thread that emits nothing more does not flush.
#pragma once

#include "live/host_thread.h"
#include "live/traced_processes.h"
#include "stream/messages.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>

namespace nopspan::collector {

// Decides what is fetched, and passes it on. The host's thread does the reading. Pass its reports to this object after
// all batches that were flushed before them have been passed on.
class Drain {
 public:
  Drain(HostThread& host, TracedProcesses& processes, MessageSink& reader)
      : host_(host), processes_(processes), reader_(reader) {}

  // Begins a round. A round fetches everything that threads have held for longer than `max_age_ns` (0 means
  // everything).
  void begin_round(std::uint64_t max_age_ns, std::uint64_t now_ns);
  // Whether the round has not ended.
  [[nodiscard]] bool is_busy() const { return is_reading_ || is_fetching_ || !headers_.empty(); }

  // Gives up the round. What was to be fetched is counted as missed. Returns whether the round had not ended, or left
  // something for the next one. Then some headers may not have been read.
  bool give_up();

  void on_report(HeadersRead&& report);
  void on_report(const Fetched& report);
  void on_report(const RoundRead& report) {
    is_reading_ = false;
    is_whole_ = is_whole_ && report.is_whole;
  }

 private:
  // Headers that were not examined completely.
  struct Rest {
    HeadersRead headers;
    std::size_t next_thread = 0;
  };

  void fetch_next();
  void choose_next();
  // The next threads of a copy from which something must be fetched.
  HostThread::Fetch next_of(Rest& rest);
  [[nodiscard]] bool is_closed(std::uint32_t pid) const;
  bool is_due(TracedProcess& process, const nopspan_thread& header) const;

  HostThread& host_;
  TracedProcesses& processes_;
  MessageSink& reader_;
  bool is_reading_ = false, is_fetching_ = false, is_whole_ = true;
  std::uint64_t max_age_ns_ = 0, now_ns_ = 0;
  std::deque<Rest> headers_;
  HostThread::Fetch wanted_{};                    // is being fetched
  std::map<std::uint32_t, std::uint64_t> bytes_;  // that were fetched from each process in this round
};

}  // namespace nopspan::collector
