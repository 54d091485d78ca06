// SPDX-License-Identifier: Apache-2.0
#include "default_logger.h"

#include "clean_text.h"
#include "log.h"

#include <nopspan/agent.h>
#include <nopspan/llm.h>
#include <nopspan/registry.h>

#include <cstddef>
#include <new>
#include <string>
#include <string_view>

namespace nopspan {
namespace detail {
namespace {

std::string logger_id(std::string_view catalogue) { return std::string(catalogue) + "-telemetry-default-logger"; }

// The separators of lines and paragraphs: no control characters, and still the end of a line to some readers.
bool ends_line(std::string_view sequence) noexcept { return sequence == "\u2028" || sequence == "\u2029"; }

// As text may stand in a line: what cannot is "?", and what is too long cut.
void append_clean(std::string& line, std::string_view text) {
  char cleaned[kMaxNameBytes + 1];
  const std::string_view rest(cleaned, clean(text, cleaned));
  for (std::size_t i = 0; i < rest.size();) {
    const std::string_view sequence = rest.substr(i, utf8_sequence(rest, i));
    if (ends_line(sequence)) {
      line += '?';
    } else {
      line += sequence;
    }
    i += sequence.size();
  }
}

void append_value(std::string& line, const ValueView& value) {
  if (value.is_null()) {
    line += "unknown";
  } else if (value.type() == Value::Type::string) {
    append_clean(line, value.as_string());
  } else {
    append_clean(line, value.copy().to_string());
  }
}

std::string line_of(const Event& event, std::string_view key) {
  std::string line;
  line += '[';
  line += event.name();
  line += "] ";
  line += key;
  line += '=';
  append_value(line, event.metadata(key));
  line += ' ';
  const char* separator = "";
  event.measurements().for_each([&](std::string_view name, const ValueView& number) {
    line += separator;
    separator = " ";
    append_clean(line, name);
    line += '=';
    append_value(line, number);
  });
  return line;
}

}  // namespace

Errc attach_default_logger(std::string_view catalogue, EventNames events, std::string_view key,
                           LogLevel level) noexcept {
  try {
    return attach_many(logger_id(catalogue), events,
                       [key, level](const Event& event) { log(level, line_of(event, key)); });
  } catch (const std::bad_alloc&) {
    return Errc::out_of_memory;
  }
}

Errc detach_default_logger(std::string_view catalogue) noexcept {
  try {
    return detach(logger_id(catalogue));
  } catch (const std::bad_alloc&) {
    return Errc::out_of_memory;
  }
}

}  // namespace detail

namespace agent {

Errc attach_default_logger(LogLevel level) noexcept {
  return nopspan::detail::attach_default_logger(event_prefix(), event_names(), "trace_id", level);
}
Errc detach_default_logger() noexcept { return nopspan::detail::detach_default_logger(event_prefix()); }

}  // namespace agent

namespace llm {

Errc attach_default_logger(LogLevel level) noexcept {
  return nopspan::detail::attach_default_logger(event_prefix(), event_names(), "request_id", level);
}
Errc detach_default_logger() noexcept { return nopspan::detail::detach_default_logger(event_prefix()); }

}  // namespace llm
}  // namespace nopspan
