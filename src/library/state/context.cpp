// SPDX-License-Identifier: Apache-2.0
#include <nopspan/context.h>

#include "base/clean_text.h"
#include "base/counters.h"
#include "gate/gate.h"
#include "state/baggage.h"
#include "state/context_access.h"
#include "state/context_stack.h"
#include "state/given_contexts.h"
#include "state/header_store.h"
#include "state/identity.h"
#include "state/orphans.h"
#include "thread/thread_state.h"

#include <nopspan/coroutine.h>
#include <nopspan/probes.h>
#include <nopspan/propagation.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace nopspan {
namespace {

using detail::kTraceIdBytes;

constexpr std::uint8_t kSampledFlag = 1;

// A context of a new request. Its id comes from process_random() if there is no memory for a thread state, and in a
// signal handler that interrupted the library, because that may be using the thread's random bytes.
Context fresh() noexcept {
  Context context;
  detail::ContextHead& head = detail::ContextAccess::head(context);
  const bool is_interrupted = detail::locals.state != nullptr && detail::locals.state->busy;
  if (detail::ThreadState* thread = is_interrupted ? nullptr : detail::thread_state(); thread != nullptr) {
    const detail::InsideLibrary inside(thread);
    thread->clock.now();  // for make_trace_id()
    detail::make_trace_id(thread, head.trace_id);
  } else {
    detail::process_random(head.trace_id, kTraceIdBytes);
  }
  head.bits = detail::ContextAccess::kHasTrace;
  head.trace_flags = kSampledFlag;
  return context;
}

// 0 if it is malformed.
std::uint64_t read_span_id(std::string_view hex) noexcept {
  unsigned char bytes[8];
  std::uint64_t id = 0;
  if (!detail::decode_hex(hex, bytes, sizeof(bytes), false)) return id;
  for (const unsigned char byte : bytes) id = (id << 8U) | byte;
  return id;
}

// Parses a traceparent header. False if it is malformed. Blanks around it are not part of it. Version 00 has exactly 55
// characters. A later version begins with the same 55 characters and may continue after a dash (W3C Trace Context,
// sections 3.2.4 and 4.3).
bool parse_traceparent(std::string_view header, detail::ContextHead& context) noexcept {
  constexpr std::size_t kSize = 55;
  header = detail::trim(header);
  if (header.size() < kSize || header[2] != '-' || header[35] != '-' || header[52] != '-') return false;
  unsigned char version = 0;
  unsigned char flags = 0;
  if (!detail::decode_hex(header.substr(0, 2), &version, 1, false) || version == 0xff) return false;
  if (version == 0 ? header.size() != kSize : header.size() > kSize && header[kSize] != '-') return false;
  if (!detail::decode_hex(header.substr(3, 32), context.trace_id, kTraceIdBytes, false)) return false;
  if (detail::all_zero(context.trace_id, kTraceIdBytes)) return false;
  context.span_id = read_span_id(header.substr(36, 16));
  if (context.span_id == 0 || !detail::decode_hex(header.substr(53, 2), &flags, 1, false)) return false;
  context.trace_flags = version == 0 ? flags : flags & kSampledFlag;
  context.bits = detail::ContextAccess::kHasTrace | detail::ContextAccess::kRemote;
  return true;
}

// Whether an application's id is a trace id in hexadecimal, which is not hashed.
bool is_hex_id(std::string_view id) noexcept {
  return id.size() == 2 * kTraceIdBytes && id.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

}  // namespace

namespace detail {
namespace {

constexpr std::size_t kMaxItems = 32;  // of a tracestate: W3C Trace Context, 3.3.1.1

// True for a key of Level 2: a lower-case letter or a digit, and up to 255 of these or of "_-*/@".
bool is_key(std::string_view key) {
  const auto is_first = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (key.empty() || key.size() > 256 || !is_first(key[0])) return false;
  return std::all_of(key.begin(), key.end(), [&](char c) {
    return is_first(c) || std::string_view("_-*/@").find(c) != std::string_view::npos;
  });
}

bool is_value(std::string_view value) {
  if (value.empty() || value.size() > 256 || value.back() == ' ') return false;
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c <= 0x7e && c != ',' && c != '='; });
}

struct Items {
  std::array<std::string_view, kMaxItems> at;
  std::size_t count = 0;
  std::size_t bytes = 0;  // of all items with the commas between them
};

// Splits a header into its items. False if it is malformed. A key may occur twice: Level 2 requires that one of the two
// is forwarded, so both are.
bool parse(std::string_view header, Items& items) {
  while (true) {
    const std::size_t comma = header.find(',');
    const std::string_view item = trim(header.substr(0, comma));
    if (!item.empty()) {  // empty items are allowed
      const std::size_t equals = item.find('=');
      if (equals == std::string_view::npos) return false;
      if (!is_key(item.substr(0, equals)) || !is_value(item.substr(equals + 1)) || items.count == kMaxItems) {
        return false;
      }
      items.at[items.count++] = item;
      items.bytes += item.size() + (items.count > 1 ? 1 : 0);
    }
    if (comma == std::string_view::npos) return true;
    header.remove_prefix(comma + 1);
  }
}

// Removes whole items, and counts them, until the rest fits: first those of more than 128 bytes, then from the end
// (W3C Trace Context, section 3.3.1.5).
void shorten(Items& items) {
  const auto remove = [&](std::size_t i) {
    items.bytes -= items.at[i].size() + (items.count > 1 ? 1 : 0);
    std::move(items.at.begin() + static_cast<std::ptrdiff_t>(i) + 1,
              items.at.begin() + static_cast<std::ptrdiff_t>(items.count),
              items.at.begin() + static_cast<std::ptrdiff_t>(i));
    --items.count;
    count(counters.invalid_tracestate);
  };
  for (std::size_t i = items.count; i-- > 0 && items.bytes > kMaxTracestateBytes;) {
    if (items.at[i].size() > 128) remove(i);
  }
  while (items.bytes > kMaxTracestateBytes) remove(items.count - 1);
}

// Copies a tracestate, which may have several header lines, to `out` (512 bytes), and returns its length. A malformed
// one is dropped, a long one loses whole items, and both are counted.
std::size_t check_tracestate(const Text* lines, std::size_t count_of_lines, char* out) noexcept {
  Items items;
  for (std::size_t i = 0; i < count_of_lines; ++i) {
    if (parse(lines[i].view(), items)) continue;
    count(counters.invalid_tracestate);
    return 0;
  }
  shorten(items);
  std::size_t size = 0;
  for (std::size_t i = 0; i < items.count; ++i) {
    if (i > 0) out[size++] = ',';
    std::memcpy(out + size, items.at[i].data(), items.at[i].size());
    size += items.at[i].size();
  }
  return size;
}

}  // namespace

