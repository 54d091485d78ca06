// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_table.h"

#include "base/saturating.h"
#include "base/text.h"
#include "base/text_output.h"
#include "facts/engine_facts.h"
#include "model/entry.h"
#include "model/steps.h"

#include <nopspan/probes.h>

#include <langinfo.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr std::string_view kLatency = "gen_ai.latency.";  // attributes in seconds

const char* unit_of(std::string_view key) {
  if (key.starts_with(kLatency) || key.ends_with("_ns")) return "ns";
  for (const char* unit : {"tokens", "bytes", "blocks"}) {
    if (key.ends_with(unit)) return unit;
  }
  return "1";
}

using Number = std::optional<std::uint64_t>;

Number only_if(bool has, std::uint64_t value) { return has ? Number(value) : std::nullopt; }

// Nothing if the entry has no such attribute, or one that cannot be counted.
Number number_of_attribute(const Entry& entry, std::string_view key) {
  if (entry.kind != Kind::span && entry.kind != Kind::event) return {};
  if (entry.step != nullptr && is_step_fact(key)) {
    Number number;
    for_each_step_fact(*entry.step, [&](std::string_view fact, std::uint64_t value) {
      if (fact == key) number = value;
    });
    return number;
  }
  Attribute attribute;
  if (!find_attribute(entry, key, attribute)) return {};
  if (attribute.type == Attribute::Type::integer && attribute.integer >= 0) {
    return static_cast<std::uint64_t>(attribute.integer);
  }
  const double real = key.starts_with(kLatency) ? attribute.real * 1e9 : attribute.real;
  if (attribute.type != Attribute::Type::real || !(real >= 0 && real < 0x1p63)) return {};
  return static_cast<std::uint64_t>(std::llround(real));
}

Number percentage(Number part, Number whole) {
  if (!part || !whole || *whole == 0 || *part > *whole) return {};
  return static_cast<std::uint64_t>(std::lround(100.0 * static_cast<double>(*part) / static_cast<double>(*whole)));
}

// The quantity of an attribute, which owns its texts.
struct OfAttribute {
  OfAttribute(std::string_view name_of_it, std::string_view key_of_it)
      : name(name_of_it), key(key_of_it), of(key + " of spans and events") {}
  std::string name, key, of;
  Quantity quantity{name.c_str(), of.c_str(), Quantity::In::attribute, nullptr, unit_of(key), true, key};
};

const Quantity* quantity_of_attribute(std::string_view name, std::string_view key) {
  static std::map<std::string, OfAttribute, std::less<>> all;
  constexpr std::size_t kMostKey = 255;
  const auto is_shown = [](char c) { return c > ' ' && c <= '~'; };
  if (key.empty() || key.size() > kMostKey || !std::all_of(key.begin(), key.end(), is_shown)) return nullptr;
  return &all.try_emplace(std::string(key), name, key).first->second.quantity;
}

}  // namespace

