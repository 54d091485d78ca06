// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_SUMMARY_H
#define EXAMPLES_SUMMARY_H

#include <string>
#include <vector>

#include "agent_loop.h"
#include "openai_protocol.h"

namespace example {

// The outcomes of all prompts together.
class Summary {
 public:
  void add(const Outcome& outcome);

  int failed() const { return failed_; }

  // Five lines of text.
  std::string text(double seconds) const;

  // The same as JSON, with more detail.
  Json json(double seconds) const;

 private:
  int requests_ = 0;
  int failed_ = 0;
  int steps_ = 0;
  int retries_ = 0;
  int tool_calls_ = 0;
  int tool_errors_ = 0;
  Usage usage_;
  std::vector<double> durations_ms_;
  std::vector<double> first_tokens_ms_;
};

// One outcome as JSON.
Json outcome_json(const std::string& prompt, const Outcome& outcome);

}  // namespace example

#endif  // EXAMPLES_SUMMARY_H
