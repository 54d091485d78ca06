// SPDX-License-Identifier: Apache-2.0
/// @file
/// Spans: named pieces of work with a start and an end. While no tracer or handler is attached, a span loads one word
/// (the gate) and falls through one branch when it starts, and tests one pointer when it ends. All other code is out of
/// line and cold.
///
/// @code
/// // A closure: span() returns what the closure returns.
/// int rows = nopspan::span("db.query", [] { return 42; });
///
/// // A scope: the span ends where the scope ends.
/// nopspan::Span span{"db.update", [&](nopspan::Fields& f) { f.set("rows", rows); }};
/// if (rows == 0) span.fail("not_found");
/// span.event("db.retry", [](nopspan::Fields& f) { f.set("attempt", 1); });
///
/// // A span that may end anywhere: in a callback, in a slot of a batching engine, in a coroutine.
/// nopspan::AsyncSpan request{"engine.request", nopspan::Context::current()};
/// request.set("queue", "high");
/// request.end();
/// @endcode
///
/// A span emits events. Tracers and in-process handlers see its end differently:
///
/// | the span | handlers receive | probes that fire |
/// | --- | --- | --- |
/// | starts | NAME.start | span_start |
/// | ends without an exception | NAME.stop | span_stop |
/// | ends with an exception | NAME.exception, and no NAME.stop | span_stop, then span_exception |
///
/// Metadata is lazy: a callable that sets fields runs only if a tracer, or a handler of the span, is attached (of a
/// catalogue's span, or one that begins a request: any handler), or if open spans are kept (keep_open_spans() in
/// stats.h). Instrumentation never throws. If such a callable throws, or the conversion of a value or name, the
/// exception is swallowed and counted (stats().metadata_failures).
///
/// Signal handlers: a span may begin and end in a signal handler, wherever the signal handler interrupts the
/// application. The library does not call malloc() for a span, except to describe an exception. If the signal handler
/// interrupted the library, its span is not recorded, and is counted (stats().reentrant). There are three conditions:
///
/// - Metadata callables, in-process handlers and log sinks run in the signal handler too, so they must do only what a
///   signal handler may do.
/// - A span needs up to 12 KiB of stack, or up to 48 KiB if an exception leaves it. The kernel's frame for the signal
///   comes on top. So an alternate signal stack of SIGSTKSZ may be too small.
/// - In two cases the first span of a thread must not be in a signal handler, because glibc then allocates memory: if
///   the process had used more than 31 pthread keys when the library was loaded (stats().thread_allocations counts such
///   threads), and if libstdc++ was loaded by dlopen().
///
/// Thread safety: different threads may use different spans at the same time. One span belongs to one thread at a time.
/// A Span starts and ends on the same thread. An AsyncSpan may move between threads.
#ifndef NOPSPAN_SPAN_H
#define NOPSPAN_SPAN_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/gate.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/detail/span_result.h>
#include <nopspan/fields.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
NOPSPAN_SHELL_HEADER

/// C++ tracing for LLM services.
namespace NOPSPAN_NAMESPACE {

class StreamMeter;

/// The role of a span in a call. The numbers are those of OTLP's SpanKind.
enum class SpanKind : std::uint8_t {
  unspecified = 0,  ///< the kind that the catalogue has for this name; internal for all other names
  internal = 1,     ///< work inside this process
  server = 2,       ///< handles a request from another process
  client = 3,       ///< calls another process, and waits
  producer = 4,     ///< sends a message
  consumer = 5      ///< handles a message
};

/// Options for the start of a span. A SpanKind converts to them: `Span span{"db.query", SpanKind::client};`.
struct SpanOptions {
  /// The default: a span that starts now.
  constexpr SpanOptions() noexcept = default;
  /// A kind, and the time of the start.
  constexpr SpanOptions(SpanKind role, Time begin = {}) noexcept : kind(role), start(begin) {}  // NOLINT(*-explicit-*)