const std::vector<Quantity>& quantities() {
  using In = Quantity::In;
  static const std::vector<Quantity> all = {
      {"duration", "duration of spans", In::span, [](const Entry& span) { return Number(span.duration_ns); }},
      {"ttft", "time to first token of spans", In::span,
       [](const Entry& span) { return only_if(span.has_first_token, span.first_token_ns); }, "ns", false},
      {"tool", "duration of tool calls", In::tool,
       [](const Entry& span) { return only_if(span.counts_tool, span.duration_ns); }},
      {"engine", "duration of engine requests", In::span,
       [](const Entry& span) { return only_if(span.has_engine_times, span.duration_ns); }},
      {"queue", "queue time of engine requests", In::span,
       [](const Entry& span) { return engine_time_ns(span, &EngineTimes::queue_ns, "nopspan.queue_ns"); }},
      {"prefill", "prefill time of engine requests", In::span,
       [](const Entry& span) { return engine_time_ns(span, &EngineTimes::prefill_ns, "nopspan.prefill_ns"); }},
      {"decode", "decode time of engine requests", In::span,
       [](const Entry& span) { return engine_time_ns(span, &EngineTimes::decode_ns, "nopspan.decode_ns"); }},
      {"retry", "delay of retries", In::retry,
       [](const Entry& retry) { return Number(static_cast<std::uint64_t>(retry.value)); }, "ns", false},
      {"step-tokens", "tokens of engine steps", In::step,
       [](const Entry& span) { return Number(saturating_sum(span.step->prefill_tokens, span.step->decode_tokens)); },
       "tokens"},
      {"step-prefill", "prefill tokens of engine steps", In::step,
       [](const Entry& span) { return Number(span.step->prefill_tokens); }, "tokens"},
      {"step-decode", "decode tokens of engine steps", In::step,
       [](const Entry& span) { return Number(span.step->decode_tokens); }, "tokens"},
      {"batch-size", "requests of engine steps", In::step,
       [](const Entry& span) { return Number(span.step->batch_size); }, "requests"},
      {"tpot", "time per output token of engine requests", In::span, time_per_output_token_ns},
      {"gap", "gaps between the tokens of spans", In::gap, nullptr, "ns", false},
      {"token-gap", "time of each token since the one before it", In::token_gap, nullptr, "ns", false},
      {"input-tokens", "input tokens of spans", In::span,
       [](const Entry& span) { return only_if(span.has_usage, span.usage.input); }, "tokens"},
      {"output-tokens", "output tokens of spans", In::span,
       [](const Entry& span) { return only_if(span.has_usage, span.usage.output); }, "tokens"},
      {"cache-hits", "share of the input tokens that came from a cache", In::span,
       [](const Entry& span) {
         return percentage(only_if(span.has_usage, span.usage.cached), only_if(span.has_usage, span.usage.input));
       },
       "percent"},
      {"acceptance", "share of the drafted tokens that were accepted", In::span,
       [](const Entry& span) {
         return percentage(number_of_attribute(span, "nopspan.accepted_tokens"),
                           number_of_attribute(span, "nopspan.drafted_tokens"));
       },
       "percent"},
  };
  return all;
}

const Quantity* find_quantity(std::string_view name) {
  const auto& all = quantities();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Quantity& one) { return one.name == name; });
  if (found != all.end()) return &*found;
  constexpr std::string_view kAnyAttribute = "attr:";
  if (name.starts_with(kAnyAttribute)) return quantity_of_attribute(name, name.substr(kAnyAttribute.size()));
  if (find_engine_fact(name) == nullptr) return nullptr;
  if (name == "max_tokens") return quantity_of_attribute(name, "gen_ai.request.max_tokens");
  if (name == "cached_tokens") return quantity_of_attribute(name, "gen_ai.usage.cache_read.input_tokens");
  if (name == "n") return quantity_of_attribute(name, "gen_ai.request.choice.count");
  return quantity_of_attribute(name, "nopspan." + std::string(name));
}

bool measure(const Entry& entry, const Quantity& quantity, Measured& measured) {
  using In = Quantity::In;
  const bool is_attribute = quantity.in == In::attribute;
  if (quantity.is_list() || (!is_attribute && entry.kind != (quantity.in == In::retry ? Kind::retry : Kind::span))) {
    return false;
  }
  if (quantity.in == In::step && entry.step == nullptr) return false;
  const Number number = is_attribute ? number_of_attribute(entry, quantity.attribute) : quantity.read(entry);
  measured.value = number.value_or(0);
  measured.status = quantity.has_status ? entry.status : kOk;
  measured.name = quantity.is_named_by_text() ? entry.text : entry.name;
  return number.has_value();
}

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

constexpr std::size_t kLeastWidth = 40, kGreatestWidth = 160;
// A histogram of fewer octaves has two bars per octave.
constexpr unsigned kFewOctaves = 8;

