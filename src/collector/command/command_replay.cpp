// SPDX-License-Identifier: Apache-2.0
// nopspan replay: summarizes a recording, or prints its entries as JSON.
#include "base/json_writer.h"
#include "base/stopping.h"
#include "base/text.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "host/privileges.h"
#include "model/entry_json.h"
#include "model/filter.h"
#include "model/source.h"
#include "recording/recording.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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

// Counts a recording's entries by name and process.
class ReplaySummary : public Sink {
 public:
  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t /*now_unix_ns*/) override {}

  // Valid after the recording has run. `ledger` counts what the command has removed as filtered.
  [[nodiscard]] std::string text(const Recording& recording, const Ledger& ledger) const;
  [[nodiscard]] nlohmann::ordered_json json(const Recording& recording, const Ledger& ledger) const;

 private:
  struct NameCount {
    std::uint64_t spans = 0, errors = 0, others = 0;  // others: events, retries, gauges
    [[nodiscard]] std::uint64_t all() const { return spans + others; }
  };
  struct ProcessCount {
    ProcessPointer process;
    std::uint64_t entries = 0;
    [[nodiscard]] std::uint64_t all() const { return entries; }
  };

  EntryCounts counts_;
  std::uint64_t first_ns_ = UINT64_MAX, last_ns_ = 0;
  std::map<std::string, NameCount, std::less<>> names_;
  std::map<ProcessKey, ProcessCount> processes_;
  NameCount other_names_;
  std::uint64_t other_processes_ = 0;  // entries of processes beyond the limit
};

// Names and processes beyond these limits are counted together.
constexpr std::size_t kMostNames = 4096, kMostListed = 4096;
constexpr std::size_t kMostRows = 20;  // rows of a printed table

std::string rest_text(std::size_t rows) {
  return rows > kMostRows ? "  … and " + std::to_string(rows - kMostRows) + " more; --json shows all\n" : "";
}

void ReplaySummary::on_entry(const Entry& entry) {
  ++counts_[entry.kind];
  first_ns_ = std::min(first_ns_, entry.start_unix_ns);
  last_ns_ = std::max(last_ns_, entry.start_unix_ns + entry.duration_ns);
  auto name = names_.find(entry.name);
  if (name == names_.end() && names_.size() < kMostNames) name = names_.emplace(entry.name, NameCount{}).first;
  NameCount& count = name == names_.end() ? other_names_ : name->second;
  ++(entry.kind == Kind::span ? count.spans : count.others);
  if (entry.failed()) ++count.errors;
  const ProcessPointer& process = *entry.process;
  const ProcessKey key = key_of(*process);
  auto found = processes_.find(key);
  if (found == processes_.end()) {
    if (processes_.size() >= kMostListed) {
      ++other_processes_;
      return;
    }
    found = processes_.emplace(key, ProcessCount{process, 0}).first;
  }
  ++found->second.entries;
}

// The largest counts first.
template <class Key, class Count, class Less>
std::vector<std::pair<Key, Count>> sorted(const std::map<Key, Count, Less>& counts) {
  std::vector<std::pair<Key, Count>> all(counts.begin(), counts.end());
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.second.all() > b.second.all(); });
  return all;
}

std::string ReplaySummary::text(const Recording& recording, const Ledger& ledger) const {
  const ChunkReader::State& state = recording.state();
  std::string out = bytes_text(state.bytes) + " in " + std::to_string(state.chunks) + " chunks";
  if (counts_.all() > 0) {
    if (ledger.total.filtered == 0) out += ", " + std::to_string(state.bytes / counts_.all()) + " bytes per entry";
    out += "\n" + date_text(first_ns_) + " to " + date_text(last_ns_) + " (" + duration_text(last_ns_ - first_ns_) +
           "): " + counts_.text();
  }
  out += "\n";
  if (const std::string remark = recording.missing(); !remark.empty()) out += "INCOMPLETE: " + printable(remark) + "\n";
  if (const std::string overlap = recording.overlap(); !overlap.empty()) out += overlap + "\n";
  out += to_text(ledger);
  if (counts_.all() == 0) return out;
  out += "\n" + padded_left("entries", 12) + "  process\n";
  const auto all_processes = sorted(processes_);
  for (std::size_t i = 0; i < std::min(all_processes.size(), kMostRows); ++i) {
    const auto& [of, entries] = all_processes[i].second;
    const Process& process = *of;
    out += padded_left(std::to_string(entries), 12) + "  " + std::to_string(process.pid) + " " +
           printable(process.comm, 32) + (process.container.empty() ? "" : " " + printable(process.container, 12)) +
           "\n";
  }
  out += rest_text(all_processes.size()) + "\n" + padded_left("spans", 12) + padded_left("errors", 10) +
         padded_left("other", 10) + "  name\n";
  const auto all_names = sorted(names_);
  for (std::size_t i = 0; i < std::min(all_names.size(), kMostRows); ++i) {
    const auto& [name, count] = all_names[i];
    out += padded_left(std::to_string(count.spans), 12) + padded_left(std::to_string(count.errors), 10) +
           padded_left(std::to_string(count.others), 10) + "  " + printable(name, 64) + "\n";
  }
  return out + rest_text(all_names.size());
}

nlohmann::ordered_json ReplaySummary::json(const Recording& recording, const Ledger& ledger) const {
  using Json = nlohmann::ordered_json;
  const ChunkReader::State& state = recording.state();
  Json json = {
      {"bytes", state.bytes},    {"chunks", state.chunks},         {"whole", recording.missing().empty()},
      {"ended", state.ended},    {"skipped_bytes", state.skipped}, {"broken_chunks", recording.damage().broken_chunks},
      {"entries", counts_.all()}};
  for (std::size_t i = 0; i < counts_.by_kind.size(); ++i) json[EntryCounts::kMany[i]] = counts_.by_kind[i];
  if (counts_.all() > 0) {
    json["begin_unix_ns"] = first_ns_;
    json["end_unix_ns"] = last_ns_;
  }
  Json& processes_json = json["processes"] = Json::array();
  for (const auto& [key, count] : sorted(processes_)) {
    const Process& process = *count.process;
    processes_json.push_back({{"pid", process.pid},
                              {"comm", process.comm},
                              {"container", process.container},
                              {"host", process.host},
                              {"entries", count.entries}});
  }
  Json& names_json = json["names"] = Json::array();
  for (const auto& [name, count] : sorted(names_)) {
    names_json.push_back({{"name", name}, {"spans", count.spans}, {"errors", count.errors}, {"others", count.others}});
  }
  if (other_names_.all() > 0) json["entries_of_other_names"] = other_names_.all();
  if (other_processes_ > 0) json["entries_of_other_processes"] = other_processes_;
  json["ledger"] = to_json(ledger);
  return json;
}

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