  SpanKind kind = SpanKind::unspecified;  ///< the role of the span
  Time start;                             ///< when the work started; 0 means now
};

#if NOPSPAN_SHELL
inline detail::SpanState* detail::span_begin(Name /*name*/, SpanOptions /*options*/) noexcept { return nullptr; }
inline detail::SpanState* detail::async_begin(Name /*name*/, ContextRef /*parent*/, SpanOptions /*options*/) noexcept {
  return nullptr;
}
#endif

/// The name of a catalogue's span (llm::chat). It carries the type of the builder that the span's callables take. It
/// converts to Name.
template <class F>
class SpanName : public Name {
 public:
  using Builder = F;  ///< the builder of the span's fields
  /// From a string literal; see Name.
  template <std::size_t N>
  constexpr explicit SpanName(const char (&literal)[N]) noexcept : Name(literal) {}
  /// From a Name.
  constexpr explicit SpanName(const Name& name) noexcept : Name(name) {}
};

/// The members that Span and AsyncSpan have in common. Programs do not use this class directly.
///
/// A span is recorded if it started while a tracer or handler was attached, or while open spans were kept
/// (keep_open_spans()). On a span that is not recorded, the setters do nothing, but their arguments are still computed.
/// If that is expensive, use with() or `if (span)`. The setters of FieldSetters set what is reported when the span
/// ends.
template <class Self>
class SpanSetters : public FieldSetters<Self> {
 public:
  SpanSetters(const SpanSetters&) = delete;             ///< spans are not copied
  SpanSetters& operator=(const SpanSetters&) = delete;  ///< spans are not copied

  /// Whether the span is recorded and has not ended. Use it to skip expensive computations.
  explicit operator bool() const noexcept { return state_ != nullptr; }

  /// Calls `fill(F&)` if the span is recorded. F is Fields, or the builder of a catalogue's span:
  /// `span.with<llm::ChatFields>([&](auto& m) { m.output_tokens(n); })`.
  template <class F = Fields, class M>
  Self& with(M&& fill) {
    if constexpr (!detail::takes<M, F>()) {
      detail::report_wrong_fields<M, F>();
    } else if (__builtin_expect(state_ != nullptr, 0)) {
      detail::fill<F>(detail::sink_of(state_), fill);
    }
    return static_cast<Self&>(*this);
  }

  /// Emits an event that belongs to this span and has only the fields that `fields(Fields&)` sets. The probe `event`
  /// fires. Handlers receive an event of that name with the span's ids. The callable runs only if a tracer or handler
  /// is attached to events, whether or not the span itself is recorded. Without a callable the event has no fields.
  template <class N, class M>
  void event(N&& name, M&& fields) const {
    detail::event_of(self(), std::forward<N>(name), fields);
  }
  /// @overload
  template <class N>
  void event(N&& name) const {
    event(std::forward<N>(name), [](Fields&) {});
  }

  /// Reports that the first token of a stream arrived now. `tokens_so_far` includes that token. Only the first call on
  /// a span counts.
  void first_token(std::uint64_t tokens_so_far = 1) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_first_token(state_, tokens_so_far);
  }
  /// Sets the time at which the span ended. Without this call, the clock is read when the span ends. A time before the
  /// start counts as the start.
  void end_at(Time end) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_end_at(state_, end.ns());
  }

  /// The request id of the span's context; empty if there is no request.
  [[nodiscard]] RequestId request_id() const noexcept { return self().context().request_id(); }

 protected:
  /// @cond INTERNAL
  constexpr SpanSetters() noexcept = default;
  ~SpanSetters() = default;

  detail::SpanState* state_ = nullptr;  // null: not recorded, or ended

 private:
  friend struct detail::FieldAccess;
  [[nodiscard]] const Self& self() const noexcept { return static_cast<const Self&>(*this); }
  /// @endcond
};

/// A span of the current scope. It is the thread's current span while it lives, so spans that start meanwhile are
/// its children. It ends where the scope ends. It cannot be copied or moved.
///
/// - Destroy it on the thread that created it. If another thread destroys it, it is emitted and counted
///   (stats().wrong_thread).
/// - Destroy nested spans innermost first. If a Span ends while Spans or ContextScopes inside it are open, these are no
///   longer current, and are counted (stats().scopes_left). The Spans are emitted when they end.
/// - Never hold one across a co_await. Coroutines use AsyncSpan.
///
/// Handlers receive `NAME.start` when it is created. When it is destroyed, they receive `NAME.stop`, or
/// `NAME.exception` instead if an exception leaves the scope. The probe `span_stop` fires at every end.
///
/// A destructor that runs during unwinding cannot see the exception, so the reason is reported as "unknown". To report
/// kind and reason, use the closure form span(), or call caught() in a catch clause inside the scope. A destructor
/// cannot see thread exit or cancellation either: the span then ends as NAME.stop.
class Span : public SpanSetters<Span> {
 public:
  Span(const Span&) = delete;             ///< spans are not copied
  Span& operator=(const Span&) = delete;  ///< spans are not copied

