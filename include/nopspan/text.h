// SPDX-License-Identifier: Apache-2.0
/// @file
/// Strings as nopspan takes and returns them, without the cost of including `<string>`.
///
/// @code
/// nopspan::FixedString<63> id{"order-7"};  // no allocation
/// std::string copy = id;
/// nopspan::Text argument = copy;           // what functions take: a view
/// @endcode
///
/// Thread safety: both are plain values.
#ifndef NOPSPAN_TEXT_H
#define NOPSPAN_TEXT_H

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace nopspan {

/// A string argument. Everything that converts to std::string_view converts to Text, and so does a null pointer, which
/// means "no string". The callee copies what it keeps, so the characters need not outlive the call.
class Text {
 public:
  /// No string.
  constexpr Text() noexcept = default;
  /// No string.
  constexpr Text(std::nullptr_t) noexcept {}  // NOLINT(*-explicit-*)
  /// A string that ends with a NUL; null means no string.
  constexpr Text(const char* text) noexcept  // NOLINT(*-explicit-*)
      : data_(text), size_(text == nullptr ? 0 : std::char_traits<char>::length(text)) {}
  /// `size` bytes; null means no string.
  constexpr Text(const char* text, std::size_t size) noexcept : data_(text), size_(text == nullptr ? 0 : size) {}
  /// A std::string or another class that converts to std::string_view.
  template <class S, std::enable_if_t<std::is_convertible_v<const S&, std::string_view> &&
                                          !std::is_convertible_v<const S&, const char*>,
                                      int> = 0>
  constexpr Text(const S& text) noexcept(noexcept(std::string_view(text)))  // NOLINT(*-explicit-*)
      : Text(std::string_view(text)) {}
  /// A view. If its pointer is null, there is no string.
  constexpr Text(std::string_view text) noexcept : data_(text.data()), size_(text.size()) {}  // NOLINT(*-explicit-*)

  /// Whether there is no string.
  [[nodiscard]] constexpr bool is_null() const noexcept { return data_ == nullptr; }
  /// Whether there is no string, or an empty one.
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  /// The characters, which need not end with a NUL; null if there is no string.
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  /// The length in bytes.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  /// The string; empty if there is none.
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A string of at most N bytes that allocates nothing. Functions return it where `<string>` would be too heavy a
/// header. It converts to std::string_view and std::string.
template <std::size_t N>
class FixedString {
 public:
  /// An empty string.
  constexpr FixedString() noexcept = default;
  /// Copies `text`, or its first N bytes if it is longer.
  constexpr explicit FixedString(std::string_view text) noexcept : size_(text.size() < N ? text.size() : N) {
    for (std::size_t i = 0; i < size_; ++i) data_[i] = text[i];
  }

  /// The characters, which end with a NUL.
  [[nodiscard]] constexpr const char* c_str() const noexcept { return data_; }
  /// The characters, which end with a NUL.
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  /// The length in bytes, without the NUL.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  /// Whether the length is 0.
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  /// The string, valid as long as this object.
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data_, size_}; }

  /// The string, valid as long as this object.
  constexpr operator std::string_view() const noexcept { return view(); }  // NOLINT(*-explicit-*)
  /// A copy, as std::string or another class that is made of a pointer and a length.
  template <class S, std::enable_if_t<std::is_same_v<typename S::value_type, char> &&
                                          std::is_constructible_v<S, const char*, std::size_t> &&
                                          !std::is_same_v<S, std::string_view>,
                                      int> = 0>
  operator S() const {  // NOLINT(*-explicit-*)
    return S(data_, size_);
  }

  /// @{
  /// Compares the characters.
  friend constexpr bool operator==(const FixedString& a, std::string_view b) noexcept { return a.view() == b; }
  friend constexpr bool operator!=(const FixedString& a, std::string_view b) noexcept { return a.view() != b; }
  friend constexpr bool operator==(std::string_view a, const FixedString& b) noexcept { return a == b.view(); }
  friend constexpr bool operator!=(std::string_view a, const FixedString& b) noexcept { return a != b.view(); }
  friend constexpr bool operator==(const FixedString& a, const FixedString& b) noexcept { return a.view() == b.view(); }
  friend constexpr bool operator!=(const FixedString& a, const FixedString& b) noexcept { return a.view() != b.view(); }
  /// @}

 private:
  std::size_t size_ = 0;
  char data_[N + 1] = {};
};

}  // namespace nopspan

#endif  // NOPSPAN_TEXT_H
