// SPDX-License-Identifier: Apache-2.0
/// @file
/// Contexts in the headers of messages between processes: `traceparent` and `tracestate` of W3C Trace Context
/// (https://www.w3.org/TR/trace-context/), and `baggage` of W3C Baggage (https://www.w3.org/TR/baggage/). Also in the
/// environment of a child process, by OpenTelemetry's convention
/// (https://opentelemetry.io/docs/specs/otel/context/env-carriers/).
///
/// @code
/// #include <nopspan/propagation.h>
/// #include <nopspan/span.h>
///
/// #include <map>
/// #include <string>
///
/// using Headers = std::multimap<std::string, std::string>;
///
/// void serve(const Headers& received) {  // a server
///   nopspan::span("http.server", nopspan::extract(received), [] {});
/// }
/// Headers call() {  // a client
///   Headers sent;
///   nopspan::inject(sent);
///   return sent;
/// }
/// @endcode
///
/// A carrier is one of these. Keys of headers are compared without case.
///
/// - A container of pairs of key and value, such as a std::map, a std::unordered_map, a std::multimap, the Headers of
///   cpp-httplib or a std::vector of std::pair.
/// - A callable: inject() calls it with a key and a value, both Text or std::string_view. extract() calls it with a key
///   ("traceparent"). It returns the value as something that converts to Text, or as a std::optional or a pointer to
///   that. A text that it refers to must stay as it is until extract() returns.
///
/// The label `tenant` and the three labels with other keys travel in `baggage`, percent-encoded. The labels `engine`
/// and `model` do not. Nor do a label whose key is not a token of HTTP, and "other" in place of a value over the limit.
/// A received member becomes a label if its key is `tenant`, or that of another label which this process has used or
/// declared (declare_label()). Other members are forwarded unchanged. So a client can set the label `tenant` of a
/// server, and use up the 4000 different values that such labels may have in a process. A server that does not trust
/// its clients removes `baggage` from what it received.
///
/// At most 64 members and 8192 bytes are forwarded. Malformed headers and members over the limits are dropped and
/// counted (stats().invalid_ids, invalid_tracestate, baggage_dropped). At most 16 lines of a header are read.
///
/// `tracestate` and the members that are not labels are in a bounded store. It keeps them while the context is that of
/// a ContextScope. A context that is in no scope keeps them until 28,672 later requests have come, or fewer if the
/// headers of a request have more than 104 bytes. Then they are no longer forwarded, and this is counted
/// (stats().tracestate_evicted).
///
/// Thread safety: all functions may be called from any thread at any time. A carrier belongs to the caller. In a signal
/// handler, a carrier that is a callable may be used. inject() and extract() then need up to 16 KiB of stack.
#ifndef NOPSPAN_PROPAGATION_H
#define NOPSPAN_PROPAGATION_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/types.h>

#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

/// Makes `key` one of the three keys of labels beyond engine, model and tenant, so that extract() makes received
/// members with this key labels. A process that sets the label itself need not call this. Returns false (counted:
/// stats().labels_overflow) if there are three others.
NOPSPAN_API bool declare_label(Text key) noexcept NOPSPAN_IN_SHELL(return true);

namespace detail {

NOPSPAN_CONSTANT std::size_t kMaxBaggageBytes = 8192;
NOPSPAN_CONSTANT std::size_t kBaggageRoom = 9216;  // for the header while it is being written

// The lines of a header, which refer to the carrier.
struct HeaderLines {
  static constexpr std::size_t kMostLines = 16;

  void add(Text line) noexcept {
    if (line.empty()) return;
    if (count < kMostLines) lines[count] = line;
    ++count;
  }
  [[nodiscard]] std::size_t size() const noexcept { return count < kMostLines ? count : kMostLines; }

