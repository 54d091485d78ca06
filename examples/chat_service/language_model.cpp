// SPDX-License-Identifier: Apache-2.0
#include "language_model.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

namespace example {
namespace {

constexpr double kDiscount = 0.35;         // subtracted from each count, and given to the shorter contexts
constexpr double kPromptPreference = 3.0;  // how much likelier a word becomes if the conversation contains it

double sharpen(double weight, double temperature) {
  return temperature == 1.0 ? weight : std::pow(weight, 1.0 / temperature);
}

}  // namespace

void Sequence::append(Token token) {
  tokens_.push_back(token);
  ++occurrences_[token];
}

void Sequence::truncate(std::size_t size) {
  while (tokens_.size() > size) {
    const auto found = occurrences_.find(tokens_.back());
    if (--found->second == 0) occurrences_.erase(found);
    tokens_.pop_back();
  }
}

void LanguageModel::learn(const std::vector<Token>& tokens) {
  for (std::size_t size = 0; size <= kLongestContext; ++size) learn_contexts(tokens, size);
}

void LanguageModel::learn_contexts(const std::vector<Token>& tokens, std::size_t size) {
  std::vector<std::pair<std::uint64_t, Token>> seen;  // the hash of a context, and the token after it
  seen.reserve(tokens.size());
  Context context{{kEnd}, 1};  // the context of the first token
  for (Token token : tokens) {
    if (context.size >= size) seen.emplace_back(hash(context, size), token);
    if (token == kEnd) {
      context = Context{{kEnd}, 1};
    } else {
      context.last = {token, context.last[0], context.last[1]};
      context.size = std::min(context.size + 1, kLongestContext);
    }
  }
  std::sort(seen.begin(), seen.end());
  for (auto first = seen.begin(); first != seen.end();) {
    Range range{followers_.size(), 0};
    auto last = first;
    for (; last != seen.end() && last->first == first->first; ++last) {
      if (followers_.size() == range.begin || followers_.back().token != last->second) {
        followers_.push_back({last->second, 0});
      }
      ++followers_.back().count;
    }
    range.end = followers_.size();
    if (size == 0)
      any_ = range;
    else
      contexts_.emplace(first->first, range);
    first = last;
  }
}

LanguageModel::Context LanguageModel::context_of(const Sequence& sequence) {
  Context context{{}, 0};
  const std::vector<Token>& tokens = sequence.tokens();
  for (std::size_t i = tokens.size(); i > 0 && context.size < kLongestContext; --i) {
    const bool boundary = is_special(tokens[i - 1]);
    context.last[context.size++] = boundary ? kEnd : tokens[i - 1];
    if (boundary) break;
  }
  return context;
}

std::uint64_t LanguageModel::hash(const Context& context, std::size_t size) {
  std::uint64_t h = size;
  for (std::size_t i = 0; i < size; ++i) {
    h = (h ^ context.last[i]) * 0x9E3779B97F4A7C15U;
    h ^= h >> 29;
  }
  return h;
}

Token LanguageModel::next(const Sequence& sequence, double temperature, Random& random) const {
  const Context context = context_of(sequence);
  Token token = kEnd;
  for (std::size_t size = context.size; size > 0; --size) {
    const auto found = contexts_.find(hash(context, size));
    if (found == contexts_.end()) continue;
    // The first token of a text is drawn only from the first tokens of the corpus's texts.
    const bool beginning = size == 1 && context.last[0] == kEnd;
    if (draw(found->second, !beginning, &sequence, temperature, random, token)) return token;
  }
  draw(any_, false, nullptr, temperature, random, token);
  return token;
}

bool LanguageModel::draw(Range range, bool may_back_off, const Sequence* prefer, double temperature, Random& random,
                         Token& token) const {
  const auto weight_of = [&](const Follower& follower) {
    const bool preferred = prefer != nullptr && !is_special(follower.token) && prefer->contains(follower.token);
    return (follower.count - kDiscount) * (preferred ? kPromptPreference : 1.0);
  };
  const Follower* const first = followers_.data() + range.begin;
  const Follower* const last = followers_.data() + range.end;
  if (first == last) return false;
  if (temperature <= 0.0) {
    const auto lighter = [&](const Follower& a, const Follower& b) { return weight_of(a) < weight_of(b); };
    token = std::max_element(first, last, lighter)->token;
    return true;
  }
  double total = 0.0;
  for (const Follower* follower = first; follower != last; ++follower) {
    total += sharpen(weight_of(*follower), temperature);
  }
  const double shorter = may_back_off ? sharpen(kDiscount * static_cast<double>(last - first), temperature) : 0.0;
  double point = std::uniform_real_distribution<>()(random) * (total + shorter);
  for (const Follower* follower = first; follower != last; ++follower) {
    point -= sharpen(weight_of(*follower), temperature);
    if (point < 0.0) {
      token = follower->token;
      return true;
    }
  }
  if (may_back_off) return false;
  token = (last - 1)->token;  // only after a rounding error of the sum
  return true;
}

}  // namespace example
