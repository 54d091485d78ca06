// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_JSON_LINES_H
#define EXAMPLES_JSON_LINES_H

#include <cstddef>
#include <mutex>
#include <string>

#include "openai_protocol.h"

namespace example {

// A file with a JSON object a line. What cannot be written is counted. Thread-safe.
class JsonLines {
 public:
  // Begins an empty file. Throws std::runtime_error.
  explicit JsonLines(const std::string& path);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  void write(const Json& line);

  // Writes what is still in memory. Empty, or how many lines were lost since the start, and why.
  std::string flush();

 private:
  void drain();

  const std::string path_;
  const int file_;
  std::mutex mutex_;
  std::string waiting_;
  bool is_torn_ = false;  // what was written last is a part of a line
  std::size_t lost_ = 0;
  int error_ = 0;  // errno of the first that was lost
};

}  // namespace example

#endif  // EXAMPLES_JSON_LINES_H
