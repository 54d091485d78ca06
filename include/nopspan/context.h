// SPDX-License-Identifier: Apache-2.0
/// @file
/// Request ids and contexts: which request a span belongs to, and how that is passed between threads, coroutines and
/// processes.
///
/// @code
/// // A server: the request continues the trace of its caller.
/// const char* traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// nopspan::ContextScope scope{nopspan::Context::from_traceparent(traceparent)};
///
/// // To another thread:
/// auto task = nopspan::wrap([] { return nopspan::request_id(); });
///
/// // To another process: the value of its "traceparent" header. propagation.h writes and reads whole headers.
/// std::string header = nopspan::Context::current().traceparent();
/// @endcode
///
/// Thread safety: the free functions and the static functions of Context may be called from any thread at any time. A
/// Context is a plain value, as thread-safe as an int. A ContextScope belongs to the thread that created it. It may be
/// used in a signal handler, under the conditions that span.h names.
#ifndef NOPSPAN_CONTEXT_H
#define NOPSPAN_CONTEXT_H

#include <nopspan/detail/config.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

class AsyncSpan;
class Span;

namespace detail {
struct ContextAccess;
struct ScopeFrame;
struct SpanState;

// A context without the text of its request id.
struct ContextHead {
  static constexpr std::size_t kLabels = 6;  // engine, model, tenant, and three more

  unsigned char trace_id[16] = {};
  std::uint64_t span_id = 0;
  std::uint64_t root_id = 0;
  std::uint64_t headers = 0;  // tracestate and baggage: a handle into a bounded store, or 0
  std::uint16_t labels[kLabels] = {};
  std::uint8_t trace_flags = 0;
  std::uint8_t bits = 0;
  std::uint16_t provider = 0;   // the provider of the engine, as a label; 0: none
  std::uint64_t parent_id = 0;  // the parent of the span of span_id; 0 if it has none, or is another process's
};
}  // namespace detail

/// A request id as text: 22 characters of URL-safe Base64, or an id of another form that the application chose, of at
/// most 63 bytes.
using RequestId = FixedString<63>;

/// Makes a new request id: 22 characters for 16 random bytes.
NOPSPAN_API RequestId make_request_id() noexcept NOPSPAN_IN_SHELL(return {});

/// The request id of the thread's current context; empty if there is none. Inside a ContextScope with a request, it is
/// always known. Outside such a scope, the root span of the request makes the id, unless its metadata has one
/// (Fields::request_id()). A root span that is not recorded makes none.
NOPSPAN_API RequestId request_id() noexcept NOPSPAN_IN_SHELL(return {});

/// A place in a trace: the request (16 bytes, the trace id of W3C and OTLP), the innermost span, and the labels that
/// child spans inherit. It is a plain value of at most 128 bytes, which may be copied, kept, and sent to another
/// thread.
class Context {
 public:
  /// An empty context. A span with this context as its parent starts a new request.
  constexpr Context() noexcept = default;

  /// A context for a new request.
  NOPSPAN_API static Context make() noexcept NOPSPAN_IN_SHELL(return {});

  /// The calling thread's context: that of its innermost Span or ContextScope. It is empty if there is neither. If a
  /// span that was not recorded may enclose the call, nopspan marks the empty context as unknown. Child spans of an
  /// unknown context are reported as orphans and not as root spans.
  NOPSPAN_API static Context current() noexcept NOPSPAN_IN_SHELL(return {});

  /// A context for a request whose id comes from elsewhere.
  ///
  /// - 22 characters as make_request_id() returns them, and 32 hexadecimal digits, are the trace id itself.
  /// - Other text is kept as the request id and hashed to the trace id. Control characters and bytes that are not UTF-8
  ///   become "?". More than 63 bytes are truncated with "…" and counted (stats().truncated).
  /// - Null and empty text give a new id, and are counted (stats().invalid_ids).
  NOPSPAN_API static Context with_request_id(Text id) noexcept NOPSPAN_IN_SHELL(return {});

