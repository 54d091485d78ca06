// SPDX-License-Identifier: Apache-2.0
/// @file
/// Lazy streams: wrappers whose llm.stream span ends when the stream ends. Include llm.h, which includes this header.
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
/// There are three forms: a source that is asked for the next item (pull), a range, and a sink that items are passed to
/// (push). The wrappers do not read ahead. They ask the source for an item only when the consumer asks for it.
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
/// Thread safety: a stream is used by one thread at a time. It may be consumed on another thread than the one that
/// created it.
#ifndef NOPSPAN_STREAM_H
#define NOPSPAN_STREAM_H

#include <nopspan/detail/config.h>
#include <nopspan/detail/stream_span.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <type_traits>
#include <utility>

namespace nopspan::llm {

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
  return llm::pull_stream(detail::NoMetadata(), std::forward<Next>(next));
}
/// Opens a source inside the span, and wraps it. `opener` takes no argument, or the span (AsyncSpan&), and returns the
/// source. It is called before this function returns. An exception that leaves it ends the span.
template <class M, class Open, class Tokens = detail::OneToken>
inline PullStream<detail::opened_t<Open>, Tokens> open_pull(M&& metadata, Open&& opener, Tokens&& tokens = {}) {
  return PullStream<detail::opened_t<Open>, Tokens>(detail::Opening(), metadata, opener, std::forward<Tokens>(tokens));
}

/// Wraps a range. `metadata(GenerateFields&)` runs only if the span is recorded.
template <class M, class Range, class Tokens = detail::OneToken>
inline StreamRange<Range, Tokens> stream_range(M&& metadata, Range&& range, Tokens&& tokens = {}) {
  return StreamRange<Range, Tokens>(metadata, std::forward<Range>(range), std::forward<Tokens>(tokens));
}
/// @overload
template <class Range>
inline StreamRange<Range> stream_range(Range&& range) {
  return llm::stream_range(detail::NoMetadata(), std::forward<Range>(range));
}
/// Opens a range inside the span, and wraps it; see open_pull().
template <class M, class Open, class Tokens = detail::OneToken>
inline StreamRange<detail::opened_t<Open>, Tokens> open_range(M&& metadata, Open&& opener, Tokens&& tokens = {}) {
  return StreamRange<detail::opened_t<Open>, Tokens>(detail::Opening(), metadata, opener, std::forward<Tokens>(tokens));
}

/// Wraps a sink. `metadata(GenerateFields&)` runs only if the span is recorded.
template <class M, class Sink, class Tokens = detail::OneToken>
inline PushStream<Sink, Tokens> push_stream(M&& metadata, Sink&& sink, Tokens&& tokens = {}) {
  return PushStream<Sink, Tokens>(metadata, std::forward<Sink>(sink), std::forward<Tokens>(tokens));
}
/// @overload
template <class Sink>
inline PushStream<Sink> push_stream(Sink&& sink) {
  return llm::push_stream(detail::NoMetadata(), std::forward<Sink>(sink));
}

}  // namespace nopspan::llm

#endif  // NOPSPAN_STREAM_H
