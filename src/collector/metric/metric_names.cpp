// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_names.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

bool is_alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The unit in Prometheus' words; "" for units in braces, such as {token}, which do not become a part of the name.
std::string_view unit_word(const MetricDescription& about) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kWords = {{{"s", "seconds"},
                                                                                    {"ms", "milliseconds"},
                                                                                    {"us", "microseconds"},
                                                                                    {"ns", "nanoseconds"},
                                                                                    {"min", "minutes"},
                                                                                    {"h", "hours"},
                                                                                    {"By", "bytes"},
                                                                                    {"%", "percent"}}};
  if (about.unit == "1") return about.type == MetricType::gauge ? "ratio" : "";
  const auto* const found =
      std::find_if(kWords.begin(), kWords.end(), [&](const auto& word) { return word.first == about.unit; });
  return found == kWords.end() ? std::string_view() : found->second;
}

std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words;
  bool is_inside = false;
  for (const char c : name) {
    if (!is_alphanumeric(c)) {
      is_inside = false;
      continue;
    }
    if (!is_inside) words.emplace_back();
    is_inside = true;
    words.back() += c;
  }
  return words;
}

}  // namespace

PrometheusName prometheus_name(const MetricDescription& about) {
  PrometheusName made;
  std::vector<std::string> words = words_of(about.name);
  made.unit = unit_word(about);
  if (about.type == MetricType::counter) std::erase(words, "total");
  if (!made.unit.empty()) {
    std::erase(words, made.unit);
    words.push_back(made.unit);
  }
  for (const std::string& word : words) (made.name += made.name.empty() ? "" : "_") += word;
  if (made.name.empty() || is_digit(made.name.front())) made.name.insert(0, "_");
  return made;
}

std::string prometheus_label(std::string_view name) {
  std::string made(name);
  for (char& c : made) {
    if (!is_alphanumeric(c)) c = '_';
  }
  if (made.empty() || is_digit(made.front())) made.insert(0, "key_");
  if (made.starts_with("__")) made.insert(0, "key");
  return made;
}

}  // namespace nopspan::collector