// Bars are numbered in half octaves: 0 is the value 0; the octave from 2^n on is 2n + 2 (lower half) and 2n + 3 (upper
// half).
unsigned half_octave_of(std::uint64_t value) {
  if (value == 0) return 0;
  const auto exponent = static_cast<unsigned>(std::bit_width(value)) - 1;
  const unsigned upper = exponent == 0 ? 0 : static_cast<unsigned>(value >> (exponent - 1)) & 1U;
  return 2 + 2 * exponent + upper;
}

std::uint64_t lower_bound_of(unsigned half_octave) {
  if (half_octave < 2) return 0;
  const std::uint64_t octave = std::uint64_t{1} << (half_octave / 2 - 1);
  return half_octave % 2 == 0 ? octave : octave + octave / 2;
}

struct Bars {
  unsigned first = 0, last = 0;  // in half octaves
  unsigned step = 1;
  std::map<unsigned, std::uint64_t> counts;
  std::uint64_t greatest = 0;
};

Bars bars_of(const LogLinear& times) {
  Bars bars;
  const unsigned least = half_octave_of(times.minimum()), most = half_octave_of(times.maximum());
  bars.step = most / 2 - least / 2 < kFewOctaves ? 1 : 2;
  bars.first = least / bars.step * bars.step;
  bars.last = most / bars.step * bars.step;
  for (std::size_t bucket = 0; bucket < LogLinear::kBuckets; ++bucket) {
    const std::uint64_t count = times.in_bucket(bucket);
    if (count == 0) continue;
    const unsigned bar = half_octave_of(LogLinear::lower_bound_of(bucket)) / bars.step * bars.step;
    bars.greatest = std::max(bars.greatest, bars.counts[bar] += count);
  }
  return bars;
}

std::string bar_text(std::uint64_t count, std::uint64_t greatest, std::size_t width, bool blocks) {
  static constexpr std::array<std::string_view, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (count == 0 || greatest == 0) return "";
  const double share = static_cast<double>(count) / static_cast<double>(greatest) * static_cast<double>(width);
  std::string text;
  if (!blocks) return text.append(std::max<std::size_t>(1, static_cast<std::size_t>(std::llround(share))), '#');
  // A count above 0 is always visible.
  const std::size_t eighths = std::max<std::size_t>(1, static_cast<std::size_t>(std::llround(share * 8)));
  for (std::size_t i = 0; i < eighths / 8; ++i) text += "█";
  return text += kEighths[eighths % 8];
}

std::string title_of(const HistTable& table, const HistTable::Key& key) {
  std::string title;
  for (std::size_t i = 0; i < table.by.size(); ++i) {
    // A name is shown as it is, other parts of the key with the name of their dimension: "model=llama-3".
    const bool is_name = table.by[i] == Dimension::name;
    const std::string shown = key[i].empty() ? "-" : printable(key[i], 64);
    title += (i == 0 ? "" : "  ") + (is_name ? shown : name_of(table.by[i]) + std::string("=") + shown);
  }
  return title;
}

std::string value_text(std::uint64_t value, const Quantity& of) {
  if (of.is_time()) return duration_text(value);
  return std::to_string(value) + (std::string_view(of.unit) == "percent" ? " %" : "");
}

