// SPDX-License-Identifier: Apache-2.0
#include "top/top_print.h"

#include "base/cells.h"
#include "base/saturating.h"
#include "base/text.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr std::size_t kWidestName = 40;

std::string per_second(std::uint64_t count, std::uint64_t ns) {
  return ns == 0 ? "-" : number_text(static_cast<double>(count) * 1e9 / static_cast<double>(ns));
}

std::string count_text(const Tally& tally) {
  return std::to_string(tally.spans) + " spans, " + std::to_string(tally.errors) + " errors, " +
         std::to_string(tally.cancelled) + " cancelled, " + std::to_string(tally.retries) + " retries, " +
         std::to_string(tally.input_tokens) + " tokens in, " + std::to_string(tally.output_tokens) + " out";
}

std::string times_text(const Quantiles& times, std::uint64_t sum_ns) {
  if (times.count == 0) return "none";
  return "mean " + duration_text(sum_ns / times.count) + ", p50 " + duration_text(times.p50) + ", p90 " +
         duration_text(times.p90) + ", p99 " + duration_text(times.p99) + ", max " + duration_text(times.maximum);
}

// The count of durations in an octave, or in several octaves if there is no room for a bar for each.
struct Bar {
  std::uint64_t from_ns = 0, to_ns = 0, count = 0;
};

std::vector<Bar> bars_of(const Buckets& buckets, std::size_t most) {
  std::vector<Bar> bars;
  if (buckets.empty() || most == 0) return bars;
  const auto octave_of = [](std::size_t bucket) {  // [2^(n-1), 2^n)
    return static_cast<unsigned>(std::bit_width(LogLinear::lower_bound_of(bucket)));
  };
  const unsigned first = octave_of(buckets.front().first), last = octave_of(buckets.back().first);
  const auto together = static_cast<unsigned>((last - first) / most + 1);
  const auto power = [](unsigned octave) {
    return octave == 0 ? 0 : octave > 64 ? UINT64_MAX : std::uint64_t{1} << (octave - 1);
  };
  for (unsigned octave = first; octave <= last; octave += together) {
    bars.push_back({power(octave), power(octave + together), 0});
  }
  for (const auto& [bucket, count] : buckets) bars[(octave_of(bucket) - first) / together].count += count;
  return bars;
}

std::string bar_text(std::uint64_t count, std::uint64_t most, std::size_t width, bool has_utf8) {
  const auto length =
      static_cast<std::size_t>(static_cast<double>(count) / static_cast<double>(most) * static_cast<double>(width));
  std::string text;
  for (std::size_t i = 0; i < std::max<std::size_t>(length, count == 0 ? 0 : 1); ++i) text += has_utf8 ? "█" : "#";
  return text;
}

// The facts of an engine, by the name of the span or event and by its model.
using EngineFacts = std::vector<std::pair<std::string_view, const FactSums::Row*>>;

std::string facts_text(const EngineFacts& facts) {
  const auto count = [&](std::string_view name) {
    std::uint64_t all = 0;
    for (const auto& [of, row] : facts) all += of == name ? row->count : 0;
    return all;
  };
  const auto sum = [&](std::string_view name, std::string_view key) {
    std::uint64_t all = 0;
    for (const auto& [of, row] : facts) {
      const auto found = row->sums.find(key);
      if (of == name && found != row->sums.end()) all = saturating_sum(all, found->second);
    }
    return all;
  };
  std::string text;
  const auto add = [&](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  const auto number = [](std::uint64_t value) { return number_text(static_cast<double>(value)); };
  const auto add_share = [&](const char* what, std::uint64_t part, std::uint64_t whole, const char* of) {
    if (whole == 0) return;
    const double percent = 100 * static_cast<double>(part) / static_cast<double>(whole);
    add(what + number(part) + " of " + number(whole) + of + " (" + number_text(percent) + " %)");
  };
  const auto add_count = [&](const char* name, const char* what, const char* key, const char* unit) {
    const std::uint64_t all = count(name), amount = sum(name, key);
    if (all != 0) add(number(all) + what + (amount == 0 ? "" : " (" + number(amount) + unit + ")"));
  };
  // If steps report drafts, requests only repeat them at their end.
  const bool has_steps = sum("engine.step", "nopspan.drafted_tokens") != 0;
  const char* const drafting = has_steps ? "engine.step" : "engine.request";
  add_share("accepted ", sum(drafting, "nopspan.accepted_tokens"), sum(drafting, "nopspan.drafted_tokens"),
            " drafted tokens");
  constexpr const char* kCache = "engine.prefix_cache";
  if (count(kCache) != 0) {
    add_share("cache hits ", sum(kCache, "nopspan.hit_tokens"), sum(kCache, "nopspan.queried_tokens"), " tokens");
    add_share("external hits ", sum(kCache, "nopspan.external_hit_tokens"),
              sum(kCache, "nopspan.external_queried_tokens"), " tokens");
  } else if (const auto cached = sum("engine.request", "gen_ai.usage.cache_read.input_tokens"); cached != 0) {
    add_share("cached ", cached, sum("engine.request", "gen_ai.usage.input_tokens"), " input tokens");
  }
  add_count("engine.preempted", " preempted", "nopspan.tokens", " tokens");
  add_count("engine.swapped", " swapped", "nopspan.blocks", " blocks");
  add_count("engine.evicted", " evicted", "nopspan.blocks", " blocks");
  add_count("engine.transfer", " transfers", "nopspan.bytes", " bytes");
  add_count("engine.rejected", " rejected", "", "");
  if (const auto tokens = sum("engine.request", "nopspan.recomputed_tokens"); tokens != 0) {
    add(number(tokens) + " tokens recomputed");
  }
  return text;
}

// "kv_cache_used 12/64", safe to print on a terminal.
std::string gauge_text(const GaugeReading& gauge) {
  std::string text = printable(gauge.name, kWidestName);
  const char* separator = "{";
  for (const auto& [key, value] : gauge.labels) {
    text += std::exchange(separator, ",") + printable(key, kWidestName) + "=" + printable(value, kWidestName);
  }
  text += (gauge.labels.empty() ? " " : "} ") + std::to_string(gauge.value);
  if (gauge.is_counter) text += " (+" + number_text(gauge.per_second()) + "/s)";
  if (gauge.maximum != 0) text += "/" + std::to_string(gauge.maximum);
  return text;
}

}  // namespace