  Text lines[kMostLines];
  std::size_t count = 0;  // with those that were not kept
};
struct ReceivedHeaders {
  HeaderLines traceparent;
  HeaderLines tracestate;
  HeaderLines baggage;
};
NOPSPAN_API Context read_headers(const ReceivedHeaders& received) noexcept NOPSPAN_IN_SHELL(return {});
// Writes the header `baggage`, and returns its length. `out` has kBaggageRoom bytes.
NOPSPAN_API std::size_t write_baggage(const Context& context, char* out) noexcept NOPSPAN_IN_SHELL(return {});
// Whether a header's key is `name`, which is in lower case.
NOPSPAN_API bool is_header(Text key, Text name) noexcept NOPSPAN_IN_SHELL(return {});

template <class C, class = void>
inline constexpr bool has_pairs = false;
template <class C>
inline constexpr bool
    has_pairs<C, std::void_t<decltype(Text(std::declval<C&>().begin()->first)),
                             decltype(Text(std::declval<C&>().begin()->second)), decltype(std::declval<C&>().end())>> =
        true;
// Whether the values of such a container refer to texts of others, as a std::string_view does.
template <class C, class = void>
inline constexpr bool has_views = false;
template <class C>
inline constexpr bool has_views<C, std::enable_if_t<has_pairs<C>>> =
    std::is_trivially_copyable_v<std::decay_t<decltype(std::declval<C&>().begin()->second)>>;
// Whether the values of such a container live as long as it does. Those of a pair that an iterator makes do not.
template <class C, class = void>
inline constexpr bool keeps_values = false;
template <class C>
inline constexpr bool keeps_values<C, std::enable_if_t<has_pairs<C>>> =
    std::is_reference_v<decltype(*std::declval<C&>().begin())> ||
    std::is_reference_v<decltype((*std::declval<C&>().begin()).second)> || has_views<C>;
template <class C, class Pair, class = void>
inline constexpr bool is_sequence = false;
template <class C, class Pair>
inline constexpr bool is_sequence<C, Pair, std::void_t<decltype(std::declval<C&>().push_back(std::declval<Pair>()))>> =
    true;

template <bool is_environment, class C>
void erase_header(C& carrier, Text key) {
  for (auto at = carrier.begin(); at != carrier.end();) {
    if (is_environment ? Text(at->first).view() == key.view() : is_header(at->first, key)) {
      const auto found = at++;
      if constexpr (std::is_void_v<decltype(carrier.erase(found))>) {
        carrier.erase(found);
      } else {
        at = carrier.erase(found);
      }
    } else {
      ++at;
    }
  }
}
// Without a value, only removes the header. Of callables, only those of an environment can do that.
template <bool is_environment, class C>
void set_header(C& carrier, Text key, Text value) {
  if constexpr (has_pairs<C>) erase_header<is_environment>(carrier, key);
  if (value.empty() && (has_pairs<C> || !is_environment)) return;
  if constexpr (has_pairs<C>) {
    using Pair =
        std::pair<std::decay_t<decltype(carrier.begin()->first)>, std::decay_t<decltype(carrier.begin()->second)>>;
    Pair header({key.data(), key.size()}, {value.data(), value.size()});
    if constexpr (is_sequence<C, Pair>) {
      carrier.push_back(std::move(header));
    } else {
      carrier.insert(std::move(header));
    }
  } else if constexpr (std::is_invocable_v<C&, Text, Text>) {
    carrier(key, value);
  } else {
    carrier(key.view(), value.view());
  }
}

template <bool is_environment, class C>
void write_headers(const Context& context, C& carrier) {
  constexpr bool kIsCarrier = std::disjunction_v<std::bool_constant<has_pairs<C>>, std::is_invocable<C&, Text, Text>,
                                                 std::is_invocable<C&, std::string_view, std::string_view>>;
  static_assert(kIsCarrier,
                "a carrier is a container of pairs of texts, or a callable that takes a key and a value, both "
                "nopspan::Text or std::string_view");
  static_assert(!has_views<C>, "a carrier into which headers are written has texts of its own, not views");
  constexpr bool kIsConst = has_pairs<C> && std::is_const_v<C>;
  static_assert(!kIsConst, "a carrier into which headers are written is not const");
  if constexpr (kIsCarrier && !has_views<C> && !kIsConst && !NOPSPAN_SHELL) {
    char baggage[kBaggageRoom];
    const std::size_t size = write_baggage(context, baggage);
    if (context.empty() && size == 0) return;
    set_header<is_environment>(carrier, is_environment ? "TRACEPARENT" : "traceparent", context.traceparent());
    set_header<is_environment>(carrier, is_environment ? "TRACESTATE" : "tracestate", context.tracestate());
    set_header<is_environment>(carrier, is_environment ? "BAGGAGE" : "baggage", Text(baggage, size));
  }
}

// What a callable returned: a text, or an optional of one.
template <class R>
Text text_of(const R& got) {
  if constexpr (std::is_convertible_v<const R&, Text>) {
    return got;
  } else {
    return got ? Text(*got) : Text();
  }
}

}  // namespace detail

