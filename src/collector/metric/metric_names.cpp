// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_names.h"

#include <algorithm>

namespace nopspan::collector {
namespace {

bool is_alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

PrometheusName prometheus_name(const MetricDescription& about) {
  PrometheusName made{about.name, about.unit == "s" ? "seconds" : about.unit == "By" ? "bytes" : ""};
  std::replace(made.name.begin(), made.name.end(), '.', '_');
  if (!made.unit.empty()) made.name += "_" + made.unit;
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
