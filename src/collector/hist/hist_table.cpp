// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_table.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostHosts = 10000;

void write_row(Json& json, const HistRow& row, const Quantity& of) {
  json["errors"] = row.errors;
  json["cancelled"] = row.cancelled;
  json["p50"] = row.times.quantile(50);
  json["p90"] = row.times.quantile(90);
  json["p99"] = row.times.quantile(99);
  json["histogram"] = to_json(row.times, of.unit);
}

}  // namespace

void HistRow::add(const Measured& measured) {
  times.add(measured.value, measured.times);
  if (measured.status == kError || measured.status == kException) ++errors;
  if (measured.status == kCancelled) ++cancelled;
}

void HistRow::merge(const HistRow& row) {
  times.merge(row.times);
  errors += row.errors;
  cancelled += row.cancelled;
}

void HistTable::add_host(const std::string& host) {
  if (host.empty() || hosts.size() >= kMostHosts) return;
  if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
}

std::vector<const std::pair<const HistTable::Key, HistRow>*> HistTable::sorted() const {
  std::vector<const std::pair<const Key, HistRow>*> all;
  all.reserve(rows.size());
  for (const auto& row : rows) all.push_back(&row);
  std::stable_sort(all.begin(), all.end(),
                   [](const auto* a, const auto* b) { return a->second.times.count() > b->second.times.count(); });
  return all;
}

Json to_json(const HistTable& table) {
  Json json;
  json["of"] = table.of->name;
  Json& by = json["by"] = Json::array();
  for (const Dimension& dimension : table.by) by.push_back(name_of(dimension));
  json["hosts"] = table.hosts;
  json["began_unix_ns"] = table.began_unix_ns;
  json["ended_unix_ns"] = table.ended_unix_ns;
  Json& rows = json["rows"] = Json::array();
  for (const auto* row : table.sorted()) {
    Json one;
    for (std::size_t i = 0; i < table.by.size(); ++i) one[name_of(table.by[i])] = row->first[i];
    write_row(one, row->second, *table.of);
    rows.push_back(std::move(one));
  }
  write_row(json["other"], table.other, *table.of);
  json["malformed"] = table.malformed;
  json["ledger"] = to_json(table.ledger.ledger());
  return json;
}

}  // namespace nopspan::collector
