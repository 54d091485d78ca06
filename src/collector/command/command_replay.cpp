// SPDX-License-Identifier: Apache-2.0
// nopspan replay: summarizes a recording, or prints its entries as JSON.
#include "base/json_writer.h"
#include "base/stopping.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "host/privileges.h"
#include "model/entry_json.h"
#include "model/filtered_source.h"
#include "recording/recording.h"
#include "recording/replay_summary.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <iostream>
#include <memory>
#include <string>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr char kReplayDescription[] =
    "Shows the start, length, processes and span names of a recording, and its\n"
    "ledger. The ledger counts the entries that are missing from the recording. To\n"
    "show the spans, use nopspan top --from FILE or nopspan trace --from FILE.\n"
    "Filters select single entries. --slower-than, --errors and --error select spans\n"
    "only, so no events, retries or gauges.";
constexpr char kReplayExamples[] =
    "Examples:\n"
    "  nopspan replay spans.rec\n"
    "  nopspan replay spans.rec --spans | jq -c 'select(.status == \"error\")'\n"
    "  nopspan replay spans.rec --spans --tenant acme --errors\n"
    "  cat spans.rec.2 spans.rec.1 spans.rec | nopspan replay -";

struct ReplayOptions {
  SourceOptions source;
  bool spans = false;
};

class SpanPrinter : public Sink {
 public:
  void on_entry(const Entry& entry) override {
    json_.clear();
    write_json(json_, entry);
    json_.end_document();
    std::cout << json_.text();
    if (!std::cout) stopping = true;
  }
  void on_tick(std::uint64_t /*now_unix_ns*/) override {}

 private:
  JsonWriter json_;
};

int run_replay(const ReplayOptions& options, const OutputOptions& common) {
  confine({{}, {options.source.from}, {}});
  const Filter& filter = options.source.filter;
  auto opened = std::make_unique<Recording>(options.source.from, filter);
  const Recording& recording = *opened;
  FilteredSource source(std::move(opened), filter);
  SpanPrinter printer;
  ReplaySummary summary;
  CommandRun run(options.source, filter);
  run.run(source, options.spans ? static_cast<Sink&>(printer) : summary, [&source] { return source.ledger(); });
  if (options.spans) {
    std::cout.flush();
    std::cerr << remark_text(source.remark()) << to_text(source.ledger());
  } else if (common.json) {
    const auto json = summary.json(recording, source.ledger());
    std::cout << json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
  } else {
    std::cout << summary.text(recording, source.ledger());
  }
  return run.exit_status();
}

}  // namespace

void add_replay(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<ReplayOptions>();
  CLI::App* command = app.add_subcommand("replay", "Summarize a recording, or print its entries");
  command->footer(std::string(kReplayDescription) + "\n\n" + kReplayExamples);
  command->add_option("FILE", options->source.from, "Recording to read; - is stdin")->required()->check(some_text());
  command->add_flag("--spans", options->spans, "Print each span, event, retry and gauge as one line of JSON");
  add_filter_options(*command, options->source.filter);
  add_time_options(*command, options->source.filter);
  describe_span_filters(*command);
  command->callback([options, &common, &run] { run = [options, &common] { return run_replay(*options, common); }; });
}

}  // namespace nopspan::collector
