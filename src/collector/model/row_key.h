// SPDX-License-Identifier: Apache-2.0
// The key of a row in a table of spans.
#pragma once

#include "model/entry.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

enum class Dimension : std::uint8_t { name, model, tenant, process, engine };
inline constexpr std::size_t kDimensions = 5;
using Grouping = std::vector<Dimension>;  // each dimension at most once

const char* name_of(Dimension dimension);
// Parses "name,model". Throws Failure with kUsageError.
Grouping parse_grouping(const std::string& text);
std::string to_text(const Grouping& by);

// The key of a span, made of views, so that looking up a row allocates nothing. Longer texts are truncated: two texts
// that differ only after kMostBytes share a row.
struct RowKeyView {
  static constexpr std::size_t kMostBytes = 256;

  // `name` replaces the span's name.
  RowKeyView(const Grouping& by, const Entry& entry, std::string_view name);

  std::array<std::string_view, kDimensions> texts;
  std::size_t count;
  std::uint64_t process = 0;  // replaces the text of the dimension `process`
  std::size_t hash = 0;
};

struct RowKey {
  explicit RowKey(const RowKeyView& view);

  std::vector<std::string> texts;
  std::uint64_t process;
  std::size_t hash;
};

struct RowKeyHash {
  using is_transparent = void;
  std::size_t operator()(const RowKey& key) const { return key.hash; }
  std::size_t operator()(const RowKeyView& key) const { return key.hash; }
};

struct RowKeyEqual {
  using is_transparent = void;
  bool operator()(const RowKey& a, const RowKey& b) const {
    return a.hash == b.hash && a.process == b.process && a.texts == b.texts;
  }
  bool operator()(const RowKeyView& a, const RowKey& b) const;
  bool operator()(const RowKey& a, const RowKeyView& b) const { return (*this)(b, a); }
};

// A number for a process. It includes the start time, so a later process with the same pid has another number.
std::uint64_t number_of(const Process& process);
// The comm and the pid: "chat_server 1234".
std::string process_text(const Process& process);

}  // namespace nopspan::collector
