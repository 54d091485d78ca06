// SPDX-License-Identifier: Apache-2.0
// Finds a text in a list that is known at compile time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::collector {

// Has a chain of texts for each length. Most keys of other origin have a length that few texts have, or none.
template <std::size_t N, std::size_t Longest = 48>
class KeyIndex {
 public:
  constexpr explicit KeyIndex(const std::array<std::string_view, N>& texts) : texts_(texts) {
    for (std::uint8_t& first : first_) first = kEnd;
    for (std::size_t i = N; i-- > 0;) {
      next_[i] = first_.at(texts[i].size());
      first_.at(texts[i].size()) = static_cast<std::uint8_t>(i);
    }
  }

  // Returns N if the text is not in the list.
  [[nodiscard]] std::size_t find(std::string_view text) const {
    if (text.size() > Longest) return N;
    for (std::uint8_t i = first_[text.size()]; i != kEnd; i = next_[i]) {
      // Many keys begin in the same way, so their last bytes are compared first.
      if ((text.empty() || texts_[i].back() == text.back()) && texts_[i] == text) return i;
    }
    return N;
  }

 private:
  static constexpr std::uint8_t kEnd = 0xff;
  static_assert(N < kEnd);

  std::array<std::string_view, N> texts_;
  std::array<std::uint8_t, Longest + 1> first_{};
  std::array<std::uint8_t, N> next_{};
};

}  // namespace nopspan::collector
