// SPDX-License-Identifier: Apache-2.0
// Lazy streams: wrappers whose llm.stream span ends when the stream does. A part of nopspan/llm.h: include that.
//
//   auto stream = nopspan::llm::open_pull([&](auto& m) { m.model(name); }, [&] { return client.open(prompt); });
//   while (auto chunk = stream.next()) show(*chunk);
//
// Three shapes: a source that is asked for the next item (pull), a range, and a sink that items are given to (push).
// The span is below the current context of where the stream is made, and ends once: by exhaustion, or when the consumer
// has enough and says so by finish() (ok), by fail(), by cancel(), by an exception that leaves the source
// (llm.stream.exception, as from span()), or, destroyed before that, as cancelled and abandoned. Nothing is read ahead,
// an item more or a moment sooner than the consumer asks.
//
// Its stop has the metadata `response`, always null, and what StreamMeter measures, and `opened_ns`: from the span's
// start until the opener returned, or until the stream was made where there is none. An opener that throws ends the
// span.
//
// `tokens(item)` says how many tokens an item is (else one); it is called only while somebody listens, and what it
// throws is counted (stats().metadata_failures). A source, sink or `tokens` that is an rvalue is moved in; one that is
// an lvalue is referred to, and must outlive the stream. A stream may be consumed on another thread than the one that
// made it, but not on two at once; it may be moved, but a StreamRange not while an iterator is in use. Once its span
// has ended a stream still passes everything on.
#ifndef NOPSPAN_STREAM_H
#define NOPSPAN_STREAM_H

#include <nopspan/config.h>
#include <nopspan/context.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/stream_meter.h>
#include <nopspan/text.h>

#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

namespace nopspan::llm {

class GenerateFields;  // nopspan/llm.h

NOPSPAN_CONSTANT SpanName<GenerateFields> stream{"llm.stream"};

namespace detail {

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
  template <class M>
  explicit StreamSpan(M& metadata) {
    if (nopspan::detail::span_wanted<SpanName<GenerateFields>>()) {
      meter_ = StreamMeter{AsyncSpan{stream, Context::current(), metadata}};
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

  // Runs a piece of the source: what leaves it by an exception ends the span.
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
  // A pull stream's item may be a std::optional or a pointer: `tokens` takes what it holds, if it does not take that.
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
#if NOPSPAN_EXCEPTIONS
    try {
      return asked(tokens, item);
    } catch (...) {
      if (!nopspan::detail::metadata_threw()) throw;
      return 1;
    }
#else
    return asked(tokens, item);
#endif
  }

  StreamMeter meter_;
};

// What an opener takes: nothing, or the stream's span, whose context the call to the model may pass on.
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
// What a stream keeps of what its opener returns.
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

}  // namespace detail

// A source that is asked for items: `Next` takes nothing and returns what is false at the end (a pointer, a
// std::optional). Made by pull_stream() and open_pull().
template <class Next, class Tokens = detail::OneToken>
class PullStream {
 public:
  template <class M>
  PullStream(M& metadata, Next&& next, Tokens&& tokens)
      : span_(metadata), next_(std::forward<Next>(next)), tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }
  template <class M, class Open>
  PullStream(detail::Opening, M& metadata, Open& opener, Tokens&& tokens)
      : span_(metadata),
        next_(span_.guard([&]() -> decltype(auto) { return detail::open(opener, span_.span()); })),
        tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }

  // The source's next item, unchanged.
  decltype(auto) next() {
    using Item = std::invoke_result_t<std::remove_reference_t<Next>&>;
    Item item = span_.guard([&]() -> decltype(auto) { return next_(); });
    if (span_.guard([&] { return static_cast<bool>(item); })) {
      span_.item(tokens_, item);
    } else {
      span_.end();
    }
    if constexpr (std::is_reference_v<Item>) {
      return static_cast<Item>(item);
    } else {
      return item;
    }
  }

  // The consumer has enough; the stream failed without an exception; it was given up.
  void finish() noexcept { span_.end(); }
  void fail(Text type, Text message = {}) noexcept { span_.fail(type, message); }
  void cancel(Text reason = {}) noexcept { span_.cancel(reason); }
  // For its fields (token usage) and its context. Ended through this the span lacks what the meter measures.
  [[nodiscard]] AsyncSpan& span() noexcept { return span_.span(); }

 private:
  detail::StreamSpan span_;
  Next next_;
  Tokens tokens_;
};

// The same for a range: `for (auto&& chunk : stream)`. The source's begin() is called when the stream's is, each of its
// items is looked at once, where the consumer looks at it, and one that is passed over is not counted. Made by
// stream_range() and open_range().
template <class Range, class Tokens = detail::OneToken>
class StreamRange {
  using Source = std::remove_reference_t<Range>;
  using SourceIterator = decltype(detail::range_access::first(std::declval<Source&>()));
  using SourceSentinel = decltype(detail::range_access::last(std::declval<Source&>()));

 public:
  class Iterator;
  class Sentinel {
   public:
    explicit Sentinel(SourceSentinel&& source) : source_(std::move(source)) {}

   private:
    friend class Iterator;
    SourceSentinel source_;
  };

  // For a range-based for: single-pass, and compared only with end().
  class Iterator {
   public:
    Iterator(StreamRange& owner, SourceIterator&& source) : stream_(&owner), source_(std::move(source)) {}

