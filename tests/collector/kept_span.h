// SPDX-License-Identifier: Apache-2.0
// Spans that outlive the call, and spans of any kind, for tests of what must not change one.
#pragma once

#include "model/source.h"
#include "model/span.h"

#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <string_view>
#include <vector>

// A span with texts of its own.
class KeptSpan {
 public:
  explicit KeptSpan(const nopspan::collector::Span& span);
  KeptSpan(const KeptSpan& other) : KeptSpan(other.span()) {}
  KeptSpan& operator=(const KeptSpan&) = delete;
  [[nodiscard]] const nopspan::collector::Span& span() const { return span_; }
  // Each field that another one has otherwise, for people; "" if none.
  [[nodiscard]] std::string difference(const nopspan::collector::Span& other) const;

 private:
  nopspan::collector::Span span_;
  nopspan::collector::ProcessPointer process_;
  std::deque<std::string> texts_;
};

class KeptSpans : public nopspan::collector::Sink {
 public:
  void on_span(const nopspan::collector::Span& span) override { spans.emplace_back(span); }
  void on_tick(std::uint64_t now_unix_ns) override { ticks.push_back(now_unix_ns); }

  std::deque<KeptSpan> spans;
  std::vector<std::uint64_t> ticks;
};

nopspan::collector::ProcessPointer make_process(std::uint32_t pid, const std::string& command = "server");

// OTLP KeyValues of field 9, or 3 of an event.
std::string text_attribute(std::string_view key, std::string_view value, bool of_event = false);
std::string integer_attribute(std::string_view key, std::int64_t value, bool of_event = false);

// A span of the GenAI conventions with much of what one can have.
KeptSpan chat_span(const nopspan::collector::ProcessPointer& process);
// One with some fields, each of any value; its attributes may tell some of them, rightly or not.
KeptSpan any_span(std::mt19937_64& random, const std::vector<nopspan::collector::ProcessPointer>& processes);
