// SPDX-License-Identifier: Apache-2.0
// Steps (steps.h) in a recording: each entry is written as its difference from the step before of the same thread.
// docs/recording.md describes the format. A step of 1,024 members that did the same as in the step before has less than
// 200 bytes, instead of 25,000.
#pragma once

#include "model/entry.h"
#include "recording/otlp_spans.h"

#include <nopspan/probes.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

// Whether the entry is in the chunks of steps. Steps of libraries without members are among the spans.
inline bool is_recorded_step(const Entry& entry) { return entry.kind == Kind::part || entry.step != nullptr; }

// The numbers of an entry, in the order in which the format has them.
inline constexpr std::size_t kStepNumbers = 39, kStepTexts = 10;
using StepNumbers = std::array<std::uint64_t, kStepNumbers>;

// What the next entry of a thread is compared with.
struct StepThread {
  StepNumbers numbers{};                        // of the last step
  std::array<std::string, kStepTexts> texts;    // of the last step
  std::vector<nopspan_member> before, members;  // of the step before the last one, and of the last one
  std::size_t next = 0;                         // index in `before` of the member that is expected next
  std::uint64_t sequence = 0;                   // that is expected next

  // Ends the members of the last step, because another step follows.
  void begin_step();
  // The numbers that are expected. Call it after begin_step().
  [[nodiscard]] StepNumbers expected(bool is_part) const;
  [[nodiscard]] std::string_view expected_text(std::size_t i, bool is_part) const;
};

class StepEncoder {
 public:
  void add(const Entry& entry);
  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  // The size of the message, or a larger number if it should not become longer.
  [[nodiscard]] std::size_t bytes() const { return expanded_ > kMostExpanded / 4 ? SIZE_MAX : out_.size(); }
  // Replaces `out` with the message and begins a new one. Returns how many entries it contains of each process.
  std::vector<OtlpEncoder::Share> finish(std::string& out);

  // The limit of the bytes of texts and members that a message describes. A reader reads no more.
  static constexpr std::size_t kMostExpanded = std::size_t{128} << 20U;
  static constexpr std::size_t kMostThreads = 16'384;

 private:
  struct Thread : StepThread {
    std::uint32_t number, share;
    const Process* process;
    std::uint32_t thread_id;
  };

  Thread& thread_of(const Entry& entry);
  void write_members(Thread& thread, std::string_view bytes);

  std::string out_, entry_;
  std::uint64_t entries_ = 0;
  std::size_t expanded_ = 0;
  std::vector<OtlpEncoder::Share> shares_;
  std::unordered_map<const Process*, std::uint32_t> share_numbers_;
  std::unordered_multimap<std::uint64_t, Thread> threads_;  // by sequence_id
};

}  // namespace nopspan::collector