  /// Starts a span. `name` is the name of a catalogue's span (llm::chat) or any text; see Name.
  template <class N, std::enable_if_t<!detail::is_span<N>, int> = 0>
  [[nodiscard]] explicit Span(N&& name) noexcept : Span(std::forward<N>(name), SpanOptions()) {}

  /// Starts a span with options, which may be a SpanKind.
  template <class N>
  [[nodiscard]] Span(N&& name, SpanOptions options) noexcept {
    if constexpr (!detail::is_name<N>) {
      detail::report_wrong_name<N>();
    } else if (detail::span_wanted<N>()) {
      state_ = detail::span_begin(Name(name), options);
      if (state_ != nullptr) detail::span_started(state_);
    }
  }

  /// Starts a span with metadata. The argument of `metadata` is the builder of the name's fields: Fields&, or the
  /// catalogue's own. `metadata` runs only if the span is recorded, on this thread, before the constructor returns.
  template <class N, class M, std::enable_if_t<!detail::is_options<M>, int> = 0>
  [[nodiscard]] Span(N&& name, M&& metadata) : Span(std::forward<N>(name), SpanOptions(), metadata) {}

  /// Starts a span with options and metadata.
  template <class N, class M>
  [[nodiscard]] Span(N&& name, SpanOptions options, M&& metadata) {
    using Builder = detail::builder_t<N>;
    if constexpr (!detail::is_name<N>) {
      detail::report_wrong_name<N>();
    } else if constexpr (detail::is_parent<M>) {
      detail::report_parent_of_scope<M>();
    } else if constexpr (!detail::takes<M, Builder>()) {
      detail::report_wrong_fields<M, Builder>();
    } else if (detail::span_wanted<N>()) {
      start<Builder>(Name(name), options, metadata);
    }
  }

  /// @cond INTERNAL
  // Reports a parent, or a wrong order.
  template <class N, class A, class... Rest,
            std::enable_if_t<detail::may_report<N, const A&, Rest...> && sizeof...(Rest) != 0 &&
                                 (detail::is_parent<const A&> || !detail::are_ordered<1, const A&, Rest...>),
                             int> = 0>
  Span(N&& /*name*/, const A& /*wrong*/, Rest&&... /*rest*/) {
    if constexpr (detail::is_parent<const A&> || (detail::is_parent<Rest> || ...)) {
      detail::report_parent_of_scope<const A&, Rest...>();
    } else {
      detail::report_order<const A&, Rest...>();
    }
  }
  /// @endcond

  /// Ends the span.
  ~Span() {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_end(state_);
  }

  /// Reports that the work failed without an exception: the status is 1 (error), and `error.type` is `type`, for
  /// example "timeout" or "my::Error". `message` is content (see Fields::content()). Only the first call of fail() or
  /// cancel() counts. An exception that leaves the scope overrides both.
  ///
  /// A type has letters, digits, characters of "_:.-", and template arguments in "<>". Any other text may be a message.
  /// Then `error.type` is "_OTHER", the text is the message if there is no `message`, and this is counted
  /// (stats().names_invalid). An empty type is the attribute `error.type` if the span has it, otherwise "_OTHER".
  void fail(Text type, Text message = {}) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_fail(state_, type, message);
  }
  /// Reports that the work was stopped on purpose: the status is 2 (cancelled), which error rates do not count.
  void cancel(Text reason = {}) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_cancel(state_, reason);
  }
  /// Reports that the exception that is being handled ended the work: the span ends as `NAME.exception` with its kind
  /// and reason, at the end of the scope. Overrides fail() and cancel(). Call it inside catch (...), and rethrow
  /// afterwards, because catch (...) catches thread exit and cancellation too.
  void caught() noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_exception(state_);
  }

  /// The span's place in its trace. For a span that is not recorded: the thread's current context, as
  /// Context::current() returns it.
  [[nodiscard]] Context context() const noexcept { return detail::span_context(state_); }

 private:
  friend class ContextRef;
  friend struct detail::SpanAccess;
  template <class F, class M>
  void start(Name name, SpanOptions options, M&& metadata) {
    detail::SpanState* state = detail::span_begin(name, options);
    if (state == nullptr) return;
    detail::fill_begun<F, detail::span_end>(state, metadata);
    state_ = state;
    detail::span_started(state);
  }
};

