// SPDX-License-Identifier: Apache-2.0
// Spans: a name, a beginning, an end. With nobody listening a span costs one test of the gate where it starts and one
// of its own state where it ends; all else here is cold.
#ifndef NOPSPAN_SPAN_H
#define NOPSPAN_SPAN_H

#include <nopspan/config.h>
#include <nopspan/context.h>
#include <nopspan/fields.h>
#include <nopspan/gate.h>
#include <nopspan/name.h>
#include <nopspan/text.h>

#include <cstdint>
#include <type_traits>
#include <utility>

namespace nopspan {

class Span;
class AsyncSpan;
class StreamMeter;

// OTLP's SpanKind.
enum class SpanKind : std::uint8_t {
  unspecified = 0,
  internal = 1,
  server = 2,
  client = 3,
  producer = 4,
  consumer = 5
};

// What a span is started with beside its name.
struct SpanOptions {
  SpanKind kind = SpanKind::unspecified;  // the catalogue's for a name that is in one, else internal
  std::uint64_t start_ns = 0;             // CLOCK_MONOTONIC, ns; 0: now
};

// The name of a catalogue's span, which knows the builder of its metadata: llm::chat. Converts to Name.
template <class F>
class SpanName : public Name {
 public:
  using Builder = F;
  template <std::size_t N>
  constexpr explicit SpanName(const char (&literal)[N]) noexcept : Name(literal) {}
  constexpr explicit SpanName(const Name& name) noexcept : Name(name) {}
};

namespace detail {

NOPSPAN_API NOPSPAN_COLD SpanState* span_begin(Name name, SpanOptions options) noexcept;
NOPSPAN_API NOPSPAN_COLD SpanState* async_begin(Name name, const Context& parent, SpanOptions options) noexcept;
NOPSPAN_API NOPSPAN_COLD void span_started(SpanState*) noexcept;  // emits start
NOPSPAN_API NOPSPAN_COLD void span_end(SpanState*) noexcept;      // emits stop or exception, and lets go of the state
NOPSPAN_API NOPSPAN_COLD void async_end(SpanState*) noexcept;
NOPSPAN_API NOPSPAN_COLD void async_abandon(SpanState*) noexcept;
NOPSPAN_API NOPSPAN_COLD void span_fail(SpanState*, Text type, Text message) noexcept;
NOPSPAN_API NOPSPAN_COLD void span_cancel(SpanState*, Text reason) noexcept;
NOPSPAN_API NOPSPAN_COLD void span_exception(SpanState*) noexcept;  // only inside catch (...)
NOPSPAN_API NOPSPAN_COLD void span_end_at(SpanState*, std::uint64_t end_ns) noexcept;
NOPSPAN_API NOPSPAN_COLD void span_first_token(SpanState*, std::uint64_t tokens_so_far) noexcept;
NOPSPAN_API NOPSPAN_COLD Context span_context(SpanState*) noexcept;   // of null: the thread's
NOPSPAN_API NOPSPAN_COLD Context async_context(SpanState*) noexcept;  // of null: unknown
NOPSPAN_API NOPSPAN_COLD void span_complete(SpanState*, std::uint64_t duration_ns) noexcept;

// A SpanState begins with its FieldSink: part of the ABI.
inline FieldSink* sink_of(SpanState* span) noexcept { return reinterpret_cast<FieldSink*>(span); }

// Called in catch (...) around an application's callable. False: what is in flight is thread exit or cancellation,
// which must go on; true: an exception, swallowed and counted (stats().metadata_failures).
NOPSPAN_API NOPSPAN_COLD bool metadata_threw() noexcept;

// Runs a callable that fills in fields. Instrumentation does not throw into the application: what it throws is counted.
template <class F, class Fill>
inline void fill(FieldSink* sink, Fill&& callable) {
  F fields{sink};
#if NOPSPAN_EXCEPTIONS
  try {
    callable(fields);
  } catch (...) {
    if (!metadata_threw()) throw;
  }
#else
  callable(fields);
#endif
}

template <class N>
struct builder_of {
  using type = Fields;
};
template <class F>
struct builder_of<SpanName<F>> {
  using type = F;
};
template <class N>
using builder_t = typename builder_of<std::decay_t<N>>::type;

// N is deduced as a forwarding reference, so that a buffer that may change is seen as one, and refused as Name refuses
// it.
template <class N>
inline constexpr bool is_name = std::is_convertible_v<N, Name>;

template <class N>
struct span_mask {
  static constexpr std::uint64_t value = kSpanMask;
};
template <class F>
struct span_mask<SpanName<F>> {
  static constexpr std::uint64_t value = kFeedingSpanMask;
};
template <class N>
inline bool span_wanted() noexcept {
  return spans_wanted<span_mask<std::decay_t<N>>::value>();
}

}  // namespace detail

// A span of the current scope: it is current on its thread while it lives, and ends where the scope ends. Neither
// copied nor moved; make it and destroy it on one thread, innermost first. Never hold one across a co_await: AsyncSpan
// is for that.
//
// It emits `<name>.start` when made; when destroyed `<name>.stop`, or `<name>.exception` if it is left by an exception.
// A destructor that runs in unwinding cannot see the exception: its reason is "unknown" (the closure form, span(), sees
// it). Under thread exit or cancellation a destructor sees nothing at all and emits stop.
class Span {
 public:
  template <class N, std::enable_if_t<detail::is_name<N>, int> = 0>
  explicit Span(N&& name) noexcept : Span(name, SpanOptions{}) {}

