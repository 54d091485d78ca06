// SPDX-License-Identifier: Apache-2.0
// A Unix socket that a recorder writes to. A reader may come late, go, and come again. Each connection is a recording
// of its own, whose ledger has what earlier connections did not report. So the ledgers of all connections add up.
#pragma once

#include "base/open_file.h"
#include "model/ledger.h"
#include "recording/entry_encoder.h"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

class RecorderStream {
 public:
  static constexpr std::string_view kPrefix = "unix:";

  // `target` begins with kPrefix. Throws Failure with kUsageError if the path is too long for a socket.
  explicit RecorderStream(const std::string& target);

  // Looks for a reader, with growing pauses. The result is empty if there is none, and error() is the errno of the last
  // attempt.
  OpenFile connect();
  [[nodiscard]] int error() const { return error_; }

  // A connection begins.
  void begin() { before_ = reported_; }
  // Entries were written to it.
  void note_written(const std::vector<EntryShare>& shares);
  // A ledger was written to it: less_reported(ledger).
  void note_ledger(const Ledger& ledger);
  // The part of the recorder's ledger that earlier connections did not report.
  [[nodiscard]] Ledger less_reported(const Ledger& ledger) const;

 private:
  using Clock = std::chrono::steady_clock;

  std::string path_;
  int error_ = 0;
  std::chrono::milliseconds pause_{0};
  Clock::time_point next_;
  LedgerSum reported_, before_;
};

}  // namespace nopspan::collector