  /// The context in the headers of W3C Trace Context (https://www.w3.org/TR/trace-context/). It is empty if
  /// `traceparent` is null, empty or malformed; a malformed one is counted (stats().invalid_ids). If `tracestate` alone
  /// is malformed, it is dropped and counted (stats().invalid_tracestate). A tracestate of more than 512 bytes loses
  /// whole members: first those of more than 128 bytes, then those at the end.
  NOPSPAN_API static Context from_traceparent(Text traceparent, Text tracestate = {}) noexcept
      NOPSPAN_IN_SHELL(return {});

  /// Whether the context names no request.
  [[nodiscard]] constexpr bool empty() const noexcept { return (head_.bits & kHasTrace) == 0; }
  /// Whether the context names a request.
  constexpr explicit operator bool() const noexcept { return !empty(); }

  /// The request id; empty for an empty context.
  [[nodiscard]] NOPSPAN_API RequestId request_id() const noexcept NOPSPAN_IN_SHELL(return {});
  /// The trace id: 32 lower-case hexadecimal digits; empty for an empty context.
  [[nodiscard]] NOPSPAN_API FixedString<32> trace_id() const noexcept NOPSPAN_IN_SHELL(return {});
  /// The innermost span; 0 if no span has started yet.
  [[nodiscard]] constexpr std::uint64_t span_id() const noexcept { return head_.span_id; }
  /// The root span of the request in this process; 0 if none has started yet.
  [[nodiscard]] constexpr std::uint64_t root_id() const noexcept { return head_.root_id; }
  /// Whether the caller of this process wants the trace kept: the sampled flag of its traceparent.
  [[nodiscard]] constexpr bool sampled() const noexcept { return (head_.trace_flags & 1U) != 0; }

  /// The value of a label that child spans inherit: "engine", "model", "tenant", or a key of Fields::label(). Empty if
  /// it is not set; "other" if the process has used too many values.
  [[nodiscard]] NOPSPAN_API FixedString<63> label(Text key) const noexcept NOPSPAN_IN_SHELL(return {});
  /// This context with another value of a label; see Fields::label(). Null or empty text removes the label. A key over
  /// the limit changes nothing, and is counted (stats().labels_overflow).
  [[nodiscard]] NOPSPAN_API Context with_label(Text key, Text value) const noexcept NOPSPAN_IN_SHELL(return *this);

  /// The header `traceparent` for a call to another process; empty for an empty context. A context that comes from
  /// from_traceparent(), with no recorded span in between, returns the headers that it was made from. A process that
  /// records nothing therefore does not break the trace.
  [[nodiscard]] NOPSPAN_API FixedString<55> traceparent() const noexcept NOPSPAN_IN_SHELL(return {});
  /// The header `tracestate`; empty if there is none. A request with an id of the application has the value `ot=rv:…`,
  /// by which the samplers of OpenTelemetry choose the same requests everywhere.
  [[nodiscard]] NOPSPAN_API FixedString<512> tracestate() const noexcept NOPSPAN_IN_SHELL(return {});

 private:
  friend class ContextRef;
  friend struct detail::ContextAccess;
  static constexpr std::uint8_t kHasTrace = 1;       // trace_id is set
  static constexpr std::uint8_t kRemote = 2;         // span_id is another process's
  static constexpr std::uint8_t kForeign = 4;        // foreign_ is the request id
  static constexpr std::uint8_t kUntraced = 8;       // a span may be running here that was not recorded
  static constexpr std::uint8_t kUnrecorded = 16;    // from an AsyncSpan that was not recorded, or that has ended
  static constexpr std::uint8_t kRemoteParent = 32;  // parent_id is another process's
  static constexpr std::uint8_t kOrphan = 64;        // the parent of the span was not recorded, or may not have been

