// SPDX-License-Identifier: Apache-2.0
// A sink that writes all entries, and the source's ledger, to a file (chunks.h).
#pragma once

#include "model/entry_counts.h"
#include "model/source.h"
#include "recording/chunks.h"
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
  bool force = false;           // overwrite an existing file
  std::uint64_t max_bytes = 0;  // beyond this size, PATH becomes PATH.1, and PATH.1 becomes PATH.2; 0: no limit
  unsigned keep = 4;            // number of older files to keep

  // Returns `path` if `i` is 0, otherwise an older file: the larger `i`, the older.
  [[nodiscard]] std::string file(unsigned i) const;
};

class Recorder : public Sink {
 public:
  // Opens the file. Throws Failure.
  explicit Recorder(RecorderOptions options);

  // Sets the source whose ledger is written with the entries. `source` must outlive finish().
  void set_source(const Source& source) { source_ = &source; }

  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  // Writes pending entries and the end of the recording. Returns false if the file is not complete.
  bool finish();
  // Removes the file if it is new and has no entries, for use when the source cannot be opened or fails.
  void abandon() const;

  // The source's ledger, in which entries that could not be written count as export_dropped.
  [[nodiscard]] Ledger ledger() const;

  struct Totals {
    EntryCounts entries;  // that were written
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
  bool write_ledger();
  bool write(const Chunk& chunk);
  void make_room(std::size_t payload_bytes);
  void rotate();
  void complain(const std::string& what);

  RecorderOptions options_;
  std::string recording_;  // random id that all parts of the recording share
  const Source* source_ = nullptr;
  std::unique_ptr<ChunkWriter> writer_;
  bool is_ours_ = false;  // this recorder created the file
  bool is_gone_ = false;  // the pipe has no reader any more
  bool complained_ = false;
  std::array<OtlpEncoder, kSignals> encoders_ = {OtlpEncoder(Signal::traces), OtlpEncoder(Signal::logs),
                                                 OtlpEncoder(Signal::metrics)};
  std::array<EntryCounts, kSignals> pending_;
  static constexpr std::size_t kChunkBytes = 1U << 20U;
  std::size_t chunk_bytes_ = kChunkBytes;  // a chunk is written when it has this size
  std::string message_;
  std::uint64_t now_ = 0, flushed_at_ = 0, ledger_at_ = 0;
  std::size_t ledger_bytes_ = 0;
  Totals totals_;
  std::uint64_t closed_bytes_ = 0;  // size of the earlier parts
  bool part_has_entries_ = false;

  struct Dropped {
    ProcessPointer process;
    std::uint64_t entries = 0;
  };
  std::unordered_map<const Process*, Dropped> dropped_;
};

}  // namespace nopspan::collector
