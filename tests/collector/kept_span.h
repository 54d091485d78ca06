// SPDX-License-Identifier: Apache-2.0
// Spans that own their texts, and random spans, for tests that a span survives a round trip unchanged.
#pragma once

#include "model/source.h"
#include "model/span.h"

#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <string_view>
#include <vector>

// A span that owns its texts.
class KeptSpan {
 public:
  explicit KeptSpan(const nopspan::collector::Span& span);
  KeptSpan(const KeptSpan& other) : KeptSpan(other.span()) {}
  KeptSpan& operator=(const KeptSpan&) = delete;
  [[nodiscard]] const nopspan::collector::Span& span() const { return span_; }
  // Describes each field that differs from the other span's. "" if all are equal.
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

// A KeyValue of OTLP: field 9 of a span, or field 3 of an event.
std::string text_attribute(std::string_view key, std::string_view value, bool of_event = false);
std::string integer_attribute(std::string_view key, std::int64_t value, bool of_event = false);

// A span with most of the fields that a GenAI span can have.
KeptSpan chat_span(const nopspan::collector::ProcessPointer& process);
// A span with some fields, each with a random value. Its attributes may repeat some of these fields, with equal or
// different values.
KeptSpan any_span(std::mt19937_64& random, const std::vector<nopspan::collector::ProcessPointer>& processes);
