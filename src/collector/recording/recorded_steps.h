// SPDX-License-Identifier: Apache-2.0
// Reads the steps of a recording (step_encoder.h).
#pragma once

#include "model/entry.h"
#include "recording/otlp_reader.h"
#include "recording/step_encoder.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace nopspan::collector {

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