/// A span that may end anywhere: in a slot of a batching engine, in a callback, in a coroutine. It has eight bytes, can
/// be moved, and is empty by default.
///
/// - It never changes the current context of a thread. Its parent is the context that the constructor is given. Without
///   one, it starts a new request. Give its children span.context().
/// - To forward the trace to another process, use span.context_or(parent), because a span that is not recorded has no
///   known context. Where it is given as a parent, it stands for the thread's current context then.
/// - Spans inside it that begin later, such as the phases of an engine's request, get span.context(), and not
///   context_or(parent): see there.
/// - It may end on any thread, by end(), fail(), cancel() or caught(). The first call ends it, and later calls do
///   nothing.
/// - If it is destroyed or assigned to before that, it ends as cancelled, and is counted (stats().abandoned).
/// - If an exception destroys it before that, it ends as `NAME.exception`. The reason is "unknown", as for a Span.
class AsyncSpan : public SpanSetters<AsyncSpan> {
 public:
  /// An empty span, on which every member does nothing.
  constexpr AsyncSpan() noexcept = default;

  /// Starts a child span of `parent`: a Context, a Span or an AsyncSpan. `name` and `options` are as for Span.
  template <class N, std::enable_if_t<!detail::is_span<N>, int> = 0>
  [[nodiscard]] explicit AsyncSpan(N&& name, ContextRef parent = {}, SpanOptions options = {}) noexcept {
    if constexpr (!detail::is_name<N>) {
      detail::report_wrong_name<N>();
    } else if (detail::span_wanted<N>()) {
      state_ = detail::async_begin(Name(name), parent, options);
      if (state_ != nullptr) detail::span_started(state_);
    }
  }

  /// Starts a child span with metadata; see Span.
  template <class N, class M, std::enable_if_t<!detail::is_options<M>, int> = 0>
  [[nodiscard]] AsyncSpan(N&& name, ContextRef parent, M&& metadata)
      : AsyncSpan(std::forward<N>(name), parent, SpanOptions(), metadata) {}

  /// Starts a child span with options and metadata.
  template <class N, class M>
  [[nodiscard]] AsyncSpan(N&& name, ContextRef parent, SpanOptions options, M&& metadata) {
    using Builder = detail::builder_t<N>;
    if constexpr (!detail::is_name<N>) {
      detail::report_wrong_name<N>();
    } else if constexpr (!detail::takes<M, Builder>()) {
      detail::report_wrong_fields<M, Builder>();
    } else if (detail::span_wanted<N>()) {
      start<Builder>(Name(name), parent, options, metadata);
    }
  }

  /// Starts the first span of a new request, with metadata, or with options if `metadata` converts to SpanOptions.
  template <class N, class M, std::enable_if_t<!detail::is_parent<M>, int> = 0>
  [[nodiscard]] AsyncSpan(N&& name, M&& metadata) : AsyncSpan(std::forward<N>(name), ContextRef(), metadata) {}

  /// Starts the first span of a new request, with options and metadata.
  template <class N, class O, class M, std::enable_if_t<detail::is_options<O> && !detail::is_parent<M>, int> = 0>
  [[nodiscard]] AsyncSpan(N&& name, const O& options, M&& metadata)
      : AsyncSpan(std::forward<N>(name), ContextRef(), options, metadata) {}

  /// @cond INTERNAL
  // Reports a wrong order.
  template <class N, class A, class... Rest,
            std::enable_if_t<detail::may_report<N, const A&, Rest...> && sizeof...(Rest) != 0 &&
                                 !detail::are_ordered_with_parent<1, const A&, Rest...>(),
                             int> = 0>
  AsyncSpan(N&& /*name*/, const A& /*first*/, Rest&&... /*rest*/) {
    detail::report_order<const A&, Rest...>();
  }
  /// @endcond

  /// Takes the span from `other`, which is empty afterwards.
  AsyncSpan(AsyncSpan&& other) noexcept { state_ = std::exchange(other.state_, nullptr); }
  /// Abandons the span that this object holds, and takes the span from `other`, which is empty afterwards.
  AsyncSpan& operator=(AsyncSpan&& other) noexcept {
    if (this != &other) {
      abandon();
      state_ = std::exchange(other.state_, nullptr);
    }
    return *this;
  }
  /// Abandons the span if it has not ended.
  ~AsyncSpan() { abandon(); }

