// SPDX-License-Identifier: Apache-2.0
#include "runner.h"

namespace cases {

RunCase find_runner(std::string_view file_name) noexcept {
  struct Kind {
    std::string_view file_name;
    RunCase run;
  };
  static constexpr Kind kinds[] = {
      {"genai_attributes.json", run_genai_attributes},
      {"genai_events.json", run_genai_events},
      {"genai_spans_metrics.json", run_genai_spans_metrics},
      {"telemetry_registry.json", run_telemetry_registry},
  };
  for (const Kind& kind : kinds) {
    if (kind.file_name == file_name) return kind.run;
  }
  return nullptr;
}

}  // namespace cases
