// SPDX-License-Identifier: Apache-2.0
// The part of a thread's state for the batch probe: the header of its buffer, and a summary of the entries in it.
// emit/batch.cpp writes both.
#pragma once

#include "memory/slabs.h"

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

struct BatchBuffer {
  // A name or label that the buffer already contains. Many entries have the same one, and the buffer has it only once.
  struct WrittenText {
    std::uint64_t hash;   // its hash_bytes()
    std::uint64_t bit;    // its nopspan_text_bit()
    std::uint32_t batch;  // the number of the batch that contains it
    nopspan_text where;
  };
  static constexpr std::size_t kWrittenTexts = 32;
  // A form that the buffer already contains.
  struct WrittenForm {
    std::uint64_t hash;
    std::uint32_t batch;
    unsigned short place;
  };
  static constexpr std::size_t kWrittenForms = 32;
  // A request that the buffer already contains.
  struct WrittenRequest {
    std::uint64_t trace_id[2];
    std::uint64_t root_id;
    std::uint64_t start_ns;
    std::uint32_t batch;
    unsigned short place;
    bool is_foreign, has_tracestate;
  };
  static constexpr std::size_t kWrittenRequests = 32;

  nopspan_thread* header;  // an element of header_slabs; null until a tracer wants batches
  Slabs::Claim header_place;
  bool announced;                 // the batch site was called with the header since the gate was raised
  bool thread_has_ended;          // each entry is flushed at once, because it may be the last
  std::uint32_t batch;            // the number of the batch that is being filled; not 0
  std::uint32_t errors;           // its entries with status error or exception
  std::uint32_t awaiting;         // its entries whose root span (`awaited_root`) may still end in it
  std::uint32_t root_elsewhere;   // its other entries whose root span is not in it
  std::uint32_t refused;          // entries at the thread's end so far that the tap has refused (emit/batch.h)
  std::uint64_t awaited_root;     // a span id
  std::uint64_t longest_root_ns;  // the longest duration of its root spans
  std::uint64_t flushed_ns;       // the time of the last flush
  WrittenText written_texts[kWrittenTexts];
  WrittenForm written_forms[kWrittenForms];
  WrittenRequest written_requests[kWrittenRequests];
};

}  // namespace nopspan::detail