std::string traffic_text(const TopSnapshot& snapshot, bool total) {
  const TableNumbers& table = snapshot.table;
  const Tally& tally = total ? table.total : table.window;
  const std::uint64_t ns = total ? table.since_ns : table.window_ns;
  const std::size_t early = total ? snapshot.all_early_requests : snapshot.early_requests;
  return per_second(tally.spans, ns) + " spans/s, " + per_second(tally.requests, ns) + " requests/s, " +
         (table.total.received == 0 ? "" : per_second(tally.received, ns) + " received/s, ") +
         per_second(tally.errors, ns) + " errors/s, " +
         counted(total ? snapshot.all_processes : snapshot.processes, "process", "processes") +
         (early == 0 ? "" : ", " + counted(early, "request") + " known from steps only");
}

std::string ledger_text(const TopSnapshot& snapshot) {
  const Ledger& ledger = snapshot.ledger;
  const Counts& counts = ledger.total;
  std::string text = number_text(static_cast<double>(counts.delivered)) + " delivered, ";
  if (counts.lost() == 0) text += ledger.damage.empty() ? "none lost" : "losses unknown";
  if (counts.lost() != 0) {
    std::string reasons;
    for (const CountField& field : kCountFields) {
      if (field.loss == nullptr || counts.*field.count == 0) continue;
      reasons += (reasons.empty() ? "" : ", ") + std::to_string(counts.*field.count) + " " + field.loss;
    }
    text += std::to_string(counts.lost()) + " lost (" + reasons + ")";
  }
  if (counts.filtered != 0) text += ", " + number_text(static_cast<double>(counts.filtered)) + " filtered out";
  if (counts.held_by_killed != 0)
    text +=
        ", at most " + std::to_string(counts.held_by_killed) + " more held by killed processes or unloaded libraries";
  if (const std::uint64_t unattached = ledger.unattached.size() + ledger.unattached_others; unattached > 0)
    text += ", " + std::to_string(unattached) + " not attached to";
  return text;
}

