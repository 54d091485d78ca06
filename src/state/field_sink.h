// SPDX-License-Identifier: Apache-2.0
// The object that Fields writes to: the common part of a span and an event.
#pragma once

#include "base/clean_text.h"
#include "fields/field_buffer.h"
#include "state/open_span.h"

#include <nopspan/context.h>
#include <nopspan/fields.h>
#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

inline constexpr std::size_t kMaxLinks = 128;

// The times and counts that only a request of an inference server has.
struct EngineTimes {
  std::uint64_t arrival_ns = 0, queue_ns = 0, prefill_ns = 0, decode_ns = 0;
  std::uint64_t prefill_tokens = 0, decode_tokens = 0, preemptions = 0;
  std::uint8_t known = 0;  // engine_bit() of each field that was set
};
inline std::uint8_t engine_bit(const EngineTimes& times, const std::uint64_t& field) noexcept {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(&field - &times.arrival_ns));
}

struct FieldSink : OpenSpan {
  // Only the first byte of a text is set, because this constructor runs for every span.
  FieldSink() noexcept { tool_name[0] = retry_reason[0] = '\0'; }
  explicit FieldSink(Reused reused) noexcept : OpenSpan(reused) { tool_name[0] = retry_reason[0] = '\0'; }

  // This order needs the fewest stores to clear.
  std::uint32_t link_count = 0;
  nopspan_link* links = nullptr;  // an array of kMaxLinks, allocated at first use
  std::uint64_t input_tokens = 0, output_tokens = 0, cached_tokens = 0, reasoning_tokens = 0;
  std::uint64_t retry_delay_ns = 0, retry_attempt = 0;
  EngineTimes engine;
  std::uint8_t usage_keys = 0;  // a bit for each of the four token counts that is set; input_tokens is bit 0
  std::uint8_t keys = 0;        // AttributeKey::Of: the known keys that have a meaning here
  bool has_tool = false;
  bool has_engine_times = false;
  bool keeps_content = false;  // content is stored, because a handler or a probe may get it
  bool gives_id = false;       // request_id or trace_id was set; see apply_given_ids()
  bool gives_error = false;  // the metadata `error` of a catalogue's span is not null; content, so it may not be stored
  bool gives_result = false;  // http_status, finish_reason or error was set; see failure_in_metadata()
  bool is_span = true;
  char tool_name[kMaxNameBytes + 1];
  char retry_reason[kMaxNameBytes + 1];
  FieldBuffer fields;
};

}  // namespace nopspan::detail