  template <class N, std::enable_if_t<detail::is_name<N>, int> = 0>
  Span(N&& name, SpanOptions options) noexcept {
    if (detail::span_wanted<N>()) {
      state_ = detail::span_begin(Name(name), options);
      if (state_ != nullptr) detail::span_started(state_);
    }
  }

  // `metadata` takes the builder of the name's fields (Fields&, or the catalogue's own); called only if somebody
  // listens.
  template <class N, class M,
            std::enable_if_t<detail::is_name<N> && std::is_invocable_v<M&, detail::builder_t<N>&>, int> = 0>
  Span(N&& name, M&& metadata) : Span(name, SpanOptions{}, metadata) {}

  template <class N, class M, std::enable_if_t<detail::is_name<N>, int> = 0>
  Span(N&& name, SpanOptions options, M&& metadata) {
    if (detail::span_wanted<N>()) start<detail::builder_t<N>>(Name(name), options, metadata);
  }

  ~Span() {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_end(state_);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  // Whether somebody listens to this span: guards what is dear to compute.
  explicit operator bool() const noexcept { return state_ != nullptr; }

  // Adds metadata for the end of the span; see Fields::set().
  template <class T>
  Span& set(Text key, const T& value) {
    if (__builtin_expect(state_ != nullptr, 0)) detail::put(detail::sink_of(state_), key, value, false);
    return *this;
  }
  // Adds a measurement for the end of the span; see Fields::measure().
  template <class T>
  Span& measure(Text key, T number) {
    if (__builtin_expect(state_ != nullptr, 0)) Fields(detail::sink_of(state_)).measure(key, number);
    return *this;
  }
  // Calls `fill(Fields&)` if somebody listens.
  template <class F = Fields, class M>
  Span& with(M&& fill) {
    if (__builtin_expect(state_ != nullptr, 0)) detail::fill<F>(detail::sink_of(state_), fill);
    return *this;
  }

  // The work failed without an exception: status 1, `error.type` = type; `message` is content. The first of fail() and
  // cancel() wins; an exception that leaves the scope wins over both.
  void fail(Text type, Text message = {}) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_fail(state_, type, message);
  }
  // The work was given up: status 2, no error in rates.
  void cancel(Text reason = {}) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_cancel(state_, reason);
  }
  // The first token of a stream came now. Counts once a span: later calls do nothing.
  void first_token(std::uint64_t tokens_so_far = 1) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_first_token(state_, tokens_so_far);
  }
  // Links the span to another; see Fields::link().
  void link(const Context& context) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::put_link(detail::sink_of(state_), context);
  }
  // The end of the span, CLOCK_MONOTONIC in ns, where it is not the end of the scope. A time before the start counts as
  // the start.
  void end_at(std::uint64_t end_ns) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_end_at(state_, end_ns);
  }

  // The span's place in its trace. Of a span that nobody listens to: the context of the enclosing ContextScope, if
  // there is one.
  [[nodiscard]] Context context() const noexcept { return detail::span_context(state_); }
  [[nodiscard]] RequestId request_id() const noexcept { return context().request_id(); }

  // For span(): the exception that catch (...) holds leaves the span.
  void caught() noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_exception(state_);
  }

 private:
  template <class F, class M>
  void start(Name name, SpanOptions options, M&& metadata) {
    detail::SpanState* state = detail::span_begin(name, options);
    if (state == nullptr) return;
#if NOPSPAN_EXCEPTIONS
    try {
      detail::fill<F>(detail::sink_of(state), metadata);
    } catch (...) {
      detail::span_end(state);  // thread exit inside the callable
      throw;
    }
#else
    detail::fill<F>(detail::sink_of(state), metadata);
#endif
    state_ = state;
    detail::span_started(state);
  }

  detail::SpanState* state_ = nullptr;
};

// A span that may end anywhere: a slot of a batching engine, a callback, a coroutine. Eight bytes, movable, empty by
// default. It never touches the current context of a thread: its parent is what it is given (none: it begins a new
// request), and children take span.context(). Ends on any thread by end(), fail() or cancel(), of which the first
// counts; destroyed or assigned over before that, it ends as cancelled and abandoned. Not to be used from two threads
// at once.
class AsyncSpan {
 public:
  constexpr AsyncSpan() noexcept = default;

