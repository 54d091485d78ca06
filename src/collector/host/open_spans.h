// SPDX-License-Identifier: Apache-2.0
// Reads the open spans of a process from its memory (probes/README.md).
#pragma once

#include "host/process_memory.h"
#include "host/process_reader.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace nopspan::collector {

// The open spans of one copy of the library.
struct OpenSpans {
  static constexpr std::uint64_t kSinceLoad = 1;

  std::vector<nopspan_open> spans;              // texts end with a NUL
  std::map<std::uint32_t, std::string> labels;  // the text of each label that the spans have, by number
  std::vector<std::string> label_keys;          // of nopspan_open::labels[3] and the next ones
  std::uint64_t now_ns = 0;                     // the process's CLOCK_MONOTONIC when its spans had been read
  bool now_is_least = false;                    // it may have been later
  bool is_raised = false;                       // the gate is up, so that spans that begin are recorded
  std::uint64_t raised_ns = 0;                  // as in struct nopspan_gate_page
  std::uint64_t unread = 0;                     // spans that may be open, but could not be read or were too many
};

// For unpack_open_spans(). The error is of process_reader.h (ESRCH also if the library is still being loaded), or
// ENOTSUP if the library is too old, or EBADMSG if the memory is damaged.
Answer read_packed_open_spans(const Target& process, std::uint64_t gate_address);

// Reads ranges of a memory one after the other into `to`, which has room for all. Returns false if one of them cannot
// be read completely.
using ReadRanges = std::function<bool(std::span<const MemoryRange> ranges, void* to)>;
// The same for a memory of any kind. `now` returns the process's CLOCK_MONOTONIC, or 0: then the newest time in the
// memory is taken.
Answer pack_open_spans(const ReadRanges& read, std::uint64_t gate_address, const std::function<std::uint64_t()>& now);
// Returns 0, or an errno value. The child that reads may have been taken over, so the bytes may be anything.
int unpack_open_spans(const Answer& answer, OpenSpans& open);

}  // namespace nopspan::collector
