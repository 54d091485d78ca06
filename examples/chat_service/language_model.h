// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_LANGUAGE_MODEL_H
#define EXAMPLES_LANGUAGE_MODEL_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <unordered_map>
#include <vector>

#include "tokenizer.h"

namespace example {

// The tokens of one conversation, with the number of times that each occurs. This is what the model remembers while it
// generates, like the KV cache of a transformer. It can be cut back to a prefix, and reused for a prompt that begins
// the same way.
class Sequence {
 public:
  void append(Token token);
  void truncate(std::size_t size);
  bool contains(Token token) const { return occurrences_.count(token) != 0; }
  const std::vector<Token>& tokens() const { return tokens_; }
  std::size_t size() const { return tokens_.size(); }

 private:
  std::vector<Token> tokens_;
  std::unordered_map<Token, std::uint32_t> occurrences_;
};

// A back-off model over words. It draws the next token from those that followed the last three tokens in the corpus.
// With the probability that absolute discounting leaves, it draws from those that followed the last two tokens, the
// last one, or any. It prefers words of the prompt. It is a weak model but a real one: it predicts one token at a time
// from the tokens before.
class LanguageModel {
 public:
  using Random = std::mt19937_64;

  // Learns from texts in tokens, each ended by kEnd. Call it once, before next().
  void learn(const std::vector<Token>& tokens);

  // Draws the token that follows `sequence`. Temperature 0 takes the likeliest token. kEnd is the only special token
  // that it can return. Safe to call from several threads.
  Token next(const Sequence& sequence, double temperature, Random& random) const;

 private:
  static constexpr std::size_t kLongestContext = 3;

  struct Follower {
    Token token;
    std::uint32_t count;
  };
  struct Range {
    std::size_t begin;
    std::size_t end;
  };
  struct Context {
    std::array<Token, kLongestContext> last;  // newest first
    std::size_t size;
  };

  static Context context_of(const Sequence& sequence);
  static std::uint64_t hash(const Context& context, std::size_t size);
  void learn_contexts(const std::vector<Token>& tokens, std::size_t size);
  // Returns false if the draw fell to the shorter contexts.
  bool draw(Range range, bool may_back_off, const Sequence* prefer, double temperature, Random& random,
            Token& token) const;

  std::vector<Follower> followers_;                    // the followers of each context are adjacent
  std::unordered_map<std::uint64_t, Range> contexts_;  // keys: hashes of one to three tokens
  Range any_{0, 0};                                    // the followers of the empty context
};

}  // namespace example

#endif  // EXAMPLES_LANGUAGE_MODEL_H