    decltype(auto) operator*() {
      using Item = decltype(*source_);
      Item item = stream_->span_.guard([&]() -> decltype(auto) { return *source_; });
      if (!counted_) stream_->span_.item(stream_->tokens_, item);
      counted_ = true;
      if constexpr (std::is_reference_v<Item>) {
        return static_cast<Item>(item);
      } else {
        return item;
      }
    }
    Iterator& operator++() {
      stream_->span_.guard([&] { ++source_; });
      counted_ = false;
      return *this;
    }
    bool operator!=(const Sentinel& sentinel) {
      const bool more = stream_->span_.guard([&] { return static_cast<bool>(source_ != sentinel.source_); });
      if (!more) stream_->span_.end();
      return more;
    }
    bool operator==(const Sentinel& sentinel) { return !(*this != sentinel); }

   private:
    StreamRange* stream_;
    SourceIterator source_;
    bool counted_ = false;
  };

  template <class M>
  StreamRange(M& metadata, Range&& range, Tokens&& tokens)
      : span_(metadata), range_(std::forward<Range>(range)), tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }
  template <class M, class Open>
  StreamRange(detail::Opening, M& metadata, Open& opener, Tokens&& tokens)
      : span_(metadata),
        range_(span_.guard([&]() -> decltype(auto) { return detail::open(opener, span_.span()); })),
        tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }

  [[nodiscard]] Iterator begin() {
    return Iterator(*this, span_.guard([&] { return detail::range_access::first(range_); }));
  }
  [[nodiscard]] Sentinel end() {
    return Sentinel(span_.guard([&] { return detail::range_access::last(range_); }));
  }

  // As those of PullStream.
  void finish() noexcept { span_.end(); }
  void cancel(Text reason = {}) noexcept { span_.cancel(reason); }
  void fail(Text type, Text message = {}) noexcept { span_.fail(type, message); }
  [[nodiscard]] AsyncSpan& span() noexcept { return span_.span(); }

 private:
  detail::StreamSpan span_;
  Range range_;
  Tokens tokens_;
};

// A sink that items are given to. It does not know the end: say end(). Made by push_stream().
template <class Sink, class Tokens = detail::OneToken>
class PushStream {
 public:
  template <class M>
  PushStream(M& metadata, Sink&& sink, Tokens&& tokens)
      : span_(metadata), sink_(std::forward<Sink>(sink)), tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }

  // Counts the item, gives it to the sink, and returns what that returns.
  template <class Item>
  decltype(auto) operator()(Item&& item) {
    span_.item(tokens_, item);
    return span_.guard([&]() -> decltype(auto) { return sink_(std::forward<Item>(item)); });
  }

  void end() noexcept { span_.end(); }
  void fail(Text type, Text message = {}) noexcept { span_.fail(type, message); }
  void cancel(Text reason = {}) noexcept { span_.cancel(reason); }
  [[nodiscard]] AsyncSpan& span() noexcept { return span_.span(); }

 private:
  detail::StreamSpan span_;
  Sink sink_;
  Tokens tokens_;
};

// `metadata` takes the GenerateFields&, and is called only if somebody listens.
template <class M, class Next, class Tokens = detail::OneToken>
inline PullStream<Next, Tokens> pull_stream(M&& metadata, Next&& next, Tokens&& tokens = {}) {
  return PullStream<Next, Tokens>(metadata, std::forward<Next>(next), std::forward<Tokens>(tokens));
}
template <class Next>
inline PullStream<Next> pull_stream(Next&& next) {
  return llm::pull_stream(detail::NoMetadata(), std::forward<Next>(next));
}
// `opener` returns the source; it is called here, inside the span, with nothing or the span (AsyncSpan&).
template <class M, class Open, class Tokens = detail::OneToken>
inline PullStream<detail::opened_t<Open>, Tokens> open_pull(M&& metadata, Open&& opener, Tokens&& tokens = {}) {
  return PullStream<detail::opened_t<Open>, Tokens>(detail::Opening(), metadata, opener, std::forward<Tokens>(tokens));
}

template <class M, class Range, class Tokens = detail::OneToken>
inline StreamRange<Range, Tokens> stream_range(M&& metadata, Range&& range, Tokens&& tokens = {}) {
  return StreamRange<Range, Tokens>(metadata, std::forward<Range>(range), std::forward<Tokens>(tokens));
}
template <class Range>
inline StreamRange<Range> stream_range(Range&& range) {
  return llm::stream_range(detail::NoMetadata(), std::forward<Range>(range));
}
template <class M, class Open, class Tokens = detail::OneToken>
inline StreamRange<detail::opened_t<Open>, Tokens> open_range(M&& metadata, Open&& opener, Tokens&& tokens = {}) {
  return StreamRange<detail::opened_t<Open>, Tokens>(detail::Opening(), metadata, opener, std::forward<Tokens>(tokens));
}

template <class M, class Sink, class Tokens = detail::OneToken>
inline PushStream<Sink, Tokens> push_stream(M&& metadata, Sink&& sink, Tokens&& tokens = {}) {
  return PushStream<Sink, Tokens>(metadata, std::forward<Sink>(sink), std::forward<Tokens>(tokens));
}
template <class Sink>
inline PushStream<Sink> push_stream(Sink&& sink) {
  return llm::push_stream(detail::NoMetadata(), std::forward<Sink>(sink));
}

}  // namespace nopspan::llm

#endif  // NOPSPAN_STREAM_H
