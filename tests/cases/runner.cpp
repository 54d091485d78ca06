// SPDX-License-Identifier: Apache-2.0
#include "runner.h"

namespace cases {

RunCase find_runner(std::string_view file_name) noexcept {
  struct Kind {
    std::string_view file_name;
    RunCase run;
  };
  static constexpr Kind kinds[] = {
      {"agent_catalogue.json", run_agent_catalogue},
      {"agent_scenarios.json", run_agent_scenarios},
      {"allm_spans.json", run_allm_spans},
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
