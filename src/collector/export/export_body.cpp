// SPDX-License-Identifier: Apache-2.0
#include "export/export_body.h"

#include "model/otlp_wire.h"

#include <cstddef>
#include <span>
#include <string_view>

namespace nopspan::collector {
namespace {

// At each level of a request, the fields that contain what is counted: resources, scopes and items. A metric is not an
// item, but contains some: data points, in the message of its kind.
constexpr unsigned kSpanEvents = 11;
constexpr std::uint64_t bit(std::uint64_t field) { return std::uint64_t{1} << field; }
constexpr std::uint64_t kToItems[] = {bit(1), bit(2), bit(2)};
constexpr std::uint64_t kToPoints[] = {bit(1), bit(2), bit(2), bit(5) | bit(7) | bit(9) | bit(10) | bit(11), bit(1)};

// Copies a request without the items that are not in a range. Resources, scopes and metrics without items are left out.
class ItemRange {
 public:
  ItemRange(Signal signal, std::uint64_t first, std::uint64_t last)
      : levels_(signal == Signal::metrics ? std::span<const std::uint64_t>(kToPoints) : kToItems),
        signal_(signal),
        first_(first),
        last_(last) {}

  [[nodiscard]] const ItemCounts& items() const { return items_; }

  // Returns false if the request is malformed.
  bool copy(std::string_view message, std::string& out, std::size_t level = 0) {
    ProtobufFields fields(message);
    while (fields.next()) {
      const std::uint64_t field = fields.number();
      if (fields.type() != ProtobufType::delimited || field >= 64 || (levels_[level] & bit(field)) == 0) {
        out += fields.whole();
      } else if (level + 1 == levels_.size()) {
        if (at_ >= first_ && at_ < last_) {
          out += fields.whole();
          if (!count(fields.bytes())) return false;
        }
        ++at_;
      } else {
        const std::uint64_t before = items_.total();
        std::string inner;
        if (!copy(fields.bytes(), inner, level + 1)) return false;
        if (items_.total() != before) append_bytes(out, static_cast<unsigned>(field), inner);
      }
    }
    return fields.is_valid();
  }

 private:
  bool count(std::string_view item) {
    if (signal_ == Signal::logs) ++items_.logs;
    if (signal_ == Signal::metrics) ++items_.points;
    if (signal_ != Signal::traces) return true;
    ++items_.spans;
    ProtobufFields fields(item);
    while (fields.next()) {
      if (fields.is(kSpanEvents, ProtobufType::delimited)) ++items_.span_events;
    }
    return fields.is_valid();
  }

  std::span<const std::uint64_t> levels_;
  Signal signal_;
  std::uint64_t first_, last_, at_ = 0;
  ItemCounts items_;
};

std::optional<ExportBody> part_of(const ExportBody& body, std::uint64_t first, std::uint64_t last) {
  ItemRange range(body.signal, first, last);
  ExportBody part{body.signal, {}, {}};
  if (!range.copy(body.bytes, part.bytes)) return std::nullopt;
  part.items = range.items();
  return part;
}

}  // namespace

std::pair<ExportBody, ExportBody> split(ExportBody body) {
  const std::uint64_t items = rejectable_items(body), half = items - items / 2;
  if (items >= 2) {
    auto first = part_of(body, 0, half), second = part_of(body, half, UINT64_MAX);
    if (first && second && second->items.total() > 0) return {std::move(*first), std::move(*second)};
  }
  ExportBody nothing{body.signal, {}, {}};
  return {std::move(body), std::move(nothing)};
}

}  // namespace nopspan::collector
