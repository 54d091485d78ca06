// SPDX-License-Identifier: Apache-2.0
// The object that Fields writes to: the common part of a span and an event.
#pragma once

#include "base/clean_text.h"
#include "base/counters.h"
#include "fields/field_buffer.h"

#include <nopspan/context.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/fields.h>
#include <nopspan/probes.h>
#include <nopspan/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

inline constexpr std::size_t kMaxLinks = 128;

// What a nopspan_link has no room for.
struct LinkState {
  std::uint64_t headers;                                           // a handle (header_store.h)
  std::uint32_t flags;                                             // of OTLP's links
  static constexpr std::uint32_t kLocal = 0x101, kRemote = 0x301;  // known not to be remote, or to be; both are sampled
};

// Whether a span stores its fields. Setters in headers test whether it is not `no`.
enum class TakesFields : unsigned char {
  no,  // nobody gets them: only labels are set
  yes,
  converting  // a list is being read from the program's objects: until its end, other fields are dropped and counted
};

struct Reused {};  // selects constructors that leave what tracers may be reading, and what take_state() or begin() set

// The part of a span's state that the probe ABI promises: struct nopspan_open in nopspan/probes.h. Other processes find
// it through the gate's page, and read it while the span is open.
//
// Why a reader can trust what it reads: `state` is not `open` while the other fields are written for a new span, and
// `generation` changes with every span. A copy is valid if both are the same before and after it.
struct alignas(64) OpenSpan {
  static constexpr std::uint32_t kFree = 0, kOpen = NOPSPAN_OPEN, kChanging = 2;

  explicit OpenSpan(Reused /*unused*/) noexcept : first_token_ns(0), tokens_so_far(0) {}
  OpenSpan() noexcept : OpenSpan(Reused{}) {
    state.store(kFree, std::memory_order_relaxed);
    context = {};
    generation = name_size = 0;
    name_text[0] = foreign_id[0] = '\0';
    begin();
  }

  // Sets what a span has at its begin, unless it sets it itself.
  void begin() noexcept {
    start_ns = 0;
    flags = 0;
    takes_fields = TakesFields::yes;
    handled = true;
  }

  std::atomic<std::uint32_t> state;
  std::uint32_t generation;
  union {
    ContextHead context;
  };
  std::uint64_t process_mark;
  std::uint64_t start_ns;
  std::uint64_t first_token_ns;
  std::uint64_t tokens_so_far;
  std::uint32_t flags;  // NOPSPAN_FLAG_*
  std::uint32_t thread_id;
  std::uint64_t reserved;
  TakesFields takes_fields;
  bool handled;  // its events may have a handler. If false, handlers that attach later get nothing of the span
  std::uint16_t reserved_too;
  std::uint32_t name_size;
  char name_text[kMaxNameBytes + 1];  // ends with a NUL
  char foreign_id[64];                // only with NOPSPAN_FLAG_FOREIGN_ID
};
static_assert(sizeof(OpenSpan) == sizeof(nopspan_open));
static_assert(offsetof(OpenSpan, context) == offsetof(nopspan_open, trace_id));
static_assert(offsetof(ContextHead, labels) == offsetof(nopspan_open, labels) - offsetof(nopspan_open, trace_id));
static_assert(offsetof(ContextHead, parent_id) == offsetof(nopspan_open, parent_id) - offsetof(nopspan_open, trace_id));
static_assert(offsetof(OpenSpan, process_mark) == offsetof(nopspan_open, mark));
static_assert(offsetof(OpenSpan, takes_fields) == kTakesFieldsAt);
static_assert(offsetof(OpenSpan, flags) == offsetof(nopspan_open, flags));
static_assert(offsetof(OpenSpan, name_size) == offsetof(nopspan_open, name_size));
static_assert(offsetof(OpenSpan, name_text) == offsetof(nopspan_open, name));
static_assert(offsetof(OpenSpan, foreign_id) == offsetof(nopspan_open, foreign_id));