bool is_header(Text key, Text name) noexcept { return is_same_word(key.view(), name.view()); }

Context read_headers(const ReceivedHeaders& received) noexcept {
  const InsideLibrary inside;
  Context context;
  ContextHead& head = ContextAccess::head(context);
  char tracestate[kMaxTracestateBytes];
  std::size_t tracestate_size = 0;
  if (received.traceparent.count == 1 && parse_traceparent(received.traceparent.lines[0].view(), head)) {
    tracestate_size = check_tracestate(received.tracestate.lines, received.tracestate.size(), tracestate);
  } else if (received.traceparent.count != 0) {
    count(counters.invalid_ids);
    head = {};
  }
  if (received.tracestate.count > received.tracestate.size()) count(counters.invalid_tracestate);
  if (received.baggage.count > received.baggage.size()) count(counters.baggage_dropped);
  if (tracestate_size == 0 && received.baggage.count == 0) return context;
  StoredBaggage baggage;
  read_baggage(received.baggage.lines, received.baggage.size(), head, baggage);
  head.headers = store_headers({tracestate, tracestate_size}, baggage.view());
  return context;
}

Context context_at(const TracePlace& place, bool is_remote, Text tracestate, Text baggage) noexcept {
  const InsideLibrary inside;
  Context context;
  ContextHead& head = ContextAccess::head(context);
  char checked[kMaxTracestateBytes];
  std::size_t size = 0;
  if (place.span_id != 0 && !all_zero(place.trace_id, kTraceIdBytes)) {
    std::memcpy(head.trace_id, place.trace_id, kTraceIdBytes);
    head.span_id = place.span_id;
    head.trace_flags = place.trace_flags;
    head.bits = ContextAccess::kHasTrace | (is_remote ? ContextAccess::kRemote : 0);
    if (!tracestate.empty()) size = check_tracestate(&tracestate, 1, checked);
  }
  if (size == 0 && baggage.empty()) return context;
  StoredBaggage stored;
  if (!baggage.empty()) read_baggage(&baggage, 1, head, stored);
  head.headers = store_headers({checked, size}, stored.view());
  return context;
}

