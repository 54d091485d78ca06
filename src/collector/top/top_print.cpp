// SPDX-License-Identifier: Apache-2.0
#include "top/top_print.h"

#include "base/cells.h"
#include "base/text.h"
#include "top/top_summary.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace nopspan::collector {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kAnyWidth = 100'000;  // wide enough for all columns and texts

void add_lines(std::string& text, const std::vector<std::string>& lines) {
  for (const std::string& line : lines) text += line + "\n";
}

void add_line(std::string& text, std::string line) {
  while (line.ends_with(' ')) line.pop_back();
  text += line + "\n";
}

std::string joined(const TopLayout& layout, const std::vector<std::string>& cells) {
  std::string text;
  for (const std::string& cell : cells) {
    if (!text.empty()) text.append(layout.gap, ' ');
    text += cell;
  }
  return text;
}

// Adds the quantiles in nanoseconds, or null if nothing was counted.
void add_times(Json& json, const std::string& what, const Quantiles& quantiles) {
  const auto add = [&](const char* which, std::uint64_t ns) {
    json[what + "_" + which + "_ns"] = quantiles.count == 0 ? Json() : Json(ns);
  };
  add("p50", quantiles.p50);
  add("p90", quantiles.p90);
  add("p99", quantiles.p99);
  add("max", quantiles.maximum);
}

// Counts and rates per second.
Json to_json(const Tally& tally, std::uint64_t ns) {
  static constexpr std::pair<const char*, std::uint64_t Tally::*> kCounts[] = {
      {"spans", &Tally::spans},
      {"requests", &Tally::requests},
      {"received", &Tally::received},
      {"orphans", &Tally::orphans},
      {"errors", &Tally::errors},
      {"cancelled", &Tally::cancelled},
      {"input_tokens", &Tally::input_tokens},
      {"output_tokens", &Tally::output_tokens},
      {"first_tokens", &Tally::first_tokens},
      {"retries", &Tally::retries},
  };
  Json json;
  for (const auto& [name, count] : kCounts) {
    json[name] = tally.*count;
    const double rate = ns == 0 ? 0 : static_cast<double>(tally.*count) * 1e9 / static_cast<double>(ns);
    json[name + std::string("_per_s")] = rate;
  }
  json["error_ratio"] = tally.spans == 0 ? 0 : static_cast<double>(tally.errors) / static_cast<double>(tally.spans);
  return json;
}

Json to_json(const Numbers& numbers, std::uint64_t ns) {
  Json json = to_json(numbers.tally, ns);
  json["duration_sum_ns"] = numbers.tally.duration_sum_ns;
  add_times(json, "duration", numbers.duration_ns);
  json["ttft_sum_ns"] = numbers.tally.first_token_sum_ns;
  add_times(json, "ttft", numbers.first_token_ns);
  return json;
}

Json to_json(const RowNumbers& row, const TableNumbers& table) {
  Json json;
  for (std::size_t i = 0; i < row.texts.size(); ++i) json[name_of(table.by[i])] = row.texts[i];
  json["window"] = to_json(row.window, table.window_ns);
  json["total"] = to_json(row.total, table.since_ns);
  return json;
}

Json to_json(const GaugeReading& gauge, std::uint64_t now_unix_ns) {
  Json json = {{"pid", gauge.process->pid},
               {"comm", gauge.process->comm},
               {"engine", gauge.engine},
               {"model", gauge.model},
               {"name", gauge.name},
               {"value", gauge.value},
               {"maximum", gauge.maximum == 0 ? Json() : Json(gauge.maximum)},
               {"age_ns", now_unix_ns - std::min(now_unix_ns, gauge.reported_unix_ns)}};
  if (!gauge.labels.empty()) {
    Json& labels = json["labels"] = Json::object();
    for (const auto& [key, value] : gauge.labels) labels[key] = value;
  }
  if (gauge.is_counter) {
    json["counter"] = {{"per_s", gauge.per_second()}, {"increase", gauge.increase}, {"restarts", gauge.restarts}};
  }
  return json;
}

