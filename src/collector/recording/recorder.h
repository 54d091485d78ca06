// SPDX-License-Identifier: Apache-2.0
// Writes everything that it is told of to a file (frames.h).
#pragma once

#include "model/entry_counts.h"
#include "model/source.h"
#include "recording/frames.h"
#include "recording/otlp_spans.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

struct RecorderOptions {
  std::string path;             // "-": stdout
  bool force = false;           // over a file that is there
  std::uint64_t max_bytes = 0;  // of a file, which then becomes PATH.1, and that PATH.2; 0: no bound
  unsigned keep = 4;            // how many such older ones

  // `path`, and the older ones: the larger `i`, the older.
  [[nodiscard]] std::string file(unsigned i) const;
};

class Recorder : public Sink {
 public:
  // Opens the file. Throws Failure.
  explicit Recorder(RecorderOptions options);

  // Whose ledger is written beside its spans. It must outlive finish().
  void set_source(const Source& source) { source_ = &source; }

  void on_span(const Span& span) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  // Writes what is left, and the end. False if the file does not have everything.
  bool finish();
  // Removes a file that has no spans: when there was nothing to record from.
  void abandon() const;

  // The source's, with what could not be written as export_dropped.
  [[nodiscard]] Ledger ledger() const;

  struct Totals {
    EntryCounts entries;  // written
    std::uint64_t bytes = 0;
    std::uint64_t dropped = 0;  // entries that could not be written
    unsigned files = 1;
  };
  [[nodiscard]] Totals totals() const;

 private:
  void open(bool may_replace);
  void flush();
  void flush_signal(Signal signal);
  bool write_about();
  void write_ledger();
  bool write(const Frame& frame);
  void make_room(std::size_t payload_bytes);
  void rotate();
  void complain(const std::string& what);

  RecorderOptions options_;
  std::string recording_;  // random: parts of one recording have the same
  const Source* source_ = nullptr;
  std::unique_ptr<FrameWriter> writer_;
  bool is_ours_ = false;  // the file was made here
  bool is_gone_ = false;  // nobody reads the pipe any more
  bool complained_ = false;
  std::array<OtlpEncoder, kSignals> encoders_ = {OtlpEncoder(Signal::traces), OtlpEncoder(Signal::logs),
                                                 OtlpEncoder(Signal::metrics)};
  std::array<EntryCounts, kSignals> pending_;
  static constexpr std::size_t kFrameBytes = 1U << 20U;
  std::size_t frame_bytes_ = kFrameBytes;  // when so many have come together, they are written
  std::string message_;
  std::uint64_t now_ = 0, flushed_at_ = 0, ledger_at_ = 0;
  std::size_t ledger_bytes_ = 0;
  Totals totals_;
  std::uint64_t closed_bytes_ = 0;  // of parts before this one
  bool part_has_entries_ = false;

  struct Dropped {
    ProcessPointer process;
    std::uint64_t entries = 0;
  };
  std::unordered_map<const Process*, Dropped> dropped_;
};

}  // namespace nopspan::collector
