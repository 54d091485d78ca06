// SPDX-License-Identifier: Apache-2.0
// nopspan top: its options, and the choice between the screen and printed tables.
#include "command/command_top.h"
#include "base/failure.h"
#include "base/stopping.h"
#include "command/command.h"
#include "command/options.h"
#include "model/metrics_file.h"
#include "model/run_source.h"
#include "top/top_print.h"
#include "top/top_screen.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace nopspan::collector {

namespace {

constexpr std::uint64_t kInterval = 2'000'000'000, kLeastInterval = 100'000'000;
// Longer than any recording: without --interval a recording gives one table.
constexpr std::uint64_t kWholeRecording = 1'000'000'000'000'000'000;

constexpr char kExamples[] =
    "Rates and quantiles cover the last ten seconds (--window). Quantiles are within\n"
    "1.6 %. The tokens of a request are counted once, at the innermost span that\n"
    "reports them. --name, --model, --errors and --slower-than choose single spans\n"
    "here. The other filters choose whole requests.\n"
    "Keys on the screen: h help, q quit, < > sort by, r reverse, / filter, t group\n"
    "by, w window or since the beginning, Enter histogram of a row, g gauges,\n"
    "i without idle rows, p pause, + - interval.\n"
    "\n"
    "Examples:\n"
    "  nopspan top                              rates, times and tokens of each span\n"
    "  nopspan top --by process                 the same of each process\n"
    "  nopspan top --sort p99 --model llama-3   spans of one model, slowest first\n"
    "  nopspan top --plain --count 1            one table as text\n"
    "  nopspan top --json --interval 10s        for programs, an object a line:\n"
    "                                           *_ns are nanoseconds, *_per_s rates\n"
    "  nopspan top --from spans.rec             the same of a recording";

// Prints each snapshot. If a write fails, for example because the reader has closed the pipe, the run ends.
class Printer {
 public:
  Printer(const TopOptions& options, bool json) : options_(options), json_(json) {}

  void print(const TopSnapshot& snapshot) {
    if (options_.count != 0 && printed_ == options_.count) return;
    const std::string text = json_ ? top_json(snapshot, options_.view, options_.shown_rows)
                                             .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
                                         "\n"
                                   : top_text(snapshot, options_.view, options_.shown_rows);
    const bool is_written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    if (!is_written || ++printed_ == options_.count) stopping = true;
  }

 private:
  const TopOptions& options_;
  const bool json_;
  std::uint64_t printed_ = 0;
};

void print_top(const TopOptions& options, bool json, const OpenSource& open) {
  MetricsFile metrics(options.source.metrics, options.source.buffer_bytes);
  const std::unique_ptr<Source> source = open();
  Printer printer(options, json);
  TopFeed feed(*source, options.source.filter, options.window_seconds, options.most_rows, options.request, false,
               [&](const TopSnapshotPointer& snapshot) { printer.print(*snapshot); });
  MeteredSink metered(feed, metrics, [&source] { return source->ledger(); });
  run_source(*source, metered, options.source, true);
  feed.finish();
  metrics.write(source->ledger());
  std::fputs((remark_text(*source) + to_text(source->ledger())).c_str(), stderr);
}

}  // namespace

void add_top_options(CLI::App& app, TopOptions& options) {
  constexpr char kGroup[] = "Table";
  add_grouping_option(app, options.request.by)->group(kGroup);
  app.add_option("--sort", options.view.sort, "Column to sort by: " + column_ids() + ", or one of --by (spans)")
      ->type_name("COLUMN")
      ->check(
          [](const std::string& id) { return is_column(id) ? "" : "no column " + id + "; there are " + column_ids(); })
      ->group(kGroup);
  app.add_flag("--reverse", options.view.reverse, "The other way round")->group(kGroup);
  app.add_flag("--total", options.view.total, "Numbers since the beginning instead of the last seconds")->group(kGroup);
  add_duration_option(app, "--interval", options.request.interval_ns, "How often there are new numbers (2s)")
      ->group(kGroup);
  app.add_option("--window", options.window_seconds, "Seconds that rates and quantiles are of (10)")
      ->type_name("SECONDS")
      ->check(whole_number(1, 60))
      ->group(kGroup);
  app.add_option("--rows-max", options.most_rows, "Rows to count; what has none is counted as other (1000)")
      ->type_name("N")
      ->check(whole_number(1, 10000))
      ->group(kGroup);
  app.add_flag("--plain", options.plain, "Plain text, a table each interval; so it is where there is no terminal")
      ->group(kGroup);
  app.add_option("--rows", options.shown_rows, "Print the first N rows only (plain text and JSON)")
      ->type_name("N")
      ->check(whole_number(1))
      ->group(kGroup);
  app.add_option("--count", options.count, "End after N tables (plain text and JSON)")
      ->type_name("N")
      ->check(whole_number(1))
      ->group(kGroup);
}

void run_top(TopOptions options, const OutputOptions& common, const OpenSource& open) {
  const bool is_recording = !options.source.from.empty();
  std::uint64_t& interval = options.request.interval_ns;
  if (interval == 0) interval = is_recording ? kWholeRecording : kInterval;
  if (interval < kLeastInterval) throw Failure("--interval must be at least 100ms", Failure::kUsageError);
  if (is_recording) options.view.total = true;
  const bool prints = options.plain || common.json || options.count != 0 || options.shown_rows != 0;
  if (prints || !has_screen()) {
    print_top(options, common.json, open);
  } else {
    show_top(options, common.color, open);
  }
}

void add_top(CLI::App& app, const OutputOptions& common, Run& run) {
  CLI::App* command = app.add_subcommand("top", "Rates, times, errors and tokens of each span, live");
  command->footer(kExamples);
  const auto options = std::make_shared<TopOptions>();
  add_top_options(*command, *options);
  add_source_options(*command, options->source);
  describe_span_filters(*command);
  command->callback([options, &common, &run] {
    run = [options, &common] {
      run_top(*options, common, [options] { return open_source(options->source); });
      return 0;
    };
  });
}

}  // namespace nopspan::collector