Json to_json(const FactSums::Row& row) {
  Json json = {{"name", row.name}, {"model", row.model}, {"engine", row.engine}, {"count", row.count}};
  Json& sums = json["sums"] = Json::object();
  for (const auto& [key, sum] : row.sums) sums[key] = sum;
  Json& counts = json["counts"] = Json::object();
  for (const auto& [text, count] : row.texts) counts[text.first][text.second] = count;
  return json;
}

}  // namespace

std::string top_text(const TopSnapshot& snapshot, const TopView& view, std::size_t most_rows, std::size_t width) {
  const TableNumbers& table = snapshot.table;
  if (width == 0) width = kAnyWidth;
  std::string text;
  add_lines(text, wrapped(time_text(table.now_unix_ns) + "  " + printable(snapshot.host, 64) + "  " +
                              traffic_text(snapshot) + " (" + duration_text(table.window_ns) + ")",
                          width));
  add_lines(text, wrapped(ledger_text(snapshot), width));
  const TopLayout layout = layout_of(table, view, width);
  const auto rows = arranged(table, view);
  const std::size_t shown = most_rows == 0 ? rows.size() : std::min(rows.size(), most_rows);
  add_line(text, joined(layout, header_cells(layout)));
  for (std::size_t i = 0; i < shown; ++i) {
    add_line(text, joined(layout, row_cells(layout, *rows[i], table, view.total)));
  }
  if (shown < rows.size()) add_line(text, "and " + std::to_string(rows.size() - shown) + " more rows");
  if (!table.other.total.tally.empty()) add_line(text, joined(layout, other_cells(layout, table, view.total)));
  if (layout.hidden != 0) {
    add_lines(text, wrapped("and " + counted(layout.hidden, "more column") + ", for which the terminal is too narrow",
                            width));
  }
  add_lines(text, fact_lines(snapshot, width, "facts of "));
  add_lines(text, gauge_lines(snapshot, width, "gauges of "));
  if (const std::string bounds = bounds_text(snapshot); !bounds.empty()) add_lines(text, wrapped(bounds, width));
  return text + "\n";
}

Json top_json(const TopSnapshot& snapshot, const TopView& view, std::size_t most_rows) {
  const TableNumbers& table = snapshot.table;
  Json json;
  json["time_unix_ns"] = table.now_unix_ns;
  json["host"] = snapshot.host;
  json["window_ns"] = table.window_ns;
  json["since_ns"] = table.since_ns;
  json["last"] = snapshot.is_last;
  json["processes"] = snapshot.processes;
  json["requests_before_attach"] = snapshot.early_requests;
  json["members_before_attach_dropped"] = snapshot.early_dropped;
  json["roots_only"] = table.roots_only;
  json["window"] = to_json(table.window, table.window_ns);
  json["total"] = to_json(table.total, table.since_ns);
  json["events"] = snapshot.events;
  json["rows"] = Json::array();
  const auto rows = arranged(table, view);
  const std::size_t shown = most_rows == 0 ? rows.size() : std::min(rows.size(), most_rows);
  for (std::size_t i = 0; i < shown; ++i) json["rows"].push_back(to_json(*rows[i], table));
  json["rows_dropped"] = rows.size() - shown;
  json["other"] = to_json(table.other, table);
  json["other"]["evicted_rows"] = table.evicted;
  json["times_without_quantile"] = table.total.unplaced;
  json["gauges"] = Json::array();
  for (const GaugeReading& gauge : snapshot.gauges) json["gauges"].push_back(to_json(gauge, table.now_unix_ns));
  json["gauge_values_dropped"] = snapshot.gauges_dropped;
  json["engine_facts"] = Json::array();
  for (const FactSums::Row& row : snapshot.facts.rows()) json["engine_facts"].push_back(to_json(row));
  json["engine_facts_dropped"] = snapshot.facts.dropped();
  const Ledger& ledger = snapshot.ledger;
  json["ledger"] = to_json(ledger.total);
  if (!ledger.damage.empty()) json["ledger"]["damage"] = to_json(ledger.damage);
  if (!ledger.unattached.empty()) json["ledger"]["unattached"] = to_json(ledger.unattached);
  if (ledger.unattached_others != 0) json["ledger"]["unattached_others"] = ledger.unattached_others;
  return json;
}

}  // namespace nopspan::collector