  detail::ContextHead head_;
  char foreign_[64] = {};
};
static_assert(std::is_trivially_copyable_v<Context> && sizeof(Context) <= 128);

namespace detail {
// The default value of a parameter. A temporary would cost zeroing 120 bytes before the gate is read.
NOPSPAN_CONSTANT Context no_context{};

// A context that is current on a thread. The thread owns the frame, and reuses it with another generation.
struct EnteredContext {
  ScopeFrame* frame = nullptr;  // null: it is not current
  std::uint64_t generation = 0;
};
// If `coroutine` is given, the context also stops being current when that coroutine, its address, has run to its end.
NOPSPAN_API EnteredContext enter_context(const Context& context, void* coroutine = nullptr) noexcept
    NOPSPAN_IN_SHELL(return {});
NOPSPAN_API void leave_context(const EnteredContext& entered) noexcept NOPSPAN_IN_SHELL();

// Of null: the thread's, an unknown one, and the current one or an unknown one.
NOPSPAN_API NOPSPAN_COLD Context span_context(SpanState*) noexcept NOPSPAN_IN_SHELL(return {});
NOPSPAN_API NOPSPAN_COLD Context async_context(SpanState*) noexcept NOPSPAN_IN_SHELL(return {});
NOPSPAN_API NOPSPAN_COLD Context async_parent(SpanState*) noexcept NOPSPAN_IN_SHELL(return {});
NOPSPAN_API NOPSPAN_COLD std::uint64_t id_of(const SpanState*) noexcept NOPSPAN_IN_SHELL(return {});
}  // namespace detail

/// A context as an argument: a Context, or a Span or AsyncSpan, which stands for its context(), or for the thread's
/// current context if it is not recorded. The context of a span is computed only if it is needed. A ContextRef refers
/// to the object, and is valid as long as that.
class ContextRef {
 public:
  /// The empty context.
  constexpr ContextRef() noexcept : ContextRef(detail::no_context) {}
  /// A context.
  constexpr ContextRef(const Context& context) noexcept : object_(&context) {}  // NOLINT(*-explicit-*)
  /// The context of a span; see Span::context().
  ContextRef(const Span& span) noexcept;  // NOLINT(*-explicit-*)
  /// The context of a span; see AsyncSpan::context().
  ContextRef(const AsyncSpan& span) noexcept;  // NOLINT(*-explicit-*)

  /// The context.
  [[nodiscard]] Context context() const noexcept {
    if (of_ == Of::context) return *static_cast<const Context*>(object_);
    return of_ == Of::span ? detail::span_context(state()) : detail::async_parent(state());
  }

  /// @cond INTERNAL
  // The calling thread's context. Computing it costs less than Context::current().
  static constexpr ContextRef current() noexcept { return {nullptr, Of::span}; }
  // The id of the span; 0 if it is not recorded, or if the context has no span of this process.
  [[nodiscard]] std::uint64_t recorded_id() const noexcept {
    if (of_ != Of::context) return object_ != nullptr ? detail::id_of(state()) : 0;
    const Context& context = *static_cast<const Context*>(object_);
    return (context.head_.bits & Context::kRemote) != 0 ? 0 : context.span_id();
  }
  // The first eight bytes of the trace id, as a number; 0 if there is none. With `only_remote`, 0 also unless this is a
  // context whose span is another process's.
  [[nodiscard]] std::uint64_t trace_key(bool only_remote) const noexcept {
    if (of_ != Of::context) return only_remote ? 0 : trace_key_of(this->context());
    const Context& context = *static_cast<const Context*>(object_);
    return only_remote && (context.head_.bits & Context::kRemote) == 0 ? 0 : trace_key_of(context);
  }
  /// @endcond

 private:
  friend class ContextScope;
  friend struct detail::ContextAccess;
  enum class Of : std::uint8_t { context, span, async_span };

