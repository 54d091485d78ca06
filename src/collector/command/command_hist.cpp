// SPDX-License-Identifier: Apache-2.0
// nopspan hist: histograms of times and of numbers, by name and model.
#include "base/failure.h"
#include "base/text.h"
#include "base/text_output.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "command/tracing_process.h"
#include "hist/hist_feed.h"
#include "hist/hist_table.h"
#include "host/host_name.h"
#include "model/steps.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kHistLeastInterval = 100'000'000;  // 100 ms, the live source's tick

constexpr char kHistDescription[] =
    "Counts durations, other times and numbers of spans and events in histograms, by\n"
    "name and model. The error of quantiles is at most 1.6 %, for gaps see\n"
    "docs/engine.md.";
constexpr char kHistExamples[] =
    "Each time is counted when its span ends. The ledger, the account of all entries\n"
    "that is printed at the end, counts entries that belong to no histogram as\n"
    "filtered. If spans are lost, use a larger --buffer, or the bpftrace script\n"
    "latency.bt, which fills its histograms in the kernel.\n"
    "\n"
    "If there are --rows-max rows, a new row replaces one of the process that created\n"
    "the most rows, unless its own process has as many. Replaced rows are added to\n"
    "the row other.\n"
    "\n"
    "Examples:\n"
    "  nopspan hist --duration 10s                     all spans, for 10 seconds\n"
    "  nopspan hist --name llm.chat --by model,tenant  one name, by model and tenant\n"
    "  nopspan hist --of ttft --interval 5s            time to first token, printed\n"
    "                                                  every 5 s\n"
    "  nopspan hist --of queue --by engine             queue time in inference\n"
    "                                                  servers\n"
    "  nopspan hist --of step-tokens --by engine       tokens of each engine step;\n"
    "                                                  also step-prefill, step-decode\n"
    "                                                  and batch-size\n"
    "  nopspan hist --of gap                           gaps between tokens; token-gap\n"
    "                                                  counts each token once, and\n"
    "                                                  tpot each request once\n"
    "  nopspan hist --of acceptance                    share of drafted tokens that\n"
    "                                                  were accepted, in percent\n"
    "  nopspan hist --of lifetime_ns --by nopspan.tier\n"
    "                                                  a fact of engine events, see\n"
    "                                                  docs/engine.md\n"
    "  nopspan hist --of attr:db.rows                  an attribute of your own spans\n"
    "                                                  and events\n"
    "  nopspan hist --from spans.rec                   spans of a recording\n"
    "\n"
    "In JSON, a histogram is {\"unit\": \"ns\", \"sub_bits\": 5, \"buckets\": [[lower bound,\n"
    "count], ...], \"count\", \"sum\", \"min\", \"max\"}. Other units are \"tokens\",\n"
    "\"requests\", \"bytes\", \"blocks\", \"percent\" and \"1\". To merge two histograms, add\n"
    "the counts of buckets with the same bound. With --interval, each line is a\n"
    "document that covers the time since the start.\n"
    "\n"
    "If a number is negative, it is not counted. Fractions are rounded.";

struct HistCommandOptions {
  SourceOptions source;
  HistOptions hist;
  std::string of = "duration";
  std::size_t shown_rows = 20;
};

class HistPrinter {
 public:
  HistPrinter(const OutputOptions& common, const HistCommandOptions& options)
      : json_(common.json), lines_(options.hist.interval_ns > 0), style_(HistStyle::of_stdout(common.color)) {
    style_.most_rows = options.shown_rows;
  }

