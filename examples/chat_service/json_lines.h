// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_JSON_LINES_H
#define EXAMPLES_JSON_LINES_H

#include <cstddef>
#include <mutex>
#include <string>

#include "openai_protocol.h"

namespace example {

// A file with one JSON object per line. Lines that cannot be written are counted. Thread-safe.
class JsonLines {
 public:
  // Creates an empty file. Throws std::runtime_error.
  explicit JsonLines(const std::string& path);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  void write(const Json& line);

  // Writes the buffered lines. Returns "", or how many lines have been lost since the start and why.
  std::string flush();

 private:
  void drain();

  const std::string path_;
  const int file_;
  std::mutex mutex_;
  std::string waiting_;
  bool is_torn_ = false;  // the last line was written only in part
  std::size_t lost_ = 0;
  int error_ = 0;  // the errno of the first lost line
};

}  // namespace example

#endif  // EXAMPLES_JSON_LINES_H
