// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_SSE_READER_H
#define EXAMPLES_SSE_READER_H

#include <functional>
#include <string>
#include <string_view>

namespace example {

// Finds the events in a stream of server-sent events, whatever the pieces in which it arrives. Uses only their `data`.
class SseReader {
 public:
  // Calls `on_data` with the data of each event, whose lines are joined by "\n".
  explicit SseReader(std::function<void(const std::string&)> on_data) : on_data_(std::move(on_data)) {}

  void feed(std::string_view bytes);

 private:
  void line_ended();

  std::function<void(const std::string&)> on_data_;
  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;
};

}  // namespace example

#endif  // EXAMPLES_SSE_READER_H
