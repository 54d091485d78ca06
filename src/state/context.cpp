// SPDX-License-Identifier: Apache-2.0
#include <nopspan/context.h>

#include "base/clean_text.h"
#include "base/counters.h"
#include "gate/gate.h"
#include "state/context_access.h"
#include "state/context_stack.h"
#include "state/given_contexts.h"
#include "state/identity.h"
#include "state/orphans.h"
#include "state/tracestate.h"
#include "thread/thread_state.h"

#include <nopspan/coroutine.h>

#include <cstring>
#include <string_view>

namespace nopspan {
namespace {

using detail::kTraceIdBytes;

constexpr std::uint8_t kSampledFlag = 1;

// A context of a new request. If there is no memory for a thread state, its id comes from system_random().
Context fresh() noexcept {
  Context context;
  if (detail::ThreadState* thread = detail::thread_state(); thread != nullptr) {
    detail::make_trace_id(thread, detail::ContextAccess::trace_id(context));
  } else {
    detail::system_random(detail::ContextAccess::trace_id(context), kTraceIdBytes);
  }
  detail::ContextAccess::bits(context) = detail::ContextAccess::kHasTrace;
  detail::ContextAccess::trace_flags(context) = kSampledFlag;
  return context;
}

std::uint64_t read_span_id(std::string_view hex, bool& valid) noexcept {
  unsigned char bytes[8];
  valid = detail::decode_hex(hex, bytes, sizeof(bytes), false) && !detail::all_zero(bytes, sizeof(bytes));
  std::uint64_t id = 0;
  for (const unsigned char byte : bytes) id = (id << 8U) | byte;
  return valid ? id : 0;
}

// Parses a traceparent header. False if it is malformed. Version 00 has exactly 55 characters. A later version begins
// with the same 55 characters and may continue after a dash (W3C Trace Context, sections 3.2.4 and 4.3).
bool parse_traceparent(std::string_view header, Context& context) noexcept {
  constexpr std::size_t kSize = 55;
  if (header.size() < kSize || header[2] != '-' || header[35] != '-' || header[52] != '-') return false;
  unsigned char version = 0;
  unsigned char flags = 0;
  if (!detail::decode_hex(header.substr(0, 2), &version, 1, false) || version == 0xff) return false;
  if (version == 0 ? header.size() != kSize : header.size() > kSize && header[kSize] != '-') return false;
  auto& trace_id = detail::ContextAccess::trace_id(context);
  if (!detail::decode_hex(header.substr(3, 32), trace_id, kTraceIdBytes, false)) return false;
  if (detail::all_zero(trace_id, kTraceIdBytes)) return false;
  bool valid = false;
  detail::ContextAccess::span_id(context) = read_span_id(header.substr(36, 16), valid);
  if (!valid || !detail::decode_hex(header.substr(53, 2), &flags, 1, false)) return false;
  detail::ContextAccess::trace_flags(context) = version == 0 ? flags : flags & kSampledFlag;
  detail::ContextAccess::bits(context) = detail::ContextAccess::kHasTrace | detail::ContextAccess::kRemote;
  return true;
}

}  // namespace

RequestId make_request_id() noexcept { return fresh().request_id(); }

RequestId request_id() noexcept {
  const detail::Frame* top = detail::top_frame();
  return top != nullptr ? top->context.request_id() : RequestId();
}

Context Context::make() noexcept { return fresh(); }

Context Context::current() noexcept {
  const detail::Frame* top = detail::top_frame();
  if (top != nullptr) {
    if (top->span != nullptr) detail::note_given(*top->span);
    return top->context;
  }
  Context none;
  detail::ThreadState* thread = detail::spans_are_unrecorded() ? nullptr : detail::thread_state();
  if (thread == nullptr || detail::may_be_untraced(thread)) none.bits_ = kUntraced;
  return none;
}

Context Context::with_request_id(Text id) noexcept {
  if (id.empty()) {
    detail::count(detail::counters.invalid_ids);
    return fresh();
  }
  Context context;
  context.bits_ = kHasTrace;
  context.trace_flags_ = kSampledFlag;
  if (detail::decode_request_id(id.view(), context.trace_id_)) return context;
  context.bits_ |= kForeign;
  if (!detail::decode_hex(id.view(), context.trace_id_, kTraceIdBytes, true) ||
      detail::all_zero(context.trace_id_, kTraceIdBytes)) {
    detail::hash_request_id(id.view(), context.trace_id_);
  }
  static_assert(sizeof(context.foreign_) == kMaxNameBytes + 1);
  detail::clean(id.view(), context.foreign_);
  return context;
}

Context Context::from_traceparent(Text traceparent, Text tracestate) noexcept {
  if (traceparent.empty()) return {};  // a request without the header
  Context context;
  if (!parse_traceparent(traceparent.view(), context)) {
    detail::count(detail::counters.invalid_ids);
    return {};
  }
  context.tracestate_ = detail::store_tracestate(tracestate.view());
  return context;
}

RequestId Context::request_id() const noexcept {
  if (empty()) return {};
  if ((bits_ & kForeign) != 0) return RequestId(std::string_view(foreign_));
  char text[detail::kRequestIdChars];
  detail::encode_request_id(trace_id_, text);
  return RequestId(std::string_view(text, sizeof(text)));
}

FixedString<32> Context::trace_id() const noexcept {
  if (empty()) return {};
  char text[2 * kTraceIdBytes];
  detail::encode_hex(trace_id_, kTraceIdBytes, text);
  return FixedString<32>(std::string_view(text, sizeof(text)));
}

FixedString<55> Context::traceparent() const noexcept {
  if (empty()) return {};
  char text[55];
  text[0] = text[1] = '0';
  text[2] = '-';
  detail::encode_hex(trace_id_, kTraceIdBytes, text + 3);
  text[35] = '-';
  // A parent id must not be zero. If no span has begun, it is derived from the trace id, so that every call returns the
  // same one.
  unsigned char parent[8];
  for (unsigned i = 0; i < 8; ++i) {
    parent[i] = span_id_ != 0 ? static_cast<unsigned char>(span_id_ >> (56U - 8U * i)) : trace_id_[8 + i];
  }
  if (detail::all_zero(parent, sizeof(parent))) parent[7] = 1;
  detail::encode_hex(parent, sizeof(parent), text + 36);
  text[52] = '-';
  // Flags that this version does not define are sent only if the context came unchanged from a traceparent.
  const unsigned char flags = (bits_ & kRemote) != 0 ? trace_flags_ : trace_flags_ & 3U;
  detail::encode_hex(&flags, 1, text + 53);
  return FixedString<55>(std::string_view(text, sizeof(text)));
}

FixedString<512> Context::tracestate() const noexcept {
  char text[detail::kMaxTracestateBytes + 1];
  const std::size_t size = detail::load_tracestate(tracestate_, text);
  return FixedString<512>(std::string_view(text, size));
}

void ContextScope::enter(const Context& context) noexcept {
  frame_.context = context;
  detail::push_frame(&frame_);
}

void ContextScope::leave() noexcept {
  if (!detail::remove_frame(&frame_)) detail::count(detail::counters.wrong_thread);
}

Context CoroutineContext::exchange(const Context& context) noexcept {
  leave();
  const Context before = frame_.context;
  frame_.context = context;
  armed_ = true;
  enter();
  return before;
}

void CoroutineContext::leave() noexcept {
  if (!entered_) return;
  entered_ = false;
  if (!detail::remove_frame(&frame_)) detail::count(detail::counters.wrong_thread);
}

void CoroutineContext::enter() noexcept {
  if (!armed_ || entered_) return;
  entered_ = true;
  detail::push_frame(&frame_);
}

}  // namespace nopspan
