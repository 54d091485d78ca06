// SPDX-License-Identifier: Apache-2.0
// nopspan trace: assembles traces from a source's entries and prints those that the filter wants.
#include "base/failure.h"
#include "base/json_writer.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"
#include "blame/blame.h"
#include "blame/blame_print.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "command/tracing_process.h"
#include "host/cgroup.h"
#include "host/process_facts.h"
#include "trace/trace_stage.h"
#include "trace/trace_tree.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <langinfo.h>

#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace nopspan::collector {
namespace {

struct TraceOptions {
  SourceOptions source;
  TraceStageOptions stage;
  std::uint64_t limit = 0;  // number of traces to show; 0: no limit
  TreeStyle style;
};

// Prints each trace, and the counts of all others at the end.
class TracePrinter : public TraceSink {
 public:
  TracePrinter(const TraceOptions& options, const OutputOptions& common, Blame& blame)
      : limit_(options.limit), common_(common), style_(options.style), blame_(blame) {
    style_.utf8 = style_.utf8 && std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    style_.color = common.color;
  }

  bool on_trace(const AssembledTrace& trace) override {
    if (!standard_output().write(text_of(trace))) return false;
    ++shown_;
    if (is_done()) stopping = true;
    return true;
  }
  [[nodiscard]] bool is_done() const override { return limit_ > 0 && shown_ >= limit_; }
  void print_end(const Source& source, const TraceStage& stage) const;

 private:
  // Valid until the next call.
  std::string_view text_of(const AssembledTrace& trace);
  void add_stalls(const AssembledTrace& trace);

  const std::uint64_t limit_;
  const OutputOptions& common_;
  TreeStyle style_;
  Blame& blame_;
  JsonWriter json_;
  std::string text_;
  std::uint64_t shown_ = 0;  // number of traces, including those that standard_output() loses later
};

std::string_view TracePrinter::text_of(const AssembledTrace& trace) {
  if (common_.json) {
    json_.clear();
    write_json(json_, trace);
    json_.end_document();
    return json_.text();
  }
  style_.width = columns_of_stdout();
  text_ = shown_ > 0 ? "\n" : "";
  add_trace_text(trace, style_, text_);
  add_stalls(trace);
  return text_;
}

// A line for each request of the trace that others stalled in an engine.
void TracePrinter::add_stalls(const AssembledTrace& trace) {
  for (const auto& linked : trace.trace.linked()) {
    if (!linked->is_of_steps) continue;
    std::uint32_t node = trace.links.node_of(linked->linked_id);
    if (node == TraceLinks::kNone) node = trace.links.first_root();  // a trace id names it
    if (node == TraceLinks::kNone) continue;
    const auto request = blame_.find(trace.trace.view(*trace.links.nodes()[node].entry));
    if (request) text_ += stall_text(*request);
  }
}

// Steps are of several requests, so that blame needs those too that the filter does not want.
class BlamingStage : public Sink {
 public:
  BlamingStage(Blame& blame, TraceStage& stage, bool is_live) : blame_(blame), stage_(stage), is_live_(is_live) {}
  void on_entry(const Entry& entry) override {
    blame_.on_entry(entry);
    stage_.on_entry(entry);
  }
  void on_tick(std::uint64_t now_unix_ns) override {
    if (is_live_) blame_.on_tick(now_unix_ns);
    stage_.on_tick(now_unix_ns);
  }

