// SPDX-License-Identifier: Apache-2.0
// nopspan top: its options, and the choice between the screen and printed tables.
#include "base/failure.h"
#include "base/stopping.h"
#include "base/text_output.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "command/tracing_process.h"
#include "top/top_print.h"
#include "top/top_runner.h"
#include "top/top_screen.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr std::uint64_t kInterval = 2'000'000'000, kLeastInterval = 100'000'000;
// Longer than any recording: without --interval a recording gives one table.
constexpr std::uint64_t kWholeRecording = 1'000'000'000'000'000'000;

constexpr char kTopExamples[] =
    "Rates and quantiles cover the last 10 seconds (see --window). The error of\n"
    "quantiles is at most 1.6 %. Tokens are counted once, at the innermost span that\n"
    "reports them: if both client and server are traced, at the server's span.\n"
    "\n"
    "A request is a root span without a remote parent. A root span with one is a\n"
    "received request: it began in another process.\n"
    "\n"
    "Filters select single spans, retries and gauges; --request and --sample select\n"
    "whole requests. --errors, --error and --slower-than select no retries and\n"
    "gauges.\n"
    "\n"
    "Without name, tool and error in --by, and without --name, rows have only the\n"
    "root spans of each process, so that rates, errors and durations are those of its\n"
    "requests. Tokens, time to first token and retries are those of all spans.\n"
    "\n"
    "If there are --rows-max rows, a new row replaces an idle one. If none is idle,\n"
    "it replaces one of the process that created the most rows, unless its own\n"
    "process has as many. Replaced rows are added to the row other.\n"
    "\n"
    "Keys: h help, q quit, < > sort column, r reverse order, / filter rows, t change\n"
    "grouping, w window or total, Enter histogram of a row, g gauges, i hide idle\n"
    "rows, p pause, + - interval.\n"
    "\n"
    "Examples:\n"
    "  nopspan top                              one row per span name and model\n"
    "  nopspan top --by process                 one row per process\n"
    "  nopspan top --sort p99 --model llama-3   spans of one model, slowest first\n"
    "  nopspan top --plain --count 1            one table, as text\n"
    "  nopspan top --json --interval 10s        one JSON object per line: *_ns are\n"
    "                                           nanoseconds, *_per_s are rates\n"
    "  nopspan top --from spans.rec             totals of a recording\n"
    "  nopspan top --from spans.rec --since 14:00 --until 14:05\n"
    "                                           totals of a part of it";

// Prints each snapshot.
class Printer {
 public:
  Printer(const TopOptions& options, bool json) : options_(options), json_(json) {}

  void print(const TopSnapshot& snapshot) {
    if (options_.count != 0 && printed_ == options_.count) return;
    if (snapshot.is_last) standard_output().flush();
    std::string text;
    if (json_) {
      nlohmann::ordered_json json = top_json(snapshot, options_.view, options_.shown_rows);
      json["output_dropped"] = standard_output().lost();
      text = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    } else {
      text = top_text(snapshot, options_.view, options_.shown_rows, columns_of_stdout());
    }
    if (standard_output().write(text)) ++printed_;
    if (options_.count != 0 && printed_ == options_.count) stopping = true;
  }

 private:
  const TopOptions& options_;
  const bool json_;
  std::uint64_t printed_ = 0;
};

int print_top(const TopOptions& options, bool json, Source& source) {
  CommandRun run(options.source, options.source.filter, options.request.by);
  if (options.source.from.empty()) set_standard_outputs_live();
  Printer printer(options, json);
  TopFeed feed(source, options.source.filter, options.window_ns / kSecond, options.most_rows, options.request, false,
               [&](const TopSnapshotPointer& snapshot) { printer.print(*snapshot); });
  run.run(
      source, feed, [&feed] { return feed.ledger(); }, [&feed] { return feed.has_matched(); });
  feed.finish();
  run.finish();
  standard_output().flush();
  std::cerr << output_dropped_text() + remark_text(source.remark()) + to_text(feed.ledger());
  return run.exit_status();
}