  template <class N, std::enable_if_t<detail::is_name<N>, int> = 0>
  explicit AsyncSpan(N&& name, const Context& parent = detail::no_context, SpanOptions options = {}) noexcept {
    if (detail::span_wanted<N>()) {
      state_ = detail::async_begin(Name(name), parent, options);
      if (state_ != nullptr) detail::span_started(state_);
    }
  }

  template <class N, class M,
            std::enable_if_t<detail::is_name<N> && std::is_invocable_v<M&, detail::builder_t<N>&>, int> = 0>
  AsyncSpan(N&& name, const Context& parent, M&& metadata) : AsyncSpan(name, parent, SpanOptions{}, metadata) {}

  template <class N, class M, std::enable_if_t<detail::is_name<N>, int> = 0>
  AsyncSpan(N&& name, const Context& parent, SpanOptions options, M&& metadata) {
    if (detail::span_wanted<N>()) start<detail::builder_t<N>>(Name(name), parent, options, metadata);
  }

  AsyncSpan(AsyncSpan&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  AsyncSpan& operator=(AsyncSpan&& other) noexcept {
    if (this != &other) {
      abandon();
      state_ = std::exchange(other.state_, nullptr);
    }
    return *this;
  }
  ~AsyncSpan() { abandon(); }

  // Whether somebody listens to this span and it has not ended.
  explicit operator bool() const noexcept { return state_ != nullptr; }

  // As those of Span.
  template <class T>
  AsyncSpan& set(Text key, const T& value) {
    if (__builtin_expect(state_ != nullptr, 0)) detail::put(detail::sink_of(state_), key, value, false);
    return *this;
  }
  template <class T>
  AsyncSpan& measure(Text key, T number) {
    if (__builtin_expect(state_ != nullptr, 0)) Fields(detail::sink_of(state_)).measure(key, number);
    return *this;
  }
  template <class F = Fields, class M>
  AsyncSpan& with(M&& fill) {
    if (__builtin_expect(state_ != nullptr, 0)) detail::fill<F>(detail::sink_of(state_), fill);
    return *this;
  }
  void first_token(std::uint64_t tokens_so_far = 1) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_first_token(state_, tokens_so_far);
  }
  void link(const Context& context) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::put_link(detail::sink_of(state_), context);
  }
  void end_at(std::uint64_t end_ns) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::span_end_at(state_, end_ns);
  }

  void end() noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::async_end(std::exchange(state_, nullptr));
  }
  void fail(Text type, Text message = {}) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) {
      detail::span_fail(state_, type, message);
      detail::async_end(std::exchange(state_, nullptr));
    }
  }
  void cancel(Text reason = {}) noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) {
      detail::span_cancel(state_, reason);
      detail::async_end(std::exchange(state_, nullptr));
    }
  }

  // The span's place in its trace; once it has ended, or while nobody listens, an unknown one: spans below it are
  // orphans.
  [[nodiscard]] Context context() const noexcept { return detail::async_context(state_); }
  // The same, but `parent` while nobody listens: what a server passes on, so that a trace from outside is not lost.
  [[nodiscard]] Context context_or(const Context& parent) const noexcept {
    return state_ != nullptr ? detail::async_context(state_) : parent;
  }
  [[nodiscard]] RequestId request_id() const noexcept { return context().request_id(); }

  // Inside catch (...): the exception that it holds ends the span, which emits `<name>.exception`. Rethrow it then:
  // thread exit and cancellation are seen as one too.
  void caught() noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) {
      detail::span_exception(state_);
      detail::async_end(std::exchange(state_, nullptr));
    }
  }

 private:
  friend class StreamMeter;
  void abandon() noexcept {
    if (__builtin_expect(state_ != nullptr, 0)) detail::async_abandon(std::exchange(state_, nullptr));
  }
  template <class F, class M>
  void start(Name name, const Context& parent, SpanOptions options, M&& metadata) {
    detail::SpanState* state = detail::async_begin(name, parent, options);
    if (state == nullptr) return;
#if NOPSPAN_EXCEPTIONS
    try {
      detail::fill<F>(detail::sink_of(state), metadata);
    } catch (...) {
      detail::async_abandon(state);  // thread exit inside the callable
      throw;
    }
#else
    detail::fill<F>(detail::sink_of(state), metadata);
#endif
    state_ = state;
    detail::span_started(state);
  }

  detail::SpanState* state_ = nullptr;
};
static_assert(sizeof(AsyncSpan) == 8);

namespace detail {

// What result() and result_ref() return: the value, and the callable that adds to the stop event.
template <class T, class Stop>
struct Result {
  T value;
  Stop stop;

