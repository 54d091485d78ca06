// SPDX-License-Identifier: Apache-2.0
/// @file
/// StreamMeter, the pace of a stream of tokens, and lazy streams: wrappers whose llm.stream span ends when the stream
/// ends. For lazy streams include llm.h, which includes this header. engine.h includes it too.
///
/// @code
/// nopspan::StreamMeter meter{nopspan::AsyncSpan{"engine.request", nopspan::Context::current()}};
/// for (int i = 0; i < 3; ++i) meter.token();
/// meter.end();
///
/// // As a callback of a C library, with the meter as user data: token() does not throw.
/// void (*on_token)(const char*, void*) = [](const char*, void* user) {
///   static_cast<nopspan::StreamMeter*>(user)->token();
/// };
/// @endcode
///
/// A lazy stream:
///
/// @code
/// #include <nopspan/llm.h>
///
/// #include <optional>
/// #include <string>
///
/// struct Chunk {
///   std::string text;
///   int total = 0;  // the tokens of the response; 0 before the last chunk
/// };
/// std::optional<Chunk> next_chunk();  // the client's source; empty at the end
/// void show(const std::string& text);
///
/// void answer() {
///   auto stream = nopspan::llm::open_pull([](auto& m) { m.model("llama-3"); }, [] { return next_chunk; });
///   while (auto chunk = stream.next()) {
///     show(chunk->text);
///     if (chunk->total != 0) stream.span().output_tokens(chunk->total);  // before next() returns the end
///   }
/// }
/// @endcode
///
/// Lazy streams have three forms: a source that is asked for the next item (pull), a range, and a sink that items are
/// passed to (push). The wrappers do not read ahead. They ask the source for an item only when the consumer asks for
/// it.
///
/// The span is a child of the context that is current when the stream is created. The first of these ends it:
///
/// | what happens | the span ends as |
/// | --- | --- |
/// | the source is exhausted, or the consumer calls finish() (end() of a push stream) | ok |
/// | the consumer calls fail() | error |
/// | the consumer calls cancel() | cancelled |
/// | an exception leaves the opener, the source or the sink | llm.stream.exception, as from span() |
/// | an exception of the consumer destroys the stream | llm.stream.exception, with the reason "unknown" |
/// | the stream is destroyed otherwise | cancelled, and counted (stats().abandoned) |
///
/// So when next() has returned the end, or a loop over a range has ended, the span has ended too. Fields that are set
/// after that, and a later fail(), are ignored. If the client has its token counts or its finish reason only after the
/// last item, let the source set them before it returns the end. Do not move such a stream, because its source has a
/// reference to its span:
///
/// @code
/// #include <nopspan/llm.h>
///
/// #include <optional>
/// #include <string>
///
/// struct Client {
///   std::optional<std::string> next();  // empty at the end
///   int usage();                        // known at the end
/// };
///
/// void read(Client& client) {
///   auto stream = nopspan::llm::open_pull([](auto&) {}, [&](nopspan::AsyncSpan& span) {
///     return [&] {
///       auto chunk = client.next();
///       if (!chunk) span.output_tokens(client.usage()).set("finish_reason", "stop");
///       return chunk;
///     };
///   });
///   while (stream.next()) {
///   }
/// }
/// @endcode
///
/// After the span has ended, the stream still passes items on. The stop event has the measurements of StreamMeter, and
/// `opened_ns`: the time from the start of the span until the opener returned. It also has the metadata `response`,
/// which is always null.
///
/// The callable `tokens(item)` returns the number of tokens in an item. Without it, each item counts as one token. It
/// is called only if the span is recorded. If it throws, the exception is swallowed and counted
/// (stats().metadata_failures), and the item counts as one token.
///
/// Lifetime: a source, sink or `tokens` that is an rvalue is moved into the stream. If it is an lvalue, the stream
/// keeps a reference to it, so the object must outlive the stream. A stream may be moved, except a StreamRange while an
/// iterator is in use.
///
/// Thread safety: a meter or a stream is used by one thread at a time. It may move to another thread.
#ifndef NOPSPAN_STREAM_H
#define NOPSPAN_STREAM_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/guarded.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cstdint>
#include <type_traits>
#include <utility>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

