// SPDX-License-Identifier: Apache-2.0
// nopspan blame: who stalled whose requests in an engine.
#include "base/failure.h"
#include "base/text.h"
#include "base/text_output.h"
#include "blame/blame.h"
#include "blame/blame_print.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "command/tracing_process.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

namespace nopspan::collector {
namespace {

constexpr char kBlameDescription[] =
    "Shows where the time of requests in an engine went, and who stalled them: long\n"
    "prompts that shared the steps. It learns what the work of a step costs from the\n"
    "steps themselves, and charges each request the time that its step would have\n"
    "saved without it. The engine must report its steps with their members\n"
    "(docs/engine.md). docs/blame.md says when it is right, and when it cannot be.";
constexpr char kBlameExamples[] =
    "Examples:\n"
    "  nopspan blame --duration 30s               who stalled whom, by tenant\n"
    "  nopspan blame --from load.rec --by request the same of a recording, by request\n"
    "  nopspan blame --from load.rec --request Lnz4mrze8BI0VniavN7wAA\n"
    "                                             where the time of one request went\n"
    "  nopspan blame --from load.rec --slower-than 2s --json";

struct BlameOptions {
  SourceOptions source;
  std::string by = "tenant";
  std::size_t rows = 20;
};

class BlameSink : public Sink {
 public:
  BlameSink(const BlameOptions& options, bool as_json)
      : filter_(options.source.filter),
        as_json_(as_json),
        is_live_(options.source.from.empty()),
        table_(options.by == "tenant"  ? BlameBy::tenant
               : options.by == "model" ? BlameBy::model
                                       : BlameBy::request,
               kMostRows, options.rows),
        blame_(
            {}, [this](const Entry& entry) { return wants(entry); },
            [this](const Blame::Request& request) { take(request); }) {}

  void on_entry(const Entry& entry) override { blame_.on_entry(entry); }
  // A recording is fitted as a whole.
  void on_tick(std::uint64_t now_unix_ns) override {
    if (is_live_) blame_.on_tick(now_unix_ns);
  }
  void finish() { blame_.finish(); }
  [[nodiscard]] const Blame& blame() const { return blame_; }
  [[nodiscard]] const BlameTable& table() const { return table_; }
  // Whether a request is wanted, which is in the table only when its steps are fitted.
  [[nodiscard]] bool has_matched() const { return has_matched_; }
  static void print(const nlohmann::ordered_json& json) {
    standard_output().write(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  }

 private:
  static constexpr std::size_t kMostRows = 1000;

  void take(const Blame::Request& request) {
    if (!request.is_wanted) return;
    table_.add(request);
    if (as_json_) print(to_json(request));
  }
  bool wants(const Entry& entry) {
    const bool is_wanted = filter_.may_want(entry) && filter_.selects(entry);
    has_matched_ = has_matched_ || (is_wanted && is_whole_request(entry));
    return is_wanted;
  }

  const Filter filter_;
  const bool as_json_, is_live_;
  bool has_matched_ = false;
  BlameTable table_;
  Blame blame_;
};

int show(const BlameOptions& options, const SourceOptions& source_options, const OutputOptions& common,
         Source& source) {
  const Filter& filter = options.source.filter;
  BlameSink sink(options, common.json);
  CommandRun run(source_options, filter);
  if (options.source.from.empty()) set_standard_outputs_live();
  run.announce([] { return "Reading the steps of engines. Press Ctrl-C to stop.\n"; });
  run.run(
      source, sink, [&source] { return source.ledger(); }, [&sink] { return sink.has_matched(); });
  sink.finish();
  run.finish();
  const auto& fits = sink.blame().fits();
  if (common.json) {
    for (const Blame::Fit& fit : fits) BlameSink::print(to_json(fit));
    BlameSink::print(to_json(sink.table(), sink.blame()));
  } else {
    std::string text = to_text(sink.blame());
    const bool has_one = !filter.request.empty();
    if (!fits.empty() && !has_one) text += to_text(sink.table(), options.rows) + "\n";
    std::size_t shown = 0;
    for (const Blame::Request& request : sink.table().requests()) {
      if (shown++ == (has_one ? options.rows : std::min<std::size_t>(options.rows, 5))) break;
      text += to_text(request);
    }
    standard_output().write(text);
  }
  standard_output().flush();
  std::cerr << remark_text(source.remark());
  if (source_options.from.empty() || source.ledger().total.lost() > 0) std::cerr << to_text(source.ledger());
  const bool has_nothing = !options.source.from.empty() && fits.empty();
  return has_nothing ? Failure::kFailed : run.exit_status();
}

int run_blame(BlameOptions& options, const OutputOptions& common) {
  // Steps have other names and no tenant: whom they served decides.
  SourceOptions source_options = options.source;
  const Filter& asked = options.source.filter;
  Filter& filter = source_options.filter = {};
  filter.pids = asked.pids;
  filter.cgroup = asked.cgroup;
  filter.since = asked.since;
  filter.until = asked.until;
  return run_with_source(
      source_options, {{}, {}, {source_options.metrics}},
      [&](const std::unique_ptr<Source>& source) { return show(options, source_options, common, *source); });
}

}  // namespace

void add_blame(CLI::App& app, const OutputOptions& common, Run& run) {
  CLI::App* command = app.add_subcommand("blame", "Show who stalled whose requests in an engine");
  auto options = std::make_shared<BlameOptions>();
  command->footer(std::string(kBlameDescription) + "\n\n" + kBlameExamples);
  add_text_option(*command, "--by", options->by, "{tenant,model,request}", "What rows are of (default: tenant)")
      ->check(one_of({"tenant", "model", "request"}));
  numeric(command->add_option("--rows", options->rows, "Show at most N rows (default: 20)"), 1, 1000);
  add_source_options(*command, options->source);
  describe_span_filters(*command);
  command->callback([options, &common, &run] { run = [options, &common] { return run_blame(*options, common); }; });
}

}  // namespace nopspan::collector
