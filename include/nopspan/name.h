// SPDX-License-Identifier: Apache-2.0
/// @file
/// Names of spans and events: dotted text ("llm.chat"). Any text is a name.
///
/// @code
/// constexpr nopspan::Name query{"db.query"};
/// bool streaming = true;
/// nopspan::Name chat{streaming ? "llm.stream" : "llm.chat"};
/// std::string table = "db.orders";
/// nopspan::Name orders{table};  // refers to the string, which must live until a span of this name has begun
/// @endcode
///
/// Thread safety: Name and EventNames are plain values. Name::intern() may be called from any thread at any time.
#ifndef NOPSPAN_NAME_H
#define NOPSPAN_NAME_H

#include <nopspan/detail/config.h>
#include <nopspan/detail/guarded.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace nopspan {

/// The longest name, request id or label, in bytes, that is reported unchanged. It is the most that str() of bpftrace
/// shows. Longer text is truncated to 60 bytes and "…", and counted (stats().truncated).
inline constexpr std::size_t kMaxNameBytes = 63;

namespace detail {
struct NameAccess;
}

/// The name of a span or event, as an argument. A Name refers to the text and copies no characters. A span or event
/// that is recorded copies its name when it begins, so the text may change or disappear afterwards. While no tracer or
/// handler is attached, the text is not read.
///
/// Names that are made at run time are kept in a table that holds 4096 names. A new name beyond that becomes
/// "nopspan.overflow", and is counted (stats().names_overflow). The limit protects tracers, whose tables are keyed by
/// name. The type decides what is made at run time: everything except a const char array, such as a string literal.
///
/// A name that is empty, is longer than 63 bytes, is not UTF-8 or has control characters is repaired before it is
/// emitted, and counted (stats().names_invalid). "?" replaces each invalid byte. An empty name or a null pointer
/// becomes "unnamed", and so does an object whose conversion to Text throws (counted as stats().metadata_failures). The
/// text of a char array ends at its first NUL.
class Name {
 public:
  /// From a string literal or another const char array. The table of names is not used.
  template <std::size_t N>
  constexpr Name(const char (&literal)[N]) noexcept  // NOLINT(*-explicit-*)
      : data_(literal), size_(N) {}
  /// From a buffer, which need not be full.
  template <std::size_t N>
  constexpr Name(char (&buffer)[N]) noexcept  // NOLINT(*-explicit-*)
      : data_(buffer), size_(N), origin_(Origin::buffer) {}
  /// From const char*, std::string, std::string_view and everything else that converts to Text.
  template <class S, std::enable_if_t<std::is_convertible_v<const S&, Text> && !std::is_array_v<S>, int> = 0>
  constexpr Name(const S& text) noexcept : origin_(Origin::text) {  // NOLINT(*-explicit-*)
    if constexpr (!noexcept(Text(text))) {
      detail::guarded([&] { refer_to(Text(text)); });
    } else if constexpr (std::is_convertible_v<const S&, const char*>) {
      data_ = text;  // its length is found when the name is used
      origin_ = Origin::pointer;
    } else {
      refer_to(Text(text));
    }
  }

  Name(std::nullptr_t) = delete;  ///< not a name

  /// Keeps a copy of a name until the program ends, in the table of names that are made at run time. The same text
  /// gives the same pointer. A program that uses such a name often calls this once, and saves the search of the table.
  /// Null text gives "unnamed".
  NOPSPAN_API static Name intern(Text name) noexcept;

  /// The name as it was given.
  [[nodiscard]] constexpr std::string_view view() const noexcept {
    if (data_ == nullptr) return {};
    if (origin_ == Origin::text) return {data_, size_};
    if (origin_ == Origin::pointer) return {data_};
    const char* end = std::char_traits<char>::find(data_, size_, '\0');
    return {data_, end != nullptr ? static_cast<std::size_t>(end - data_) : size_};
  }
  /// The first character of view().
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  /// The length of view() in bytes.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return view().size(); }

 private:
  friend struct detail::NameAccess;

  enum class Origin : std::uint32_t {
    constant,  // size_ bytes, or up to the first NUL; not made at run time
    buffer,    // the same, made at run time
    text,      // size_ bytes
    pointer    // up to the first NUL; size_ is not used
  };
  constexpr Name(const char* data, std::size_t size) noexcept : data_(data), size_(static_cast<std::uint32_t>(size)) {}
  constexpr void refer_to(Text text) noexcept {
    data_ = text.data();
    size_ = static_cast<std::uint32_t>(text.size() < UINT32_MAX ? text.size() : UINT32_MAX);
  }

  const char* data_ = nullptr;
  std::uint32_t size_ = 0;
  Origin origin_ = Origin::constant;
};
static_assert(sizeof(Name) == 16, "passed in two registers");

/// The names of a catalogue's events (llm::event_names()): a list in static storage. It converts to a container of
/// strings, such as std::vector<std::string>, which is what attach_many() takes.
class EventNames {
 public:
  using value_type = std::string_view;  ///< one name

  /// An empty list.
  constexpr EventNames() noexcept = default;
  /// A list of `size` names in static storage.
  constexpr EventNames(const std::string_view* names, std::size_t size) noexcept : names_(names), size_(size) {}

  /// The first name.
  [[nodiscard]] constexpr const std::string_view* begin() const noexcept { return names_; }
  /// The position after the last name.
  [[nodiscard]] constexpr const std::string_view* end() const noexcept { return names_ + size_; }
  /// The number of names.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  /// Whether there are none.
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  /// The name at position `i`, which must be less than size().
  constexpr std::string_view operator[](std::size_t i) const noexcept { return names_[i]; }

  /// Copies the names into a container of strings.
  template <class C, std::enable_if_t<std::is_constructible_v<typename C::value_type, std::string_view> &&
                                          std::is_constructible_v<C, const std::string_view*, const std::string_view*>,
                                      int> = 0>
  operator C() const {  // NOLINT(*-explicit-*)
    return C(begin(), end());
  }

 private:
  const std::string_view* names_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace nopspan

#endif  // NOPSPAN_NAME_H