  /// Ends the span: status 0 (ok).
  void end() noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::async_end(std::exchange(state_, nullptr));
  }
  /// Ends the span as failed; see Span::fail().
  void fail(Text type, Text message = {}) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) {
      detail::span_fail(state_, type, message);
      detail::async_end(std::exchange(state_, nullptr));
    }
  }
  /// Ends the span as cancelled; see Span::cancel().
  void cancel(Text reason = {}) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) {
      detail::span_cancel(state_, reason);
      detail::async_end(std::exchange(state_, nullptr));
    }
  }
  /// Ends the span with the exception that is being handled, and emits `NAME.exception`. Call it inside catch (...),
  /// and rethrow afterwards, because catch (...) catches thread exit and cancellation too.
  void caught() noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) {
      detail::span_exception(state_);
      detail::async_end(std::exchange(state_, nullptr));
    }
  }

  /// The span's place in its trace. If the span is not recorded or has ended, the result is an unknown context: it is
  /// empty, and its child spans are orphans.
  [[nodiscard]] Context context() const noexcept { return detail::async_context(state_); }
  /// The same as context(). If the span is not recorded or has ended, the result is `parent`. Forward this context to
  /// other processes and coroutines, so that a trace from outside is not lost in a process that records nothing.
  /// Do not give it to spans inside this one that begin later. If this span is not recorded, because it began before a
  /// tracer attached, they would be children of `parent`, and if `parent` is empty, requests of their own that are
  /// counted as such. Children of context() are orphans instead, which readers know as parts of an early request.
  [[nodiscard]] Context context_or(ContextRef parent) const noexcept {
    return state_ != nullptr ? detail::async_context(state_) : parent.context();
  }

 private:
  friend class ContextRef;
  friend class StreamMeter;
  friend struct detail::SpanAccess;
  void abandon() noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::async_abandon(std::exchange(state_, nullptr));
  }
  template <class F, class M>
  void start(Name name, ContextRef parent, SpanOptions options, M&& metadata) {
    detail::SpanState* state = detail::async_begin(name, parent, options);
    if (state == nullptr) return;
    detail::fill_begun<F, detail::async_abandon>(state, metadata);
    state_ = state;
    detail::span_started(state);
  }
};
static_assert(sizeof(AsyncSpan) == sizeof(void*));

/// An AsyncSpan with its context, which is also known if the span is not recorded. It is for a request that one
/// function begins and others continue, such as the callbacks of a framework's middleware. All of these have the same
/// RequestSpan, for example in what the framework keeps for each request:
///
/// @code
/// nopspan::RequestSpan request;
/// // Before the handler. The parent is extract(headers).
/// request = nopspan::RequestSpan{"http.server", nopspan::Context(), nopspan::SpanKind::server};
/// // In the handler, and in other callbacks:
/// { const nopspan::ContextScope here{request.context}; }
/// // After the handler:
/// request.span.set("http.response.status_code", 200).end();
/// @endcode
struct RequestSpan {
  /// An empty span and context.
  RequestSpan() noexcept = default;
  /// Starts a child span of `parent`. The other arguments are as for AsyncSpan.
  template <class N, class... Rest>
  [[nodiscard]] RequestSpan(N&& name, ContextRef parent, Rest&&... rest)
      : span(std::forward<N>(name), parent, std::forward<Rest>(rest)...), context(span.context_or(parent)) {}
  /// @cond INTERNAL
  // Reports a parent in a wrong place.
  template <class N, class A, class... Rest,
            std::enable_if_t<detail::may_report<N, const A&, Rest...> && !detail::is_parent<const A&>, int> = 0>
  RequestSpan(N&& /*name*/, const A& /*not_parent*/, Rest&&... /*rest*/) {
    detail::report_late_parent<const A&>();
  }
  /// @endcond

  AsyncSpan span;   ///< the span
  Context context;  ///< its context, or that of its parent if it is not recorded
};

/// Runs `work` inside a span and returns what `work` returns: a value (never moved), a reference, a type that cannot be
/// copied or moved, or nothing. `work` takes no argument, or the Span&.
///
/// An exception ends the span as `NAME.exception` with its kind and reason, and reaches the caller unchanged.
///
/// If a thread calls pthread_exit() or is cancelled inside a catch handler of `work`, the program ends. Any catch (...)
/// around `work` has this effect. If that can happen, use a Span instead.
template <class N, class Fn>
inline detail::span_result_t<Fn> span(N&& name, Fn&& work) {
  Span scope{std::forward<N>(name)};
  return detail::run<detail::builder_t<N>>(scope, work);
}

