// SPDX-License-Identifier: Apache-2.0
// A source that reads a file of `nopspan record`.
#pragma once

#include "model/filter.h"
#include "model/source.h"
#include "recording/chunks.h"
#include "recording/otlp_reader.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace nopspan::collector {

struct SourceOptions;

class Recording : public Source {
 public:
  // Opens `path` ("-": stdin). Throws Failure with kUsageError if it is not a recording.
  explicit Recording(const std::string& path, Filter filter = {});
  ~Recording() override;

  void run(Sink& sink, Deadline& until) override;
  // The recorder's last ledger, plus the entries that were read after it. Entries that the filter removed count as
  // filtered.
  [[nodiscard]] Ledger ledger() const override;

  // A message about everything that could not be read; "" if all was read.
  [[nodiscard]] std::string remark() const override;
  [[nodiscard]] const ChunkReader::State& state() const { return reader_.state(); }
  // Number of chunks that could not be read.
  [[nodiscard]] std::uint64_t broken_chunks() const { return reader_.state().broken + broken_; }

 private:
  using ProcessKey = std::pair<std::uint32_t, std::uint64_t>;  // pid and start
  struct Tally {
    ProcessPointer process;
    std::uint64_t delivered = 0;  // since the last ledger
    std::uint64_t filtered = 0;
  };

  void read_chunk(const Chunk& chunk, Sink& sink);
  void read_entries(Signal signal, const Chunk& chunk, Sink& sink);
  void read_about(const Chunk& chunk);
  void read_ledger(const Chunk& chunk);
  void tick(std::uint64_t now, Sink& sink);
  [[nodiscard]] Ledger since_before() const;
  Tally& tally_of(const ProcessPointer& process);

  ChunkReader reader_;
  Filter filter_;
  OtlpReader otlp_;
  bool is_filtered_;
  bool is_stopped_ = false;  // before the end of the file
  std::uint64_t end_ = 0, ticked_ = 0;
  std::uint64_t broken_ = 0;  // chunks with a valid checksum and unreadable content
  std::string recording_;     // id of the recording that is being read
  Ledger before_, last_;      // of earlier recordings in the same file, and of this one
  std::map<ProcessKey, Tally> tallies_;
};

// Opens the recording for open_source() (command/options.h).
std::unique_ptr<Source> open_recording(const SourceOptions& options);

}  // namespace nopspan::collector
