// SPDX-License-Identifier: Apache-2.0
#include "model/members.h"

#include "base/text.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <system_error>

namespace nopspan::collector {

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    unsigned byte = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (digits.size() != 2 || error != std::errc() || end != digits.data() + 2) return {};
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

std::optional<NamesAndValues> parse_members(std::string_view text) {
  NamesAndValues members;
  while (!text.empty()) {
    const std::string_view member = trimmed(take_before(text, ','));
    if (member.empty()) continue;
    const std::size_t equals = member.find('=');
    if (equals == std::string_view::npos) return {};
    const auto name = percent_decoded(trimmed(member.substr(0, equals)));
    const auto value = percent_decoded(trimmed(member.substr(equals + 1)));
    if (!name || name->empty() || !value) return {};
    const auto same = std::find_if(members.begin(), members.end(), [&](const auto& one) { return one.first == *name; });
    if (same != members.end()) {
      same->second = *value;
    } else {
      members.emplace_back(*name, *value);
    }
  }
  return members;
}

}  // namespace nopspan::collector
