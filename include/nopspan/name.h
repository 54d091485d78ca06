// SPDX-License-Identifier: Apache-2.0
// Names of spans and events.
#ifndef NOPSPAN_NAME_H
#define NOPSPAN_NAME_H

#include <nopspan/config.h>
#include <nopspan/text.h>

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace nopspan {

// The longest name, request id or label that leaves the process whole, in bytes: bpftrace's str() shows no more. What
// is longer is cut to 60 bytes and "…", and counted (stats().truncated).
inline constexpr std::size_t kMaxNameBytes = 63;

// A dotted name ("llm.chat"). Made from a string literal, whose address is kept: it must stay valid for as long as the
// program runs. A buffer that may change does not compile; intern() takes those.
//
// A name that is empty, too long, not UTF-8 or has control characters is emitted in a cleaned form ("?" for each byte
// that cannot stay, "unnamed" for an empty one), and counted.
class Name {
 public:
  template <std::size_t N>
  constexpr Name(const char (&literal)[N]) noexcept : data_(literal), size_(N - 1) {}  // NOLINT(*-explicit-*)
  template <std::size_t N>
  Name(char (&buffer)[N]) = delete;  // use Name::intern(): the buffer may change while its address is kept

  // Copies a name made at run time into a table that lives as long as the program. The table is bounded: once it holds
  // 4096 names, a new one gives the name "nopspan.overflow", and is counted (stats().names_overflow). A null gives
  // "unnamed". Thread-safe; the same text gives the same pointer.
  NOPSPAN_API static Name intern(Text name) noexcept;

  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data_, size_}; }
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }

 private:
  constexpr Name(const char* data, std::size_t size) noexcept : data_(data), size_(size) {}

  const char* data_;  // ends with a NUL at data_[size_]
  std::size_t size_;
};

/// The names of a catalogue's events (`llm::event_names()`): a list in static storage. It converts to a container of
/// strings, as std::vector<std::string>, which is what attach_many() takes.
class EventNames {
 public:
  using value_type = std::string_view;

  constexpr EventNames() noexcept = default;
  constexpr EventNames(const std::string_view* names, std::size_t size) noexcept : names_(names), size_(size) {}

  [[nodiscard]] constexpr const std::string_view* begin() const noexcept { return names_; }
  [[nodiscard]] constexpr const std::string_view* end() const noexcept { return names_ + size_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr std::string_view operator[](std::size_t i) const noexcept { return names_[i]; }

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