TracePlace place_of(const Context& context) noexcept { return place_in(ContextAccess::head(context)); }

}  // namespace detail

Context extract_environment() noexcept {
  detail::ReceivedHeaders received;
  received.traceparent.add(std::getenv("TRACEPARENT"));
  received.tracestate.add(std::getenv("TRACESTATE"));
  received.baggage.add(std::getenv("BAGGAGE"));
  return detail::read_headers(received);
}

RequestId make_request_id() noexcept { return fresh().request_id(); }

RequestId request_id() noexcept {
  const detail::Frame* top = detail::top_frame();
  return top != nullptr ? detail::make_context(*top->context, top->foreign_id).request_id() : RequestId();
}

Context Context::make() noexcept { return fresh(); }

Context Context::current() noexcept {
  const detail::Frame* top = detail::top_frame();
  if (top != nullptr) {
    if (top->span != nullptr) detail::note_given(*top->span);
    return detail::make_context(*top->context, top->foreign_id);
  }
  Context none;
  detail::ThreadState* thread = detail::spans_are_unrecorded() ? nullptr : detail::thread_state();
  if (thread == nullptr || detail::may_be_untraced(thread)) none.head_.bits = kUntraced;
  return none;
}

Context Context::with_request_id(Text id) noexcept {
  if (id.empty()) {
    detail::count(detail::counters.invalid_ids);
    return fresh();
  }
  Context context;
  context.head_.bits = kHasTrace;
  context.head_.trace_flags = kSampledFlag;
  if (nopspan_trace_id(id.data(), id.size(), context.head_.trace_id) != 0) return context;
  context.head_.bits |= kForeign;
  if (!detail::decode_hex(id.view(), context.head_.trace_id, kTraceIdBytes, true) ||
      detail::all_zero(context.head_.trace_id, kTraceIdBytes)) {
    nopspan_hashed_trace_id(id.data(), id.size(), context.head_.trace_id);
  }
  static_assert(sizeof(context.foreign_) == kMaxNameBytes + 1);
  detail::clean(id.view(), context.foreign_);
  return context;
}

Context Context::from_traceparent(Text traceparent, Text tracestate) noexcept {
  detail::ReceivedHeaders headers;
  headers.traceparent.add(traceparent);
  headers.tracestate.add(tracestate);
  return detail::read_headers(headers);
}

RequestId Context::request_id() const noexcept {
  if (empty()) return {};
  if ((head_.bits & kForeign) != 0) return RequestId(std::string_view(foreign_));
  char text[detail::kRequestIdChars];
  nopspan_request_id(head_.trace_id, text);
  return RequestId(std::string_view(text, sizeof(text)));
}

FixedString<32> Context::trace_id() const noexcept {
  if (empty()) return {};
  char text[2 * kTraceIdBytes];
  detail::encode_hex(head_.trace_id, kTraceIdBytes, text);
  return FixedString<32>(std::string_view(text, sizeof(text)));
}

