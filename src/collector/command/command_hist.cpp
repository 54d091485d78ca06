// SPDX-License-Identifier: Apache-2.0
// nopspan hist: how long things take, by name and model.
#include "base/deadline.h"
#include "base/failure.h"
#include "base/output_options.h"
#include "command/command.h"
#include "command/open_source.h"
#include "command/options.h"
#include "hist/hist_merge.h"
#include "hist/hist_recording.h"
#include "hist/hist_source.h"
#include "hist/hist_view.h"
#include "model/metrics_file.h"
#include "model/source_options.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kDescription[] =
    "Histograms of how long spans take, by name and model, filled in the kernel: nothing is sent for a span, so that "
    "it\n"
    "is cheap for the collector whatever the rate. At most 1.6 % relative error; the JSON of many hosts can be merged.";
constexpr char kExamples[] =
    "Examples:\n"
    "  nopspan hist --duration 10s                     all spans of the next ten seconds\n"
    "  nopspan hist --name llm.chat --by model,tenant  one kind of span, by other keys\n"
    "  nopspan hist --of first-token --interval 5s     time to first token, every 5 s what was seen so far\n"
    "  nopspan hist --of queue --by engine             how long requests waited in inference servers\n"
    "  nopspan hist --from spans.rec                   of a recording\n"
    "  nopspan hist --json >host1.json                 for this, on each host:\n"
    "  nopspan hist --merge host1.json host2.json      all hosts' histograms as one\n"
    "\n"
    "A histogram in JSON is {\"unit\": \"ns\", \"sub_bits\": 5, \"buckets\": [[lower bound, count], ...], \"count\", "
    "\"sum\",\n"
    "\"min\", \"max\"}: equal bounds' counts can be added. With --interval each line of output is one such document, "
    "of\n"
    "everything since the beginning. \"ledger\" tells what became of every hit, by process as other commands do; a "
    "merged\n"
    "one adds up what has the same host, pid and start.";

struct Options {
  SourceOptions source;
  std::vector<std::string> by = {"name", "model"};
  std::string of = "duration";
  std::uint64_t interval_ns = 0;
  std::size_t most_rows = 512;
  std::size_t shown_rows = 20;
  bool no_sequences = false;
  std::vector<std::string> merge;
};

HistOptions understand(const Options& given) {
  HistOptions options;
  for (const std::string& name : given.by) {
    const KeyPart* part = find_key_part(name);
    if (part == nullptr || std::find(options.by.begin(), options.by.end(), part) != options.by.end()) {
      throw Failure("--by is one or two of name, model, tenant and engine", Failure::kMisused);
    }
    options.by.push_back(part);
  }
  options.of = find_quantity(given.of);
  options.filter = given.source.filter;
  options.binary = given.source.binary;
  options.most_rows = given.most_rows;
  options.check_sequences = !given.no_sequences;
  const bool has_status = options.of->in != Quantity::In::first_token && options.of->in != Quantity::In::retry;
  if (options.filter.errors && !has_status) {
    throw Failure("--errors cannot be asked of --of " + given.of + ": its probe is passed before the span's end",
                  Failure::kMisused);
  }
  return options;
}

class Output {
 public:
  Output(const OutputOptions& common, const Options& options)
      : json_(common.json), lines_(options.interval_ns > 0), style_(HistStyle::of_stdout(common.color)) {
    style_.most_rows = options.shown_rows;
  }

  void show(const HistTable& table) {
    if (json_) {
      std::cout << to_json(table).dump(lines_ ? -1 : 2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
                << "\n";
    } else {
      std::cout << (is_first_ ? "" : "\n") << to_text(table, style_);
    }
    std::cout.flush();
    is_first_ = false;
  }
  void finish(const HistTable& table) {
    show(table);
    std::cerr << ledger_text(table);
  }

 private:
  bool json_, lines_, is_first_ = true;
  HistStyle style_;
};

// Tells people on stderr what it waits for.
class Progress {
 public:
  explicit Progress(const Quantity& of) : of_(of) {}
  void show(HistSource& source) {
    for (const std::string& warning : source.take_warnings()) std::cerr << "nopspan hist: " << warning << "\n";
    const std::size_t attached = source.attached();
    if (attached == shown_) return;
    shown_ = attached;
    if (attached == 0) {
      std::cerr << "No process has such probes yet: waiting for one.\n";
    } else {
      std::cerr << "Counting the " << of_.of << " of " << attached << (attached == 1 ? " file" : " files")
                << " with probes; Ctrl-C ends.\n";
    }
  }

