// SPDX-License-Identifier: Apache-2.0
/// @file
/// Names of spans and events: dotted text ("llm.chat"). A Name keeps the address of the text and copies no characters.
///
/// @code
/// constexpr nopspan::Name query{"db.query"};                         // a literal: nothing is copied
/// nopspan::Name table = nopspan::Name::intern(std::string("db.") + "orders");  // made at run time: copied once
/// @endcode
///
/// Thread safety: Name and EventNames are plain values. Name::intern() may be called from any thread at any time.
#ifndef NOPSPAN_NAME_H
#define NOPSPAN_NAME_H

#include <nopspan/config.h>
#include <nopspan/text.h>

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace nopspan {

/// The longest name, request id or label, in bytes, that is reported unchanged. It is the most that str() of bpftrace
/// shows. Longer text is truncated to 60 bytes and "…", and counted (stats().truncated).
inline constexpr std::size_t kMaxNameBytes = 63;

/// The name of a span or event. It keeps the address of a string literal, which must stay valid until the program ends.
/// Code that passes a buffer that may change does not compile. Pass such text to intern().
///
/// A name that is empty, is longer than 63 bytes, is not UTF-8 or has control characters is repaired before it is
/// emitted, and counted (stats().names_invalid). "?" replaces each invalid byte. An empty name becomes "unnamed".
class Name {
 public:
  /// From a string literal.
  template <std::size_t N>
  constexpr Name(const char (&literal)[N]) noexcept : data_(literal), size_(N - 1) {}  // NOLINT(*-explicit-*)
  /// Code that passes a buffer does not compile, because the buffer may change while its address is kept. Use intern().
  template <std::size_t N>
  Name(char (&buffer)[N]) = delete;

  /// Copies a name that is made at run time into a table that lives until the program ends. The same text gives the
  /// same pointer. The table holds 4096 names. A new name beyond that becomes "nopspan.overflow", and is counted
  /// (stats().names_overflow). Null text gives "unnamed".
  NOPSPAN_API static Name intern(Text name) noexcept;

  /// The name as it was given.
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data_, size_}; }
  /// The name as it was given; it ends with a NUL.
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  /// Its length in bytes, without the NUL.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }

 private:
  constexpr Name(const char* data, std::size_t size) noexcept : data_(data), size_(size) {}

  const char* data_;  // ends with a NUL at data_[size_]
  std::size_t size_;
};

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
