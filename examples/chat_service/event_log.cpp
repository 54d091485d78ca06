// SPDX-License-Identifier: Apache-2.0
#include "event_log.h"

#include <nopspan/agent.h>
#include <nopspan/engine.h>
#include <nopspan/genai_events.h>
#include <nopspan/llm.h>
#include <nopspan/registry.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace example {
namespace {

using nopspan::Value;

constexpr const char* kHandlerId = "example-event-log";

Json to_json(const Value& value) {
  switch (value.type()) {
    case Value::Type::null:
      return nullptr;
    case Value::Type::boolean:
      return value.as_bool();
    case Value::Type::integer:
      return value.as_int();
    case Value::Type::real:
      return value.as_double();
    case Value::Type::string:
      return value.as_string();
    case Value::Type::list: {
      Json list = Json::array();
      for (const Value& item : value.as_list()) list.push_back(to_json(item));
      return list;
    }
    case Value::Type::map: {
      Json map = Json::object();
      for (const auto& [key, item] : value.as_map()) map[key] = to_json(item);
      return map;
    }
  }
  return nullptr;
}

std::string hexadecimal(std::uint64_t id) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(id));
  return digits;
}

Json line_of(const nopspan::Event& event) {
  Json content = Json::array();
  event.attributes().for_each([&](std::string_view key, nopspan::ValueView value) {
    if (value.is_content()) content.push_back(key);
  });
  return Json{{"event", event.name()},
              {"pid", ::getpid()},
              {"request_id", event.request_id()},
              {"span_id", hexadecimal(event.span_id())},
              {"parent_id", hexadecimal(event.parent_id())},
              {"status", static_cast<int>(event.status())},
              {"measurements", to_json(event.measurements().copy())},
              {"metadata", to_json(event.metadata().copy())},
              {"attributes", to_json(event.attributes().copy())},
              {"content", content}};
}

std::vector<std::string> all_event_names() {
  std::vector<std::string> names;
  for (const nopspan::EventNames& catalogue :
       {nopspan::llm::event_names(), nopspan::agent::event_names(), nopspan::engine::event_names()}) {
    names.insert(names.end(), catalogue.begin(), catalogue.end());
  }
  namespace genai = nopspan::genai;
  for (const std::string_view name : {genai::prompt_sent.name(), genai::response_received.name(), genai::retry.name(),
                                      genai::tool_call.name(), genai::stream_first_token.name()}) {
    names.emplace_back(name);
  }
  return names;
}

}  // namespace

EventLog::EventLog(const std::string& path) : lines_(path) {
  // Runs on the emitting thread. It copies what it needs, because the event is valid only during the call.
  const auto write = [this](const nopspan::Event& event) { lines_.write(line_of(event)); };
  const nopspan::Errc attached = nopspan::attach_many(kHandlerId, all_event_names(), write);
  if (attached != nopspan::Errc::ok) throw std::runtime_error("cannot attach the handler " + std::string(kHandlerId));
}

std::string EventLog::close() {
  static_cast<void>(nopspan::detach(kHandlerId));  // waits for running calls
  return lines_.flush();
}

}  // namespace example
