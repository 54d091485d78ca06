// SPDX-License-Identifier: Apache-2.0
// Writes a recording of many spans, whose ids are 1, 2, 3, …, and a gauge for each second: export_load FILE SPANS
// SECONDS
#include "invented_spans.h"

#include "model/source.h"
#include "recording/recorder.h"

#include <cstdint>
#include <cstdlib>
#include <iostream>

using namespace nopspan::collector;

namespace {

class ManySpans : public Source {
 public:
  ManySpans(std::uint64_t spans, std::uint64_t seconds) : spans_(spans), seconds_(seconds) {}
  void run(Sink& sink, Deadline& /*until*/) override {
    sink.on_tick(kNoon);
    std::uint64_t id = 0;
    for (std::uint64_t second = 1; second <= seconds_; ++second) {
      for (; id < spans_ * second / seconds_; ++id) {
        Entry entry;
        entry.name = "span";
        entry.trace_id.bytes[0] = 1;
        entry.span_id = id + 1;
        entry.start_unix_ns = kNoon + second * kSecond;
        entry.process = &process_;
        sink.on_entry(entry);
      }
      Entry gauge;
      gauge.kind = Kind::gauge;
      gauge.name = "gauge";
      gauge.start_unix_ns = kNoon + second * kSecond;
      gauge.process = &process_;
      sink.on_entry(gauge);
      sink.on_tick(kNoon + second * kSecond);
    }
  }
  [[nodiscard]] Ledger ledger() const override {
    Ledger ledger;
    ledger.total.emitted = ledger.total.delivered = spans_ + seconds_;
    ledger.processes.push_back({process_, ledger.total});
    return ledger;
  }

 private:
  const std::uint64_t spans_, seconds_;
  const ProcessPointer process_ = invented_process(1);
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: export_load FILE SPANS SECONDS\n";
    return 2;
  }
  ManySpans source(std::strtoull(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10));
  RecorderOptions options;
  options.path = argv[1];
  Recorder recorder(options, source);
  Deadline until;
  source.run(recorder, until);
  return recorder.finish() ? 0 : 1;
}
