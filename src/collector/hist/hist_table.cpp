// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_table.h"

#include "base/failure.h"
#include "base/text.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <ios>
#include <iostream>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostHosts = 10000;

[[noreturn]] void refuse(const std::string& why) {
  throw Failure("not the output of nopspan hist --json: " + why, Failure::kUsageError);
}

const Json& at(const Json& json, const char* key) {
  if (!json.is_object()) refuse("an object is missing");
  const auto found = json.find(key);
  if (found == json.end()) refuse(std::string("it has no \"") + key + "\"");
  return *found;
}

std::uint64_t number_at(const Json& json, const char* key) {
  const Json& value = at(json, key);
  if (!value.is_number_unsigned()) refuse(std::string("\"") + key + "\" must be a number of at least 0");
  return value.get<std::uint64_t>();
}

std::string text_at(const Json& json, const char* key) {
  const Json& value = at(json, key);
  if (!value.is_string()) refuse(std::string("\"") + key + "\" must be a string");
  return value.get<std::string>();
}

const Json& list_at(const Json& json, const char* key) {
  const Json& value = at(json, key);
  if (!value.is_array()) refuse(std::string("\"") + key + "\" must be a list");
  return value;
}

void write_row(Json& json, const HistRow& row, const Quantity& of) {
  json["errors"] = row.errors;
  json["cancelled"] = row.cancelled;
  json["p50"] = row.times.quantile(50);
  json["p90"] = row.times.quantile(90);
  json["p99"] = row.times.quantile(99);
  json["histogram"] = to_json(row.times, of.unit);
}

HistRow read_row(const Json& json, const Quantity& of) {
  HistRow row;
  row.errors = number_at(json, "errors");
  row.cancelled = number_at(json, "cancelled");
  row.times = log_linear_from_json(at(json, "histogram"), of.unit);
  if (row.errors > row.times.count() || row.cancelled > row.times.count() - row.errors) {
    refuse("a row has more errors than spans");
  }
  return row;
}

Grouping read_grouping(const Json& json) {
  std::string text;
  for (const Json& name : list_at(json, "by")) {
    if (!name.is_string()) refuse("\"by\" must be a list of strings");
    text += (text.empty() ? "" : ",") + name.get<std::string>();
  }
  try {
    return parse_grouping(text);
  } catch (const Failure&) {
    refuse("\"by\" has an unknown key");
  }
}

std::string name_of_file(const std::string& path) { return path == "-" ? "stdin" : printable(path); }

std::string contents_of(const std::string& path) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) throw Failure(printable(path) + ": " + std::strerror(errno), Failure::kUsageError);
  }
  std::istream& stream = path == "-" ? std::cin : file;
  try {
    return {std::istreambuf_iterator<char>(stream), {}};
  } catch (const std::ios_base::failure& failure) {  // for example, the path is a folder
    throw Failure(name_of_file(path) + ": " + failure.code().message(), Failure::kUsageError);
  }
}

std::string_view last_line(std::string_view text) {
  const std::size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string_view::npos) return {};
  text = text.substr(0, end + 1);
  const std::size_t begin = text.rfind('\n');
  return begin == std::string_view::npos ? text : text.substr(begin + 1);
}

HistTable read_file(const std::string& path) {
  const std::string text = contents_of(path);
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) json = Json::parse(last_line(text), nullptr, false);
  try {
    if (json.is_discarded()) throw Failure("it is not valid JSON, or is truncated");
    return hist_table_from_json(json);
  } catch (const Failure& failure) {
    throw Failure(name_of_file(path) + ": " + failure.what(), Failure::kUsageError);
  }
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

void HistTable::merge(const HistTable& table) {
  if (table.of != of || table.by != by) {
    throw Failure(std::string("cannot merge different histograms: --of ") + of->name + " --by " + to_text(by) +
                      ", and --of " + table.of->name + " --by " + to_text(table.by),
                  Failure::kUsageError);
  }
  for (const auto& [key, row] : table.rows) rows[key].merge(row);
  other.merge(table.other);
  malformed += table.malformed;
  ledger.add(table.ledger.ledger());
  for (const std::string& host : table.hosts) add_host(host);
  began_unix_ns = std::min(began_unix_ns, table.began_unix_ns);
  ended_unix_ns = std::max(ended_unix_ns, table.ended_unix_ns);
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

HistTable hist_table_from_json(const Json& json) {
  HistTable table;
  const std::string of = text_at(json, "of");
  table.of = find_quantity(of);
  if (table.of == nullptr) refuse("it has the unknown quantity \"" + printable(of, 40) + "\"");
  table.by = read_grouping(json);
  for (const Json& host : list_at(json, "hosts")) {
    if (!host.is_string() || table.hosts.size() >= kMostHosts) refuse("\"hosts\" must be a list of names");
    table.hosts.push_back(host.get<std::string>());
  }
  table.began_unix_ns = number_at(json, "began_unix_ns");
  table.ended_unix_ns = number_at(json, "ended_unix_ns");
  for (const Json& row : list_at(json, "rows")) {
    HistTable::Key key;
    for (const Dimension& dimension : table.by) key.push_back(text_at(row, name_of(dimension)));
    table.rows[key].merge(read_row(row, *table.of));
  }
  table.other = read_row(at(json, "other"), *table.of);
  if (json.contains("malformed")) table.malformed = number_at(json, "malformed");
  table.ledger.add(whole_ledger_of(at(json, "ledger")));
  return table;
}

HistTable merged(const std::vector<std::string>& files) {
  std::optional<HistTable> table;
  for (const std::string& path : files) {
    HistTable read = read_file(path);
    if (!table) {
      table = std::move(read);
      continue;
    }
    try {
      table->merge(read);
    } catch (const Failure& failure) {
      throw Failure(name_of_file(path) + ": " + failure.what(), failure.exit_status);
    }
  }
  return std::move(table.value());
}

}  // namespace nopspan::collector
