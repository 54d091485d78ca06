// SPDX-License-Identifier: Apache-2.0
// Stores texts that occur again and again (names, models, …) once each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

namespace nopspan::collector {

// Texts are kept until this object is destroyed, so their number and length are bounded. Texts beyond these bounds are
// refused.
class InternedTexts {
 public:
  static constexpr std::size_t kMaxTexts = 8192;
  static constexpr std::size_t kMaxTextBytes = 256;
  static constexpr std::uint32_t kRefused = UINT32_MAX;

  // Returns the text's number, 0 for "", or kRefused.
  std::uint32_t intern(std::string_view text) {
    if (text.empty()) return 0;
    if (text.size() > kMaxTextBytes) return kRefused;
    if (const auto known = numbers_.find(text); known != numbers_.end()) return known->second;
    if (texts_.size() >= kMaxTexts) return kRefused;
    const std::string& kept = texts_.emplace_back(text);
    const auto number = static_cast<std::uint32_t>(texts_.size());
    numbers_.emplace(kept, number);
    constexpr std::size_t kPerText = sizeof(std::string) + 64;  // approximately a node of the map
    bytes_ += kept.size() + kPerText;
    return number;
  }
  // `number` must come from intern(), and must not be kRefused.
  [[nodiscard]] std::string_view text(std::uint32_t number) const {
    return number == 0 ? std::string_view() : texts_[number - 1];
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::deque<std::string> texts_;  // a deque, because `numbers_` has views of its elements
  std::unordered_map<std::string_view, std::uint32_t> numbers_;
  std::size_t bytes_ = 0;
};

}  // namespace nopspan::collector
