// SPDX-License-Identifier: Apache-2.0
// The part of a span's state that the probe ABI promises: struct nopspan_open in nopspan/probes.h. Other processes find
// it through the gate's page, and read it while the span is open.
//
// Why a reader can trust what it reads: `state` is not `open` while the other fields are written for a new span, and
// `generation` changes with every span. A copy is valid if both are the same before and after it.
#pragma once

#include <nopspan/context.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/probes.h>
#include <nopspan/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

// Whether a span stores its fields. Setters in headers test whether it is not `no`.
enum class TakesFields : unsigned char {
  no,  // nobody gets them: only labels are set
  yes,
  converting  // a list is being read from the program's objects: until its end, other fields are dropped and counted
};

struct Reused {};  // selects constructors that leave what tracers may be reading, and what take_state() or begin() set

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

}  // namespace nopspan::detail