/// The same with options, which may be a SpanKind.
template <class N, class Fn>
inline detail::span_result_t<Fn> span(N&& name, SpanOptions options, Fn&& work) {
  Span scope{std::forward<N>(name), options};
  return detail::run<detail::builder_t<N>>(scope, work);
}

/// The same with metadata for the start. The argument of `metadata` is the builder of the name's fields. `metadata`
/// runs only if the span is recorded.
template <class N, class M, class Fn,
          std::enable_if_t<!detail::is_options<M> && !detail::is_parent<M> && !detail::is_options<Fn>, int> = 0>
inline detail::span_result_t<Fn> span(N&& name, M&& metadata, Fn&& work) {
  Span scope{std::forward<N>(name), SpanOptions(), metadata};
  return detail::run<detail::builder_t<N>>(scope, work);
}

/// The same with options and metadata.
template <class N, class M, class Fn>
inline detail::span_result_t<Fn> span(N&& name, SpanOptions options, M&& metadata, Fn&& work) {
  Span scope{std::forward<N>(name), options, metadata};
  return detail::run<detail::builder_t<N>>(scope, work);
}

/// The same inside another context: `parent` is current while `work` runs, and the span is its child. `rest` is what
/// the other forms take after the name. A server handles a request by
/// `span("http.server", extract(headers), [&] { … })`; see propagation.h. This also works if the span is not recorded,
/// so a process that records nothing forwards the trace of its caller.
template <class N, class P, class... Rest, std::enable_if_t<detail::is_parent<P> && sizeof...(Rest) != 0, int> = 0>
inline decltype(auto) span(N&& name, const P& parent, Rest&&... rest) {
  const ContextScope here{parent};
  return span(std::forward<N>(name), std::forward<Rest>(rest)...);
}

/// @cond INTERNAL
// Reports a wrong order.
template <class N, class A, class... Rest,
          std::enable_if_t<detail::may_report<N, const A&, Rest...> && sizeof...(Rest) != 0 &&
                               !detail::is_parent<const A&> && !detail::are_ordered<2, const A&, Rest...>,
                           int> = 0>
inline void span(N&& /*name*/, const A& /*first*/, Rest&&... /*rest*/) {
  if constexpr ((detail::is_parent<Rest> || ...)) {
    detail::report_parent_of_scope<const A&, Rest...>();
  } else {
    detail::report_order<const A&, Rest...>();
  }
}
/// @endcond

namespace detail {
template <class F, class Fn>
inline span_result_t<Fn, AsyncSpan> run_async(AsyncSpan span, ContextRef parent, Fn& work) {
  const EndAsync<AsyncSpan> end{span};
  const ContextScope here{span.context_or(parent)};
  return run<F>(span, work);
}
}  // namespace detail

/// Runs `work` inside an AsyncSpan that is a child of `parent`, and returns what `work` returns; see span(). The span's
/// context is current while `work` runs, or `parent` if the span is not recorded. `work` takes no argument, or the
/// AsyncSpan&. The span ends when `work` returns. If `work` moves it elsewhere, for example into a callback, it ends
/// there. An exception ends it as `NAME.exception`, and reaches the caller unchanged.
///
/// Coroutines use co_span() of coroutine.h.
template <class N, class Fn>
inline detail::span_result_t<Fn, AsyncSpan> async_span(N&& name, ContextRef parent, Fn&& work) {
  return detail::run_async<detail::builder_t<N>>(AsyncSpan{std::forward<N>(name), parent}, parent, work);
}
/// The same with options, or with metadata for the start.
template <class N, class M, class Fn, std::enable_if_t<!detail::is_options<Fn>, int> = 0>
inline detail::span_result_t<Fn, AsyncSpan> async_span(N&& name, ContextRef parent, M&& start, Fn&& work) {
  return detail::run_async<detail::builder_t<N>>(AsyncSpan{std::forward<N>(name), parent, start}, parent, work);
}
/// The same with options and metadata for the start.
template <class N, class M, class Fn>
inline detail::span_result_t<Fn, AsyncSpan> async_span(N&& name, ContextRef parent, SpanOptions options, M&& metadata,
                                                       Fn&& work) {
  return detail::run_async<detail::builder_t<N>>(AsyncSpan{std::forward<N>(name), parent, options, metadata}, parent,
                                                 work);
}