void append_row(std::string& text, const std::string& title, const HistRow& row, const Quantity& of,
                const HistStyle& style) {
  const LogLinear& times = row.times;
  text += "\n" + (style.color ? "\x1b[1m" + title + "\x1b[0m" : title) + "  " + std::to_string(times.count());
  if (row.errors > 0) text += ", " + counted(row.errors, "error");
  if (row.cancelled > 0) text += ", " + std::to_string(row.cancelled) + " cancelled";
  text += "\n  p50 " + value_text(times.quantile(50), of) + "  p90 " + value_text(times.quantile(90), of) + "  p99 " +
          value_text(times.quantile(99), of) + "  min " + value_text(times.minimum(), of) + "  max " +
          value_text(times.maximum(), of);
  // If the sum is saturated, the mean is unknown.
  if (times.sum() < UINT64_MAX) text += "  mean " + value_text(times.sum() / times.count(), of);
  text += "\n";

  const Bars bars = bars_of(times);
  const std::size_t number_width = std::to_string(bars.greatest).size();
  std::size_t bound_width = 8;  // enough for most bounds
  for (unsigned bar = bars.first; bar <= bars.last; bar += bars.step) {
    bound_width = std::max(bound_width, value_text(lower_bound_of(bar), of).size());
  }
  const std::size_t before = 2 + bound_width + 2 + number_width + 1;
  const std::size_t width = style.width > before + 10 ? style.width - before : 10;
  for (unsigned bar = bars.first; bar <= bars.last; bar += bars.step) {
    // No whole number is between 0 and 1, nor in the upper half of the octave from 1 on.
    if (bars.step == 1 && (bar == 1 || bar == 3)) continue;
    const auto found = bars.counts.find(bar);
    const std::uint64_t count = found == bars.counts.end() ? 0 : found->second;
    std::string line = "  " + padded_left(value_text(lower_bound_of(bar), of), bound_width) + "  " +
                       padded_left(std::to_string(count), number_width);
    if (count > 0) line += " " + bar_text(count, bars.greatest, width, style.blocks);
    text += line + "\n";
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

HistStyle HistStyle::of_stdout(bool color) {
  HistStyle style;
  style.color = color;
  style.blocks = std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  std::size_t columns = columns_of_stdout();
  const char* said = std::getenv("COLUMNS");
  if (columns == 0 && said != nullptr) columns = std::strtoul(said, nullptr, 10);
  if (columns > 0) style.width = std::clamp(columns, kLeastWidth, kGreatestWidth);
  return style;
}

std::string to_text(const HistTable& table, const HistStyle& style) {
  std::string text = std::string(table.of->of) + ", by ";
  for (const Dimension& dimension : table.by) {
    text += (dimension == table.by.front() ? "" : dimension == table.by.back() ? " and " : ", ");
    text += name_of(dimension);
  }
  if (table.ended_unix_ns > table.began_unix_ns) {
    text += ", in " + duration_text(table.ended_unix_ns - table.began_unix_ns);
  }
  if (table.hosts.size() > 1) text += ", on " + std::to_string(table.hosts.size()) + " hosts";
  text += "; each line starts with its lower bound\n";
  // The key of an attribute is shown as it is.
  if (table.of->in != Quantity::In::attribute) text[0] = upper_case(text[0]);

  const auto rows = table.sorted();
  if (rows.empty() && table.other.times.count() == 0)
    return text + (table.of->is_time() ? "\nNo times were counted.\n" : "\nNothing was counted.\n");
  const std::size_t shown = style.most_rows == 0 ? rows.size() : std::min(rows.size(), style.most_rows);
  for (std::size_t i = 0; i < shown; ++i)
    append_row(text, title_of(table, rows[i]->first), rows[i]->second, *table.of, style);
  if (shown < rows.size()) {
    text += "\n" + std::to_string(rows.size() - shown) + " more rows; use --rows 0 to show all.\n";
  }
  if (table.other.times.count() > 0) append_row(text, "other (over --rows-max)", table.other, *table.of, style);
  return text;
}

std::string ledger_text(const HistTable& table) {
  std::string text = to_text(table.ledger.ledger());
  if (const std::uint64_t others = table.other.times.count(); others > 0) {
    text += "  " + std::to_string(others) +
            " times were counted in the row \"other\": use a larger --rows-max, or fewer keys in --by\n";
  }
  if (table.malformed > 0) {
    text += "  " + counted(table.malformed, "span") + " had a malformed list of gaps, which was not counted\n";
  }
  return text;
}

}  // namespace nopspan::collector
