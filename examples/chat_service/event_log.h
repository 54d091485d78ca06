// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_EVENT_LOG_H
#define EXAMPLES_EVENT_LOG_H

#include <nopspan/event.h>

#include <string>

#include "json_lines.h"

namespace example {

// An example of a handler. It receives all events of the catalogues and writes each as a line of JSON. Handlers receive
// content. Attributes with content are listed under "content".
class EventLog {
 public:
  // Throws std::runtime_error.
  explicit EventLog(const std::string& path);
  ~EventLog() { close(); }
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  // Detaches the handler and writes the remaining lines. Returns "", or how many lines were lost and why.
  std::string close();

 private:
  JsonLines lines_;
};

}  // namespace example

#endif  // EXAMPLES_EVENT_LOG_H
