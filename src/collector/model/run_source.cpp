// SPDX-License-Identifier: Apache-2.0
#include "model/run_source.h"

#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <iostream>
#include <optional>
#include <utility>

namespace nopspan::collector {

void run_source(Source& source, Sink& sink, const SourceOptions& options, bool quiet) {
  Deadline until(options.duration_ns);
  {
    const struct Waits {
      explicit Waits(const Deadline& end) { standard_output().set_deadline(&end); }
      ~Waits() { standard_output().set_deadline(nullptr); }
    } waits(until);
    source.run(sink, until);
  }
  if (until.has_expired()) standard_output().hurry();
  if (until.is_over()) stopping = true;  // for threads that draw meanwhile
  if (quiet) return;
  std::cout.flush();
  std::cerr << remark_text(source) << to_text(source.ledger());
}

void Announced::on_tick(std::uint64_t now_unix_ns) {
  sink_.on_tick(now_unix_ns);
  std::cerr << std::exchange(text_, {});
}

std::string remark_text(const Source& source) {
  const std::string remark = source.remark();
  return remark.empty() ? "" : "nopspan: " + printable(remark, SIZE_MAX) + "\n";
}

void add_clock(nlohmann::ordered_json& json, const Source& source) {
  const std::optional<ClockState> clock = source.clock();
  if (clock) json["clock"] = {{"error_ns", clock->error_ns}, {"changes", clock->changes}};
}

}  // namespace nopspan::collector
