// SPDX-License-Identifier: Apache-2.0
// Price tables: parses them, and computes the cost of the tokens that a request used.
#include <nopspan/genai.h>

#include "genai/genai_mapping.h"
#include "thread/log.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <utility>

#if NOPSPAN_HAVE_PRICES
#include <nlohmann/json.hpp>
#endif

namespace nopspan::genai {
namespace {

namespace core = nopspan::detail;
using core::Key;

// --- Reading JSON

// Builds a Value from the parser's events. nlohmann's own value type would hide a duplicate key. Numbers become
// doubles.
class Builder {
 public:
  explicit Builder(std::string_view text) : text_(text) {}

  bool null() { return add({}); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return add(static_cast<double>(value)); }
  bool number_unsigned(std::uint64_t value) { return add(static_cast<double>(value)); }
  bool number_float(double value, const std::string& /*text*/) { return add(value); }
  bool string(const std::string& value) { return add(value); }
  static bool binary(const std::vector<std::uint8_t>& /*value*/) { return false; }
  bool key(const std::string& key) {
    open_.back().key = key;
    return true;
  }
  bool start_object(std::size_t /*size*/) { return open(Value::map()); }
  bool start_array(std::size_t /*size*/) { return open(Value::list()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool parse_error(std::size_t position, const std::string& /*token*/, const std::exception& /*why*/) {
    const std::string_view before = text_.substr(0, position == 0 ? 0 : position - 1);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const std::size_t line_start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
    error_ = "line " + std::to_string(line) + ", column " + std::to_string(before.size() - line_start + 1) +
             ": not valid JSON";
    return false;
  }

  [[nodiscard]] const Value& value() const { return value_; }
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  static constexpr std::size_t kMaxDepth = 8;

  struct Open {
    std::string key;  // the key of the next member
    Value::List items;
    Value::Map members;
    bool is_map;
  };

  bool open(const Value& empty) {
    if (open_.size() == kMaxDepth) {
      std::string place;
      for (const Open& each : open_) place += (place.empty() ? "" : ".") + each.key;
      error_ = core::printable(place) + ": nested too deeply";
      return false;
    }
    open_.push_back({{}, {}, {}, empty.type() == Value::Type::map});
    return true;
  }
  bool close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    return add(done.is_map ? Value(std::move(done.members)) : Value(std::move(done.items)));
  }
  bool add(Value value) {
    if (open_.empty()) {
      value_ = std::move(value);
    } else if (open_.back().is_map) {
      open_.back().members.emplace_back(std::move(open_.back().key), std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  std::string_view text_;
  std::vector<Open> open_;
  Value value_;
  std::string error_;
};

// --- Checking it

// Sets `error` to what is wrong at a place ("models.gpt-5"). Returns false.
bool refuse(std::string& error, const std::string& place, std::string_view what) {
  error = place.empty() ? std::string() : core::printable(place) + ": ";
  error += what;
  return false;
}

std::string inside(const std::string& place, const std::string& key) { return place.empty() ? key : place + '.' + key; }

// Calls `read(key, value, place)` for each member of a map, until it returns false.
template <class Read>
bool read_map(const Value& map, const std::string& place, std::string& error, const Read& read) {
  if (map.type() != Value::Type::map) return refuse(error, place, "not an object");
  std::set<std::string_view> read_before;
  for (const auto& [key, value] : map.as_map()) {
    const std::string here = inside(place, key);
    if (!read_before.insert(key).second) return refuse(error, here, "duplicate key");
    if (!read(key, value, here)) return false;
  }
  return true;
}

bool read_unit(const Value& unit, double& tokens, std::string& error) {
  for (const auto& [name, count] :
       {std::pair("per_million_tokens", 1e6), std::pair("per_thousand_tokens", 1e3), std::pair("per_token", 1.0)}) {
    if (unit.as_string() != name) continue;
    tokens = count;
    return true;
  }
  return refuse(error, "unit", "not per_million_tokens, per_thousand_tokens or per_token");
}

// --- Costs

constexpr double kUnknown = -1;

std::int64_t count_of(const core::Metadata& metadata, Key key) {
  const core::Node& count = metadata[key];
  return count.is_integer() && count.as_int() >= 0 ? count.as_int() : static_cast<std::int64_t>(kUnknown);
}

// The count of a part: 0 if it is unknown, and at most the whole.
std::int64_t part_of(std::int64_t whole, std::int64_t part) { return std::clamp<std::int64_t>(part, 0, whole); }

double cost(std::int64_t tokens, double price) { return static_cast<double>(tokens) * price; }

// Sets the costs that the application has not given, and computes their total. If the cost of some tokens is unknown,
// there is no total.
class Total {
 public:
  void add(core::Node& given, std::int64_t tokens, double cost) {
    if (given.is_null() && cost >= 0 && std::isfinite(cost)) given = core::Node(cost);
    if (core::is_finite_number(given)) {
      sum_ += given.as_double();
      any_ = true;
    } else if (tokens > 0) {
      complete_ = false;
    }
  }
  void put(core::Node& given) const {
    if (given.is_null() && any_ && complete_ && std::isfinite(sum_)) given = core::Node(sum_);
  }

 private:
  double sum_ = 0;
  bool any_ = false;
  bool complete_ = true;
};

// The table that spans use, and the tables that it has replaced. They are kept, because a span may be reading one.
struct Kept : PriceTable {
  const Kept* replaced;
};
std::atomic<const Kept*> prices{nullptr};

}  // namespace

bool PriceTable::parse(Text json, std::string& error) {
  Builder builder(json.view());
#if NOPSPAN_HAVE_PRICES
  if (!nlohmann::json::sax_parse(json.view(), &builder)) return refuse(error, {}, builder.error());
#else
  return refuse(error, {}, "this library was built without price tables (NOPSPAN_PRICES)");
#endif
  error.clear();
  double unit = 0;
  std::vector<Price> models;
  const auto read_price = [&](Price& price, const std::string& key, const Value& value, const std::string& place) {
    double* const to = key == "input"            ? &price.input
                       : key == "cached_input"   ? &price.cached_input
                       : key == "cache_creation" ? &price.cache_creation
                       : key == "output"         ? &price.output
                       : key == "reasoning"      ? &price.reasoning
                                                 : nullptr;
    if (to == nullptr) return refuse(error, place, "not a known price");
    *to = value.as_double(kUnknown);
    return *to >= 0 || refuse(error, place, "a price must be a number that is not negative");
  };
  const auto read_model = [&](const std::string& name, const Value& given, const std::string& place) {
    Price price;
    price.model = name;
    if (!read_map(given, place, error, [&](const auto&... member) { return read_price(price, member...); }))
      return false;
    if (price.input < 0 && std::max(price.cached_input, price.cache_creation) >= 0) {
      return refuse(error, place, "a price of cached input needs a price of input");
    }
    if (price.output < 0 && price.reasoning >= 0)
      return refuse(error, place, "a price of reasoning needs a price of output");
    models.push_back(std::move(price));
    return true;
  };
  const auto read_top = [&](const std::string& key, const Value& value, const std::string& place) {
    if (key == "unit") return read_unit(value, unit, error);
    if (key == "models") return read_map(value, place, error, read_model);
    return refuse(error, place, "not a known key");
  };
  if (!read_map(builder.value(), {}, error, read_top)) return false;
  for (const char* key : {"unit", "models"}) {
    if (builder.value().find(key) == nullptr) return refuse(error, key, "missing");
  }
  for (Price& price : models) {
    for (double* each : {&price.cached_input, &price.cache_creation}) *each = *each < 0 ? price.input : *each;
    for (double* each : {&price.input, &price.cached_input, &price.cache_creation, &price.output, &price.reasoning}) {
      if (*each >= 0) *each /= unit;
    }
  }
  std::sort(models.begin(), models.end(), [](const Price& a, const Price& b) { return a.model < b.model; });
  models_ = std::move(models);
  return true;
}

const PriceTable::Price* PriceTable::find(std::string_view model) const noexcept {
  const auto found = std::lower_bound(models_.begin(), models_.end(), model,
                                      [](const Price& price, std::string_view name) { return price.model < name; });
  return found == models_.end() || found->model != model ? nullptr : &*found;
}

// Adds the costs of the tokens in the metadata. False if the table has no prices for the model.
struct detail::PriceAccess {
  static bool add_costs(const PriceTable& table, core::Metadata& metadata, std::string_view model) noexcept {
    const PriceTable::Price* found = table.find(model);
    if (found == nullptr) return false;
    const PriceTable::Price& price = *found;
    Total total;

    const std::int64_t input = count_of(metadata, Key::input_tokens);
    double input_cost = kUnknown;
    if (input >= 0 && price.input >= 0) {
      const std::int64_t cached = part_of(input, count_of(metadata, Key::cache_read_input_tokens));
      const std::int64_t written = part_of(input - cached, count_of(metadata, Key::cache_creation_input_tokens));
      input_cost = cost(input - cached - written, price.input) + cost(cached, price.cached_input) +
                   cost(written, price.cache_creation);
    }
    total.add(metadata[Key::input_cost], input, input_cost);

    const std::int64_t output = count_of(metadata, Key::output_tokens);
    const std::int64_t reasoned = count_of(metadata, Key::reasoning_tokens);
    const bool is_priced = price.reasoning >= 0 || !metadata[Key::reasoning_cost].is_null();
    const bool apart = output >= 0 && reasoned >= 0 && is_priced;
    const std::int64_t reasoning = apart ? part_of(output, reasoned) : 0;
    total.add(metadata[Key::output_cost], output,
              output >= 0 && price.output >= 0 ? cost(output - reasoning, price.output) : kUnknown);
    total.add(metadata[Key::reasoning_cost], reasoning,
              apart && price.reasoning >= 0 ? cost(reasoning, price.reasoning) : kUnknown);
    total.put(metadata[Key::total_cost]);
    return true;
  }
};

Value PriceTable::with_costs(const Value& usage, Text model) const {
  if (usage.type() != Value::Type::map) return usage;
  core::Metadata metadata;
  metadata[Key::usage] = core::Node(&usage);
  core::spread_usage(metadata);
  if (!detail::PriceAccess::add_costs(*this, metadata, model.view())) return usage;
  Value priced = usage;
  for (const auto& [name, key] :
       {std::pair("input_cost", Key::input_cost), std::pair("output_cost", Key::output_cost),
        std::pair("reasoning_cost", Key::reasoning_cost), std::pair("total_cost", Key::total_cost)}) {
    const Value* there = usage.find(name);
    if ((there == nullptr || there->is_null()) && !metadata[key].is_null()) priced.set(name, metadata[key].as_double());
  }
  return priced;
}

void set_prices(const PriceTable& table) {
  auto* const made = new Kept{table, prices.load(std::memory_order_relaxed)};
  while (!prices.compare_exchange_weak(made->replaced, made, std::memory_order_release)) {
  }
}

}  // namespace nopspan::genai

namespace nopspan::detail {

void add_costs(Metadata& metadata) noexcept {
  const genai::PriceTable* table = genai::prices.load(std::memory_order_acquire);
  if (table == nullptr) return;
  using Access = genai::detail::PriceAccess;
  if (!Access::add_costs(*table, metadata, response_model(metadata).as_string())) {
    Access::add_costs(*table, metadata, request_model(metadata).as_string());
  }
}

void free_prices() noexcept {
  for (const genai::Kept* table = genai::prices.exchange(nullptr); table != nullptr;) {
    delete std::exchange(table, table->replaced);
  }
}

}  // namespace nopspan::detail
