// SPDX-License-Identifier: Apache-2.0
#include "recording/replay_summary.h"

#include "base/text.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

namespace nopspan::collector {
namespace {

// Names and processes beyond these limits are counted together.
constexpr std::size_t kMostNames = 4096, kMostListed = 4096;
constexpr std::size_t kMostRows = 20;  // rows of a printed table

std::string rest_text(std::size_t rows) {
  return rows > kMostRows ? "  … and " + std::to_string(rows - kMostRows) + " more; --json shows all\n" : "";
}

}  // namespace

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
  const std::pair key(process->pid, process->start_ticks);
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

std::vector<std::pair<std::string, ReplaySummary::NameCount>> ReplaySummary::names() const {
  std::vector<std::pair<std::string, NameCount>> sorted(names_.begin(), names_.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.all() > b.second.all(); });
  return sorted;
}

std::vector<ReplaySummary::ProcessCount> ReplaySummary::processes() const {
  std::vector<ProcessCount> sorted;
  for (const auto& each : processes_) sorted.push_back(each.second);
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.entries > b.entries; });
  return sorted;
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
  const auto all_processes = processes();
  for (std::size_t i = 0; i < std::min(all_processes.size(), kMostRows); ++i) {
    const Process& process = *all_processes[i].process;
    out += padded_left(std::to_string(all_processes[i].entries), 12) + "  " + std::to_string(process.pid) + " " +
           printable(process.comm, 32) + (process.container.empty() ? "" : " " + printable(process.container, 12)) +
           "\n";
  }
  out += rest_text(all_processes.size()) + "\n" + padded_left("spans", 12) + padded_left("errors", 10) +
         padded_left("other", 10) + "  name\n";
  const auto all_names = names();
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
  for (const ProcessCount& count : processes()) {
    const Process& process = *count.process;
    processes_json.push_back({{"pid", process.pid},
                              {"comm", process.comm},
                              {"container", process.container},
                              {"host", process.host},
                              {"entries", count.entries}});
  }
  Json& names_json = json["names"] = Json::array();
  for (const auto& [name, count] : names()) {
    names_json.push_back({{"name", name}, {"spans", count.spans}, {"errors", count.errors}, {"others", count.others}});
  }
  if (other_names_.all() > 0) json["entries_of_other_names"] = other_names_.all();
  if (other_processes_ > 0) json["entries_of_other_processes"] = other_processes_;
  json["ledger"] = to_json(ledger);
  return json;
}

}  // namespace nopspan::collector
