// SPDX-License-Identifier: Apache-2.0
// Strings as nopspan takes and returns them, without <string>.
#ifndef NOPSPAN_TEXT_H
#define NOPSPAN_TEXT_H

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace nopspan {

// A string argument. Takes whatever a std::string_view takes, and a null pointer, which counts as "no string" and never
// crashes. Not kept beyond the call that takes it: callees copy.
class Text {
 public:
  constexpr Text() noexcept = default;
  constexpr Text(std::nullptr_t) noexcept {}  // NOLINT(*-explicit-*)
  constexpr Text(const char* text) noexcept   // NOLINT(*-explicit-*)
      : data_(text), size_(text == nullptr ? 0 : std::char_traits<char>::length(text)) {}
  constexpr Text(const char* text, std::size_t size) noexcept : data_(text), size_(text == nullptr ? 0 : size) {}
  template <class S, std::enable_if_t<std::is_convertible_v<const S&, std::string_view> &&
                                          !std::is_convertible_v<const S&, const char*>,
                                      int> = 0>
  constexpr Text(const S& text) : Text(std::string_view(text)) {}                             // NOLINT(*-explicit-*)
  constexpr Text(std::string_view text) noexcept : data_(text.data()), size_(text.size()) {}  // NOLINT(*-explicit-*)

  [[nodiscard]] constexpr bool is_null() const noexcept { return data_ == nullptr; }
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

// A string of at most N bytes that needs no allocation; what is returned where <string> would be too heavy a header. It
// converts to std::string_view, to std::string and to const char*'s customers by c_str().
template <std::size_t N>
class FixedString {
 public:
  constexpr FixedString() noexcept = default;
  // Keeps the first N bytes of `text`.
  constexpr explicit FixedString(std::string_view text) noexcept : size_(text.size() < N ? text.size() : N) {
    for (std::size_t i = 0; i < size_; ++i) data_[i] = text[i];
  }

  [[nodiscard]] constexpr const char* c_str() const noexcept { return data_; }
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data_, size_}; }

  constexpr operator std::string_view() const noexcept { return view(); }  // NOLINT(*-explicit-*)
  template <class S, std::enable_if_t<std::is_same_v<typename S::value_type, char> &&
                                          std::is_constructible_v<S, const char*, std::size_t> &&
                                          !std::is_same_v<S, std::string_view>,
                                      int> = 0>
  operator S() const {  // NOLINT(*-explicit-*)
    return S(data_, size_);
  }

  friend constexpr bool operator==(const FixedString& a, std::string_view b) noexcept { return a.view() == b; }
  friend constexpr bool operator!=(const FixedString& a, std::string_view b) noexcept { return a.view() != b; }
  friend constexpr bool operator==(std::string_view a, const FixedString& b) noexcept { return a == b.view(); }
  friend constexpr bool operator!=(std::string_view a, const FixedString& b) noexcept { return a != b.view(); }
  friend constexpr bool operator==(const FixedString& a, const FixedString& b) noexcept { return a.view() == b.view(); }
  friend constexpr bool operator!=(const FixedString& a, const FixedString& b) noexcept { return a.view() != b.view(); }

 private:
  std::size_t size_ = 0;
  char data_[N + 1] = {};
};

}  // namespace nopspan

#endif  // NOPSPAN_TEXT_H
