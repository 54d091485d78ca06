// SPDX-License-Identifier: Apache-2.0
// A file of `nopspan record` as a source of spans.
#pragma once

#include "model/filter.h"
#include "model/source.h"
#include "recording/frames.h"
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
  // "-": stdin. Throws Failure with kUsageError if it is no recording.
  explicit Recording(const std::string& path, Filter filter = {});
  ~Recording() override;

  void run(Sink& sink, Deadline& until) override;
  // The recorder's, of all that was read so far; what comes after the last one that it wrote is added.
  [[nodiscard]] Ledger ledger() const override;

  // What was not read, for people; "" if everything was.
  [[nodiscard]] std::string remark() const override;
  [[nodiscard]] const FrameReader::State& state() const { return reader_.state(); }
  // Frames that are whole, and yet hold nothing that can be read.
  [[nodiscard]] std::uint64_t broken_frames() const { return broken_; }

 private:
  using ProcessKey = std::pair<std::uint32_t, std::uint64_t>;  // pid and start
  struct Tally {
    ProcessPointer process;
    std::uint64_t delivered = 0;  // after the last ledger
    std::uint64_t filtered = 0;
  };

  void read_frame(const Frame& frame, Sink& sink);
  void read_entries(Signal signal, const Frame& frame, Sink& sink);
  void read_about(const Frame& frame);
  void read_ledger(const Frame& frame);
  void tick(std::uint64_t now, Sink& sink);
  [[nodiscard]] Ledger since_before() const;
  Tally& tally_of(const ProcessPointer& process);

  FrameReader reader_;
  Filter filter_;
  OtlpReader otlp_;
  bool is_filtered_;
  bool is_stopped_ = false;  // before the end
  std::uint64_t end_ = 0, ticked_ = 0, broken_ = 0;
  std::string recording_;  // whose frames these are
  Ledger before_, last_;   // of recordings before this one in the file, and of this one
  std::map<ProcessKey, Tally> tallies_;
};

// What command/options.h opens for --from.
std::unique_ptr<Source> open_recording(const SourceOptions& options);

}  // namespace nopspan::collector
