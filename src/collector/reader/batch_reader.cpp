// SPDX-License-Identifier: Apache-2.0
#include "reader/batch_reader.h"

#include "model/sampling.h"
#include "stream/batch_entries.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <utility>

namespace nopspan::collector {
namespace {

// The library writes at most 63 bytes for a name, label or id, and 512 for a tracestate, to which --sample adds. A text
// beyond the limits below makes its entry malformed.
constexpr std::size_t kMostLabel = 255;
constexpr std::size_t kMostAttributes = 64U << 10U;

constexpr std::uint32_t kKnownParts = NOPSPAN_PART_TIMES | NOPSPAN_PART_USAGE | NOPSPAN_PART_FIRST_TOKEN |
                                      NOPSPAN_PART_ENGINE | NOPSPAN_PART_VALUES | NOPSPAN_PART_STEP |
                                      NOPSPAN_PART_TEXTS;
// Bits that add no part are above these.
constexpr std::uint32_t kPartBits = 0xffff;

Kind kind_of(unsigned char raw) {
  if (raw == NOPSPAN_ENTRY_STEP) return Kind::span;
  return raw == NOPSPAN_ENTRY_MEMBERS ? Kind::part : static_cast<Kind>(raw);
}

}  // namespace

BatchReader::Outcome BatchReader::next(Entry& entry) {
  std::string_view record;
  do {
    record = index_ < entries_ ? record_at(bytes_.substr(offset_)) : std::string_view();
    if (record.empty()) return Outcome::end;
    offset_ += padded_size(record, bytes_.size() - offset_);
  } while (!is_entry(record));
  ++index_;
  if (kind_of_record(record) > NOPSPAN_ENTRY_MEMBERS) return Outcome::unknown;
  // Copied, so that the bytes need not be aligned. In the ring buffer and in a string they are.
  nopspan_entry raw;
  std::string_view left = record;
  if (!take_front(left, raw) || !find_form(raw.form) || !find_request(raw.request)) return Outcome::malformed;
  if ((form_.record.parts & kPartBits & ~kKnownParts) != 0) return Outcome::unknown;
  const bool is_whole = form_.is_whole && request_.is_whole && form_.record.entry_kind == raw.kind &&
                        read_times(raw, left, entry) && read_parts(left, entry) && read_texts(left, entry) &&
                        read_members(raw, entry);
  return is_whole ? Outcome::entry : Outcome::malformed;
}

// Returns false if there is no such record.
template <class Record>
bool BatchReader::find(unsigned short place, unsigned char kind, Shared<Record>& shared) const {
  shared.place = Shared<Record>::kNone;
  const std::size_t offset = std::size_t{place} * 8;
  if (offset > bytes_.size()) return false;
  std::string_view left = bytes_.substr(offset);
  if (!take_front(left, shared.record) || shared.record.kind != kind) return false;
  shared.place = place;
  return true;
}

bool BatchReader::find_form(unsigned short place) {
  if (place == form_.place) return true;
  if (!find(place, NOPSPAN_SHARED_FORM, form_)) return false;
  const nopspan_form& form = form_.record;
  form_.is_whole = text(form.name, kMostLabel, form_.texts[0]) && text(form.engine, kMostLabel, form_.texts[1]) &&
                   text(form.model, kMostLabel, form_.texts[2]) && text(form.tenant, kMostLabel, form_.texts[3]);
  return true;
}

bool BatchReader::find_request(unsigned short place) {
  if (place == request_.place) return true;
  if (!find(place, NOPSPAN_SHARED_REQUEST, request_)) return false;
  const nopspan_request& request = request_.record;
  request_.is_whole = text(request.foreign_id, kMostLabel, request_.texts[0]) &&
                      text(request.tracestate, kMostTracestate, request_.texts[1]);
  return true;
}

bool BatchReader::read_times(const nopspan_entry& raw, std::string_view& left, Entry& entry) {
  const nopspan_form& form = form_.record;
  const nopspan_request& request = request_.record;
  const auto status = static_cast<unsigned char>(raw.status & ~NOPSPAN_ENTRY_ATTRIBUTES_DROPPED);
  if (status > NOPSPAN_STATUS_EXCEPTION) return false;
  entry.kind = kind_of(raw.kind);
  entry.status = status;
  entry.flags = form.flags & ~(kSampledEntry | kPartialEntry);
  if ((raw.status & NOPSPAN_ENTRY_ATTRIBUTES_DROPPED) != 0) entry.flags |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
  std::memcpy(entry.trace_id.bytes, request.trace_id, sizeof(entry.trace_id.bytes));
  entry.span_id = raw.span_id;
  entry.parent_id = raw.parent_id;
  entry.root_id = request.root_id;
  std::uint64_t times[2] = {request.start_ns + static_cast<std::uint64_t>(std::int64_t{raw.start_ns}), raw.duration_ns};
  if ((form.parts & NOPSPAN_PART_TIMES) != 0 && !take_front(left, times)) return false;
  // A span may have a given time from before this program's clock began.
  const auto ahead_ns = static_cast<std::uint64_t>(clock_offset_ns_);  // modulo 2^64
  start_ns_ = clock_offset_ns_ > 0 && times[0] < ahead_ns ? 0 : times[0] - ahead_ns;
  end_ns_ = start_ns_ + std::min<std::uint64_t>(times[1], UINT64_MAX - start_ns_);
  entry.start_unix_ns = clocks_.to_unix(start_ns_) - (start_ns_ + ahead_ns - times[0]);
  entry.duration_ns = times[1];
  return true;
}

bool BatchReader::read_parts(std::string_view& left, Entry& entry) {
  const nopspan_form& form = form_.record;
  entry.counts_tokens = (form.parts & NOPSPAN_COUNTS_TOKENS) != 0;
  entry.counts_tool = (form.parts & NOPSPAN_COUNTS_TOOL) != 0;
  entry.has_usage = (form.parts & NOPSPAN_PART_USAGE) != 0;
  entry.has_first_token = (form.parts & NOPSPAN_PART_FIRST_TOKEN) != 0;
  entry.has_engine_times = (form.parts & NOPSPAN_PART_ENGINE) != 0;
  entry.usage = {};
  entry.first_token_ns = 0;
  entry.engine_times = {};
  entry.value = 0;
  entry.number = 0;
  entry.step = nullptr;
  // Both have the words of the ABI, in its order.
  static_assert(sizeof(Usage) == 4 * sizeof(std::uint64_t) && sizeof(EngineTimes) == 7 * sizeof(std::uint64_t));
  if (entry.has_usage && !take_front(left, entry.usage)) return false;
  if (entry.has_first_token && !take_front(left, entry.first_token_ns)) return false;
  if (entry.has_engine_times && !take_front(left, entry.engine_times)) return false;
  if ((form.parts & NOPSPAN_PART_VALUES) != 0) {
    std::uint64_t words[2];
    if (!take_front(left, words)) return false;
    entry.value = static_cast<std::int64_t>(words[0]);
    entry.number = words[1];
  }
  const bool has_step = (form.parts & NOPSPAN_PART_STEP) != 0;
  if (has_step && !take_front(left, step_)) return false;
  if (form.entry_kind != NOPSPAN_ENTRY_STEP) return true;
  entry.step = &step_;
  return has_step;
}

bool BatchReader::read_texts(std::string_view left, Entry& entry) {
  entry.name = form_.texts[0];
  entry.engine = form_.texts[1];
  entry.model = form_.texts[2];
  entry.tenant = form_.texts[3];
  entry.foreign_id = request_.texts[0];
  entry.tracestate = request_.texts[1];
  const std::uint32_t parts = form_.record.parts & NOPSPAN_PART_TEXTS;
  if (parts == 0) {  // most entries
    entry.exception_kind = entry.error_type = entry.text = entry.links = {};
    entry.attributes = left;
    if (left.size() > unshared_left_) return false;
    unshared_left_ -= left.size();
    return true;
  }
  nopspan_text places[5] = {};
  bool is_whole = true;
  for (std::size_t i = 0; i < std::size(places); ++i) {
    if ((parts & (std::uint32_t{NOPSPAN_PART_EXCEPTION_KIND} << i)) != 0)
      is_whole = is_whole && take_front(left, places[i]);
  }
  const auto [exception_kind, error_type, own, links, attributes] = places;
  return is_whole && text(exception_kind, kMostLabel, entry.exception_kind) &&
         text(error_type, kMostLabel, entry.error_type) && text(own, kMostLabel, entry.text) &&
         unshared(links, entry.links) && unshared(attributes, entry.attributes);
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
