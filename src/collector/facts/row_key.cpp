// SPDX-License-Identifier: Apache-2.0
#include "facts/row_key.h"

#include "base/failure.h"
#include "base/text.h"

#include <nopspan/probes.h>

#include <functional>

namespace nopspan::collector {

namespace {

constexpr std::array<const char*, Dimension::attribute> kNames = {"name",   "model", "tenant", "process",
                                                                  "engine", "tool",  "error"};

// Keys of the JSON objects that rows are printed as.
constexpr std::array<std::string_view, 8> kReserved = {"errors", "cancelled", "p50",    "p90",
                                                       "p99",    "histogram", "window", "total"};

std::string_view text_of(const Dimension& dimension, const Entry& entry, std::string_view name, NumberText& number) {
  switch (dimension.which) {
    case Dimension::name:
      return name;
    case Dimension::model:
      return entry.model;
    case Dimension::tenant:
      return entry.tenant;
    case Dimension::engine:
      return entry.engine;
    case Dimension::tool:
      return entry.kind == Kind::span ? entry.text : std::string_view();
    case Dimension::error:
      return entry.error_type;
    case Dimension::attribute:
      return label_or_attribute(entry, dimension.key, number);
    case Dimension::process:
      break;
  }
  return {};
}

[[noreturn]] void refuse(const std::string& text, const std::string& why) {
  throw Failure("--by " + printable(text) + ": " + why, Failure::kUsageError);
}

std::size_t mixed(std::size_t hash, std::size_t value) { return (hash ^ value) * 0x9E3779B97F4A7C15U; }

}  // namespace

std::span<const char* const> dimension_names() { return kNames; }

const char* name_of(const Dimension& dimension) {
  return dimension.which == Dimension::attribute ? dimension.key.c_str() : kNames[dimension.which];
}

Grouping parse_grouping(const std::string& text) {
  Grouping by;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    // Keys are printed as they are, and files of hist --json may have any.
    if (word.empty() || word.find(' ') != std::string::npos || printable(word, word.size()) != word ||
        std::find(kReserved.begin(), kReserved.end(), word) != kReserved.end()) {
      refuse(text, "\"" + printable(word) + "\" is not a key");
    }
    const auto* found = std::find(kNames.begin(), kNames.end(), word);
    const Dimension dimension =
        found == kNames.end() ? Dimension(word) : Dimension(static_cast<Dimension::Which>(found - kNames.begin()));
    if (std::find(by.begin(), by.end(), dimension) != by.end()) {
      refuse(text, word + " is repeated");
    }
    if (by.size() == kMostDimensions) refuse(text, "at most " + std::to_string(kMostDimensions) + " keys are possible");
    by.push_back(dimension);
    begin = end + 1;
  }
  return by;
}

std::string to_text(const Grouping& by) {
  std::string text;
  for (const Dimension& dimension : by) text += (text.empty() ? "" : ",") + std::string(name_of(dimension));
  return text;
}

RowKeyView::RowKeyView(const Grouping& by, const Entry& entry, std::string_view name) : count(by.size()) {
  for (std::size_t i = 0; i < by.size(); ++i) {
    if (by[i].which == Dimension::process) {
      process = number_of(**entry.process);
      hint = hint * 31 + process % 61;
      continue;
    }
    const std::string_view text = texts[i] = text_of(by[i], entry, name, numbers[i]).substr(0, kMostBytes);
    hint = hint * 31 + text.size();
    if (!text.empty()) hint += static_cast<unsigned char>(text.front()) * 5U + static_cast<unsigned char>(text.back());
  }
}

std::size_t RowKeyView::hash() const {
  std::size_t hash = mixed(0, process);
  for (std::size_t i = 0; i < count; ++i) hash = mixed(hash, std::hash<std::string_view>()(texts[i]));
  return hash;
}

RowKey::RowKey(const RowKeyView& view)
    : texts(view.texts.begin(), view.texts.begin() + static_cast<std::ptrdiff_t>(view.count)),
      process(view.process),
      hash(view.hash()) {}

bool is_same(const RowKeyView& a, const RowKey& b) {
  return a.process == b.process && std::equal(b.texts.begin(), b.texts.end(), a.texts.begin(),
                                              a.texts.begin() + static_cast<std::ptrdiff_t>(a.count));
}

std::uint64_t number_of(const Process& process) {
  return (process.start_ticks << 22U) ^ process.pid ^ process.instance;
}

std::string process_text(const Process& process) { return process.comm + " " + std::to_string(process.pid); }

EngineKey engine_key_of(const Entry& step) {
  return {number_of(**step.process), std::string(step.engine), step.step->instance};
}

std::string engine_text(const Entry& step) {
  const std::uint64_t instance = step.step->instance;
  return std::string(step.engine) + (instance != 0 ? " " + std::to_string(instance) : "") + " of " +
         process_text(**step.process);
}

}  // namespace nopspan::collector
