// SPDX-License-Identifier: Apache-2.0
// Texts that come again and again (names, models, …), kept once each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

namespace nopspan::collector {

// Texts stay for as long as it lives, so that it is bounded: what comes when it is full, or is long, is refused.
class InternedTexts {
 public:
  static constexpr std::size_t kMaxTexts = 8192;
  static constexpr std::size_t kMaxTextBytes = 256;
  static constexpr std::uint32_t kRefused = UINT32_MAX;

  // The text's number, 0 for ""; kRefused.
  std::uint32_t intern(std::string_view text);
  // Of a number that intern() has returned.
  [[nodiscard]] std::string_view text(std::uint32_t number) const {
    return number == 0 ? std::string_view() : texts_[number - 1];
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::deque<std::string> texts_;  // which never move
  std::unordered_map<std::string_view, std::uint32_t> numbers_;
  std::size_t bytes_ = 0;
};

}  // namespace nopspan::collector
