// SPDX-License-Identifier: Apache-2.0
// The span of a lazy stream, and the functions with which the streams of stream.h call the program's callables.
#ifndef NOPSPAN_DETAIL_STREAM_SPAN_H
#define NOPSPAN_DETAIL_STREAM_SPAN_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/guarded.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/stream_meter.h>
#include <nopspan/types.h>

#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

namespace nopspan::llm::detail {

struct NoMetadata {
  template <class F>
  void operator()(F&) const noexcept {}
};
struct OneToken {
  template <class Item>
  std::int64_t operator()(const Item&) const noexcept {
    return 1;
  }
};
struct Opening {};  // tag: the source is what the callable returns

// The span of a stream.
class StreamSpan {
 public:
  template <class F, class M>
  StreamSpan(const SpanName<F>& name, M& metadata) {
    if (nopspan::detail::span_wanted<SpanName<F>>()) {
      meter_ = StreamMeter{AsyncSpan{name, Context::current(), metadata}};
    }
  }
  StreamSpan(StreamSpan&&) noexcept = default;
  StreamSpan& operator=(StreamSpan&& other) noexcept {
    if (this != &other) {
      closing();
      meter_ = std::move(other.meter_);
    }
    return *this;
  }
  ~StreamSpan() { closing(); }

  void opened() noexcept { meter_.opened(); }
  template <class Tokens, class Item>
  void item(Tokens& tokens, const Item& item) {
    if (listened()) meter_.token(tokens_of(tokens, item));
  }
  void end() noexcept {
    closing();
    meter_.end();
  }
  void fail(Text type, Text message) noexcept {
    closing();
    meter_.fail(type, message);
  }
  void cancel(Text reason) noexcept {
    closing();
    meter_.cancel(reason);
  }

  // Runs a piece of the source. An exception that leaves it ends the span.
  template <class Work>
  decltype(auto) guard(Work&& work) {
#if NOPSPAN_EXCEPTIONS
    try {
      return work();
    } catch (...) {
      meter_.caught();
      throw;
    }
#else
    return work();
#endif
  }

  [[nodiscard]] AsyncSpan& span() noexcept { return meter_.span(); }

 private:
  [[nodiscard]] bool listened() const noexcept { return __builtin_expect(static_cast<bool>(meter_), 0); }
  void closing() noexcept {
    meter_.span().with([](Fields& f) { f.content("response", nullptr); });
  }
  // A pull stream's item may be a std::optional or a pointer. If `tokens` does not accept such an item, it is called
  // with the object that the item holds.
  template <class Tokens, class Item>
  static std::int64_t asked(Tokens& tokens, const Item& item) {
    if constexpr (std::is_invocable_v<Tokens&, const Item&>) {
      return static_cast<std::int64_t>(tokens(item));
    } else {
      return static_cast<std::int64_t>(tokens(*item));
    }
  }
  template <class Tokens, class Item>
  static std::int64_t tokens_of(Tokens& tokens, const Item& item) {
    std::int64_t count = 1;
    nopspan::detail::guarded([&] { count = asked(tokens, item); });
    return count;
  }

  StreamMeter meter_;
};

// An opener takes nothing, or the stream's span, whose context the call to the model may forward.
template <class Open>
decltype(auto) open(Open& opener, AsyncSpan& span) {
  if constexpr (std::is_invocable_v<Open&, AsyncSpan&>) {
    return opener(span);
  } else {
    return opener();
  }
}
template <class T>
struct owned {
  using type = std::remove_cv_t<std::remove_reference_t<T>>;
};
template <class T>
struct owned<T&> {
  using type = T&;
};
// The type in which a stream keeps what its opener returns.
template <class Open>
using opened_t = typename owned<decltype(detail::open(std::declval<Open&>(), std::declval<AsyncSpan&>()))>::type;

// begin() and end() as a range-based for finds them.
namespace range_access {
using std::begin;
using std::end;
template <class Range>
auto first(Range& range) -> decltype(begin(range)) {
  return begin(range);
}
template <class Range>
auto last(Range& range) -> decltype(end(range)) {
  return end(range);
}
}  // namespace range_access

}  // namespace nopspan::llm::detail

#endif  // NOPSPAN_DETAIL_STREAM_SPAN_H
