// SPDX-License-Identifier: Apache-2.0
// The key of a row in a table of spans.
#pragma once

#include "model/entry.h"

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

struct Dimension {
  enum Which : std::uint8_t { name, model, tenant, process, engine, tool, error, attribute };

  Dimension(Which is) : which(is) {}  // NOLINT(google-explicit-constructor): a Which is a Dimension
  explicit Dimension(std::string of) : which(attribute), key(std::move(of)) {}
  friend bool operator==(const Dimension& a, const Dimension& b) = default;

  Which which;
  std::string key;  // for `attribute` the key of a label, an attribute or a resource (label_or_attribute() in entry.h)
};
using Grouping = std::vector<Dimension>;  // each dimension at most once
inline constexpr std::size_t kMostDimensions = 8;

// The words that are not the key of a label or an attribute.
std::span<const char* const> dimension_names();
// Valid as long as the dimension.
const char* name_of(const Dimension& dimension);
// Parses "name,model". A word that is no other dimension is the key of a label or an attribute. Throws Failure with
// kUsageError.
Grouping parse_grouping(const std::string& text);
std::string to_text(const Grouping& by);

// The key of a span, made of views, so that looking up a row allocates nothing. Longer texts are truncated: two texts
// that differ only after kMostBytes share a row.
struct RowKeyView {
  static constexpr std::size_t kMostBytes = 256;

  // `name` replaces the span's name.
  RowKeyView(const Grouping& by, const Entry& entry, std::string_view name);
  RowKeyView(const RowKeyView&) = delete;  // the texts may refer to `numbers`
  RowKeyView& operator=(const RowKeyView&) = delete;

  std::array<std::string_view, kMostDimensions> texts;
  std::array<NumberText, kMostDimensions> numbers;
  std::size_t count;
  std::uint64_t process = 0;  // replaces the text of the dimension `process`
  std::size_t hint = 0;       // a hash of little value, which costs nothing: of the texts' sizes, begins and ends

  [[nodiscard]] std::size_t hash() const;
};

struct RowKey {
  explicit RowKey(const RowKeyView& view);

  std::vector<std::string> texts;
  std::uint64_t process;
  std::size_t hash;
};

bool is_same(const RowKeyView& a, const RowKey& b);

struct RowKeyHash {
  using is_transparent = void;
  std::size_t operator()(const RowKey& key) const { return key.hash; }
  std::size_t operator()(const RowKeyView& key) const { return key.hash(); }
};

struct RowKeyEqual {
  using is_transparent = void;
  bool operator()(const RowKey& a, const RowKey& b) const {
    return a.hash == b.hash && a.process == b.process && a.texts == b.texts;
  }
  bool operator()(const RowKeyView& a, const RowKey& b) const { return is_same(a, b); }
  bool operator()(const RowKey& a, const RowKeyView& b) const { return (*this)(b, a); }
};

// Finds rows of a map, most of them without hashing texts.
template <typename Rows>
class RecentRows {
 public:
  using Row = typename Rows::value_type;

  // Null if there is none.
  Row* find(Rows& rows, const RowKeyView& key) {
    Row*& recent = recent_[key.hint % recent_.size()];
    if (recent != nullptr && is_same(key, recent->first)) return recent;
    const auto found = rows.find(key);
    if (found == rows.end()) return nullptr;
    return recent = &*found;
  }
  // Must be called before a row is erased.
  void forget() { recent_.fill(nullptr); }

 private:
  std::array<Row*, 64> recent_{};
};

// A number for a process. It includes the start time, so a later process with the same pid has another number.
std::uint64_t number_of(const Process& process);
// The comm and the pid: "chat_server 1234".
std::string process_text(const Process& process);

// An engine, as its steps name it.
struct EngineKey {
  std::uint64_t process = 0;  // number_of()
  std::string name;
  std::uint64_t instance = 0;
  friend auto operator<=>(const EngineKey&, const EngineKey&) = default;
};
// Of a step that has its facts.
EngineKey engine_key_of(const Entry& step);
// "vllm 2 of api_server 1234", without the instance if it is 0.
std::string engine_text(const Entry& step);

// Records which process created each row of a table that has a limit of rows. If the table is full, a process that
// creates ever new keys must not keep others from having rows.

// Processes are numbers (number_of() in row_key.h).
template <typename Row>
class RowShares {
 public:
  void add(std::uint64_t process, Row* row) {
    auto& rows = rows_[process];
    count(process, rows.size(), rows.size() + 1);
    rows.push_back(row);
  }
  void remove(std::uint64_t process, Row* row) {
    const auto found = rows_.find(process);
    auto& rows = found->second;
    count(process, rows.size(), rows.size() - 1);
    rows.erase(std::find(rows.rbegin(), rows.rend(), row).base() - 1);
    if (rows.empty()) rows_.erase(found);
  }
  [[nodiscard]] std::size_t rows_of(std::uint64_t process) const {
    const auto found = rows_.find(process);
    return found == rows_.end() ? 0 : found->second.size();
  }
  // Chooses the row that makes room for a row of `process`: the newest row of the process that has the most rows. That
  // process still has at least as many rows as `process` afterwards. Otherwise returns null. Removes the row here.
  Row* take_for(std::uint64_t process) {
    if (most_.empty()) return nullptr;
    const auto [count, owner] = *most_.rbegin();
    if (count < rows_of(process) + 2) return nullptr;
    Row* const row = rows_.find(owner)->second.back();
    remove(owner, row);
    return row;
  }

 private:
  void count(std::uint64_t process, std::size_t before, std::size_t after) {
    if (before > 0) most_.erase({before, process});
    if (after > 0) most_.insert({after, process});
  }

  std::unordered_map<std::uint64_t, std::vector<Row*>> rows_;  // in the order of their creation
  std::set<std::pair<std::size_t, std::uint64_t>> most_;       // number of rows, process
};

}  // namespace nopspan::collector
