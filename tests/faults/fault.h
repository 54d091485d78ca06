// SPDX-License-Identifier: Apache-2.0
// What the programs of this folder share: a handler that counts, a watchdog, and the memory of this process.
#pragma once

#include "counted.h"
#include "in_child.h"

#include <nopspan/registry.h>

#include <gmock/gmock.h>

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

// True with NOPSPAN_LONG=1: the test runs for longer, or tries more.
inline const bool is_long =
    std::getenv("NOPSPAN_LONG") != nullptr && std::string_view(std::getenv("NOPSPAN_LONG")) == "1";

// Counts the starts and the ends of spans, and the events of other names. Allocates nothing while it counts.
class CountingHandler {
 public:
  explicit CountingHandler(std::initializer_list<const char*> spans, const std::string& event = {}) {
    std::vector<std::string> events;
    for (const std::string span : spans) {
      for (const char* suffix : {".start", ".stop", ".exception"}) events.push_back(span + suffix);
    }
    if (!event.empty()) events.push_back(event);
    EXPECT_EQ(nopspan::attach_many(*spans.begin(), events, [this](const nopspan::Event& e) { count(e); }),
              nopspan::Errc::ok);
    id_ = *spans.begin();
  }
  ~CountingHandler() { EXPECT_EQ(nopspan::detach(id_), nopspan::Errc::ok); }
  CountingHandler(const CountingHandler&) = delete;
  CountingHandler& operator=(const CountingHandler&) = delete;

  std::atomic<std::uint64_t> starts{0};
  std::atomic<std::uint64_t> ends{0};
  std::atomic<std::uint64_t> points{0};
  std::atomic<std::uint64_t> last_parent{0};  // of the span that started last

 private:
  void count(const nopspan::Event& event) {
    const auto ends_with = [&](std::string_view suffix) {
      return event.name().size() > suffix.size() && event.name().substr(event.name().size() - suffix.size()) == suffix;
    };
    if (ends_with(".start")) {
      last_parent = event.parent_id();
      ++starts;
    } else {
      ++(ends_with(".stop") || ends_with(".exception") ? ends : points);
    }
  }

  std::string id_;
};

// Waits for a condition. If it does not become true, some thread hangs and cannot be joined, so the program ends.
template <class Condition>
void watch(const char* what, Condition condition) {
  if (wait_until(condition)) return;
  std::fprintf(stderr, "no progress: %s\n", what);
  std::_Exit(1);
}

// How much memory of this process is resident.
inline std::uint64_t resident_bytes() {
  unsigned long size = 0;
  unsigned long resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  EXPECT_NE(file, nullptr);
  EXPECT_EQ(std::fscanf(file, "%lu %lu", &size, &resident), 2);
  std::fclose(file);
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}
