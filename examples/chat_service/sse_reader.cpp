// SPDX-License-Identifier: Apache-2.0
#include "sse_reader.h"

#include <utility>

namespace example {

// A line ends with "\n", "\r\n" or "\r" (https://html.spec.whatwg.org/multipage/server-sent-events.html).
void SseReader::feed(std::string_view bytes) {
  for (char c : bytes) {
    const bool second_half = c == '\n' && after_return_;
    after_return_ = c == '\r';
    if (second_half) continue;
    if (c == '\n' || c == '\r')
      line_ended();
    else
      line_ += c;
  }
}

void SseReader::line_ended() {
  const std::string line = std::exchange(line_, {});
  if (line.empty()) {
    if (std::exchange(has_data_, false)) on_data_(std::exchange(data_, {}));
    return;
  }
  if (line.compare(0, 5, "data:") != 0) return;
  if (has_data_) data_ += '\n';
  has_data_ = true;
  data_.append(line, line.size() > 5 && line[5] == ' ' ? 6 : 5, std::string::npos);
}

}  // namespace example