FixedString<55> Context::traceparent() const noexcept {
  if (empty()) return {};
  char text[55];
  text[0] = text[1] = '0';
  text[2] = '-';
  detail::encode_hex(head_.trace_id, kTraceIdBytes, text + 3);
  text[35] = '-';
  // A parent id must not be zero. If no span has begun, it is derived from the trace id, so that every call returns the
  // same one.
  if (head_.span_id != 0) {
    detail::encode_hex(head_.span_id, 16, text + 36);
  } else if (!detail::all_zero(head_.trace_id + 8, 8)) {
    detail::encode_hex(head_.trace_id + 8, 8, text + 36);
  } else {
    detail::encode_hex(1, 16, text + 36);
  }
  text[52] = '-';
  // Flags that this version does not define are sent only if the context came unchanged from a traceparent.
  const unsigned char flags = (head_.bits & kRemote) != 0 ? head_.trace_flags : head_.trace_flags & 3U;
  detail::encode_hex(flags, 2, text + 53);
  return FixedString<55>(std::string_view(text, sizeof(text)));
}

FixedString<512> Context::tracestate() const noexcept {
  char text[detail::kMaxTracestateBytes + 1];
  std::size_t size = detail::load_tracestate(head_.headers, text);
  // Samplers of other processes see only the trace id, and cannot know that it is a hash.
  if (size == 0 && (head_.bits & kForeign) != 0 && !is_hex_id(foreign_)) {
    constexpr std::string_view kKey = "ot=rv:";
    constexpr std::size_t kDigits = 14;
    std::memcpy(text, kKey.data(), kKey.size());
    detail::encode_hex(nopspan_hashed_randomness(head_.trace_id), kDigits, text + kKey.size());
    size = kKey.size() + kDigits;
  }
  return FixedString<512>(std::string_view(text, size));
}

namespace {

// The word by which start_coroutine() recognizes the context of a promise at this address.
std::uintptr_t check_of(const void* address) noexcept {
  return reinterpret_cast<std::uintptr_t>(address) ^ 0x9e3779b97f4a7c15U;
}

}  // namespace

// Reads a word that need not be in an object.
__attribute__((no_sanitize("address", "thread"))) void detail::CoroutineAccess::start(CoroutineContext& context,
                                                                                      void* coroutine) noexcept {
  if (context.check_ != check_of(&context) || context.coroutine_ != nullptr) return;
  context.coroutine_ = coroutine;
  context.enter();
}

void detail::start_coroutine(void* coroutine) noexcept {
  // The memory of a coroutine begins with two addresses of code. Then comes its promise. Those addresses are the same
  // for std::noop_coroutine(), which has no more memory.
  void* const* const code = static_cast<void**>(coroutine);
  if (code[0] == code[1]) return;
  auto* const context = reinterpret_cast<CoroutineContext*>(const_cast<void**>(code + 2));
  CoroutineAccess::start(*context, coroutine);
}

void CoroutineContext::inherit() noexcept {
  check_ = check_of(this);
  const detail::Frame* top = detail::top_frame();
  if (top == nullptr) return;
  if (top->span != nullptr) detail::note_given(*top->span);
  context_ = detail::make_context(*top->context, top->foreign_id);
  armed_ = is_inherited_ = true;
}

Context CoroutineContext::exchange(const Context& context) noexcept {
  leave();
  const Context before = context_;
  context_ = context;
  armed_ = true;
  is_inherited_ = false;
  enter();
  return before;
}

void CoroutineContext::leave() noexcept {
  detail::leave_context(entered_);
  entered_ = {};
}

void CoroutineContext::enter() noexcept {
  if (!armed_ || entered()) return;
  // Without its address nobody would notice the end of the coroutine. It is not known yet if the coroutine has never
  // been suspended. Then the caller's context is still current.
  if (is_inherited_ && coroutine_ == nullptr) return;
  entered_ = detail::enter_context(context_, is_inherited_ ? coroutine_ : nullptr);
}

}  // namespace nopspan