std::string bounds_text(const TopSnapshot& snapshot) {
  const TableNumbers& table = snapshot.table;
  std::vector<std::string> parts;
  if (table.evicted != 0) parts.push_back(counted(table.evicted, "row") + " merged into other");
  if (table.total.unplaced != 0) {
    parts.push_back("out of memory: " + counted(table.total.unplaced, "time") + " missing in quantiles");
  }
  if (snapshot.gauges_dropped != 0) {
    parts.push_back(counted(snapshot.gauges_dropped, "gauge value") + " over the limit of " +
                    std::to_string(GaugeBoard::kMost) + " dropped");
  }
  if (snapshot.facts.dropped() != 0) {
    parts.push_back(counted(snapshot.facts.dropped(), "number") + " of engine facts over the limit of " +
                    std::to_string(FactSums::kMost) + " sums dropped");
  }
  if (snapshot.early_dropped != 0) {
    parts.push_back(counted(snapshot.early_dropped, "member") + " of steps over the limit of " +
                    std::to_string(TopFeed::kMostEarly) + " requests known from steps only dropped");
  }
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

std::vector<std::string> gauge_lines(const TopSnapshot& snapshot, std::size_t width, const std::string& before) {
  std::vector<std::string> texts, lines;
  const GaugeReading* last = nullptr;
  for (const GaugeReading& gauge : snapshot.gauges) {
    if (last != nullptr && last->process == gauge.process && last->engine == gauge.engine &&
        last->model == gauge.model) {
      texts.back() += ", " + gauge_text(gauge);
    } else {
      std::string who;
      for (const std::string& word : {gauge.engine, gauge.model, process_text(*gauge.process)}) {
        if (!word.empty()) who += (who.empty() ? "" : " ") + printable(word, kWidestName);
      }
      texts.push_back(before + who + ": " + gauge_text(gauge));
    }
    last = &gauge;
  }
  for (const std::string& text : texts) {
    for (std::string& line : wrapped(text, width, 2, ", ")) lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<std::string> fact_lines(const TopSnapshot& snapshot, std::size_t width, const std::string& before) {
  std::map<std::string, EngineFacts> engines;
  for (const auto& [key, row] : snapshot.facts.rows()) {
    engines[std::get<1>(key)].emplace_back(std::get<0>(key), &row);
  }
  std::vector<std::string> lines;
  for (const auto& [engine, facts] : engines) {
    const std::string text = facts_text(facts);
    if (text.empty()) continue;
    const std::string who = engine.empty() ? "an engine without a name" : printable(engine, kWidestName);
    const std::string whole = std::string(before).append(who).append(": ").append(text);
    for (std::string& line : wrapped(whole, width, 2, ", ")) lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<std::string> top_detail(const RowDetail& detail, const TableNumbers& table, bool total, std::size_t width,
                                    std::size_t lines, bool has_utf8) {
  std::string title;
  for (std::size_t i = 0; i < detail.numbers.texts.size() && i < table.by.size(); ++i) {
    const std::string& text = detail.numbers.texts[i];
    title +=
        (title.empty() ? "" : ", ") + std::string(name_of(table.by[i])) + " " + (text.empty() ? "-" : printable(text));
  }
  const Numbers& numbers = total ? detail.numbers.total : detail.numbers.window;
  std::vector<std::string> shown = {
      title,
      (total ? "total: " : "last " + duration_text(table.window_ns) + ": ") + count_text(numbers.tally),
      "duration: " + times_text(numbers.duration_ns, numbers.tally.duration_sum_ns),
      "ttft: " + times_text(numbers.first_token_ns, numbers.tally.first_token_sum_ns),
      "",
  };
  const std::vector<Bar> bars =
      bars_of(total ? detail.total : detail.window, std::max<std::size_t>(lines, shown.size() + 4) - shown.size());
  std::uint64_t most = 1;
  for (const Bar& bar : bars) most = std::max(most, bar.count);
  constexpr std::size_t kLabel = 24, kCount = 7;
  const std::size_t room = width > kLabel + kCount + 2 ? width - kLabel - kCount - 2 : 1;
  for (const Bar& bar : bars) {
    shown.push_back(fit(duration_text(bar.from_ns) + " - " + duration_text(bar.to_ns), kLabel) +
                    fit(number_text(static_cast<double>(bar.count)), kCount, Align::right) + "  " +
                    bar_text(bar.count, most, room, has_utf8));
  }
  return shown;
}

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

Json to_json(const FactSums::Rows::value_type& keyed) {
  const auto& [key, row] = keyed;
  const auto& [name, engine, model] = key;
  Json json = {{"name", name}, {"model", model}, {"engine", engine}, {"count", row.count}};
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
                              traffic_text(snapshot, view.total) + (view.total ? " (total of " : " (") +
                              duration_text(view.total ? table.since_ns : table.window_ns) + ")",
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
  json["all_processes"] = snapshot.all_processes;
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
  for (const auto& row : snapshot.facts.rows()) json["engine_facts"].push_back(to_json(row));
  json["engine_facts_dropped"] = snapshot.facts.dropped();
  const Ledger& ledger = snapshot.ledger;
  json["ledger"] = to_json(ledger.total);
  if (!ledger.damage.empty()) json["ledger"]["damage"] = to_json(ledger.damage);
  if (!ledger.unattached.empty()) json["ledger"]["unattached"] = to_json(ledger.unattached);
  if (ledger.unattached_others != 0) json["ledger"]["unattached_others"] = ledger.unattached_others;
  return json;
}

}  // namespace nopspan::collector
