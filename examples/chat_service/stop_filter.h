// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_STOP_FILTER_H
#define EXAMPLES_STOP_FILTER_H

#include <string>
#include <string_view>
#include <vector>

namespace example {

// Turns the bytes of tokens into text that may be shown: it keeps back half a UTF-8 character, and what may be the
// beginning of a stop string, until the next token decides.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stop_strings) : stop_strings_(std::move(stop_strings)) {}

  // Returns the text that is now certain.
  std::string add(std::string_view bytes);

  // Returns what was kept back, at the end of the text.
  std::string finish();

  // True when a stop string was met; it and what follows it are never shown.
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stop_strings_;
  std::string kept_;
  bool stopped_ = false;
};

}  // namespace example

#endif  // EXAMPLES_STOP_FILTER_H
