// SPDX-License-Identifier: Apache-2.0
// The calls that spans and point events make into the library, how they choose the gate's mask and the builder from a
// name, and the events of catalogues.
#ifndef NOPSPAN_DETAIL_SPAN_CALLS_H
#define NOPSPAN_DETAIL_SPAN_CALLS_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/gate.h>
#include <nopspan/detail/guarded.h>
#include <nopspan/fields.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

struct SpanOptions;
template <class F>
class SpanName;

}  // namespace NOPSPAN_NAMESPACE

namespace NOPSPAN_NAMESPACE::detail {

NOPSPAN_API NOPSPAN_COLD SpanState* span_begin(Name name, SpanOptions options) noexcept;
NOPSPAN_API NOPSPAN_COLD SpanState* async_begin(Name name, ContextRef parent, SpanOptions options) noexcept;
NOPSPAN_API NOPSPAN_COLD void span_started(SpanState*) noexcept NOPSPAN_IN_SHELL();  // emits start
NOPSPAN_API NOPSPAN_COLD void span_end(SpanState*) noexcept
    NOPSPAN_IN_SHELL();  // emits stop or exception, and releases the state
NOPSPAN_API NOPSPAN_COLD void async_end(SpanState*) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void async_abandon(SpanState*) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void span_fail(SpanState*, Text type, Text message) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void span_cancel(SpanState*, Text reason) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void span_exception(SpanState*) noexcept NOPSPAN_IN_SHELL();  // only inside catch (...)
// For a catch (...) behind an AtThrow clause (span_result.h). Does that unless the state is null. If this returns true,
// span_rethrow() must rethrow the exception.
NOPSPAN_API NOPSPAN_COLD bool span_caught(SpanState*) noexcept NOPSPAN_IN_SHELL(return {});
[[noreturn]] NOPSPAN_API NOPSPAN_COLD void span_rethrow() NOPSPAN_IN_SHELL(__builtin_unreachable());
NOPSPAN_API NOPSPAN_COLD void span_end_at(SpanState*, std::uint64_t end_ns) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void span_first_token(SpanState*, std::uint64_t tokens_so_far) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void span_complete(SpanState*, std::int64_t duration_ns) noexcept NOPSPAN_IN_SHELL();

// A SpanState begins with its FieldSink: part of the ABI.
inline FieldSink* sink_of(SpanState* span) noexcept { return reinterpret_cast<FieldSink*>(span); }

// The offset of a byte in a FieldSink that is 0 if nobody gets its fields: part of the ABI.
inline constexpr std::size_t kTakesFieldsAt = 120;

// Runs a callable that sets fields, unless nobody gets them.
template <class F, class Fill>
inline void fill(FieldSink* sink, Fill&& callable) {
  if (reinterpret_cast<const unsigned char*>(sink)[kTakesFieldsAt] == 0) return;
  F fields{sink};
  guarded([&] { callable(fields); });
}

// The same for a span or event that has started and is not yet emitted. If the thread exits inside the callable,
// `discard` releases it.
template <class F, auto discard, class State, class Fill>
inline void fill_begun(State* begun, Fill&& callable) {
#if NOPSPAN_CATCHES
  try {
    fill<F>(reinterpret_cast<FieldSink*>(begun), callable);
  } catch (...) {
    discard(begun);
    throw;
  }
#else
  fill<F>(reinterpret_cast<FieldSink*>(begun), callable);
#endif
}

// The builder of a name's fields: Fields, or that of a catalogue's SpanName.
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

// N is deduced as a forwarding reference, so that Name can distinguish a literal from a buffer.
template <class N>
inline constexpr bool is_name = std::is_convertible_v<N, Name>;
template <class T>
inline constexpr bool is_span = std::is_same_v<bare<T>, Span> || std::is_same_v<bare<T>, AsyncSpan>;
template <class T>
inline constexpr bool is_parent = std::is_convertible_v<T, ContextRef>;
template <class T>
inline constexpr bool is_options = std::is_convertible_v<T, SpanOptions>;

// Whether M is a class with one operator(). That of a generic lambda is a template. To ask whether it can be called
// would compile its body, and a mistake in the body would be reported twice.
template <class M, class = void>
inline constexpr bool has_one_call = false;
template <class M>
inline constexpr bool has_one_call<M, std::void_t<decltype(&M::operator())>> = true;
// Whether M is a class with any operator(). A class that is derived from it and from WithCall then has two.
struct WithCall {
  void operator()();
};
struct WithoutCall {};
template <class M>
struct AlsoWithCall : std::conditional_t<std::is_class_v<M> && !std::is_final_v<M>, M, WithoutCall>, WithCall {};
template <class M, class = void>
inline constexpr bool has_any_call = true;
template <class M>
inline constexpr bool has_any_call<M, std::void_t<decltype(&AlsoWithCall<M>::operator())>> = false;

template <class M, class F>
constexpr bool takes() noexcept {
  if constexpr (has_any_call<bare<M>> && !has_one_call<bare<M>>) {
    return true;
  } else {
    return std::is_invocable_v<M&, F&>;
  }
}

// Spans and events accept a name and a callable of any type, and report a wrong one by these two functions. Otherwise
// the compiler would list all functions that do not match.
template <class N>
constexpr void report_wrong_name() noexcept {
  static_assert(is_name<N>, "the name of a span or event is a text, or a name of a catalogue (nopspan::llm::chat)");
}
template <class M, class F>
constexpr void report_wrong_fields() noexcept {
  static_assert(takes<M, F>(), "fields are set by a callable that takes nopspan::Fields&, or the catalogue's builder");
}

// Whether what follows the name and the parent is in the right order: a kind or options, and at most `most` callables.
template <std::size_t most, class First, class... Rest>
inline constexpr bool are_ordered = sizeof...(Rest) < most + (is_options<First> ? 1 : 0) && !(is_options<Rest> || ...);
// The same for what follows the name, if a parent may be first there.
template <std::size_t most, class First, class... Rest>
constexpr bool are_ordered_with_parent() noexcept {
  if constexpr (is_parent<First> && sizeof...(Rest) != 0) {
    return are_ordered<most, Rest...>;
  } else {
    return is_parent<First> || (are_ordered<most, First, Rest...> && !(is_parent<Rest> || ...));
  }
}
// Whether a function may report the order of arguments: all of them are such as spans have, so that another function,
// such as the application's own, is not meant.
template <class N, class... Rest>
inline constexpr bool may_report = is_name<N> &&
                                   ((is_parent<Rest> || is_options<Rest> || has_any_call<bare<Rest>>)&&...);
template <class First, class... Rest>
constexpr void report_order() noexcept {
  static_assert(is_parent<First> || !(is_parent<Rest> || ...),
                "the parent follows the name, before the other arguments");
  static_assert(sizeof...(Rest) == 0 || (!is_parent<First> && (is_parent<Rest> || ...)),
                "the order of arguments is: name, parent, kind or options, fields, work");
}
// Reports that the parent, which must follow the name, is missing there.
template <class First>
constexpr void report_late_parent() noexcept {
  static_assert(is_parent<First>, "the parent follows the name, before the other arguments");
}
template <class... Rest>
constexpr void report_parent_of_scope() noexcept {
  static_assert(
      !(is_parent<Rest> || ...),
      "a nopspan::Span is a child of the thread's current span. A parent is given to span(name, parent, ...), to "
      "an AsyncSpan or to a ContextScope");
}

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

// Which probe an event fires, and what handlers see in addition to its fields.
enum class Point : std::uint8_t {
  event,          // probe `event`
  timed,          // the same; handlers see the measurement system_time
  retry,          // probe `retry`; handlers see system_time and request_id
  first_token,    // probe `first_token`, if it is the span's first
  handlers_only,  // no probe, because another call fires the probe of the same fact
  engine_stats,   // probe `gauge`, once for each integer among its measurements
};

NOPSPAN_API NOPSPAN_COLD FieldSink* point_begin(Point point, Name name, ContextRef span) noexcept
    NOPSPAN_IN_SHELL(return {});
NOPSPAN_API NOPSPAN_COLD void point_emit(FieldSink*) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void point_discard(FieldSink*) noexcept NOPSPAN_IN_SHELL();
// For an event that point_begin() began: probe `gauge`.
NOPSPAN_API NOPSPAN_COLD void gauge_emit(FieldSink*, Text name, std::int64_t value, bool is_counter) noexcept
    NOPSPAN_IN_SHELL();

template <class F, class Fill>
inline void point(Point which, Name name, ContextRef span, Fill&& callable) {
  FieldSink* sink = point_begin(which, name, span);
  if (sink == nullptr) return;
  fill_begun<F, point_discard>(sink, callable);
  point_emit(sink);
}

// An event that has only the fields that the program sets.
template <class N, class Fill>
inline void event_of(ContextRef span, N&& name, Fill&& callable) {
  if constexpr (!is_name<N>) {
    report_wrong_name<N>();
  } else if constexpr (!takes<Fill, Fields>()) {
    report_wrong_fields<Fill, Fields>();
  } else if (points_wanted()) {
    point<Fields>(Point::event, Name(name), span, callable);
  }
}

// One event of a catalogue. It is called with a callable that takes the builder of the event's fields, or with the span
// that the event belongs to (a Span, an AsyncSpan or a Context) and such a callable. Without a callable the event has
// no fields. Without a span the event belongs to the thread's current span.
template <class F, Point point_kind>
class NamedEvent {
 public:
  using Builder = F;
  template <std::size_t N>
  constexpr explicit NamedEvent(const char (&literal)[N]) noexcept : name_(literal) {}