  template <class F>
  void operator()(F& fields) {
    if constexpr (std::is_invocable_v<Stop&, const std::remove_reference_t<T>&, F&>) {
      stop(static_cast<const std::remove_reference_t<T>&>(value), fields);
    } else {
      stop(fields);
    }
  }
  T take() { return static_cast<T&&>(value); }
};
template <class Stop>
struct Result<void, Stop> {
  Stop stop;

  template <class F>
  void operator()(F& fields) {
    stop(fields);
  }
  void take() {}
};

template <class R>
struct result_traits {
  static constexpr bool wrapped = false;
  using type = R;
};
template <class T, class Stop>
struct result_traits<Result<T, Stop>> {
  static constexpr bool wrapped = true;
  using type = T;
};

template <class Fn>
decltype(auto) call(Fn& work, Span& span) {
  if constexpr (std::is_invocable_v<Fn&, Span&>) {
    return work(span);
  } else {
    return work();
  }
}
template <class Fn>
using called_t = decltype(call(std::declval<Fn&>(), std::declval<Span&>()));
template <class Fn>
using span_result_t = typename result_traits<called_t<Fn>>::type;

template <class F, class Fn>
inline span_result_t<Fn> run(Span& scope, Fn& work) {
#if NOPSPAN_EXCEPTIONS
  try {
#endif
    if constexpr (result_traits<called_t<Fn>>::wrapped) {
      auto result = call(work, scope);
      scope.template with<F>(result);
      return result.take();
    } else {
      return call(work, scope);
    }
#if NOPSPAN_EXCEPTIONS
  } catch (...) {
    scope.caught();
    throw;
  }
#endif
}

}  // namespace detail

// Runs `work` inside a span and returns what it returns: values (never moved), references, move-only and non-movable
// types, void. `work` takes nothing or the Span&. An exception gives `<name>.exception` with its kind and reason, and
// goes on to the caller unchanged. As any catch (...), it ends the program if a thread exits by pthread_exit() or
// cancellation while it is inside a catch handler: a thread that may be cancelled there uses a Span.
template <class N, class Fn, std::enable_if_t<detail::is_name<N>, int> = 0>
inline detail::span_result_t<Fn> span(N&& name, Fn&& work) {
  Span scope{name};
  return detail::run<detail::builder_t<N>>(scope, work);
}

// The same with start metadata, lazily: `metadata` takes the builder of the name's fields.
template <class N, class M, class Fn, std::enable_if_t<detail::is_name<N>, int> = 0>
inline detail::span_result_t<Fn> span(N&& name, M&& metadata, Fn&& work) {
  Span scope{name, SpanOptions{}, metadata};
  return detail::run<detail::builder_t<N>>(scope, work);
}

// For a work that returns its result and what the stop event adds together: `stop` takes (const T& value, Fields&), or
// the Fields& alone, and is called only if somebody listens. The value is decayed, so that it cannot dangle.
template <class T, class Stop>
inline detail::Result<std::decay_t<T>, std::decay_t<Stop>> result(T&& value, Stop&& stop) {
  return {std::forward<T>(value), std::forward<Stop>(stop)};
}
// The same for a work that returns a reference; what it refers to must outlive the span.
template <class T, class Stop>
inline detail::Result<T&, std::decay_t<Stop>> result_ref(T& reference, Stop&& stop) {
  return {reference, std::forward<Stop>(stop)};
}
// The same for a work that returns nothing.
template <class Stop>
inline detail::Result<void, std::decay_t<Stop>> result(Stop&& stop) {
  return {std::forward<Stop>(stop)};
}

// Emits a span that is over already (queue time, GPU time): start and stop at once. Times are CLOCK_MONOTONIC in ns;
// `fields` is called only if somebody listens; what it sets is on both events.
template <class N, class M, std::enable_if_t<detail::is_name<N>, int> = 0>
inline void complete(N&& name, const Context& parent, std::uint64_t start_ns, std::uint64_t duration_ns, M&& fields) {
  if (detail::span_wanted<N>()) {
    detail::SpanState* state = detail::async_begin(Name(name), parent, {SpanKind::unspecified, start_ns});
    if (state == nullptr) return;
#if NOPSPAN_EXCEPTIONS
    try {
      detail::fill<detail::builder_t<N>>(detail::sink_of(state), fields);
    } catch (...) {
      detail::async_abandon(state);
      throw;
    }
#else
    detail::fill<detail::builder_t<N>>(detail::sink_of(state), fields);
#endif
    detail::span_complete(state, duration_ns);
  }
}
template <class N, std::enable_if_t<detail::is_name<N>, int> = 0>
inline void complete(N&& name, const Context& parent, std::uint64_t start_ns, std::uint64_t duration_ns) {
  complete(name, parent, start_ns, duration_ns, [](auto&) {});
}

}  // namespace nopspan

#endif  // NOPSPAN_SPAN_H
