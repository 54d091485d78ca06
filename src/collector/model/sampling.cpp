// SPDX-License-Identifier: Apache-2.0
#include "model/sampling.h"

#include "base/text.h"
#include "model/entry_json.h"
#include "model/steps.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstddef>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr unsigned kDigits = 14;  // of 56 bits, in hexadecimal
constexpr std::uint64_t kRange = std::uint64_t{1} << 56U;
constexpr std::string_view kHexDigits = "0123456789abcdefABCDEF";

// Calls on_item(text) for each item of a tracestate that has a key, and on_ot(key, value) for each value in
// the first item "ot".
template <class OnItem, class OnOt>
void for_each_item_of(std::string_view tracestate, const OnItem& on_item, const OnOt& on_ot) {
  constexpr std::string_view kKeyChars = "abcdefghijklmnopqrstuvwxyz0123456789";
  constexpr std::string_view kValueChars = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ._-";
  bool has_ot = false;
  while (!tracestate.empty()) {
    const std::string_view item = trimmed(take_before(tracestate, ','));
    std::string_view values = item;
    const std::string_view key = take_before(values, '=');
    if (key.size() == item.size() || key.empty()) continue;
    if (key != "ot") {
      on_item(item);
      continue;
    }
    if (std::exchange(has_ot, true)) continue;
    while (!values.empty()) {
      std::string_view value = take_before(values, ';');
      const std::size_t bytes = value.size();
      const std::string_view name = take_before(value, ':');
      const bool is_valid = !name.empty() && name.size() < bytes && name[0] >= 'a' && name[0] <= 'z' &&
                            name.find_first_not_of(kKeyChars) == std::string_view::npos &&
                            value.find_first_not_of(kValueChars) == std::string_view::npos;
      if (is_valid) on_ot(name, value);
    }
  }
}

// Reads hexadecimal digits. Missing ones at the end are zeros.
std::optional<std::uint64_t> read_digits(std::string_view text, std::size_t least) {
  std::uint64_t number = 0;
  if (text.size() < least || text.size() > kDigits) return {};
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return {};
  return number << 4 * (kDigits - text.size());
}

std::string digits_of(std::uint64_t number) { return id_text(number).substr(16 - kDigits); }

// An id of another form is hashed, except one of 32 hexadecimal digits.
bool has_hashed_id(const Entry& entry) {
  if ((entry.flags & NOPSPAN_FLAG_FOREIGN_ID) == 0 || entry.trace_id.empty()) return false;
  return entry.foreign_id.size() != 2 * sizeof(TraceId::bytes) ||
         entry.foreign_id.find_first_not_of(kHexDigits) != std::string_view::npos;
}

std::uint64_t randomness_with(const Entry& entry, const OtelState& state) {
  if (state.randomness) return *state.randomness;
  return has_hashed_id(entry) ? nopspan_hashed_randomness(entry.trace_id.bytes) : randomness_of(entry.trace_id);
}

}  // namespace

std::uint64_t rejection_threshold(std::uint32_t one_in) {
  if (one_in <= 1) return 0;
  const std::uint64_t exact = kRange - (kRange + one_in / 2) / one_in;
  // All digits before these are f.
  const unsigned digits = 4 + static_cast<unsigned>(std::bit_width(one_in - 1) - 1) / 4;
  const unsigned left_out = 4 * (kDigits - digits);
  return (exact + (std::uint64_t{1} << (left_out - 1))) >> left_out << left_out;
}

std::uint64_t randomness_of(const TraceId& id) {
  std::uint64_t bits = 0;
  for (std::size_t i = sizeof(id.bytes) - 7; i < sizeof(id.bytes); ++i) bits = bits << 8U | id.bytes[i];
  return bits;
}

std::uint64_t randomness_of(const Entry& entry) { return randomness_with(entry, otel_state_of(entry.tracestate)); }

bool is_sampled(const Entry& entry, std::uint32_t one_in) {
  return one_in <= 1 || entry.trace_id.empty() || randomness_of(entry) >= rejection_threshold(one_in);
}

bool may_be_sampled(const TraceId& id, std::uint32_t one_in) {
  return one_in <= 1 || id.empty() ||
         std::max(randomness_of(id), nopspan_hashed_randomness(id.bytes)) >= rejection_threshold(one_in);
}

bool is_sampled_by_caller(const Entry& entry) {
  return entry.trace_id.empty() || (entry.flags & NOPSPAN_FLAG_SAMPLED) != 0;
}

OtelState otel_state_of(std::string_view tracestate) {
  OtelState state;
  if (tracestate.empty()) return state;
  for_each_item_of(
      tracestate, [](std::string_view) {},
      [&](std::string_view key, std::string_view value) {
        if (key == "th") state.threshold = read_digits(value, 1);
        if (key == "rv") state.randomness = read_digits(value, kDigits);
      });
  return state;
}

std::string with_otel_state(std::string_view tracestate, const OtelState& state) {
  constexpr std::size_t kMostValues = 256, kMostItems = 32;
  std::string values, others;
  const auto add = [&values](std::string_view key, std::string_view value) {
    if (!values.empty()) values += ';';
    ((values += key) += ':') += value;
  };
  if (state.randomness) add("rv", digits_of(*state.randomness));
  if (state.threshold) {
    const std::string digits = digits_of(*state.threshold);
    add("th", std::string_view(digits).substr(0, std::max<std::size_t>(digits.find_last_not_of('0') + 1, 1)));
  }
  std::size_t items = 1;
  for_each_item_of(
      tracestate,
      [&](std::string_view item) {
        if (++items <= kMostItems) (others += ',') += item;
      },
      [&](std::string_view key, std::string_view value) {
        if (key != "rv" && key != "th") add(key, value);
      });
  if (values.size() > kMostValues) return std::string(tracestate);
  return values.empty() ? others.substr(others.empty() ? 0 : 1) : "ot=" + values + others;
}

const Entry& SampleMark::marked(const Entry& entry) {
  if (entry.kind != Kind::span || entry.trace_id.empty()) return entry;
  const bool is_hashed = has_hashed_id(entry), was_sampled = (entry.flags & kSampledEntry) != 0;
  if (threshold_ == 0 && entry.tracestate.empty() && !is_hashed) return entry;
  const OtelState found = otel_state_of(entry.tracestate);
  OtelState state = found;
  // Collectors see only the trace id.
  if (is_hashed && !found.randomness) state.randomness = nopspan_hashed_randomness(entry.trace_id.bytes);
  // A caller's threshold says how likely the caller's span was kept. Spans here are kept in any case, unless they
  // follow the caller's decision.
  const bool follows = only_sampled_ && found.threshold && *found.threshold <= randomness_with(entry, found);
  const std::uint64_t applied = was_sampled || follows ? found.threshold.value_or(0) : 0;
  state.threshold = std::max(threshold_, applied);
  // A step or linked span is kept if any of its requests is, so its probability is not known.
  const bool is_unknown = (was_sampled && !found.threshold) || (threshold_ > 0 && (is_linked(entry) || is_step(entry)));
  if (is_unknown || (*state.threshold == 0 && !found.threshold)) state.threshold.reset();
  copy_ = entry;
  if (threshold_ > 0 || follows) copy_.flags |= kSampledEntry;
  if (state.threshold != found.threshold || state.randomness != found.randomness) {
    tracestate_ = with_otel_state(entry.tracestate, state);
    copy_.tracestate = tracestate_;
  }
  return copy_;
}

}  // namespace nopspan::collector
