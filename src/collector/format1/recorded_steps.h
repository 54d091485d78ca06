// SPDX-License-Identifier: Apache-2.0
// Reads the steps of a recording of format 1: each entry is its difference from the step before of the same thread.
#pragma once

#include "format1/otlp_reader.h"
#include "format1/step_format.h"
#include "model/entry.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

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

// Reads such a message, which may be anything.
class StepReader {
 public:
  using Each = std::function<void(const Entry&)>;
  // Calls `each` with every entry, which is valid during the call. Returns false if `message` is malformed; `each` has
  // then been called for the entries before the error. `processes` remembers the processes.
  bool read(std::string_view message, OtlpReader& processes, const Each& each);

 private:
  struct Thread : StepThread {
    ProcessPointer process;
    std::uint32_t thread_id = 0;
    std::uint64_t sequence_id = 0;
  };

  void read_thread(std::string_view message, OtlpReader& processes);
  void read_entry(std::string_view left, const Each& each);
  std::size_t read_members(std::string_view& left, Thread& thread);
  void expand(std::size_t bytes);

  std::vector<Thread> threads_;
  std::size_t expanded_ = 0;
};

}  // namespace nopspan::collector