 private:
  const Quantity& of_;
  std::size_t shown_ = SIZE_MAX;
};

int run_live(const OutputOptions& common, const Options& given, const HistOptions& options) {
  MetricsFile metrics(given.source.metrics, 0);
  HistSource source(options);
  Output output(common, given);
  Progress progress(*options.of);
  source.attach_new();
  progress.show(source);

  Deadline until(given.source.duration_ns);
  until.begin();
  const std::chrono::nanoseconds interval(given.interval_ns);
  auto next_output = Clock::now() + interval;
  while (!until.is_over() && source.may_see_more()) {
    std::int64_t wait_ms = until.milliseconds(100);
    if (interval.count() > 0) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_output - Clock::now()).count();
      wait_ms = std::clamp<std::int64_t>(left, 0, wait_ms);
    }
    pollfd watched = {source.watch_fd(), POLLIN, 0};
    poll(&watched, 1, static_cast<int>(wait_ms));
    if (until.is_over()) break;
    const auto now = Clock::now();
    source.attach_new();
    progress.show(source);
    metrics.write_if_due([&source] { return source.read().ledger.ledger(); });
    if (interval.count() > 0 && now >= next_output) {
      output.show(source.read());
      while (next_output <= now) next_output += interval;
    }
  }
  source.detach();
  const HistTable table = source.read();
  metrics.write(table.ledger.ledger());
  output.finish(table);
  return 0;
}

int run(const OutputOptions& common, const Options& given) {
  Output output(common, given);
  if (!given.merge.empty()) {
    const SourceOptions& source = given.source;
    if (!source.filter.empty() || !source.from.empty() || !source.binary.empty() || source.duration_ns > 0 ||
        !source.metrics.empty()) {
      throw Failure("--merge takes histograms as they are: no other source and no filter beside it", Failure::kMisused);
    }
    output.finish(merged(given.merge));
    return 0;
  }
  const HistOptions options = understand(given);
  if (given.source.from.empty()) return run_live(common, given, options);
  // What hist wants is not what traces are asked for: it is decided span by span.
  SourceOptions everything = given.source;
  everything.filter = Filter{};
  const std::unique_ptr<Source> source = open_source(everything);
  output.finish(read_recording(*source, everything, options));
  return 0;
}

}  // namespace

void add_hist(CLI::App& app, const OutputOptions& common, Run& run_chosen) {
  CLI::App* command = app.add_subcommand("hist", kDescription);
  auto options = std::make_shared<Options>();
  command->footer(kExamples);
  std::vector<std::string> names;
  for (const Quantity& quantity : quantities()) names.emplace_back(quantity.name);

  command->add_option("--of", options->of, "What is measured (duration)")->check(CLI::IsMember(names));
  command->add_option("--by", options->by, "One or two of name, model, tenant, engine (name,model)")
      ->type_name("KEYS")
      ->delimiter(',')
      ->expected(1, 2);
  add_duration_option(*command, "--interval", options->interval_ns, "Print every so often what was seen so far")
      ->check(some_time());
  command->add_option("--rows", options->shown_rows, "Show the first N rows only, the most frequent; 0: all (20)")
      ->type_name("N")
      ->check(whole_number(0));
  command
      ->add_option("--rows-max", options->most_rows,
                   "Rows to count, in 15 KiB of the kernel's memory each; what has none is counted as other (512)")
      ->type_name("N")
      ->check(whole_number(1, 65536));
  command->add_flag("--no-sequences", options->no_sequences,
                    "Do not look for hits that the kernel missed: a little cheaper");
  command->add_option("--merge", options->merge, "Merge what --json printed on several hosts")->type_name("FILE...");

  add_source_options(*command, options->source);
  // There is no buffer: nothing is sent.
  for (const char* name : {"--buffer", "--max-age"}) command->remove_option(command->get_option(name));
  say_filters_choose_spans(*command);
  command->get_option("--slower-than")->description("Only times over this one");
  command->callback(
      [&common, &run_chosen, options] { run_chosen = [&common, options] { return run(common, *options); }; });
}

}  // namespace nopspan::collector
