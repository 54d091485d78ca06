// SPDX-License-Identifier: Apache-2.0
#include "base/interned_texts.h"

namespace nopspan::collector {

std::uint32_t InternedTexts::intern(std::string_view text) {
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

}  // namespace nopspan::collector
