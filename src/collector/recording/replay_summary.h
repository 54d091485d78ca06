// SPDX-License-Identifier: Apache-2.0
// A sink that counts a recording's entries by name and process, for `nopspan replay`.
#pragma once

#include "model/source.h"
#include "recording/recording.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nopspan::collector {

class ReplaySummary : public Sink {
 public:
  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t /*now_unix_ns*/) override {}

  // Valid after the recording has run. `ledger` counts what the command has removed as filtered.
  [[nodiscard]] std::string text(const Recording& recording, const Ledger& ledger) const;
  [[nodiscard]] nlohmann::ordered_json json(const Recording& recording, const Ledger& ledger) const;

 private:
  struct NameCount {
    std::uint64_t spans = 0, errors = 0, others = 0;  // others: events, retries, gauges
    [[nodiscard]] std::uint64_t all() const { return spans + others; }
  };
  struct ProcessCount {
    ProcessPointer process;
    std::uint64_t entries = 0;
  };

  [[nodiscard]] std::vector<std::pair<std::string, NameCount>> names() const;
  [[nodiscard]] std::vector<ProcessCount> processes() const;

  EntryCounts counts_;
  std::uint64_t first_ns_ = UINT64_MAX, last_ns_ = 0;
  std::map<std::string, NameCount, std::less<>> names_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, ProcessCount> processes_;
  NameCount other_names_;
  std::uint64_t other_processes_ = 0;  // entries of processes beyond the limit
};

}  // namespace nopspan::collector