// The times and counts that only a request of an inference server has.
struct EngineTimes {
  std::uint64_t arrival_ns, queue_ns, prefill_ns, decode_ns;
  std::uint64_t prefill_tokens, decode_tokens, preemptions;
  std::uint8_t known;  // engine_bit() of each field that was set
};
inline std::uint8_t engine_bit(const EngineTimes& times, const std::uint64_t& field) noexcept {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(&field - &times.arrival_ns));
}
inline bool is_known(const EngineTimes& times, const std::uint64_t& field) noexcept {
  return (times.known & engine_bit(times, field)) != 0;
}

// What few spans have. All of it is zero for the others, so that one comparison separates the two.
struct Unusual {
  [[nodiscard]] bool is_usual() const noexcept {
    using Words __attribute__((may_alias)) = std::uint64_t;
    const auto word = [this](std::size_t i) {
      return __atomic_load_n(reinterpret_cast<const Words*>(this) + i, __ATOMIC_RELAXED);
    };
    return (word(0) | word(1) | word(2)) == 0;
  }

  std::uint32_t status = NOPSPAN_STATUS_OK;
  std::uint32_t link_count = 0;
  std::uint8_t usage_keys = 0;  // a bit for each of the four token counts that is set
  std::uint8_t keys = 0;        // AttributeKey::Of: the known keys that have a meaning here
  bool has_tool = false;
  bool has_engine_times = false;
  bool gives_id = false;     // request_id or trace_id was set; see apply_given_ids()
  bool gives_error = false;  // the metadata `error` of a catalogue's span is not null; content, so it may not be stored
  bool gives_result = false;   // http_status, finish_reason or error was set; see failure_in_metadata()
  bool stop_only = false;      // handlers see only its stop event, and only the fields that the application set
  bool context_given = false;  // it is in the table of given_contexts.h
  std::atomic<bool> usage_below{false};  // a span inside it had token usage, and fired `tokens`
  std::atomic<bool> tool_below{false};   // the same for `tool_call`
  bool may_be_known = false;             // its name begins like those of the catalogues
  std::uint32_t members_dropped = 0;     // of a step
};
static_assert(NOPSPAN_STATUS_OK == 0 && sizeof(Unusual) == 24);

struct StepData;  // step_data.h

struct alignas(64) FieldSink : OpenSpan, Unusual {
  // Only the first byte of a text is set, because this constructor runs for every span.
  FieldSink() noexcept { begin_numbers(); }
  explicit FieldSink(Reused reused) noexcept : OpenSpan(reused) {}

  // Clears the numbers, and texts, that few spans have. Call it before one of them is set.
  void begin_numbers() noexcept {
    if (has_numbers) return;
    has_numbers = true;
    input_tokens = output_tokens = cached_tokens = reasoning_tokens = 0;
    retry_delay_ns = retry_attempt = 0;
    engine = {};
    tool_name[0] = retry_reason[0] = '\0';
  }

  bool keeps_content = false;  // content is stored, because a handler or a probe may get it
  bool is_span = true;
  bool has_numbers = false;         // if false, what begin_numbers() clears is not set
  union {                           // one block, allocated at first use
    nopspan_link* links = nullptr;  // an array of kMaxLinks, and then one of as many LinkStates
    StepData* step;                 // with NOPSPAN_FLAG_STEP
  };
  FieldBuffer fields;
  std::uint64_t input_tokens, output_tokens, cached_tokens, reasoning_tokens;
  std::uint64_t retry_delay_ns, retry_attempt;
  EngineTimes engine;
  char tool_name[kMaxNameBytes + 1];
  char retry_reason[kMaxNameBytes + 1];
};

// Whether the fields are stored now. If a list is being read, counts `number` in `dropped`.
inline bool takes_fields(const FieldSink& sink, std::uint64_t& dropped, std::uint64_t number = 1) noexcept {
  if (sink.takes_fields == TakesFields::converting) count(dropped, number);
  return sink.takes_fields == TakesFields::yes;
}

}  // namespace nopspan::detail