/// Writes the headers of `context`, which may be that of a Span or AsyncSpan, into `carrier`, in place of those of the
/// same keys. A header without a value is not written, and is removed from a container, so that one with the headers of
/// an earlier request can be used again. For an empty context without baggage, nothing is written or removed. Throws
/// only what the carrier throws.
template <class C>
void inject(ContextRef context, C&& carrier) {
  detail::write_headers<false>(context.context(), carrier);
}
/// The same for the calling thread's current context.
template <class C>
void inject(C&& carrier) {
  inject(Context::current(), carrier);
}

/// Reads a context from the headers in `carrier`. Without a valid `traceparent` the context is empty, so a span inside
/// it starts a new request, but it still has the labels and other members of `baggage`. Several lines of `tracestate`
/// or `baggage` are joined. Throws only what the carrier throws.
template <class C>
[[nodiscard]] Context extract(C&& carrier) {
  using Carrier = std::remove_reference_t<C>;
  constexpr bool kIsCallable = std::is_invocable_v<Carrier&, const char*>;
  static_assert(detail::has_pairs<Carrier> || kIsCallable,
                "a carrier is a container of pairs of texts, or a callable that takes a key and returns a value");
  static_assert(!detail::has_pairs<Carrier> || detail::keeps_values<Carrier>,
                "the values of a carrier are texts of its own or views, not texts that its iterator makes");
  detail::ReceivedHeaders received;
  if constexpr (NOPSPAN_SHELL) {
    return {};
  } else if constexpr (detail::keeps_values<Carrier>) {
    for (const auto& [key, value] : carrier) {
      if (detail::is_header(key, "traceparent")) received.traceparent.add(value);
      if (detail::is_header(key, "tracestate")) received.tracestate.add(value);
      if (detail::is_header(key, "baggage")) received.baggage.add(value);
    }
    return detail::read_headers(received);
  } else if constexpr (kIsCallable && !detail::has_pairs<Carrier>) {
    const auto& traceparent = carrier("traceparent");  // these live until the headers have been read
    const auto& tracestate = carrier("tracestate");
    const auto& baggage = carrier("baggage");
    received.traceparent.add(detail::text_of(traceparent));
    received.tracestate.add(detail::text_of(tracestate));
    received.baggage.add(detail::text_of(baggage));
    return detail::read_headers(received);
  } else {
    return {};
  }
}

/// The same as inject() for the environment of a child process, by OpenTelemetry's convention: the variables
/// TRACEPARENT, TRACESTATE and BAGGAGE. The carrier is a copy of this process's environment as a container of pairs, or
/// a callable. If a variable is to be removed, the callable gets an empty value. The name that it gets ends with a zero
/// byte:
///
/// @code
/// #include <nopspan/propagation.h>
///
/// #include <cstdlib>
/// #include <string>
///
/// void start_child() {  // in a process with one thread, because setenv() is not safe in others
///   nopspan::inject_environment(nopspan::Context::current(), [](std::string_view name, std::string_view value) {
///     value.empty() ? unsetenv(name.data()) : setenv(name.data(), std::string(value).c_str(), 1);
///   });
///   std::system("make");
/// }
/// @endcode
template <class C>
void inject_environment(ContextRef context, C&& carrier) {
  detail::write_headers<true>(context.context(), carrier);
}

/// Reads the context that the parent process wrote: a command begins with
/// `nopspan::span("command", nopspan::extract_environment(), …)`. Call it while no other thread changes the
/// environment.
[[nodiscard]] NOPSPAN_API Context extract_environment() noexcept NOPSPAN_IN_SHELL(return {});

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_PROPAGATION_H
