// SPDX-License-Identifier: Apache-2.0
// Finds a text in a list that is known at compile time.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace nopspan::collector {

// Has a chain of texts for each length. Most keys of other origin have a length that few texts have, or none. Many keys
// begin in the same way, so their last bytes are compared first. Texts have at least eight bytes.
template <std::size_t N, std::size_t Longest = 48>
class KeyIndex {
 public:
  constexpr explicit KeyIndex(const std::array<std::string_view, N>& texts) : texts_(texts) {
    first_.fill(kEnd);
    for (std::size_t i = N; i-- > 0;) {
      next_[i] = std::exchange(first_.at(texts[i].size()), static_cast<std::uint8_t>(i));
      last_[i] = last_word_of(texts[i]);
    }
  }

  // Returns N if the text is not in the list.
  [[nodiscard]] std::size_t find(std::string_view text) const {
    if (text.size() < sizeof(std::uint64_t) || text.size() > Longest) return N;
    const std::uint64_t last = last_word_of(text);
    for (std::uint8_t i = first_[text.size()]; i != kEnd; i = next_[i]) {
      if (last_[i] == last && texts_[i] == text) return i;
    }
    return N;
  }

 private:
  static constexpr std::uint8_t kEnd = 0xff;
  static_assert(N < kEnd);

  static constexpr std::uint64_t last_word_of(std::string_view text) {
    std::array<char, sizeof(std::uint64_t)> bytes{};
    std::copy(text.end() - bytes.size(), text.end(), bytes.begin());
    return std::bit_cast<std::uint64_t>(bytes);
  }

  std::array<std::string_view, N> texts_;
  std::array<std::uint64_t, N> last_{};
  std::array<std::uint8_t, Longest + 1> first_{};
  std::array<std::uint8_t, N> next_{};
};

// Stores texts that occur again and again (names, models, …) once each.

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