  template <class M, std::enable_if_t<!is_parent<M>, int> = 0>
  void operator()(M&& fields) const {
    (*this)(ContextRef::current(), fields);
  }
  template <class M>
  void operator()(ContextRef span, M&& fields) const {
    if constexpr (!takes<M, F>()) {
      report_wrong_fields<M, F>();
    } else if (points_wanted()) {
      point<F>(point_kind, name_, span, fields);
    }
  }
  void operator()(ContextRef span = ContextRef::current()) const {
    (*this)(span, [](F&) {});
  }

  [[nodiscard]] constexpr std::string_view name() const noexcept { return name_.view(); }

 private:
  Name name_;
};

// The same for an event that has one required field, which is an argument before the callable: F::require() sets it.
template <class F, Point point_kind>
class RequiringEvent : private NamedEvent<F, point_kind> {
  using Event = NamedEvent<F, point_kind>;

 public:
  using Event::Event;
  using Event::name;
  using typename Event::Builder;

  template <class First, class... Rest>
  void operator()(First&& first, Rest&&... rest) const {
    if constexpr (is_parent<First>) {
      send(ContextRef(first), rest...);
    } else {
      send(ContextRef::current(), first, rest...);
    }
  }

 private:
  template <class... Rest>
  void send(ContextRef /*span*/, const Rest&... /*rest*/) const {
    static_assert(sizeof...(Rest) < 0, "this event has a required field, which is an argument before the callable");
  }
  template <class R, class M, std::enable_if_t<std::is_convertible_v<const R&, typename F::Required>, int> = 0>
  void send(ContextRef span, const R& required, M&& fields) const {
    if constexpr (!takes<M, F>()) {
      report_wrong_fields<M, F>();
    } else {
      Event::operator()(span, [&](F& builder) {
        builder.require(required);
        fields(builder);
      });
    }
  }
  template <class R, std::enable_if_t<std::is_convertible_v<const R&, typename F::Required>, int> = 0>
  void send(ContextRef span, const R& required) const {
    send(span, required, [](F&) {});
  }
};

}  // namespace NOPSPAN_NAMESPACE::detail

#endif  // NOPSPAN_DETAIL_SPAN_CALLS_H
