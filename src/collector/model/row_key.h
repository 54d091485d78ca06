// SPDX-License-Identifier: Apache-2.0
// What a row of a table of spans stands for.
#pragma once

#include "model/span.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

enum class Dimension : std::uint8_t { name, model, tenant, process, engine };
inline constexpr std::size_t kDimensions = 5;
using Grouping = std::vector<Dimension>;  // each at most once

const char* name_of(Dimension dimension);
// "name,model". Throws Failure with kUsageError.
Grouping parse_grouping(const std::string& text);
std::string to_text(const Grouping& by);

// A key as a span has it: views, so that looking a row up allocates nothing. Longer texts are cut: two that differ only
// behind kMostBytes have one row.
struct RowKeyView {
  static constexpr std::size_t kMostBytes = 256;

  // `name` stands in for the name of the span.
  RowKeyView(const Grouping& by, const Span& span, std::string_view name);

  std::array<std::string_view, kDimensions> texts;
  std::size_t count;
  std::uint64_t process = 0;  // the text of a process is not looked at
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

// With its start a process has another number than a later one of the same pid.
std::uint64_t number_of(const Process& process);
// "chat_server 1234"
std::string process_text(const Process& process);

}  // namespace nopspan::collector