  static std::uint64_t trace_key_of(const Context& context) noexcept {
    std::uint64_t key = 0;
    if ((context.head_.bits & Context::kHasTrace) != 0) __builtin_memcpy(&key, context.head_.trace_id, sizeof(key));
    return key;
  }
  constexpr ContextRef(const void* object, Of of) noexcept : object_(object), of_(of) {}
  [[nodiscard]] detail::SpanState* state() const noexcept {
    return static_cast<detail::SpanState*>(const_cast<void*>(object_));
  }

  const void* object_;  // the Context, or the SpanState
  Of of_ = Of::context;
};

/// Makes a context the calling thread's current one for as long as this object lives, whether or not a tracer or
/// handler is attached. It costs some nanoseconds (docs/overhead.md).
///
/// - Destroy it on the thread that created it. If another thread destroys it, this is counted (stats().wrong_thread).
///   The thread that created it no longer uses the context, and reuses the memory.
/// - Destroy nested scopes innermost first. If a scope is destroyed while ContextScopes or Spans inside it are still
///   open, these are no longer current on the thread, and are counted (stats().scopes_left). The same happens to all
///   that are open when a thread ends. So a scope whose destructor never ran is removed with the scope around it. A
///   destructor does not run if an exception passes through code that was compiled without exceptions, for example.
/// - If there is no memory, the context does not become current, and this is counted (stats().contexts_dropped).
/// - Never hold one across a co_await. coroutine.h has a scope for coroutines.
class ContextScope {
 public:
  /// Makes `context`, which is copied, the current one. With an empty context, spans in the scope start new requests.
  [[nodiscard]] explicit ContextScope(ContextRef context) noexcept
      : entered_(context.of_ == ContextRef::Of::context
                     ? detail::enter_context(*static_cast<const Context*>(context.object_))
                     : detail::enter_context(context.context())) {}
  /// Restores the context that was current before.
  ~ContextScope() { detail::leave_context(entered_); }
  ContextScope(const ContextScope&) = delete;             ///< a scope is not copied
  ContextScope& operator=(const ContextScope&) = delete;  ///< a scope is not copied

 private:
  detail::EnteredContext entered_;
};

namespace detail {

// What wrap() returns.
template <class F>
class [[nodiscard]] Wrapped {
 public:
  template <class G>
  Wrapped(const Context& context, G&& callable) : context_(context), callable_(std::forward<G>(callable)) {}

  template <class... A>
  auto operator()(A&&... arguments) & -> decltype(std::declval<F&>()(std::forward<A>(arguments)...)) {
    const ContextScope here{context_};
    return callable_(std::forward<A>(arguments)...);
  }
  template <class... A>
  auto operator()(A&&... arguments) const& -> decltype(std::declval<const F&>()(std::forward<A>(arguments)...)) {
    const ContextScope here{context_};
    return callable_(std::forward<A>(arguments)...);
  }
  template <class... A>
  auto operator()(A&&... arguments) && -> decltype(std::declval<F>()(std::forward<A>(arguments)...)) {
    const ContextScope here{context_};
    return std::move(callable_)(std::forward<A>(arguments)...);
  }

 private:
  Context context_;
  F callable_;
};

}  // namespace detail

/// Returns a callable that calls `work` with `context` current, for a thread pool or a callback. It has a copy of the
/// context, takes the arguments of `work` and returns what that returns. It can be copied if `work` can, and called
/// from any thread.
template <class F>
[[nodiscard]] inline detail::Wrapped<std::decay_t<F>> wrap(ContextRef context, F&& work) {
  return {context.context(), std::forward<F>(work)};
}
/// The same with the calling thread's current context: `pool.submit(nopspan::wrap([] { … }))`.
template <class F>
[[nodiscard]] inline detail::Wrapped<std::decay_t<F>> wrap(F&& work) {
  return {Context::current(), std::forward<F>(work)};
}

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_CONTEXT_H
