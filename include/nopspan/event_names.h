// SPDX-License-Identifier: Apache-2.0
// The names of a catalogue's events, as attach_many() takes them.
//
//   nopspan::attach_many("slow", nopspan::llm::event_names(), handler);
#ifndef NOPSPAN_EVENT_NAMES_H
#define NOPSPAN_EVENT_NAMES_H

#include <nopspan/config.h>

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace nopspan {

// A list of names in static storage. Converts to a container of strings, as std::vector<std::string>, without needing
// its header.
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

#endif  // NOPSPAN_EVENT_NAMES_H
