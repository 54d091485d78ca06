// SPDX-License-Identifier: Apache-2.0
#include "language_model.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <iterator>

namespace example {
namespace {

// What the model knows. Each line is a text.
constexpr std::string_view kTexts =
    "A span is a piece of work with a name, a start and an end. A span may have a parent, and the spans with the same "
    "request id are a request. A request may run in several processes, and each process reports the spans that ended "
    "in it. The parent of a span is the span that is current on the thread, or the span of the client that sent the "
    "request. When a span ends, the tracer gets its duration, its status and the fields that the program has set.\n"
    "A probe is a place in the program at which a tracer may look. While no tracer is attached, a probe costs one load "
    "and one branch. The tracer raises the gate when it attaches, and the program then reports each span at its end. A "
    "program that is not traced does not notice the probe, and a program that is traced does not wait for the tracer.\n"
    "The engine works on many requests at the same time. Each step of the engine gives each request in a slot one "
    "token, and a long prompt takes several steps. A request waits in the queue until a slot is free. The time to the "
    "first token is the time in the queue and the time of the prompt. The time of a token is the time of a step, so "
    "that a large batch makes each request slow and all requests together fast.\n"
    "A retry is an attempt at the same call after an attempt that failed. The client waits before each retry, and the "
    "time that it waits is part of the span. A span that failed has a type of error, and the spans around it may "
    "still end well, because the client tried again. The error that matters is the one of the innermost span.\n"
    "A histogram shows how the durations of the spans with the same name differ. The median is the duration that half "
    "of the spans do not reach. The slowest spans are those that a user notices, so the tracer shows the request of "
    "each of them. A collector counts the spans that a program reported and the spans that it received, and the two "
    "numbers must be the same.\n"
    "A label is a field that the spans inside a span inherit, for example the tenant of a request. The tenant says "
    "who sent the request, and the model says what answers it. The labels of a client travel to the server in a "
    "header of the request, so that the spans of the server have the same tenant.\n";

bool is_of_word(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || c == '_' || std::isalnum(byte) != 0;
}

}  // namespace

std::vector<Token> tokens_of(std::string_view text) {
  std::vector<Token> tokens;
  for (char c : text) {
    const bool continues = !tokens.empty() && (tokens.back() == " " || is_of_word(tokens.back().back()));
    if (continues && is_of_word(c)) {
      tokens.back() += c;
    } else {
      tokens.emplace_back(1, c);
    }
  }
  return tokens;
}

LanguageModel::LanguageModel() {
  Token last;  // before a text is the end of the one before
  for (Token& token : tokens_of(kTexts)) {
    if (token == "\n") token.clear();
    ++followers_[last][token];
    last = token;
  }
}

Token LanguageModel::next(const Token& last, double temperature, Random& random) const {
  const auto known = followers_.find(last);
  const std::map<Token, int>& followers = known != followers_.end() ? known->second : followers_.at("");
  const auto rarer = [](const auto& a, const auto& b) { return a.second < b.second; };
  if (temperature < 0.01) return std::max_element(followers.begin(), followers.end(), rarer)->first;
  std::vector<double> weights;
  weights.reserve(followers.size());
  for (const auto& [token, count] : followers) weights.push_back(std::pow(count, 1.0 / temperature));
  std::discrete_distribution<std::ptrdiff_t> draw(weights.begin(), weights.end());
  return std::next(followers.begin(), draw(random))->first;
}

}  // namespace example