  void show(const HistTable& table) {
    std::string text;
    if (json_) {
      nlohmann::ordered_json json = to_json(table);
      json["output_dropped"] = standard_output().lost();
      text = json.dump(lines_ ? -1 : 2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    } else {
      text = (is_first_ ? "" : "\n") + to_text(table, style_);
    }
    standard_output().write(text);
    is_first_ = false;
  }
  void finish(const HistTable& table) {
    standard_output().flush();
    show(table);
    standard_output().flush();
    std::cerr << output_dropped_text() << ledger_text(table);
  }

 private:
  bool json_, lines_, is_first_ = true;
  HistStyle style_;
};

// The key of --of attr:KEY, unless steps have it as a fact.
std::vector<std::string> key_of(const HistCommandOptions& options) {
  const std::string_view key = options.hist.of->attribute;
  if (!options.of.starts_with("attr:") || is_step_fact(key)) return {};
  return {std::string(key)};
}

int measure(const OutputOptions& common, const HistCommandOptions& options, Source& source) {
  const HistOptions& hist = options.hist;
  CommandRun run(options.source, hist.filter, hist.by, key_of(options));
  HistPrinter output(common, options);
  if (options.source.from.empty()) set_standard_outputs_live();
  HistFeed feed(source, hist, [&output](const HistTable& table) { output.show(table); });
  run.announce([&hist] { return std::string("Counting the ") + hist.of->of + ". Press Ctrl-C to stop.\n"; });
  run.end_with_processes();
  run.run(
      source, feed, [&feed] { return feed.ledger(); }, [&feed] { return feed.has_rows(); });
  run.finish();
  output.finish(feed.table());
  std::cerr << remark_text(source.remark());
  return run.exit_status();
}

int run(const OutputOptions& common, HistCommandOptions& options) {
  HistOptions& hist = options.hist;
  hist.of = find_quantity(options.of);
  if (hist.of == nullptr) {
    throw Failure("--of " + printable(options.of, 60) +
                      ": there is no such quantity; nopspan hist --help lists them. For the number of an attribute use "
                      "attr:KEY with its whole key, such as attr:nopspan.tokens",
                  Failure::kUsageError);
  }
  hist.filter = options.source.filter;
  if (hist.filter.slower_than_ns > 0 && !hist.of->is_time()) {
    throw Failure("--slower-than cannot be used with --of " + options.of + ", which is not a time",
                  Failure::kUsageError);
  }
  if (hist.filter.wants_errors() && !hist.of->has_status) {
    throw Failure(std::string(hist.filter.errors ? "--errors" : "--error") + " cannot be used with --of " + options.of +
                      ", which has no status",
                  Failure::kUsageError);
  }
  if (hist.interval_ns != 0 && hist.interval_ns < kHistLeastInterval) {
    throw Failure("--interval must be at least 100ms", Failure::kUsageError);
  }
  options.source.filter = filter_for_source(hist);
  if (options.source.from.empty()) hist.host = host_name();
  return run_with_source(options.source, {{}, {}, {options.source.metrics}},
                         [&](const std::unique_ptr<Source>& source) { return measure(common, options, *source); });
}

}  // namespace

void add_hist(CLI::App& app, const OutputOptions& common, Run& run_chosen) {
  CLI::App* command = app.add_subcommand("hist", "Show histograms of span durations and other times");
  auto options = std::make_shared<HistCommandOptions>();
  command->footer(std::string(kHistDescription) + "\n\n" + kHistExamples);
  std::string names;
  for (const Quantity& quantity : quantities()) names += (names.empty() ? "" : ",") + std::string(quantity.name);

  add_text_option(*command, "--of", options->of, "{" + names + "}",  // as the completions of shells read it
                  "Quantity to measure (default: duration), a fact of docs/engine.md, or attr:KEY for the number of an "
                  "attribute");
  add_grouping_option(*command, options->hist.by);
  add_duration_option(*command, "--interval", options->hist.interval_ns,
                      "Print the histograms at this interval, at least 100ms (default: only at the end)")
      ->check(some_time());
  numeric(command->add_option("--rows", options->shown_rows,
                              "Show only the N rows with the most spans; 0 shows all (default: 20)"),
          0);
  numeric(command->add_option("--rows-max", options->hist.most_rows,
                              "Keep at most N rows; count the rest in the row other (default: 512)"),
          1, 65536);

  add_source_options(*command, options->source);
  describe_span_filters(*command);
  command->get_option("--slower-than")->description("Only times of at least this long, such as 500ms");
  command->callback(
      [&common, &run_chosen, options] { run_chosen = [&common, options] { return run(common, *options); }; });
}

}  // namespace nopspan::collector
