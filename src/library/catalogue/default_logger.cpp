// SPDX-License-Identifier: Apache-2.0
// The default loggers: handlers that log every event of a catalogue, one line each.
#include "thread/log.h"

#include <nopspan/agent.h>
#include <nopspan/llm.h>
#include <nopspan/registry.h>
#include <nopspan/types.h>

#include <new>
#include <string>
#include <string_view>

namespace nopspan {
namespace {

std::string logger_id(std::string_view catalogue) { return std::string(catalogue) + "-telemetry-default-logger"; }

// The text without the characters that separate the fields of a line.
std::string field_text(std::string_view text) { return detail::printable(text, kMaxNameBytes, " []="); }

// The text of a value. Content is not logged.
std::string value_text(const ValueView& value) {
  if (value.is_null() || value.is_content()) return "unknown";
  return field_text(value.type() == Value::Type::string ? std::string(value.as_string()) : value.copy().to_string());
}

std::string line_of(const Event& event, std::string_view key) {
  std::string line = "[";
  line.append(event.name()).append("] ").append(key).append("=");
  const ValueView id = event.metadata(key);
  line += id.exists() || event.request_id().empty() ? value_text(id) : field_text(event.request_id());
  line += ' ';
  const char* separator = "";
  event.measurements().for_each([&](std::string_view name, const ValueView& number) {
    line.append(separator).append(field_text(name)).append("=").append(value_text(number));
    separator = " ";
  });
  return line;
}

// Attaches the logger. A line has the metadata with the key `key`, which must be in static storage, and all
// measurements.
Errc attach_logger(std::string_view catalogue, EventNames events, std::string_view key, LogLevel level) noexcept {
  try {
    return attach_many(logger_id(catalogue), events, [key, level](const Event& event) {
      detail::log_line(level, detail::NoSink::print, [&] { return line_of(event, key); });
    });
  } catch (const std::bad_alloc&) {
    return Errc::out_of_memory;
  }
}

Errc detach_logger(std::string_view catalogue) noexcept {
  try {
    return detach(logger_id(catalogue));
  } catch (const std::bad_alloc&) {
    return Errc::out_of_memory;
  }
}

}  // namespace

namespace agent {

Errc attach_default_logger(LogLevel level) noexcept {
  return attach_logger(event_prefix(), event_names(), "trace_id", level);
}
Errc detach_default_logger() noexcept { return detach_logger(event_prefix()); }

}  // namespace agent

namespace llm {

Errc attach_default_logger(LogLevel level) noexcept {
  return attach_logger(event_prefix(), event_names(), "request_id", level);
}
Errc detach_default_logger() noexcept { return detach_logger(event_prefix()); }

}  // namespace llm
}  // namespace nopspan
