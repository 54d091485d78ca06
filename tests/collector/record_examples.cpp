// SPDX-License-Identifier: Apache-2.0
// Writes a recording of known spans, for tests that read it with other tools: record_examples FILE [RANDOM]. With
// RANDOM, that number of random entries follows.
#include "kept_entry.h"

#include "model/source.h"
#include "recording/recorder.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <vector>

using namespace nopspan::collector;

namespace {

constexpr std::uint64_t kBegin = 1'790'000'000'000'000'000;

class EightEntries : public Source {
 public:
  EightEntries(ProcessPointer process, std::uint64_t random) : process_(std::move(process)), random_(random) {}
  void run(Sink& sink, Deadline& until) override;
  [[nodiscard]] Ledger ledger() const override {
    Ledger ledger;
    ledger.total = {.emitted = 9 + random_, .delivered = 8 + random_, .ring_full = 1};
    ledger.processes.push_back({process_, ledger.total});
    return ledger;
  }

 private:
  Entry next(Kind kind, const char* name);
  ProcessPointer process_;
  std::uint64_t random_;
  std::uint64_t sequence_ = 40;
};

Entry EightEntries::next(Kind kind, const char* name) {
  Entry entry;
  entry.kind = kind;
  entry.name = name;
  std::iota(std::begin(entry.trace_id.bytes), std::end(entry.trace_id.bytes), 1);
  entry.span_id = 0x1111111111111111U;
  entry.start_unix_ns = kBegin + sequence_;
  entry.thread_id = 77;
  entry.sequence_id = 0xfffffffffffffff0U;
  entry.sequence = sequence_++;
  entry.process = &process_;
  return entry;
}

void EightEntries::run(Sink& sink, Deadline& /*until*/) {
  sink.on_tick(kBegin);
  Entry event = next(Kind::event, "gen_ai.prompt.sent");
  const std::string event_attributes = text_attribute("prompt", "größe", true) + integer_attribute("turn", -3, true);
  event.attributes = event_attributes;
  event.root_id = event.span_id;
  event.text = "llm.chat";
  sink.on_entry(event);

  Entry retry = next(Kind::retry, "llm.adapter.retry");
  retry.value = 500'000'000;
  retry.number = 2;
  retry.error_type = "rate_limit";
  retry.root_id = retry.span_id;
  sink.on_entry(retry);

  KeptEntry chat = chat_span(process_);
  Entry entry = chat.entry();
  entry.thread_id = 77;
  entry.sequence_id = 0xfffffffffffffff0U;
  entry.sequence = sequence_++;
  sink.on_entry(entry);

  Entry plain = next(Kind::span, "db.query");
  plain.root_id = plain.span_id;
  plain.duration_ns = 1000;
  sink.on_entry(plain);

  Entry thrown = next(Kind::span, "db.query");
  const std::string thrown_attributes = text_attribute("nopspan.exception_kind", "the application's own");
  thrown.attributes = thrown_attributes;
  thrown.status = kException;
  thrown.exception_kind = "error";
  thrown.error_type = "std::runtime_error";
  thrown.parent_id = thrown.root_id = 0x2222222222222222U;
  thrown.sequence = sequence_ += 5;  // leaves a gap in the sequence
  sink.on_entry(thrown);

  sequence_ += 1;
  Entry cancelled = next(Kind::span, "tool");
  cancelled.status = kCancelled;
  cancelled.error_type = "deadline";
  cancelled.flags = NOPSPAN_FLAG_FOREIGN_ID | NOPSPAN_FLAG_REMOTE_PARENT;
  cancelled.foreign_id = "req-17";
  cancelled.parent_id = 0x3333333333333333U;
  cancelled.root_id = cancelled.span_id;
  cancelled.text = "search";
  cancelled.counts_tool = true;
  sink.on_entry(cancelled);

  Entry hostile = next(Kind::span, "\x1b[2J\xff");
  const std::string hostile_attributes = text_attribute("good", "1") + std::string("\x4a\x03\x0a\x01\xff", 5);
  hostile.attributes = hostile_attributes;
  hostile.root_id = hostile.span_id;
  sink.on_entry(hostile);

  Entry gauge = next(Kind::gauge, "kv_cache.used");
  gauge.trace_id = {};
  gauge.span_id = 0;
  gauge.engine = "llama.cpp";
  gauge.value = -17;
  gauge.number = 4096;
  sink.on_entry(gauge);
  sink.on_tick(kBegin + 2'000'000'000);

  std::mt19937_64 random(19);
  std::vector<nopspan_member> members;
  for (std::uint64_t i = 0; i < random_; ++i) {
    sink.on_entry(i % 10 == 0 ? any_step(random, {process_}, members).entry() : any_span(random, {process_}).entry());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) return std::fprintf(stderr, "usage: %s FILE [RANDOM]\n", argv[0]), 2;
  EightEntries source(make_process(12), argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 0);
  RecorderOptions options;
  options.path = argv[1];
  Recorder recorder(options, source);
  Deadline never;
  source.run(recorder, never);
  return recorder.finish() ? 0 : 1;
}
