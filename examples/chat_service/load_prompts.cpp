// SPDX-License-Identifier: Apache-2.0
#include "load_prompts.h"

#include <array>

namespace example {
namespace {

constexpr std::array<const char*, 8> kTopics = {"spans",   "probes",     "request ids", "token counts",
                                                "retries", "semaphores", "collectors",  "histograms"};
constexpr std::array<const char*, 6> kSearched = {"span", "probe", "request_id", "license", "retry", "no such text"};

std::string calculation(std::uint64_t n) {
  const std::string a = std::to_string(n % 97 + 2);
  const std::string b = std::to_string(n % 13 + 1);
  switch (n / 4 % 4) {
    case 0:
      return a + " * (" + b + " + 7)";
    case 1:
      return "(" + a + " - " + b + ") / 4";
    case 2:
      return a + " * -" + b + " + 1.5";
    default:
      return n % 32 == 13 ? a + " / (" + b + " - " + b + ")" : a + " / " + b;  // some divide by zero
  }
}

}  // namespace

std::string load_prompt(std::uint64_t n) {
  const std::string topic = kTopics[n / 4 % kTopics.size()];
  const std::string searched = kSearched[n / 4 % kSearched.size()];
  switch (n % 4) {
    case 0:
      return "Explain " + topic + " to me in a few sentences.";
    case 1:
      return "What is " + calculation(n) + "?";
    case 2:
      return "Search the files for \"" + searched + "\".";
    default:
      return "Compute " + calculation(n) + " and then find \"" + searched + "\" in the files.";
  }
}

}  // namespace example