namespace detail {
struct MeterState;
NOPSPAN_API NOPSPAN_COLD MeterState* meter_begin(SpanState*) noexcept NOPSPAN_IN_SHELL(return {});
NOPSPAN_API NOPSPAN_COLD void meter_token(SpanState*, MeterState*, std::int64_t n) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void meter_token_at(SpanState*, MeterState*, std::int64_t n, std::uint64_t at_ns) noexcept
    NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void meter_opened(SpanState*) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void meter_end(SpanState*, MeterState*) noexcept NOPSPAN_IN_SHELL();  // adds the measurements
}  // namespace detail

/// Measures the stream of tokens of one span. It takes an AsyncSpan, owns it, and ends it. At the end it adds these
/// measurements, except those that the application set itself:
///
/// | measurement | value |
/// | --- | --- |
/// | stream_tokens | the number of tokens |
/// | time_to_first_token_ns | from the start of the span to the first token (ttft_ns of engine.h is from the arrival) |
/// | gap_p50_ns, gap_p99_ns, gap_max_ns | the times between calls of token(), if there were at least two calls |
///
/// The two quantiles are within 3.1 % for gaps between 1 us and 275 s. For shorter gaps they are within 32 ns. A longer
/// gap counts as 275 s. The maximum is exact.
///
/// While a collector is attached (`nopspan hist`, `record`, `trace`, `top`), the span also has its histogram of gaps as
/// the attribute nopspan.gaps_ns. If a call of token() brought several tokens, it has nopspan.token_gaps_ns too.
///
/// - A meter of a recorded span takes 4 KiB of memory, which is reused. If there is no memory, the span has no
///   measurements, and this is counted (stats().fields_dropped).
/// - A call of token() on a recorded span costs one clock read, unless it is given the time, and a few ns. On any other
/// span it costs one test. A stream that has brought several tokens at a time has two histograms to count in.
/// - The first token fires the probe `first_token`. Later tokens fire no probe.
/// - In the child of fork(), a meter of the parent does nothing.
class StreamMeter {
 public:
  /// A meter without a span, on which every member does nothing.
  constexpr StreamMeter() noexcept = default;
  /// Takes the span, and begins to measure.
  [[nodiscard]] explicit StreamMeter(AsyncSpan&& span) noexcept : span_(std::move(span)) {
    if (__builtin_expect(span_.state_ != nullptr, 0)) meter_ = detail::meter_begin(span_.state_);
  }
  /// Takes the span and its measurements from `other`, which has no span afterwards.
  StreamMeter(StreamMeter&& other) noexcept
      : span_(std::move(other.span_)), meter_(std::exchange(other.meter_, nullptr)) {}
  /// Abandons the span that this meter holds, and takes the span and its measurements from `other`.
  StreamMeter& operator=(StreamMeter&& other) noexcept {
    if (this != &other) {
      measure();
      span_ = std::move(other.span_);
      meter_ = std::exchange(other.meter_, nullptr);
    }
    return *this;
  }
  /// If the span has not ended, its measurements so far are set, and it ends as an AsyncSpan that is destroyed.
  ~StreamMeter() { measure(); }

  /// Whether the span is recorded, and has not ended.
  explicit operator bool() const noexcept { return static_cast<bool>(span_); }