 private:
  Blame& blame_;
  TraceStage& stage_;
  const bool is_live_;
};

void TracePrinter::print_end(const Source& source, const TraceStage& stage) const {
  standard_output().flush();
  const TraceStage::Counts& stage_counts = stage.counts();
  const std::uint64_t lost = standard_output().lost();
  const std::uint64_t shown = shown_ - (lost - stage_counts.refused);
  const Ledger ledger = source.ledger();
  const TraceCounts& counts = stage.assembler().counts();
  const StepCounts& steps = stage.assembler().step_counts();
  if (common_.json) {
    nlohmann::ordered_json traces = {{"shown", shown},
                                     {"output_dropped", lost},
                                     {"filtered", stage_counts.filtered},
                                     {"incomplete_not_shown", stage_counts.incomplete}};
    traces.update(to_json(counts, steps));
    nlohmann::ordered_json end = {{"type", "end"}, {"traces", std::move(traces)}};
    add_clock(end, source.clock());
    end["ledger"] = to_json(ledger);
    standard_output().write(end.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
    return;
  }
  std::string text;
  // `one`: what is counted if it is one, for example "link".
  const auto add = [&text](std::uint64_t count, const char* rest, const char* one = nullptr) {
    if (count == 0) return;
    text += (text.empty() ? "" : ", ") + (one == nullptr ? std::to_string(count) : counted(count, one)) + rest;
  };
  add(lost, " could not be written");
  add(stage_counts.filtered, " filtered out");
  add(stage_counts.partial, " began before the attach (use --incomplete to show them)");
  add(stage_counts.incomplete - stage_counts.partial, " unfinished (use --incomplete to show them)");
  add(counts.evicted, " evicted before they were complete (use a larger --memory)");
  add(counts.hurried, " completed early (use a larger --memory)");
  add(counts.late_parts, "", "late part");
  if (is_done()) add(stage.assembler().open_traces(), " not yet complete");
  std::cerr << counted(shown, "trace") << " shown" << (text.empty() ? "" : ", ") << text;
  text.clear();
  add(counts.outside, " outside requests");
  add(counts.linked, " in linked spans");
  add(counts.duplicates, "", "duplicate");
  add(counts.over_limit, " over the limit of a trace (--max-spans)");
  // A filter removes requests, but not the linked spans that they share with other requests. Links to unseen requests
  // are then normal, so their count is not printed.
  if (stage.filter().for_source().empty()) add(counts.links.unknown, " to unknown requests", "link");
  add(counts.links.over_limit, " dropped (use a larger --memory)", "link");
  add(counts.steps, " of steps");
  add(steps.members.late, " of engine steps late", "member");
  add(steps.members.over_limit, " of engine steps dropped (use a larger --memory)", "member");
  add(steps.dropped, " of engine steps dropped by the program", "member");
  add(steps.missing + steps.stray, " of engine steps lost", "member");
  std::cerr << "; " << counts.entries << " spans and events received" << (text.empty() ? "" : ": ") << text << "\n";
  text.clear();
  add(steps.by_own_key, " by a key of the engine's own (began before the attach, or has no recorded span)", "request");
  if (stage.filter().for_source().empty()) {
    add(steps.not_ended, " that did not end or are not traced", "request");
    add(steps.by_trace_id,
        " by a trace id that no traced span has (not ended, not traced, or not by Member::of_trace())", "request");
  }
  if (!text.empty()) std::cerr << "Known only from engine steps: " << text << "\n";
  std::cerr << to_text(ledger);
}

int show_traces(const TraceOptions& options, const SourceOptions& source_options, const OutputOptions& common,
                Source& source) {
  Blame blame(
      {}, [](const Entry&) { return false; }, [](const Blame::Request&) {});
  TracePrinter printer(options, common, blame);
  TraceStage stage(options.source.filter, options.stage, printer);
  BlamingStage sink(blame, stage, source_options.from.empty());
  CommandRun run(source_options, options.source.filter);
  run.announce([&] {
    const std::string peers = "nopspan: --with-peers: attached to all processes of this host that have probes, now " +
                              std::to_string(source.processes()) + "\n";
    return (options.stage.scope.with_peers ? peers : "") + "Waiting for requests to end. Press Ctrl-C to stop.\n";
  });
  if (source_options.from.empty()) set_standard_outputs_live();
  run.run(
      source, common.json ? static_cast<Sink&>(stage) : sink, [&source] { return source.ledger(); },
      [&stage] { return stage.has_matched(); });
  stage.finish(source);
  run.finish();
  printer.print_end(source, stage);
  std::cerr << remark_text(source.remark());
  return run.exit_status();
}

int run_trace(TraceOptions& options, const OutputOptions& common) {
  options.stage.limits.set_max_age(options.source.max_age_ns);
  options.stage.limits.traces = TraceLimits::traces_for(options.stage.limits.bytes);
  if (options.style.all_spans) options.stage.limits.linked_kept = options.stage.limits.entries_per_trace;
  const Filter& filter = options.source.filter;
  if (options.stage.scope.with_peers && filter.pids.empty() && filter.cgroup.empty()) {
    throw Failure("--with-peers requires --pid or --cgroup", Failure::kUsageError);
  }
  if (options.stage.scope.early && filter.name.empty() && filter.model.empty() && !filter.wants_errors()) {
    throw Failure("--filter-early requires --name, --model, --errors or --error", Failure::kUsageError);
  }
  // With --with-peers the source's filter has neither of them, so the source cannot check them.
  if (options.source.from.empty()) {
    require_processes(filter.pids);
    require_cgroup(filter.cgroup);
  }
  SourceOptions source_options = options.source;
  source_options.filter = TraceFilter(filter, options.stage.scope).for_source();
  // Blame names those who stalled the request. A live source had to deliver all requests for this.
  if (!options.source.from.empty() && !common.json) source_options.filter.request.clear();
  return run_with_source(
      source_options, {{}, {}, {source_options.metrics}},
      [&](const std::unique_ptr<Source>& source) { return show_traces(options, source_options, common, *source); });
}

constexpr char kTraceDescription[] =
    "A step of an engine (engine.step) is not a request. Each request that it serves\n"
    "shows it, added up with others of the same name. So does each request that a\n"
    "linked span links to: a span with links and no parent. All filters but\n"
    "--slower-than match such spans too. --slower-than applies to the duration of the\n"
    "request without them.\n"
    "\n"
    "A trace has only what ran on this host, and filters decide by that.\n"
    "\n"
    "With --pid or --cgroup a trace has only the spans of these processes. --pid\n"
    "attaches to no other process, not even to those that they fork later. --cgroup\n"
    "attaches to all, and the kernel filters out what the others emit. --with-peers\n"
    "attaches to all and shows whole requests.";

constexpr char kTraceExamples[] =
    "Examples:\n"
    "  nopspan trace                                    all requests, as they end\n"
    "  nopspan trace --slower-than 2s --limit 1         the next slow request\n"
    "  nopspan trace --request Lnz4mrze8BI0VniavN7wAA   one request, by its id\n"
    "  nopspan trace --errors --name llm.tool --json    failed requests with a tool\n"
    "                                                   call, as JSON\n"
    "  nopspan trace --from spans.rec --incomplete      a recording, including\n"
    "                                                   unfinished requests";

}  // namespace

void add_trace(CLI::App& app, const OutputOptions& common, Run& run) {
  CLI::App* command = app.add_subcommand("trace", "Show each request as a tree of spans when it ends");
  auto options = std::make_shared<TraceOptions>();
  const OptionGroup group(*command, "Traces");
  numeric(command->add_option("--limit", options->limit, "Stop after N traces (default: 0, no limit)"), 0);
  command->add_flag("--all-spans", options->style.all_spans,
                    "Show every span: do not fold steps, linked spans, or siblings with the same name");
  command->add_flag(
      "--attributes", options->style.attributes,
      "Show all labels and attributes, each in a line of its own (default: in the span's line, its tool, error type, "
      "HTTP status, and database)");
  command->add_flag("--incomplete", options->stage.incomplete,
                    "Also show requests that have not ended, or that began before the attach");
  command->add_flag_callback(
      "--ascii", [options] { options->style.utf8 = false; }, "Draw trees with ASCII characters");
  command->add_flag(
      "--with-peers", options->stage.scope.with_peers,
      "With --pid or --cgroup: attach to all processes, and show the whole requests that have a span in these");
  command->add_flag("--filter-early", options->stage.scope.early,
                    "With --name, --model, --errors or --error: let the kernel filter out batches without such a span: "
                    "less overhead, but a trace may lack spans of other threads and processes");
  numeric(command->add_option("--max-spans", options->stage.limits.entries_per_trace,
                              "Keep at most N spans and events per trace (default: 10000)"),
          1, 10'000'000);
  add_bytes_option(*command, "--memory", options->stage.limits.bytes,
                   "Memory for traces that have not ended (default: 64M)");
  add_source_options(*command, options->source);
  command->footer(std::string(kTraceDescription) + "\n\n" + kTraceExamples);
  command->callback([options, &common, &run] { run = [options, &common] { return run_trace(*options, common); }; });
}

}  // namespace nopspan::collector
