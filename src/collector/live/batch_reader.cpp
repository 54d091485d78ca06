// SPDX-License-Identifier: Apache-2.0
#include "live/batch_reader.h"

#include <cstddef>
#include <cstring>

namespace nopspan::collector {
namespace {

// The fixed part of an entry that every version of the library writes.
constexpr std::size_t kFixed = sizeof(nopspan_entry);
// The library writes at most 63 bytes for a name, label or id, and 512 for a tracestate. A text beyond the limits below
// makes its entry malformed.
constexpr std::size_t kMostLabel = 255;
constexpr std::size_t kMostTracestate = 2048;
constexpr std::size_t kMostAttributes = 64U << 10U;

// The size of the entry at the start of `bytes`. 0 if there is none: with an invalid size, the start of the next entry
// is unknown.
std::size_t entry_size(std::string_view bytes) {
  if (bytes.size() < kFixed) return 0;
  unsigned size = 0;
  static_assert(sizeof(size) == sizeof(nopspan_entry::size) && offsetof(nopspan_entry, size) == 0);
  std::memcpy(&size, bytes.data(), sizeof(size));
  return size % 8 == 0 && size >= kFixed && size <= bytes.size() ? size : 0;
}

// Reads the words of an extra. Returns false if the entry has no room for them.
template <std::size_t N>
bool take_extra(std::string_view& left, std::uint64_t (&words)[N]) {
  if (left.size() < sizeof(words)) return false;
  std::memcpy(words, left.data(), sizeof(words));
  left.remove_prefix(sizeof(words));
  return true;
}

}  // namespace

std::uint64_t BatchReader::whole_entries(std::string_view bytes, std::uint64_t entries) {
  std::uint64_t count = 0;
  for (std::size_t size = 0; count < entries && (size = entry_size(bytes)) != 0; ++count) bytes.remove_prefix(size);
  return count;
}

BatchReader::Outcome BatchReader::next(Span& span) {
  const std::size_t size = index_ < entries_ ? entry_size(bytes_.substr(offset_)) : 0;
  if (size == 0) return Outcome::end;
  // Copied, so that the bytes need not be aligned. In the ring buffer and in a string they are.
  nopspan_entry entry;
  std::memcpy(&entry, bytes_.data() + offset_, sizeof(entry));
  const std::string_view bytes = bytes_.substr(offset_, size);
  offset_ += size;
  ++index_;
  if (entry.kind > NOPSPAN_ENTRY_GAUGE) return Outcome::unknown;
  return read(entry, bytes, span) ? Outcome::span : Outcome::malformed;
}

bool BatchReader::read(const nopspan_entry& entry, std::string_view bytes, Span& span) {
  if (entry.fixed_size % 8 != 0 || entry.fixed_size < kFixed || entry.fixed_size > entry.size ||
      entry.status > NOPSPAN_STATUS_EXCEPTION) {
    return false;
  }
  span.kind = static_cast<Kind>(entry.kind);
  span.status = entry.status;
  span.flags = entry.flags;
  std::memcpy(span.trace_id.bytes, entry.trace_id, sizeof(span.trace_id.bytes));
  span.span_id = entry.span_id;
  span.parent_id = entry.parent_id;
  span.root_id = entry.root_id;
  span.start_unix_ns = clocks_.to_unix(entry.start_ns);
  span.duration_ns = entry.duration_ns;
  span.tells_tokens = (entry.extras & NOPSPAN_TELLS_TOKENS) != 0;
  span.tells_tool = (entry.extras & NOPSPAN_TELLS_TOOL) != 0;
  return read_extras(entry, bytes, span) && read_texts(entry, span);
}

bool BatchReader::read_extras(const nopspan_entry& entry, std::string_view bytes, Span& span) {
  std::string_view left = bytes.substr(entry.fixed_size);
  span.has_usage = (entry.extras & NOPSPAN_EXTRA_USAGE) != 0;
  span.has_first_token = (entry.extras & NOPSPAN_EXTRA_FIRST_TOKEN) != 0;
  span.has_engine_times = (entry.extras & NOPSPAN_EXTRA_ENGINE) != 0;
  span.usage = {};
  span.first_token_ns = 0;
  span.engine_times = {};
  span.value = 0;
  span.number = 0;
  if (span.has_usage) {
    std::uint64_t words[4];
    if (!take_extra(left, words)) return false;
    span.usage = {words[0], words[1], words[2], words[3]};
  }
  if (span.has_first_token) {
    std::uint64_t words[1];
    if (!take_extra(left, words)) return false;
    span.first_token_ns = words[0];
  }
  if (span.has_engine_times) {
    std::uint64_t words[7];
    if (!take_extra(left, words)) return false;
    span.engine_times = {words[0], words[1], words[2], words[3], words[4], words[5], words[6]};
  }
  if ((entry.extras & NOPSPAN_EXTRA_VALUES) != 0) {
    std::uint64_t words[2];
    if (!take_extra(left, words)) return false;
    span.value = static_cast<std::int64_t>(words[0]);
    span.number = words[1];
  }
  return true;
}

bool BatchReader::read_texts(const nopspan_entry& entry, Span& span) {
  return text(entry.name, kMostLabel, span.name) && text(entry.engine, kMostLabel, span.engine) &&
         text(entry.model, kMostLabel, span.model) && text(entry.tenant, kMostLabel, span.tenant) &&
         text(entry.exception_kind, kMostLabel, span.exception_kind) &&
         text(entry.error_type, kMostLabel, span.error_type) && text(entry.foreign_id, kMostLabel, span.foreign_id) &&
         text(entry.tracestate, kMostTracestate, span.tracestate) && text(entry.text, kMostLabel, span.text) &&
         unshared(entry.attributes, span.attributes) && unshared(entry.links, span.links) &&
         span.links.size() % sizeof(nopspan_link) == 0;
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
