// SPDX-License-Identifier: Apache-2.0
// Spans that own their texts, and random spans, for tests that a span survives a round trip unchanged.
#pragma once

#include "model/entry.h"
#include "model/source.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <string_view>
#include <vector>

// A span that owns its texts.
class KeptEntry {
 public:
  explicit KeptEntry(const nopspan::collector::Entry& entry);
  KeptEntry(const KeptEntry& other) : KeptEntry(other.entry()) {}
  KeptEntry& operator=(const KeptEntry&) = delete;
  [[nodiscard]] const nopspan::collector::Entry& entry() const { return span_; }
  // Describes each field that differs from the other span's. "" if all are equal.
  [[nodiscard]] std::string difference(const nopspan::collector::Entry& other) const;

 private:
  nopspan::collector::Entry span_;
  nopspan::collector::ProcessPointer process_;
  nopspan_step step_{};
  std::deque<std::string> texts_;
};

class KeptEntries : public nopspan::collector::Sink {
 public:
  void on_entry(const nopspan::collector::Entry& entry) override { spans.emplace_back(entry); }
  void on_tick(std::uint64_t now_unix_ns) override { ticks.push_back(now_unix_ns); }

  std::deque<KeptEntry> spans;
  std::vector<std::uint64_t> ticks;
};

// A source with a ledger only. The tests pass the entries on themselves.
class LedgerSource : public nopspan::collector::Source {
 public:
  void run(nopspan::collector::Sink& /*sink*/, nopspan::collector::Deadline& /*until*/) override {}
  [[nodiscard]] nopspan::collector::Ledger ledger() const override { return now; }
  // The process has emitted an entry, which was delivered.
  void count(const nopspan::collector::ProcessPointer& process);

  nopspan::collector::Ledger now;
};

nopspan::collector::ProcessPointer make_process(std::uint32_t pid, const std::string& comm = "server");

// A KeyValue of OTLP: field 9 of a span, or field 3 of an event.
std::string text_attribute(std::string_view key, std::string_view value, bool of_event = false);
std::string integer_attribute(std::string_view key, std::int64_t value, bool of_event = false);
// The same, of a span.
std::string real_attribute(std::string_view key, double value);
std::string list_attribute(std::string_view key, const std::vector<std::int64_t>& numbers);

// A span with most of the fields that a GenAI span can have.
KeptEntry chat_span(const nopspan::collector::ProcessPointer& process);
// A step or a part of one, with random facts. `members` are those of the step before, and are changed a little.
KeptEntry any_step(std::mt19937_64& random, const std::vector<nopspan::collector::ProcessPointer>& processes,
                   std::vector<nopspan_member>& members);
// A span with some fields, each with a random value. Its attributes may repeat some of these fields, with equal or
// different values.
KeptEntry any_span(std::mt19937_64& random, const std::vector<nopspan::collector::ProcessPointer>& processes);
