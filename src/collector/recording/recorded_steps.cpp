// SPDX-License-Identifier: Apache-2.0
#include "recording/recorded_steps.h"

#include "model/steps.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <type_traits>
#include <utility>

namespace nopspan::collector {
namespace {

// Fields of the message, and of a thread.
constexpr unsigned kThreadField = 1, kEntryField = 2;
constexpr unsigned kResourceField = 1, kThreadIdField = 2, kSequenceIdField = 3;
// How far ahead a member is searched for in the step before.
constexpr std::size_t kSearched = 64;
// The limit of members of an entry. A batch has no room for more.
constexpr std::size_t kMostMembers = 65'535 / sizeof(nopspan_member);

// Indices of numbers that are treated specially.
enum StepNumber : std::size_t {
  kSequence = 0,
  kTraceId = 1,  // two numbers
  kSpanId = 3,
  kParentId = 4,
  kRootId = 5,  // less the id that follows from the others
  kStart = 6,
  kDuration = 7,
  kStatus = 8,
  kFlagWord = 9,
  kUsage = 10,  // four numbers
  kFirstToken = 14,
  kEngineTimes = 15,  // seven numbers
  kValue = 22,
  kNumber = 23,
  kFacts = 24,  // of the step: 15 numbers
  kStepNumber = kFacts + 3,
};

constexpr std::string_view Entry::*kStepTextFields[] = {
    &Entry::name,       &Entry::engine,     &Entry::model,      &Entry::tenant, &Entry::exception_kind,
    &Entry::error_type, &Entry::foreign_id, &Entry::tracestate, &Entry::text,   &Entry::attributes};
static_assert(std::size(kStepTextFields) == kStepTexts);

// Calls on_fact(number, field) for each number of a step, in the order of the format.
template <class Step, class OnFact>
void walk_facts(Step& step, const OnFact& on_fact) {
  std::size_t i = kFacts;
  on_fact(i++, step.size);
  on_fact(i++, step.kind);
  on_fact(i++, step.instance);
  on_fact(i++, step.number);
  on_fact(i++, step.members);
  on_fact(i++, step.members_with_prefill);
  on_fact(i++, step.dropped);
  on_fact(i++, step.prefill_tokens);
  on_fact(i++, step.decode_tokens);
  on_fact(i++, step.drafted_tokens);
  on_fact(i++, step.accepted_tokens);
  on_fact(i++, step.budget_tokens);
  on_fact(i++, step.host_ns);
  on_fact(i++, step.device_ns);
  on_fact(i++, step.batch_size);
}
static_assert(kFacts + 15 == kStepNumbers);

// Calls on_field(field) for each number of a member.
template <class Member, class OnField>
void walk_member(Member& member, const OnField& on_field) {
  on_field(member.prefill_tokens);
  on_field(member.context_tokens);
  on_field(member.decode_tokens);
  on_field(member.drafted_tokens);
  on_field(member.accepted_tokens);
  on_field(member.flags);
}

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

// The member as it is if the step did the same for it as the step before.
nopspan_member expected_after(nopspan_member member) {
  member.context_tokens += member.prefill_tokens + member.decode_tokens;
  return member;
}

bool is_same_request(const nopspan_member& a, const nopspan_member& b) {
  return a.request == b.request && a.flags == b.flags;
}

// Small differences in both directions become small numbers.
std::uint64_t zigzag(std::uint64_t difference) { return (difference << 1U) ^ (0 - (difference >> 63U)); }
std::uint64_t unzigzag(std::uint64_t number) { return (number >> 1U) ^ (0 - (number & 1U)); }

void put(std::string& out, std::uint64_t value) {
  char bytes[10];
  out.append(bytes, static_cast<std::size_t>(put_varint(bytes, value) - bytes));
}

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
  if (threads_.size() >= StepEncoder::kMostThreads) refuse_steps();
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
  if (expanded_ > StepEncoder::kMostExpanded) refuse_steps();
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
