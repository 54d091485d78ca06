// SPDX-License-Identifier: Apache-2.0
// Which request this is: ids, and how they travel between threads, coroutines and processes.
#ifndef NOPSPAN_CONTEXT_H
#define NOPSPAN_CONTEXT_H

#include <nopspan/config.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace nopspan {

namespace detail {
struct ContextAccess;
struct SpanState;
}  // namespace detail

// A request id in visible form: 22 characters of URL-safe Base64 (or a supplied id of another shape, at most 63 bytes).
using RequestId = FixedString<63>;

// A request id that nobody has used: 22 characters over 16 bytes from getrandom(2). Thread-safe.
NOPSPAN_API RequestId make_request_id() noexcept;

// The current thread's request id; empty when there is none. A request has one from its outermost span on while
// somebody listens, and inside a ContextScope at any time.
NOPSPAN_API RequestId request_id() noexcept;

// The place of some work in a trace: the request (16 bytes, the W3C and OTLP trace id), the innermost span, and the
// labels that spans below inherit. A plain value: copy it, keep it, send it to another thread. Its members are
// thread-safe as a plain value's are.
class Context {
 public:
  // An empty context: a span below it begins a new request.
  constexpr Context() noexcept = default;

  // A context for a new request.
  NOPSPAN_API static Context make() noexcept;

  // The calling thread's: that of its innermost Span or ContextScope. Empty when there is neither; a span that ran
  // before anybody listened is unknown, and a context taken from it marks the spans below as orphans rather than as new
  // roots.
  NOPSPAN_API static Context current() noexcept;

  // A context for a request whose id comes from elsewhere. 22 characters of the shape that make_request_id() gives, and
  // 32 hexadecimal digits, are the trace id itself. Another text is kept as the visible id (control characters and
  // bytes that are not UTF-8 replaced by "?", at most 63 bytes, cut visibly and counted) and hashed to the trace id.
  // Null and empty give a new id, and are counted (stats().invalid_ids).
  NOPSPAN_API static Context with_request_id(Text id) noexcept;

  // The context that W3C Trace Context headers name (https://www.w3.org/TR/trace-context/). Empty if `traceparent` is
  // null or empty, or malformed, which is counted (stats().invalid_ids); a malformed `tracestate` alone is left out,
  // and counted (stats().invalid_tracestate). Over 512 bytes, whole members of `tracestate` are left out: those over
  // 128 bytes first, then from the end.
  NOPSPAN_API static Context from_traceparent(Text traceparent, Text tracestate = {}) noexcept;

  [[nodiscard]] constexpr bool empty() const noexcept { return (bits_ & kHasTrace) == 0; }
  constexpr explicit operator bool() const noexcept { return !empty(); }

  // The visible id; empty for an empty context.
  [[nodiscard]] NOPSPAN_API RequestId request_id() const noexcept;
  // 32 lower-case hexadecimal digits; empty for an empty context.
  [[nodiscard]] NOPSPAN_API FixedString<32> trace_id() const noexcept;
  // The innermost span; 0 when no span has begun yet.
  [[nodiscard]] constexpr std::uint64_t span_id() const noexcept { return span_id_; }
  // The outermost span of this process; 0 when none has begun yet.
  [[nodiscard]] constexpr std::uint64_t root_id() const noexcept { return root_id_; }
  // Whether the caller of this process asked for the trace to be kept (the sampled flag of its traceparent).
  [[nodiscard]] constexpr bool sampled() const noexcept { return (trace_flags_ & 1U) != 0; }

  // The label that spans below inherit: "engine", "model", "tenant" and the keys of Fields::label(). Empty where there
  // is none; "other" where there were too many.
  [[nodiscard]] NOPSPAN_API FixedString<63> label(Text key) const noexcept;

  // The headers for a call to another process. Empty for an empty context. What came in by from_traceparent() goes out
  // unchanged where no span has begun in between, so that an untraced hop breaks nobody's trace.
  [[nodiscard]] NOPSPAN_API FixedString<55> traceparent() const noexcept;
  [[nodiscard]] NOPSPAN_API FixedString<512> tracestate() const noexcept;

 private:
  friend struct detail::ContextAccess;
  static constexpr std::uint8_t kHasTrace = 1;     // trace_id_ is set
  static constexpr std::uint8_t kRemote = 2;       // span_id_ is another process's
  static constexpr std::uint8_t kForeign = 4;      // foreign_ is the visible id
  static constexpr std::uint8_t kUntraced = 8;     // taken where a span may be running that nobody recorded
  static constexpr std::uint8_t kUnrecorded = 16;  // taken from an AsyncSpan that nobody recorded, or that has ended
  static constexpr std::size_t kLabels = 6;        // engine, model, tenant, and three more

  unsigned char trace_id_[16] = {};
  std::uint64_t span_id_ = 0;
  std::uint64_t root_id_ = 0;
  std::uint64_t tracestate_ = 0;  // handle into a bounded store; 0: none
  std::uint16_t labels_[kLabels] = {};
  std::uint8_t trace_flags_ = 0;
  std::uint8_t bits_ = 0;
  [[maybe_unused]] std::uint16_t reserved_ = 0;
  char foreign_[64] = {};
};
static_assert(std::is_trivially_copyable_v<Context> && sizeof(Context) <= 128);

namespace detail {
// The default of a parameter: a temporary would be zeroed, 120 bytes of it, before the gate is read.
NOPSPAN_CONSTANT Context no_context{};

// One entry of a thread's stack of contexts.
struct Frame {
  Frame* below = nullptr;
  SpanState* span = nullptr;  // null for a ContextScope
  Context context;
};
}  // namespace detail

// Makes a context the calling thread's for as long as this object lives, whether or not anybody listens. Costs one
// thread-local write. Destroy it on the thread that made it, innermost first; never hold one across a co_await
// (nopspan/coroutine.h has what is needed there).
class ContextScope {
 public:
  [[nodiscard]] explicit ContextScope(const Context& context) noexcept { enter(context); }
  ~ContextScope() { leave(); }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  NOPSPAN_API void enter(const Context& context) noexcept;
  NOPSPAN_API void leave() noexcept;

  detail::Frame frame_;
};

}  // namespace nopspan

#endif  // NOPSPAN_CONTEXT_H