  /// Reports that `n` tokens arrived now. 0 does nothing. A negative number does nothing, and is counted
  /// (stats().values_clamped).
  void token(std::int64_t n = 1) noexcept {
    if (__builtin_expect(span_.state_ != nullptr, 0)) detail::meter_token(span_.state_, meter_, n);
  }
  /// Reports that `n` tokens arrived at that time; 0 means now. A step of an engine makes one token for each of its
  /// requests: with one reading of the clock (now_ns()) for all of them, a token costs half as much. A time before that
  /// of the last token counts as the same time. A time before the start of the span, or in the future, is left out and
  /// counted (stats().values_clamped): no gap begins or ends with that token.
  void token(std::int64_t n, Time at) noexcept {
    if (__builtin_expect(span_.state_ != nullptr, 0)) detail::meter_token_at(span_.state_, meter_, n, at.ns());
  }

  /// Reports that the source of the stream is open now. Sets the measurement opened_ns: the time since the start of the
  /// span.
  void opened() noexcept {
    if (__builtin_expect(span_.state_ != nullptr, 0)) detail::meter_opened(span_.state_);
  }

  /// Ends the span; see AsyncSpan::end(). The first call of end(), fail(), cancel() or caught() counts.
  void end() noexcept {
    measure();
    span_.end();
  }
  /// Ends the span as failed; see AsyncSpan::fail().
  void fail(Text type, Text message = {}) noexcept {
    measure();
    span_.fail(type, message);
  }
  /// Ends the span as cancelled; see AsyncSpan::cancel().
  void cancel(Text reason = {}) noexcept {
    measure();
    span_.cancel(reason);
  }
  /// Ends the span with the exception that is being handled; see AsyncSpan::caught().
  void caught() noexcept {
    measure();
    span_.caught();
  }

  /// The span, for its fields, events and context. Do not end it through this reference, because the measurements would
  /// be missing.
  [[nodiscard]] AsyncSpan& span() noexcept { return span_; }
  /// @overload
  [[nodiscard]] const AsyncSpan& span() const noexcept { return span_; }

 private:
  void measure() noexcept {
    if (__builtin_expect(meter_ != nullptr, 0)) detail::meter_end(span_.state_, std::exchange(meter_, nullptr));
  }

  AsyncSpan span_;
  detail::MeterState* meter_ = nullptr;
};
static_assert(sizeof(StreamMeter) == 2 * sizeof(void*));

}  // namespace NOPSPAN_NAMESPACE

namespace NOPSPAN_NAMESPACE::llm {

namespace detail {

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
#if NOPSPAN_CATCHES
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

}  // namespace detail

class GenerateFields;  // nopspan/llm.h

/// The name of a stream's span, for a program that makes the span itself.
NOPSPAN_CONSTANT SpanName<GenerateFields> stream{"llm.stream"};

/// A stream that is asked for its items. `Next` takes no argument, and returns a pointer, a std::optional or another
/// type that is false at the end of the stream. pull_stream() and open_pull() make it.
template <class Next, class Tokens = detail::OneToken>
class PullStream {
 public:
  /// For pull_stream().
  template <class M>
  PullStream(M& metadata, Next&& next, Tokens&& tokens)
      : span_(llm::stream, metadata), next_(std::forward<Next>(next)), tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }
  /// For open_pull().
  template <class M, class Open>
  PullStream(detail::Opening, M& metadata, Open& opener, Tokens&& tokens)
      : span_(llm::stream, metadata),
        next_(span_.guard([&]() -> decltype(auto) { return detail::open(opener, span_.span()); })),
        tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }

  /// The source's next item, unchanged.
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

  /// Ends the span as ok: the consumer needs no more items.
  void finish() noexcept { span_.end(); }
  /// Ends the span as failed, without an exception; see Span::fail().
  void fail(Text type, Text message = {}) noexcept { span_.fail(type, message); }
  /// Ends the span as cancelled; see Span::cancel().
  void cancel(Text reason = {}) noexcept { span_.cancel(reason); }
  /// The span, for its context, and for its fields (token usage) as long as it has not ended. Do not end it through
  /// this reference, because the measurements would be missing.
  [[nodiscard]] AsyncSpan& span() noexcept { return span_.span(); }

 private:
  detail::StreamSpan span_;
  Next next_;
  Tokens tokens_;
};

