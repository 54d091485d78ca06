// SPDX-License-Identifier: Apache-2.0
// A library for LD_PRELOAD. While a program runs, a handler writes each event of the catalogues to the file EVENT_LOG,
// as a line of JSON. `content` lists the attributes that are content, which handlers receive.
#include <nopspan/agent.h>
#include <nopspan/engine.h>
#include <nopspan/event.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/registry.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using nopspan::Value;

std::string hex(std::uint64_t id) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(id));
  return text;
}

std::vector<std::string> event_names() {
  namespace genai = nopspan::genai;
  std::vector<std::string> names;
  for (const nopspan::EventNames& catalogue :
       {nopspan::llm::event_names(), nopspan::agent::event_names(), nopspan::engine::event_names()}) {
    names.insert(names.end(), catalogue.begin(), catalogue.end());
  }
  for (const std::string_view name : {genai::prompt_sent.name(), genai::response_received.name(), genai::retry.name(),
                                      genai::tool_call.name(), genai::stream_first_token.name()}) {
    names.emplace_back(name);
  }
  return names;
}

class EventLog {
 public:
  explicit EventLog(const char* path) : file_(path) {
    const auto attached =
        nopspan::attach_many("event-log", event_names(), [this](const nopspan::Event& event) { write(event); });
    if (file_ && attached == nopspan::Errc::ok) return;
    std::fprintf(stderr, "event_log: cannot write the events to %s\n", path);
    std::abort();
  }
  ~EventLog() { static_cast<void>(nopspan::detach("event-log")); }
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

 private:
  void write(const nopspan::Event& event) {
    Value::List content;
    event.attributes().for_each([&](std::string_view key, nopspan::ValueView value) {
      if (value.is_content()) content.push_back(key);
    });
    const Value line = Value::map({{"event", event.name()},
                                   {"pid", static_cast<std::int64_t>(::getpid())},
                                   {"request_id", event.request_id()},
                                   {"span_id", hex(event.span_id())},
                                   {"parent_id", hex(event.parent_id())},
                                   {"status", static_cast<std::int64_t>(event.status())},
                                   {"measurements", event.measurements().copy()},
                                   {"metadata", event.metadata().copy()},
                                   {"attributes", event.attributes().copy()},
                                   {"content", std::move(content)}});
    const std::lock_guard<std::mutex> lock(mutex_);
    file_ << line.to_string() << '\n';
  }

  std::mutex mutex_;
  std::ofstream file_;
};

const char* const path = std::getenv("EVENT_LOG");
EventLog event_log(path != nullptr ? path : "/dev/null");

}  // namespace