/// @cond INTERNAL
// Reports a wrong order.
template <
    class N, class A, class... Rest,
    std::enable_if_t<detail::may_report<N, const A&, Rest...> &&
                         (!detail::is_parent<const A&> || !detail::are_ordered_with_parent<2, const A&, Rest...>()),
                     int> = 0>
inline void async_span(N&& /*name*/, const A& /*first*/, Rest&&... /*rest*/) {
  if constexpr (detail::is_parent<const A&>) {
    detail::report_order<const A&, Rest...>();
  } else {
    detail::report_late_parent<const A&>();
  }
}
/// @endcond

/// The work of span() may return result(value, stop) instead of `value`. span() then returns `value`, and `stop` sets
/// fields of the stop event. `stop` takes (const T& value, Fields&) or (Fields&), and runs only if the span is
/// recorded. The value is decayed, so that it cannot dangle.
///
/// @code
/// int rows = nopspan::span("db.query", [] {
///   return nopspan::result(42, [](int n, nopspan::Fields& f) { f.measure("rows", n); });
/// });
/// @endcode
template <class T, class Stop>
inline detail::Result<std::decay_t<T>, std::decay_t<Stop>> result(T&& value, Stop&& stop) {
  return {std::forward<T>(value), std::forward<Stop>(stop)};
}
/// The same for work that returns a reference. The object must outlive the span.
template <class T, class Stop>
inline detail::Result<T&, std::decay_t<Stop>> result_ref(T& reference, Stop&& stop) {
  return {reference, std::forward<Stop>(stop)};
}
/// The same for work that returns nothing.
template <class Stop>
inline detail::Result<void, std::decay_t<Stop>> result(Stop&& stop) {
  return {std::forward<Stop>(stop)};
}

/// Emits a span that has already ended, for example the time in a queue or on a GPU. Its start and its stop are emitted
/// together, and both have the fields that `fields` sets. A negative duration counts as 0. The callable runs only if a
/// tracer or handler is attached. Without a callable the span has no fields.
template <class N, class M>
inline void complete(N&& name, ContextRef parent, Time start, Duration duration, M&& fields) {
  using Builder = detail::builder_t<N>;
  if constexpr (!detail::is_name<N>) {
    detail::report_wrong_name<N>();
  } else if constexpr (!detail::takes<M, Builder>()) {
    detail::report_wrong_fields<M, Builder>();
  } else if (detail::span_wanted<N>()) {
    detail::SpanState* state = detail::async_begin(Name(name), parent, {SpanKind::unspecified, start});
    if (state == nullptr) return;
    detail::fill_begun<Builder, detail::async_abandon>(state, fields);
    detail::span_complete(state, duration.count());
  }
}
/// @overload
template <class N>
inline void complete(N&& name, ContextRef parent, Time start, Duration duration) {
  complete(std::forward<N>(name), parent, start, duration, [](auto&) {});
}
/// @cond INTERNAL
// Reports a parent in a wrong place.
template <
    class N, class A, class... Rest,
    std::enable_if_t<detail::is_name<N> && !detail::is_parent<const A&> && (detail::is_parent<Rest> || ...), int> = 0>
inline void complete(N&& /*name*/, const A& /*not_parent*/, Rest&&... /*rest*/) {
  detail::report_late_parent<const A&>();
}
/// @endcond

/// Ends all spans of this process that are open, as cancelled with this reason. The library calls this at exit() and at
/// quick_exit(), after the exit handlers and static destructors. Call it just before the process ends in another way,
/// such as _exit() or abort() in a handler of std::terminate(). Tracers and recordings get these ends. Handlers do not.
/// The calling thread's scopes end with their fields. AsyncSpans, and scopes of other threads and of suspended fibers,
/// end without, because other threads may be setting them.
NOPSPAN_API void end_open_spans(Text reason = "exit") noexcept NOPSPAN_IN_SHELL();

inline ContextRef::ContextRef(const Span& span) noexcept : object_(span.state_), of_(Of::span) {}
inline ContextRef::ContextRef(const AsyncSpan& span) noexcept : object_(span.state_), of_(Of::async_span) {}

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_SPAN_H
