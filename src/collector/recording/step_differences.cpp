// SPDX-License-Identifier: Apache-2.0
#include "recording/step_differences.h"

#include "recording/batch_chunk.h"
#include "stream/batch_entries.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

enum class Way { shorten, restore };

// The members of a thread's steps.
class Steps {
 public:
  void begin_step() {
    before_ = std::exchange(now_, {});
    places_.clear();
    next_ = 0;
  }
  nopspan_member changed(const nopspan_member& member, Way way) {
    nopspan_member result = member;
    // The request that follows the last one in the step before is expected.
    const std::uint64_t expected = next_ < before_.size() ? before_[next_].request : 0;
    result.request ^= expected;
    const nopspan_member& whole = way == Way::shorten ? member : result;
    nopspan_member base = take_base(whole.request);
    base.context_tokens += base.prefill_tokens + base.decode_tokens;
    change(result.prefill_tokens, base.prefill_tokens, way);
    change(result.context_tokens, base.context_tokens, way);
    change(result.decode_tokens, base.decode_tokens, way);
    change(result.drafted_tokens, base.drafted_tokens, way);
    change(result.accepted_tokens, base.accepted_tokens, way);
    change(result.flags, base.flags, way);
    now_.push_back(whole);
    return result;
  }

 private:
  template <class Number>
  static void change(Number& number, Number base, Way way) {
    number = static_cast<Number>(way == Way::shorten ? number - base : number + base);
  }
  nopspan_member take_base(std::uint64_t request) {
    if (next_ < before_.size() && before_[next_].request == request) return before_[next_++];
    if (places_.empty()) {
      for (std::size_t i = 0; i < before_.size(); ++i) places_.emplace_back(before_[i].request, i);
      std::sort(places_.begin(), places_.end());
    }
    const auto found = std::lower_bound(places_.begin(), places_.end(), std::pair(request, std::size_t{0}));
    if (found == places_.end() || found->first != request) return {};
    next_ = found->second + 1;
    return before_[found->second];
  }

  std::vector<nopspan_member> before_, now_;
  // Requests and their places in `before_`, in order; empty until it is needed. Not a hash table, because hostile
  // processes choose the requests.
  std::vector<std::pair<std::uint64_t, std::size_t>> places_;
  std::size_t next_ = 0;
};

// Where the members of this entry are in its batch. Empty if it has none in its own record. Those in other records
// could be changed twice, or be what the next entry is read with.
std::string_view members_of(std::string_view record, std::string_view batch) {
  nopspan_entry entry;
  nopspan_form form;
  std::string_view left = record, shared;
  if (!take_front(left, entry) || std::size_t{entry.form} * 8 > batch.size()) return {};
  shared = batch.substr(std::size_t{entry.form} * 8);
  if (!take_front(shared, form) || (form.parts & NOPSPAN_PART_LINKS) == 0) return {};
  constexpr std::pair<unsigned, std::size_t> kParts[] = {
      {NOPSPAN_PART_TIMES, 16},  {NOPSPAN_PART_USAGE, 32},  {NOPSPAN_PART_FIRST_TOKEN, 8},
      {NOPSPAN_PART_ENGINE, 56}, {NOPSPAN_PART_VALUES, 16}, {NOPSPAN_PART_STEP, sizeof(nopspan_step)}};
  std::size_t offset = 0;
  for (const auto& [bit, size] : kParts) offset += (form.parts & bit) != 0 ? size : 0;
  const unsigned before = form.parts & NOPSPAN_PART_TEXTS & (NOPSPAN_PART_LINKS - 1U);
  offset += sizeof(nopspan_text) * static_cast<std::size_t>(__builtin_popcount(before));
  nopspan_text where;
  if (offset > left.size()) return {};
  left.remove_prefix(offset);
  if (!take_front(left, where)) return {};
  const auto behind = static_cast<std::size_t>(left.data() - batch.data());
  const std::size_t at = std::size_t{where.offset} * 8;
  const bool is_inside = at >= behind && at + where.length <= behind + left.size();
  return is_inside ? batch.substr(at, where.length) : std::string_view();
}

void change_steps(std::string& payload, Way way) {
  std::map<std::pair<std::uint32_t, std::uint64_t>, Steps> threads;
  const auto change_entry = [&](std::string_view record, std::string_view batch, const RecordedBatch& of) {
    const unsigned char kind = kind_of_record(record);
    if (kind != NOPSPAN_ENTRY_STEP && kind != NOPSPAN_ENTRY_MEMBERS) return;
    Steps& steps = threads[{of.process, of.sequence_id}];
    if (kind == NOPSPAN_ENTRY_STEP) steps.begin_step();
    const std::string_view members = members_of(record, batch);
    if (members.empty()) return;
    char* at = payload.data() + (members.data() - payload.data());
    for (std::size_t i = 0; i < members.size() / sizeof(nopspan_member); ++i, at += sizeof(nopspan_member)) {
      nopspan_member member;
      std::memcpy(&member, at, sizeof(member));
      member = steps.changed(member, way);
      std::memcpy(at, &member, sizeof(member));
    }
  };
  for_each_recorded(payload, [&](RecordedKind kind, std::string_view message) {
    RecordedBatch batch;
    if (kind != RecordedKind::batch || !take_front(message, batch)) return true;
    if ((batch.flags & kRecordedPieces) != 0) return true;
    const std::string_view bytes = message.substr(0, batch.bytes);
    for (std::string_view left = bytes;;) {
      const std::string_view record = record_at(left);
      if (record.empty()) return true;
      change_entry(record, bytes, batch);
      left.remove_prefix(padded_size(record, left.size()));
    }
  });
}

}  // namespace

void shorten_steps(std::string& payload) { change_steps(payload, Way::shorten); }
void restore_steps(std::string& payload) { change_steps(payload, Way::restore); }

}  // namespace nopspan::collector
