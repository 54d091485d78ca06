// SPDX-License-Identifier: Apache-2.0
// nopspan whatif: what requests would have waited for with other settings of their engine.
#include "base/cells.h"
#include "base/failure.h"
#include "base/text.h"
#include "base/text_output.h"
#include "blame/what_if.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "command/tracing_process.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr char kWhatIfDescription[] =
    "Predicts how long the requests of a recording would have waited for their first\n"
    "token, and between tokens, with other settings of their engine. It learns what\n"
    "the work of a step costs from the steps, simulates the engine with the requests\n"
    "as they arrived, and says how well that repeats what was recorded. It refuses\n"
    "settings beyond what the steps have shown. docs/blame.md says when it is right.";
constexpr char kWhatIfExamples[] =
    "Examples:\n"
    "  nopspan whatif --from load.rec --set prefill-chunk=128\n"
    "                                   fewer prompt tokens in a step\n"
    "  nopspan whatif --from load.rec --set prefill-chunk=256 --set slots=4 --json";

struct WhatIfOptions {
  SourceOptions source;
  std::vector<std::string> settings;
};

class WhatIfSink : public Sink {
 public:
  explicit WhatIfSink(WhatIf& what_if) : what_if_(what_if) {}
  void on_entry(const Entry& entry) override { what_if_.on_entry(entry); }
  void on_tick(std::uint64_t /*now_unix_ns*/) override {}

 private:
  WhatIf& what_if_;
};

// What a text NAME=N sets, or null.
std::uint64_t* setting_of(EngineSettings& settings, const std::string& text, std::uint64_t& value) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) return nullptr;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + equals + 1, end, value);
  if (error != std::errc() || rest != end || value == 0) return nullptr;
  const std::string_view name(text.data(), equals);
  return name == "prefill-chunk" ? &settings.prefill_chunk : name == "slots" ? &settings.slots : nullptr;
}

CLI::Validator some_setting() {
  return {[](const std::string& text) {
            EngineSettings settings;
            std::uint64_t value = 0;
            return setting_of(settings, text, value) != nullptr
                       ? ""
                       : "\"" + printable(text, 40) +
                             "\" is not a setting: use prefill-chunk=N or slots=N, with a positive whole number";
          },
          ""};
}

struct Wait {
  const char *name, *text;
  const LogLinear WhatIf::Waits::*of;
  unsigned percent;
};
constexpr Wait kWaits[] = {{"ttft_p50_ns", "first token, p50", &WhatIf::Waits::ttft, 50},
                           {"ttft_p99_ns", "first token, p99", &WhatIf::Waits::ttft, 99},
                           {"gap_p50_ns", "gap, p50", &WhatIf::Waits::gap, 50},
                           {"gap_p99_ns", "gap, p99", &WhatIf::Waits::gap, 99}};