/// A stream that is a range: `for (auto&& chunk : stream)`. The stream's begin() calls the begin() of its source. An
/// item is counted when the consumer reads it for the first time, so an item that is skipped is not counted.
/// stream_range() and open_range() make it.
template <class Range, class Tokens = detail::OneToken>
class StreamRange {
  using Source = std::remove_reference_t<Range>;
  using SourceIterator = decltype(detail::range_access::first(std::declval<Source&>()));
  using SourceSentinel = decltype(detail::range_access::last(std::declval<Source&>()));

 public:
  class Iterator;
  /// The end of the range.
  class Sentinel {
   public:
    /// For end().
    explicit Sentinel(SourceSentinel&& source) : source_(std::move(source)) {}

   private:
    friend class Iterator;
    SourceSentinel source_;
  };

  /// An iterator for a range-based for loop. It is single-pass, and can be compared only with end().
  class Iterator {
   public:
    /// For begin().
    Iterator(StreamRange& owner, SourceIterator&& source) : stream_(&owner), source_(std::move(source)) {}

    /// The source's item, unchanged.
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
    /// Advances the source.
    Iterator& operator++() {
      stream_->span_.guard([&] { ++source_; });
      counted_ = false;
      return *this;
    }
    /// Whether there are more items. If there are none, this ends the span.
    bool operator!=(const Sentinel& sentinel) {
      const bool more = stream_->span_.guard([&] { return static_cast<bool>(source_ != sentinel.source_); });
      if (!more) stream_->span_.end();
      return more;
    }
    /// The opposite of !=.
    bool operator==(const Sentinel& sentinel) { return !(*this != sentinel); }

   private:
    StreamRange* stream_;
    SourceIterator source_;
    bool counted_ = false;
  };

  /// For stream_range().
  template <class M>
  StreamRange(M& metadata, Range&& range, Tokens&& tokens)
      : span_(llm::stream, metadata), range_(std::forward<Range>(range)), tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }
  /// For open_range().
  template <class M, class Open>
  StreamRange(detail::Opening, M& metadata, Open& opener, Tokens&& tokens)
      : span_(llm::stream, metadata),
        range_(span_.guard([&]() -> decltype(auto) { return detail::open(opener, span_.span()); })),
        tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }

  /// Calls begin() of the source. Call it once.
  [[nodiscard]] Iterator begin() {
    return Iterator(*this, span_.guard([&] { return detail::range_access::first(range_); }));
  }
  /// The end of the source.
  [[nodiscard]] Sentinel end() {
    return Sentinel(span_.guard([&] { return detail::range_access::last(range_); }));
  }

  /// Ends the span as ok: the consumer needs no more items.
  void finish() noexcept { span_.end(); }
  /// Ends the span as cancelled; see Span::cancel().
  void cancel(Text reason = {}) noexcept { span_.cancel(reason); }
  /// Ends the span as failed, without an exception; see Span::fail().
  void fail(Text type, Text message = {}) noexcept { span_.fail(type, message); }
  /// The span; see PullStream::span().
  [[nodiscard]] AsyncSpan& span() noexcept { return span_.span(); }

 private:
  detail::StreamSpan span_;
  Range range_;
  Tokens tokens_;
};

/// A stream to which items are passed. It cannot detect the end of the stream, so call end(). push_stream() makes it.
template <class Sink, class Tokens = detail::OneToken>
class PushStream {
 public:
  /// For push_stream().
  template <class M>
  PushStream(M& metadata, Sink&& sink, Tokens&& tokens)
      : span_(llm::stream, metadata), sink_(std::forward<Sink>(sink)), tokens_(std::forward<Tokens>(tokens)) {
    span_.opened();
  }