// The kernel drops batches for the other filters. A batch may have a span between a client's and a server's that report
// the same tokens, so TopFeed applies these filters.
SourceOptions without_span_filters(SourceOptions options) {
  Filter filter;
  filter.request = options.filter.request;
  filter.pids = options.filter.pids;
  filter.cgroup = options.filter.cgroup;
  filter.sample_one_in = options.filter.sample_one_in;
  filter.sampled_only = options.filter.sampled_only;
  filter.since = options.filter.since;
  filter.until = options.filter.until;
  options.filter = filter;
  return options;
}

}  // namespace

void add_top_options(CLI::App& app, TopOptions& options) {
  const OptionGroup group(app, "Table");
  add_grouping_option(app, options.request.by);
  app.add_flag(
      "--all-spans", options.request.all_spans,
      "Count inner spans too if rows are grouped without name, tool and error; the default is root spans only");
  app.add_option("--sort", options.view.sort,
                 "Sort by this column: " + column_ids() + ", or a key of --by (default: spans)")
      ->type_name("COLUMN")
      ->check([&options](const std::string& id) {
        const Grouping& by = options.request.by;  // CLI11 reads --by first, because it was added first
        const bool is_key = std::find(by.begin(), by.end(), Dimension(id)) != by.end();
        return is_key || is_column(id) ? "" : "there is no column " + id + "; the columns are " + column_ids();
      });
  app.add_flag("--reverse", options.view.reverse, "Reverse the order of the rows");
  app.add_flag("--total", options.view.total, "Show totals since the start instead of the window");
  add_duration_option(app, "--interval", options.request.interval_ns,
                      "Update at this interval, at least 100ms (default: 2s)")
      ->check(some_time(kLeastInterval, "must be at least 100ms"));
  add_duration_option(app, "--window", options.window_ns, "Length of the window, 1s to 60s (default: 10s)")
      ->check(whole_seconds(1, 60));
  numeric(app.add_option("--rows-max", options.most_rows,
                         "Keep at most N rows; count the rest in the row other (default: 1000)"),
          1, 10000);
  app.add_flag("--plain", options.plain,
               "Print a table at each interval instead of using the screen; this is the default without a terminal");
  numeric(app.add_option("--rows", options.shown_rows,
                         "Print only the first N rows; implies --plain, unless --json is used"),
          1);
  numeric(app.add_option("--count", options.count, "Stop after N tables; implies --plain, unless --json is used"), 1);
}

int run_top(TopOptions options, const OutputOptions& common, std::unique_ptr<Source> source) {
  const bool is_recording = !options.source.from.empty();
  std::uint64_t& interval = options.request.interval_ns;
  if (interval == 0) interval = is_recording ? kWholeRecording : kInterval;
  if (is_recording) options.view.total = true;
  const bool prints = options.plain || common.json || options.count != 0 || options.shown_rows != 0;
  if (prints || !has_screen()) {
    return print_top(options, common.json, *source);
  }
  CommandRun run(options.source, {});
  show_top(options, common.color, std::move(source), [&run](Source& of, TopFeed& feed) {
    run.run(of, feed, [&feed] { return feed.ledger(); });
    run.finish();
  });
  return 0;
}

void add_top(CLI::App& app, const OutputOptions& common, Run& run) {
  CLI::App* command = app.add_subcommand("top", "Show rates, times, errors and tokens of spans, live");
  command->footer(kTopExamples);
  const auto options = std::make_shared<TopOptions>();
  add_top_options(*command, *options);
  add_source_options(*command, options->source);
  describe_span_filters(*command);
  command->callback([options, &common, &run] {
    run = [options, &common] {
      const SourceOptions source_options = without_span_filters(options->source);
      return run_with_source(source_options, {{}, {}, {source_options.metrics}}, [&](std::unique_ptr<Source> source) {
        return run_top(*options, common, std::move(source));
      });
    };
  });
}

}  // namespace nopspan::collector