int show(const WhatIfOptions& options, const OutputOptions& common, Source& source) {
  WhatIf what_if;
  WhatIfSink sink(what_if);
  CommandRun run(options.source, options.source.filter);
  run.run(source, sink, [&source] { return source.ledger(); });
  run.finish();
  what_if.learn();
  EngineSettings settings = what_if.settings();
  for (const std::string& text : options.settings) {
    std::uint64_t value = 0;
    std::uint64_t* const setting = setting_of(settings, text, value);
    *setting = value;
  }
  const WhatIf::Waits &recorded = what_if.recorded(), repeated = what_if.simulate(what_if.settings()),
                      predicted = what_if.simulate(settings);
  nlohmann::ordered_json json = {
      {"engine", what_if.engine()},
      {"steps", what_if.steps()},
      {"missing_steps", what_if.missing()},
      {"other_engines", what_if.other_engines()},
      {"steps_over_limit", what_if.over_limit()},
      {"requests", recorded.requests},
      {"recorded_settings", {{"prefill_chunk", what_if.settings().prefill_chunk}, {"slots", what_if.settings().slots}}},
      {"settings", {{"prefill_chunk", settings.prefill_chunk}, {"slots", settings.slots}}}};
  TextTable table({{""},
                   {"RECORDED", Align::right},
                   {"SIMULATED", Align::right},
                   {"PREDICTED", Align::right},
                   {"ERROR", Align::right}});
  bool repeats = true;
  for (const Wait& wait : kWaits) {
    const std::uint64_t was = (recorded.*wait.of).quantile(wait.percent),
                        again = (repeated.*wait.of).quantile(wait.percent),
                        then = (predicted.*wait.of).quantile(wait.percent);
    const double error = was > 0 ? std::abs(static_cast<double>(again) / static_cast<double>(was) - 1) : 0;
    constexpr double kMostError = 0.3;
    repeats = repeats && error <= kMostError;
    json["waits"][wait.name] = {{"recorded", was}, {"simulated", again}, {"predicted", then}, {"error", error}};
    table.add({wait.text, duration_text(was), duration_text(again), duration_text(then),
               std::to_string(std::llround(100 * error)) + " %"});
  }
  json["repeats"] = repeats;
  if (common.json) {
    standard_output().write(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  } else {
    const auto text_of = [](const EngineSettings& of) {
      return "prefill-chunk=" + std::to_string(of.prefill_chunk) +
             (of.slots > 0 ? " slots=" + std::to_string(of.slots) : " (more slots than were used)");
    };
    std::string text = printable(what_if.engine(), 100) + ": " + counted(what_if.steps(), "step") + ", " +
                       counted(recorded.requests, "request") + "\nrecorded: " + text_of(what_if.settings()) +
                       "\npredicted: " + text_of(settings) + "\n\n" + table.text();
    if (!repeats)
      text +=
          "\nDo not trust this: the simulation does not repeat what was recorded. The engine schedules in another "
          "way,\nor has other causes of waiting\n";
    if (what_if.other_engines() > 0)
      text += "\nOf " + std::to_string(what_if.other_engines() + 1) + " engines, this is the one with the most steps\n";
    if (what_if.missing() > 0) text += "\n" + counted(what_if.missing(), "step") + " did not arrive\n";
    if (what_if.over_limit() > 0) text += "\n" + counted(what_if.over_limit(), "step") + " beyond the limit not used\n";
    standard_output().write(text);
  }
  standard_output().flush();
  std::cerr << remark_text(source.remark());
  if (source.ledger().total.lost() > 0) std::cerr << to_text(source.ledger());
  return run.exit_status() != 0 ? run.exit_status() : repeats ? 0 : Failure::kFailed;
}

int run_what_if(WhatIfOptions& options, const OutputOptions& common) {
  std::set<std::string> names;
  for (const std::string& text : options.settings) {
    if (!names.insert(text.substr(0, text.find('='))).second)
      throw Failure("--set has a setting twice: " + printable(text, 40), Failure::kUsageError);
  }
  return run_with_source(options.source, {{}, {}, {}},
                         [&](const std::unique_ptr<Source>& source) { return show(options, common, *source); });
}

}  // namespace

void add_whatif(CLI::App& app, const OutputOptions& common, Run& run) {
  CLI::App* command = app.add_subcommand("whatif", "Predict waits of requests with other settings");
  auto options = std::make_shared<WhatIfOptions>();
  repeatable(command->add_option("--set", options->settings,
                                 "A setting that the engine would have: prefill-chunk=N (prompt tokens of a step) or "
                                 "slots=N (requests of a step); repeat the option for more"))
      ->type_name("NAME=N")
      ->required()
      ->check(some_setting());
  add_text_option(*command, "--from", options->source.from, "FILE", "A recording of nopspan record")->required();
  add_pid_option(*command, options->source.filter.pids, "Only of these processes");
  add_time_options(*command, options->source.filter);
  command->footer(std::string(kWhatIfDescription) + "\n\n" + kWhatIfExamples);
  command->callback([options, &common, &run] { run = [options, &common] { return run_what_if(*options, common); }; });
}

}  // namespace nopspan::collector
