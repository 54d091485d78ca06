// SPDX-License-Identifier: Apache-2.0
#include "summary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace example {
namespace {

// The smallest value such that at least `part` of all values are not above it. 0 if there are no values.
double quantile(std::vector<double> values, double part) {
  if (values.empty()) return 0.0;
  const auto rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(values.size())));
  const std::size_t index = std::max<std::size_t>(rank, 1) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(index), values.end());
  return values[index];
}

double rounded(double value) { return std::round(value * 1000.0) / 1000.0; }

Json quantiles_json(const std::vector<double>& values) {
  return Json{{"p50", rounded(quantile(values, 0.5))},
              {"p90", rounded(quantile(values, 0.9))},
              {"p99", rounded(quantile(values, 0.99))},
              {"max", rounded(quantile(values, 1.0))}};
}

std::string quantiles_text(const std::vector<double>& values) {
  std::array<char, 128> text{};
  std::snprintf(text.data(), text.size(), "p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms", quantile(values, 0.5),
                quantile(values, 0.9), quantile(values, 0.99), quantile(values, 1.0));
  return text.data();
}

}  // namespace

void Summary::add(const Outcome& outcome) {
  ++requests_;
  if (!outcome.ok) ++failed_;
  steps_ += outcome.steps;
  retries_ += outcome.retries;
  tool_calls_ += outcome.tool_calls;
  tool_errors_ += outcome.tool_errors;
  usage_.prompt_tokens += outcome.usage.prompt_tokens;
  usage_.completion_tokens += outcome.usage.completion_tokens;
  usage_.cached_tokens += outcome.usage.cached_tokens;
  durations_ms_.push_back(outcome.duration_ms);
  if (outcome.first_token_ms >= 0.0) first_tokens_ms_.push_back(outcome.first_token_ms);
}

std::string Summary::text(double seconds) const {
  std::array<char, 512> text{};
  std::snprintf(text.data(), text.size(),
                "requests    %d ok, %d failed, in %.2f s\n"
                "steps       %d, %d retries\n"
                "tool calls  %d, %d of them failed\n"
                "tokens      %zu in (%zu cached), %zu out\n"
                "duration    %s\n",
                requests_ - failed_, failed_, seconds, steps_, retries_, tool_calls_, tool_errors_,
                usage_.prompt_tokens, usage_.cached_tokens, usage_.completion_tokens,
                quantiles_text(durations_ms_).c_str());
  std::string result = text.data();
  if (!first_tokens_ms_.empty()) result += "first token " + quantiles_text(first_tokens_ms_) + "\n";
  return result;
}

Json Summary::json(double seconds) const {
  Json json{{"requests", requests_},
            {"ok", requests_ - failed_},
            {"failed", failed_},
            {"steps", steps_},
            {"retries", retries_},
            {"tool_calls", tool_calls_},
            {"tool_errors", tool_errors_},
            {"prompt_tokens", usage_.prompt_tokens},
            {"cached_tokens", usage_.cached_tokens},
            {"completion_tokens", usage_.completion_tokens},
            {"seconds", rounded(seconds)},
            {"duration_ms", quantiles_json(durations_ms_)}};
  if (!first_tokens_ms_.empty()) json["first_token_ms"] = quantiles_json(first_tokens_ms_);
  return json;
}

Json outcome_json(const std::string& prompt, const Outcome& outcome) {
  Json json{{"prompt", prompt},
            {"ok", outcome.ok},
            {"answer", outcome.answer},
            {"steps", outcome.steps},
            {"retries", outcome.retries},
            {"tool_calls", outcome.tool_calls},
            {"duration_ms", rounded(outcome.duration_ms)}};
  if (!outcome.ok) json["error"] = outcome.error;
  if (!outcome.request_id.empty()) json["request_id"] = outcome.request_id;
  return json;
}

}  // namespace example
