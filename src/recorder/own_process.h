// SPDX-License-Identifier: Apache-2.0
// What a recording says of this process.
#pragma once

#include "recording/batch_chunk.h"

#include <cstdint>
#include <string>

namespace nopspan::recording {

struct OwnProcess {
  collector::RecordedProcess numbers;
  std::string comm, executable, cgroup, library, host, boot_id, service_name, resource_attributes;

  // The facts of this process, with `library_version` of the library that emits its entries.
  static OwnProcess read();
  void add_to(collector::BatchChunk& chunk) const;
};

// How many threads this process has. 0 if /proc cannot be read.
std::uint64_t count_threads();
// Whether only the calling thread is left: the main thread has ended, which stays in the list, and no other one runs.
// Nothing can change that, except this thread.
bool is_last_thread();

}  // namespace nopspan::recording
