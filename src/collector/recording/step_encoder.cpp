// SPDX-License-Identifier: Apache-2.0
#include "recording/step_encoder.h"

#include "model/steps.h"
#include "recording/step_format.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace nopspan::collector {
namespace {

// How far ahead a member is searched for in the step before.
constexpr std::size_t kSearched = 64;

StepNumbers numbers_of(const Entry& entry) {
  StepNumbers numbers{};
  numbers[kSequence] = entry.sequence;
  std::memcpy(&numbers[kTraceId], entry.trace_id.bytes, sizeof(entry.trace_id.bytes));
  numbers[kSpanId] = entry.span_id;
  numbers[kParentId] = entry.parent_id;
  numbers[kRootId] = entry.root_id - implied_root_id(entry);
  numbers[kStart] = entry.start_unix_ns;
  numbers[kDuration] = entry.duration_ns;
  numbers[kStatus] = entry.status;
  numbers[kFlagWord] = flag_word(entry);
  std::size_t i = kUsage;
  for (const auto& each : kUsageFields) numbers[i++] = entry.usage.*each.field;
  numbers[kFirstToken] = entry.first_token_ns;
  i = kEngineTimes;
  for (const auto& each : kEngineFields) numbers[i++] = entry.engine_times.*each.field;
  numbers[kValue] = static_cast<std::uint64_t>(entry.value);
  numbers[kNumber] = entry.number;
  if (entry.step != nullptr) walk_facts(*entry.step, [&](std::size_t fact, auto value) { numbers[fact] = value; });
  return numbers;
}

bool is_same_request(const nopspan_member& a, const nopspan_member& b) {
  return a.request == b.request && a.flags == b.flags;
}

// Small differences in both directions become small numbers.
std::uint64_t zigzag(std::uint64_t difference) { return (difference << 1U) ^ (0 - (difference >> 63U)); }

void put(std::string& out, std::uint64_t value) {
  char bytes[10];
  out.append(bytes, static_cast<std::size_t>(put_varint(bytes, value) - bytes));
}

std::size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

void StepThread::begin_step() {
  before.swap(members);
  members.clear();
  next = 0;
}

StepNumbers StepThread::expected(bool is_part) const {
  StepNumbers expected{};
  if (is_part) {
    for (const std::size_t i :
         {kTraceId, StepNumber(kTraceId + 1), kSpanId, kParentId, kRootId, kStart, kDuration, kFlagWord}) {
      expected[i] = numbers[i];
    }
    expected[kNumber] = members.size();
  } else {
    expected = numbers;
    expected[kStart] += expected[kDuration];
    ++expected[kStepNumber];
  }
  expected[kSequence] = sequence;
  return expected;
}

std::string_view StepThread::expected_text(std::size_t i, bool is_part) const {
  constexpr std::size_t kOfParts = 4;  // a part has the name, engine, model and tenant of its step
  return is_part && i >= kOfParts ? std::string_view() : std::string_view(texts[i]);
}

StepEncoder::Thread& StepEncoder::thread_of(const Entry& entry) {
  const auto [begin, end] = threads_.equal_range(entry.sequence_id);
  for (auto known = begin; known != end; ++known) {
    if (known->second.process == entry.process->get() && known->second.thread_id == entry.thread_id) {
      return known->second;
    }
  }
  const auto [share, is_new] =
      share_numbers_.try_emplace(entry.process->get(), static_cast<std::uint32_t>(shares_.size()));
  if (is_new) shares_.push_back({*entry.process, 0, resource_of(**entry.process)});
  std::string message;
  append_bytes(message, kResourceField, shares_[share->second].resource);
  append_varint(message, kThreadIdField, entry.thread_id);
  append_fixed64(message, kSequenceIdField, entry.sequence_id);
  append_bytes(out_, kThreadField, message);
  Thread thread;
  thread.number = static_cast<std::uint32_t>(threads_.size());
  thread.share = share->second;
  thread.process = entry.process->get();
  thread.thread_id = entry.thread_id;
  return threads_.emplace(entry.sequence_id, std::move(thread))->second;
}

void StepEncoder::add(const Entry& entry) {
  Thread& thread = thread_of(entry);
  const bool is_part = entry.kind == Kind::part;
  if (!is_part) thread.begin_step();
  entry_.clear();
  put(entry_, std::uint64_t{thread.number} << 1U | (is_part ? 1U : 0U));
  const StepNumbers expected = thread.expected(is_part), numbers = numbers_of(entry);
  std::uint64_t changed = 0;
  for (std::size_t i = 0; i < kStepNumbers; ++i) changed += numbers[i] != expected[i] ? 1 : 0;
  put(entry_, changed);
  for (std::size_t i = 0; i < kStepNumbers; ++i) {
    if (numbers[i] == expected[i]) continue;
    put(entry_, i);
    put(entry_, zigzag(numbers[i] - expected[i]));
  }
  changed = 0;
  for (std::size_t i = 0; i < kStepTexts; ++i) {
    expanded_ += (entry.*kStepTextFields[i]).size();
    changed += entry.*kStepTextFields[i] != thread.expected_text(i, is_part) ? 1 : 0;
  }
  put(entry_, changed);
  for (std::size_t i = 0; i < kStepTexts; ++i) {
    const std::string_view text = entry.*kStepTextFields[i], other = thread.expected_text(i, is_part);
    if (text == other) continue;
    const std::size_t prefix = common_prefix(text, other);
    std::size_t suffix = 0;
    while (suffix < std::min(text.size(), other.size()) - prefix &&
           text[text.size() - 1 - suffix] == other[other.size() - 1 - suffix]) {
      ++suffix;
    }
    put(entry_, i);
    put(entry_, prefix);
    put(entry_, suffix);
    put(entry_, text.size() - prefix - suffix);
    entry_ += text.substr(prefix, text.size() - prefix - suffix);
    if (!is_part) thread.texts[i] = text;
  }
  write_members(thread, entry.members);
  if (!is_part) thread.numbers = numbers;
  thread.sequence = entry.sequence + 1;
  append_bytes(out_, kEntryField, entry_);
  ++shares_[thread.share].entries;
  ++entries_;
  if (threads_.size() >= kMostThreads) expanded_ = kMostExpanded;
}

// First which members of the step before are here, and which ones are new. Then what has changed of the former.
void StepEncoder::write_members(Thread& thread, std::string_view bytes) {
  const std::size_t begin = thread.members.size();
  for_each_member(bytes, [&](const nopspan_member& member) { thread.members.push_back(member); });
  const std::vector<nopspan_member>&members = thread.members, &before = thread.before;
  expanded_ += bytes.size();
  put(entry_, members.size() - begin);
  std::string changes;
  std::uint64_t changed = 0, unchanged = 0;
  for (std::size_t i = begin; i < members.size();) {
    std::size_t same = 0;
    for (; i < members.size() && thread.next < before.size(); ++i, ++same, ++thread.next) {
      if (!is_same_request(members[i], before[thread.next])) break;
      nopspan_member expected = expected_after(before[thread.next]);
      if (std::memcmp(&expected, &members[i], sizeof(expected)) == 0) {
        ++unchanged;
        continue;
      }
      put(changes, std::exchange(unchanged, 0));
      ++changed;
      std::uint64_t from[6], *at = from;
      walk_member(expected, [&](auto field) { *at++ = field; });
      at = from;
      walk_member(members[i], [&](auto field) { put(changes, zigzag(field - *at++)); });
    }
    std::size_t skipped = 0, added = 0;
    const auto is_found = [&] {
      const auto first = before.begin() + static_cast<std::ptrdiff_t>(thread.next);
      const auto last = first + static_cast<std::ptrdiff_t>(std::min(before.size() - thread.next, kSearched));
      const auto found = std::find_if(first, last, [&](const auto& one) { return is_same_request(one, members[i]); });
      skipped = static_cast<std::size_t>(found - first);
      return found != last;
    };
    const std::size_t first_added = i;
    while (i < members.size() && !is_found()) ++i;
    added = i - first_added;
    if (i == members.size()) skipped = 0;
    thread.next += skipped;
    put(entry_, same);
    put(entry_, added);
    put(entry_, skipped);
    for (std::size_t k = first_added; k < i; ++k) {
      entry_.append(reinterpret_cast<const char*>(&members[k].request), sizeof(members[k].request));
      walk_member(members[k], [&](auto field) { put(entry_, field); });
    }
  }
  put(entry_, changed);
  entry_ += changes;
}

std::vector<OtlpEncoder::Share> StepEncoder::finish(std::string& out) {
  out = std::exchange(out_, {});
  threads_.clear();
  share_numbers_.clear();
  entries_ = expanded_ = 0;
  return std::exchange(shares_, {});
}

}  // namespace nopspan::collector
