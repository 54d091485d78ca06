// SPDX-License-Identifier: Apache-2.0
#include "format1/recorded_steps.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

namespace nopspan::collector {
namespace {

// The limit of the bytes of texts and members that a message describes, and of its threads.
constexpr std::size_t kMostExpanded = std::size_t{128} << 20U, kMostThreads = 16'384;
// The limit of members of an entry. A batch has no room for more.
constexpr std::size_t kMostMembers = 65'535 / sizeof(nopspan_member);

void restore(const StepNumbers& numbers, Entry& entry, nopspan_step& step) {
  entry.sequence = numbers[kSequence];
  std::memcpy(entry.trace_id.bytes, &numbers[kTraceId], sizeof(entry.trace_id.bytes));
  entry.span_id = numbers[kSpanId];
  entry.parent_id = numbers[kParentId];
  entry.start_unix_ns = numbers[kStart];
  entry.duration_ns = numbers[kDuration];
  entry.status = static_cast<std::uint8_t>(std::min<std::uint64_t>(numbers[kStatus], UINT8_MAX));
  set_flag_word(entry, numbers[kFlagWord]);
  entry.root_id = numbers[kRootId] + implied_root_id(entry);
  std::size_t i = kUsage;
  for (const auto& each : kUsageFields) entry.usage.*each.field = numbers[i++];
  entry.first_token_ns = numbers[kFirstToken];
  i = kEngineTimes;
  for (const auto& each : kEngineFields) entry.engine_times.*each.field = numbers[i++];
  entry.value = static_cast<std::int64_t>(numbers[kValue]);
  entry.number = numbers[kNumber];
  walk_facts(step,
             [&](std::size_t fact, auto& value) { value = static_cast<std::decay_t<decltype(value)>>(numbers[fact]); });
}

std::uint64_t unzigzag(std::uint64_t number) { return (number >> 1U) ^ (0 - (number & 1U)); }

[[noreturn]] void refuse_steps() { throw protozero::end_of_buffer_exception(); }

std::uint64_t take(std::string_view& left) {
  const char* at = left.data();
  const std::uint64_t value = protozero::decode_varint(&at, left.data() + left.size());
  left.remove_prefix(static_cast<std::size_t>(at - left.data()));
  return value;
}

std::string_view take(std::string_view& left, std::uint64_t bytes) {
  if (bytes > left.size()) refuse_steps();
  const std::string_view taken = left.substr(0, bytes);
  left.remove_prefix(bytes);
  return taken;
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

bool StepReader::read(std::string_view message, OtlpReader& processes, const Each& each) {
  threads_.clear();
  expanded_ = 0;
  try {
    protozero::pbf_reader reader(message.data(), message.size());
    while (reader.next()) {
      switch (reader.tag_and_type()) {
        case protozero::tag_and_type(kThreadField, protozero::pbf_wire_type::length_delimited):
          read_thread(view_of(reader), processes);
          break;
        case protozero::tag_and_type(kEntryField, protozero::pbf_wire_type::length_delimited):
          read_entry(view_of(reader), each);
          break;
        default:
          reader.skip();
      }
    }
  } catch (const protozero::exception&) {
    return false;
  }
  return true;
}

void StepReader::read_thread(std::string_view message, OtlpReader& processes) {
  if (threads_.size() >= kMostThreads) refuse_steps();
  Thread& thread = threads_.emplace_back();
  thread.process = std::make_shared<const Process>();
  protozero::pbf_reader reader(message.data(), message.size());
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case protozero::tag_and_type(kResourceField, protozero::pbf_wire_type::length_delimited):
        thread.process = processes.process_of(view_of(reader));
        break;
      case protozero::tag_and_type(kThreadIdField, protozero::pbf_wire_type::varint):
        thread.thread_id = reader.get_uint32();
        break;
      case protozero::tag_and_type(kSequenceIdField, protozero::pbf_wire_type::fixed64):
        thread.sequence_id = reader.get_fixed64();
        break;
      default:
        reader.skip();
    }
  }
}

void StepReader::expand(std::size_t bytes) {
  expanded_ += bytes;
  if (expanded_ > kMostExpanded) refuse_steps();
}

void StepReader::read_entry(std::string_view left, const Each& each) {
  const std::uint64_t head = take(left);
  if (head >> 1U >= threads_.size()) refuse_steps();
  Thread& thread = threads_[head >> 1U];
  const bool is_part = (head & 1U) != 0;
  if (!is_part) thread.begin_step();
  StepNumbers numbers = thread.expected(is_part);
  for (std::uint64_t changed = take(left); changed > 0; --changed) {
    const std::uint64_t i = take(left);
    const std::uint64_t difference = unzigzag(take(left));
    if (i < kStepNumbers) numbers[i] += difference;  // a later version may have further numbers
  }
  std::array<std::string, kStepTexts> of_part;
  std::array<std::string_view, kStepTexts> texts;
  for (std::size_t i = 0; i < kStepTexts; ++i) texts[i] = thread.expected_text(i, is_part);
  for (std::uint64_t changed = take(left); changed > 0; --changed) {
    const std::uint64_t i = take(left), prefix = take(left), suffix = take(left);
    const std::string_view middle = take(left, take(left));
    if (i >= kStepTexts) continue;
    if (prefix > texts[i].size() || suffix > texts[i].size() - prefix) refuse_steps();
    expand(prefix + middle.size() + suffix);
    std::string& text = is_part ? of_part[i] : thread.texts[i];
    if (is_part) text = std::string(texts[i]);
    text.replace(prefix, text.size() - prefix - suffix, middle);
    texts[i] = text;
  }
  const std::size_t begin = thread.members.size();
  const std::size_t count = read_members(left, thread);
  Entry entry;
  nopspan_step step{};
  restore(numbers, entry, step);
  entry.kind = is_part ? Kind::part : Kind::span;
  if (!is_part) {
    if (count > step.members || step.members_with_prefill > step.members) refuse_steps();
    entry.step = &step;
  }
  for (std::size_t i = 0; i < kStepTexts; ++i) {
    expand(texts[i].size());  // also if it has not changed, because many small entries may repeat a large text
    entry.*kStepTextFields[i] = texts[i];
  }
  entry.members = {reinterpret_cast<const char*>(thread.members.data() + begin), count * sizeof(nopspan_member)};
  entry.thread_id = thread.thread_id;
  entry.sequence_id = thread.sequence_id;
  entry.process = &thread.process;
  if (!is_part) thread.numbers = numbers;
  thread.sequence = entry.sequence + 1;
  each(entry);
}

// Returns the number of members.
std::size_t StepReader::read_members(std::string_view& left, Thread& thread) {
  const std::uint64_t count = take(left);
  if (count > kMostMembers) refuse_steps();
  expand(count * sizeof(nopspan_member));
  std::vector<nopspan_member>& members = thread.members;
  const std::size_t begin = members.size();
  std::vector<std::size_t> kept;  // indices of members that were in the step before
  while (members.size() - begin < count) {
    const std::uint64_t same = take(left), added = take(left), skipped = take(left);
    const std::uint64_t room = count - (members.size() - begin);
    if (same > room || added > room - same || (same + added == 0 && skipped == 0) ||
        same > thread.before.size() - thread.next || skipped > thread.before.size() - thread.next - same) {
      refuse_steps();
    }
    for (std::uint64_t i = 0; i < same; ++i) {
      kept.push_back(members.size());
      members.push_back(expected_after(thread.before[thread.next++]));
    }
    for (std::uint64_t i = 0; i < added; ++i) {
      nopspan_member member{};
      std::memcpy(&member.request, take(left, sizeof(member.request)).data(), sizeof(member.request));
      walk_member(member, [&](auto& field) { field = static_cast<std::decay_t<decltype(field)>>(take(left)); });
      members.push_back(member);
    }
    thread.next += skipped;
  }
  std::uint64_t at = 0;
  for (std::uint64_t changed = take(left); changed > 0; --changed, ++at) {
    const std::uint64_t unchanged = take(left);
    if (unchanged >= kept.size() - std::min<std::uint64_t>(at, kept.size())) refuse_steps();
    at += unchanged;
    walk_member(members[kept[at]],
                [&](auto& field) { field = static_cast<std::decay_t<decltype(field)>>(field + unzigzag(take(left))); });
  }
  return count;
}

}  // namespace nopspan::collector
