// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_STOP_FILTER_H
#define EXAMPLES_STOP_FILTER_H

#include <string>
#include <string_view>
#include <vector>

namespace example {

// Turns the bytes of tokens into text that may be sent. It holds back an incomplete UTF-8 character, and a possible
// beginning of a stop string, until the next token decides.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stop_strings) : stop_strings_(std::move(stop_strings)) {}

  // Returns the text that may be sent now.
  std::string add(std::string_view bytes);

  // Returns the text that was held back. Call it at the end of the text.
  std::string finish();

  // True after a stop string. The stop string and everything after it are never sent.
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stop_strings_;
  std::string kept_;
  bool stopped_ = false;
};

}  // namespace example

#endif  // EXAMPLES_STOP_FILTER_H