  /// Counts the item, passes it to the sink, and returns what the sink returns.
  template <class Item>
  decltype(auto) operator()(Item&& item) {
    span_.item(tokens_, item);
    return span_.guard([&]() -> decltype(auto) { return sink_(std::forward<Item>(item)); });
  }

  /// Ends the span as ok.
  void end() noexcept { span_.end(); }
  /// Ends the span as failed, without an exception; see Span::fail().
  void fail(Text type, Text message = {}) noexcept { span_.fail(type, message); }
  /// Ends the span as cancelled; see Span::cancel().
  void cancel(Text reason = {}) noexcept { span_.cancel(reason); }
  /// The span; see PullStream::span().
  [[nodiscard]] AsyncSpan& span() noexcept { return span_.span(); }

 private:
  detail::StreamSpan span_;
  Sink sink_;
  Tokens tokens_;
};

/// Wraps a source. `metadata(GenerateFields&)` runs only if the span is recorded.
template <class M, class Next, class Tokens = detail::OneToken>
inline PullStream<Next, Tokens> pull_stream(M&& metadata, Next&& next, Tokens&& tokens = {}) {
  return PullStream<Next, Tokens>(metadata, std::forward<Next>(next), std::forward<Tokens>(tokens));
}
/// @overload
template <class Next>
inline PullStream<Next> pull_stream(Next&& next) {
  return llm::pull_stream([](auto&) {}, std::forward<Next>(next));
}
/// Opens a source inside the span, and wraps it. `opener` takes no argument, or the span (AsyncSpan&), and returns the
/// source. It is called before this function returns. An exception that leaves it ends the span.
template <class M, class Open, class Tokens = detail::OneToken>
inline auto open_pull(M&& metadata, Open&& opener, Tokens&& tokens = {}) {
  if constexpr (!nopspan::detail::takes<M, GenerateFields>()) {
    nopspan::detail::report_wrong_fields<M, GenerateFields>();
  } else {
    return PullStream<detail::opened_t<Open>, Tokens>(detail::Opening(), metadata, opener,
                                                      std::forward<Tokens>(tokens));
  }
}

/// Wraps a range. `metadata(GenerateFields&)` runs only if the span is recorded.
template <class M, class Range, class Tokens = detail::OneToken>
inline StreamRange<Range, Tokens> stream_range(M&& metadata, Range&& range, Tokens&& tokens = {}) {
  return StreamRange<Range, Tokens>(metadata, std::forward<Range>(range), std::forward<Tokens>(tokens));
}
/// @overload
template <class Range>
inline StreamRange<Range> stream_range(Range&& range) {
  return llm::stream_range([](auto&) {}, std::forward<Range>(range));
}
/// Opens a range inside the span, and wraps it; see open_pull().
template <class M, class Open, class Tokens = detail::OneToken>
inline auto open_range(M&& metadata, Open&& opener, Tokens&& tokens = {}) {
  if constexpr (!nopspan::detail::takes<M, GenerateFields>()) {
    nopspan::detail::report_wrong_fields<M, GenerateFields>();
  } else {
    return StreamRange<detail::opened_t<Open>, Tokens>(detail::Opening(), metadata, opener,
                                                       std::forward<Tokens>(tokens));
  }
}

/// Wraps a sink. `metadata(GenerateFields&)` runs only if the span is recorded.
template <class M, class Sink, class Tokens = detail::OneToken>
inline PushStream<Sink, Tokens> push_stream(M&& metadata, Sink&& sink, Tokens&& tokens = {}) {
  return PushStream<Sink, Tokens>(metadata, std::forward<Sink>(sink), std::forward<Tokens>(tokens));
}
/// @overload
template <class Sink>
inline PushStream<Sink> push_stream(Sink&& sink) {
  return llm::push_stream([](auto&) {}, std::forward<Sink>(sink));
}

}  // namespace NOPSPAN_NAMESPACE::llm

#endif  // NOPSPAN_STREAM_H
