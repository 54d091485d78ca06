// SPDX-License-Identifier: Apache-2.0
#include "reader/batch_reader.h"

#include "model/sampling.h"
#include "stream/batch_entries.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

namespace nopspan::collector {
namespace {

// The library writes at most 63 bytes for a name, label or id, and 512 for a tracestate. A text beyond the limits below
// makes its entry malformed.
constexpr std::size_t kMostLabel = 255;
constexpr std::size_t kMostTracestate = 2048;
constexpr std::size_t kMostAttributes = 64U << 10U;

// Reads an extra. Returns false if the entry has no room for it.
template <class Extra>
bool take_extra(std::string_view& left, Extra& extra) {
  if (left.size() < sizeof(extra)) return false;
  std::memcpy(&extra, left.data(), sizeof(extra));
  left.remove_prefix(sizeof(extra));
  return true;
}

Kind kind_of(unsigned char raw) {
  if (raw == NOPSPAN_ENTRY_STEP) return Kind::span;
  return raw == NOPSPAN_ENTRY_MEMBERS ? Kind::part : static_cast<Kind>(raw);
}

}  // namespace

BatchReader::Outcome BatchReader::next(Entry& entry) {
  const std::size_t size = index_ < entries_ ? entry_size(bytes_.substr(offset_)) : 0;
  if (size == 0) return Outcome::end;
  // Copied, so that the bytes need not be aligned. In the ring buffer and in a string they are.
  nopspan_entry raw;
  std::memcpy(&raw, bytes_.data() + offset_, sizeof(raw));
  const std::string_view bytes = bytes_.substr(offset_, size);
  offset_ += size;
  ++index_;
  if (raw.kind > NOPSPAN_ENTRY_MEMBERS) return Outcome::unknown;
  return read(raw, bytes, entry) ? Outcome::entry : Outcome::malformed;
}

bool BatchReader::read(const nopspan_entry& raw, std::string_view bytes, Entry& entry) {
  if (raw.fixed_size % 8 != 0 || raw.fixed_size < kFixedEntry || raw.fixed_size > raw.size ||
      raw.status > NOPSPAN_STATUS_EXCEPTION) {
    return false;
  }
  entry.kind = kind_of(raw.kind);
  entry.status = raw.status;
  entry.flags = raw.flags & ~(kSampledEntry | kPartialEntry);
  std::memcpy(entry.trace_id.bytes, raw.trace_id, sizeof(entry.trace_id.bytes));
  entry.span_id = raw.span_id;
  entry.parent_id = raw.parent_id;
  entry.root_id = raw.root_id;
  // A span may have a given time from before this program's clock began.
  const auto ahead_ns = static_cast<std::uint64_t>(clock_offset_ns_);  // modulo 2^64
  start_ns_ = clock_offset_ns_ > 0 && raw.start_ns < ahead_ns ? 0 : raw.start_ns - ahead_ns;
  end_ns_ = start_ns_ + std::min<std::uint64_t>(raw.duration_ns, UINT64_MAX - start_ns_);
  entry.start_unix_ns = clocks_.to_unix(start_ns_) - (start_ns_ + ahead_ns - raw.start_ns);
  entry.duration_ns = raw.duration_ns;
  entry.counts_tokens = (raw.extras & NOPSPAN_COUNTS_TOKENS) != 0;
  entry.counts_tool = (raw.extras & NOPSPAN_COUNTS_TOOL) != 0;
  return read_extras(raw, bytes, entry) && read_texts(raw, entry) && read_members(raw, entry);
}

bool BatchReader::read_extras(const nopspan_entry& raw, std::string_view bytes, Entry& entry) {
  std::string_view left = bytes.substr(raw.fixed_size);
  entry.has_usage = (raw.extras & NOPSPAN_EXTRA_USAGE) != 0;
  entry.has_first_token = (raw.extras & NOPSPAN_EXTRA_FIRST_TOKEN) != 0;
  entry.has_engine_times = (raw.extras & NOPSPAN_EXTRA_ENGINE) != 0;
  entry.usage = {};
  entry.first_token_ns = 0;
  entry.engine_times = {};
  entry.value = 0;
  entry.number = 0;
  entry.step = nullptr;
  if (entry.has_usage) {
    std::uint64_t words[4];
    if (!take_extra(left, words)) return false;
    entry.usage = {words[0], words[1], words[2], words[3]};
  }
  if (entry.has_first_token) {
    std::uint64_t words[1];
    if (!take_extra(left, words)) return false;
    entry.first_token_ns = words[0];
  }
  if (entry.has_engine_times) {
    std::uint64_t words[7];
    if (!take_extra(left, words)) return false;
    entry.engine_times = {words[0], words[1], words[2], words[3], words[4], words[5], words[6]};
  }
  if ((raw.extras & NOPSPAN_EXTRA_VALUES) != 0) {
    std::uint64_t words[2];
    if (!take_extra(left, words)) return false;
    entry.value = static_cast<std::int64_t>(words[0]);
    entry.number = words[1];
  }
  if (raw.kind != NOPSPAN_ENTRY_STEP) return true;
  entry.step = &step_;
  return (raw.extras & NOPSPAN_EXTRA_STEP) != 0 && take_extra(left, step_);
}

bool BatchReader::read_texts(const nopspan_entry& raw, Entry& entry) {
  return text(raw.name, kMostLabel, entry.name) && text(raw.engine, kMostLabel, entry.engine) &&
         text(raw.model, kMostLabel, entry.model) && text(raw.tenant, kMostLabel, entry.tenant) &&
         text(raw.exception_kind, kMostLabel, entry.exception_kind) &&
         text(raw.error_type, kMostLabel, entry.error_type) && text(raw.foreign_id, kMostLabel, entry.foreign_id) &&
         text(raw.tracestate, kMostTracestate, entry.tracestate) && text(raw.text, kMostLabel, entry.text) &&
         unshared(raw.attributes, entry.attributes) && unshared(raw.links, entry.links);
}

// The members of a step are in the field that has the links of other spans.
bool BatchReader::read_members(const nopspan_entry& raw, Entry& entry) {
  entry.members = {};
  if (raw.kind < NOPSPAN_ENTRY_STEP) return entry.links.size() % sizeof(nopspan_link) == 0;
  entry.members = std::exchange(entry.links, {});
  if (entry.members.size() % sizeof(nopspan_member) != 0) return false;
  if (entry.step == nullptr) return true;
  if (step_.kind > NOPSPAN_STEP_MIXED) step_.kind = NOPSPAN_STEP_UNKNOWN;
  return entry.members.size() / sizeof(nopspan_member) <= step_.members && step_.members_with_prefill <= step_.members;
}

bool BatchReader::text(nopspan_text where, std::size_t most, std::string_view& to) const {
  to = {};
  if (where.length == 0) return true;
  const std::size_t offset = std::size_t{where.offset} * 8;
  if (where.length > most || offset > bytes_.size() || where.length > bytes_.size() - offset) return false;
  to = bytes_.substr(offset, where.length);
  return true;
}

bool BatchReader::unshared(nopspan_text where, std::string_view& to) {
  if (!text(where, kMostAttributes, to) || to.size() > unshared_left_) return false;
  unshared_left_ -= to.size();
  return true;
}

}  // namespace nopspan::collector
