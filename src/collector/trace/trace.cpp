// SPDX-License-Identifier: Apache-2.0
#include "trace/trace.h"

#include <algorithm>
#include <type_traits>

namespace nopspan::collector {
namespace {

constexpr std::uint32_t kOwnText = 0x80000000U;
constexpr std::size_t kFirstChunkWords = 64;
constexpr std::size_t kMaxChunkWords = 8192;
// The limit of sums of linked spans in one trace: one for each name and linked-to span. They are searched linearly.
constexpr std::size_t kMostLinked = 256;

// PackedEntry::parts
constexpr std::uint8_t kHasUsage = 1, kHasFirstToken = 2, kHasEngineTimes = 4, kHasValues = 8, kCountsTokens = 16,
                       kCountsTool = 32, kBeforeAttach = 64, kHasStep = 128;

constexpr std::size_t words_for(std::size_t bytes) { return (bytes + 7) / 8; }

constexpr std::pair<std::string_view Entry::*, std::uint32_t PackedEntry::*> kTexts[] = {
    {&Entry::name, &PackedEntry::name},
    {&Entry::engine, &PackedEntry::engine},
    {&Entry::model, &PackedEntry::model},
    {&Entry::tenant, &PackedEntry::tenant},
    {&Entry::exception_kind, &PackedEntry::exception_kind},
    {&Entry::error_type, &PackedEntry::error_type},
    {&Entry::text, &PackedEntry::text},
    {&Entry::tracestate, &PackedEntry::tracestate}};

static_assert(std::is_trivially_copyable_v<PackedEntry> && sizeof(PackedEntry) % 8 == 0);
static_assert(sizeof(nopspan_step) % 8 == 0);
static_assert(std::is_trivially_copyable_v<Usage> && std::is_trivially_copyable_v<EngineTimes>);

struct Values {
  std::int64_t value;
  std::uint64_t number;
};

std::uint8_t parts_of(const Entry& entry) {
  return static_cast<std::uint8_t>((entry.has_usage ? kHasUsage : 0) | (entry.has_first_token ? kHasFirstToken : 0) |
                                   (entry.has_engine_times ? kHasEngineTimes : 0) |
                                   (entry.value != 0 || entry.number != 0 ? kHasValues : 0) |
                                   (entry.counts_tokens ? kCountsTokens : 0) | (entry.counts_tool ? kCountsTool : 0) |
                                   (entry.before_attach ? kBeforeAttach : 0) | (entry.step != nullptr ? kHasStep : 0));
}

// Calls on_group(part, bytes) for each optional part that exists, in the order of their layout. Writing and reading use
// this same walk.
template <class SpanType, class OnGroup>
void walk_groups(std::uint8_t parts, SpanType& entry, Values& values, const OnGroup& on_group) {
  if ((parts & kHasUsage) != 0) on_group(&entry.usage, sizeof(entry.usage));
  if ((parts & kHasFirstToken) != 0) on_group(&entry.first_token_ns, sizeof(entry.first_token_ns));
  if ((parts & kHasEngineTimes) != 0) on_group(&entry.engine_times, sizeof(entry.engine_times));
  if ((parts & kHasValues) != 0) on_group(&values, sizeof(values));
}

}  // namespace

std::size_t LinkedSpans::add(const LinkedSpan& entry, std::size_t most_kept) {
  std::size_t grown = 0;
  const std::size_t octave = LogLinear::bucket_of(entry.duration_ns) >> LogLinear::kSubBits;
  if (times.octave(octave) == nullptr) grown += sizeof(LogLinear::Octave);
  times.add(entry.duration_ns);
  failed += entry.failed() ? 1 : 0;
  start_unix_ns = std::min(start_unix_ns, entry.start_unix_ns);
  end_unix_ns = std::max(end_unix_ns, entry.end_unix_ns());
  if (each.size() < most_kept) {
    each.push_back(entry);
    grown += 2 * sizeof(LinkedSpan);
  }
  return grown;
}

void Trace::reset(const TraceId& id) {
  if (!chunks_.empty() && chunks_.front().capacity == kFirstChunkWords) spare_ = std::move(chunks_.front().words);
  // bytes() does not count capacities, so only small ones are kept.
  const auto clear = [](auto& list) {
    constexpr std::size_t kMostKept = 64;
    list.clear();
    if (list.capacity() * sizeof(list[0]) > kMostKept) std::decay_t<decltype(list)>().swap(list);
  };
  id_ = id;
  clear(foreign_id_);
  clear(chunks_);
  clear(own_texts_);
  clear(processes_);
  clear(linked_);
  size_ = 0;
  bytes_ = sizeof(Trace) + (spare_ ? kFirstChunkWords * sizeof(std::uint64_t) : 0);
}

std::uint64_t* Trace::allocate(std::size_t words) {
  if (chunks_.empty() || chunks_.back().capacity - chunks_.back().used < words) {
    const std::size_t usual =
        chunks_.empty() ? kFirstChunkWords : std::min(2 * chunks_.back().capacity, kMaxChunkWords);
    const std::size_t capacity = std::max(usual, words);
    std::unique_ptr<std::uint64_t[]> words = std::move(spare_);
    if (words) bytes_ -= kFirstChunkWords * sizeof(std::uint64_t);
    if (!words || capacity != kFirstChunkWords) words = std::make_unique_for_overwrite<std::uint64_t[]>(capacity);
    chunks_.push_back({std::move(words), 0, capacity});
    bytes_ += capacity * sizeof(std::uint64_t) + 2 * sizeof(Chunk);
  }
  Chunk& chunk = chunks_.back();
  std::uint64_t* const at = chunk.words.get() + chunk.used;
  chunk.used += words;
  return at;
}

std::uint32_t Trace::keep(std::string_view text) {
  const std::uint32_t number = texts_->intern(text);
  if (number != InternedTexts::kRefused) return number;
  // Only the last few are searched, because the same texts often come one after the other.
  const std::size_t recent = std::min<std::size_t>(own_texts_.size(), 8);
  const auto found = std::find(own_texts_.end() - static_cast<std::ptrdiff_t>(recent), own_texts_.end(), text);
  if (found != own_texts_.end()) return kOwnText | static_cast<std::uint32_t>(found - own_texts_.begin());
  own_texts_.emplace_back(text);
  bytes_ += 2 * sizeof(std::string) + text.size();
  return kOwnText | static_cast<std::uint32_t>(own_texts_.size() - 1);
}

std::string_view Trace::text(std::uint32_t number) const {
  return (number & kOwnText) != 0 ? std::string_view(own_texts_[number & ~kOwnText]) : texts_->text(number);
}

std::uint32_t Trace::process_number(const ProcessPointer& process) {
  const auto found = std::find_if(processes_.begin(), processes_.end(),
                                  [&](const ProcessPointer& other) { return is_same_process(*other, *process); });
  if (found != processes_.end()) return static_cast<std::uint32_t>(found - processes_.begin());
  // Such a trace is hostile, and the search above is linear. Processes beyond the limit are shown as one unknown
  // process.
  constexpr std::size_t kMaxProcesses = 1024;
  if (processes_.size() > kMaxProcesses) return kMaxProcesses;
  processes_.push_back(processes_.size() == kMaxProcesses ? std::make_shared<const Process>() : process);
  bytes_ += 2 * sizeof(ProcessPointer);
  return static_cast<std::uint32_t>(processes_.size() - 1);
}

void Trace::add(const Entry& entry) {
  PackedEntry packed{};
  static_cast<EntryHead&>(packed) = entry;
  packed.process = process_number(*entry.process);
  for (const auto& [text, number] : kTexts) packed.*number = keep(entry.*text);
  packed.attributes_bytes = static_cast<std::uint32_t>(entry.attributes.size());
  packed.links_bytes = static_cast<std::uint32_t>(entry.links.size());
  packed.parts = parts_of(entry);
  Values values{entry.value, entry.number};
  std::size_t size = sizeof(PackedEntry);
  walk_groups(packed.parts, entry, values, [&](const void*, std::size_t bytes) { size += bytes; });
  const std::size_t step_bytes = entry.step == nullptr ? 0 : sizeof(nopspan_step);
  size = words_for(size + step_bytes + entry.links.size() + entry.attributes.size()) * 8;
  packed.size = static_cast<std::uint32_t>(size);

  auto* at = reinterpret_cast<unsigned char*>(allocate(size / 8));
  const auto write = [&at](const void* part, std::size_t bytes) {
    if (bytes > 0) std::memcpy(at, part, bytes);
    at += bytes;
  };
  write(&packed, sizeof(packed));
  walk_groups(packed.parts, entry, values, write);
  write(entry.step, step_bytes);
  write(entry.links.data(), entry.links.size());
  write(entry.attributes.data(), entry.attributes.size());
  if (foreign_id_.empty() && !entry.foreign_id.empty()) {
    foreign_id_ = entry.foreign_id;
    bytes_ += foreign_id_.size();
  }
  ++size_;
}

LinkedSpans* Trace::find_linked(std::uint64_t linked_id, const Entry& entry) const {
  for (const auto& linked : linked_) {
    if (linked->linked_id == linked_id && text(linked->name) == entry.name &&
        is_same_process(*processes_[linked->process], **entry.process)) {
      return linked.get();
    }
  }
  return nullptr;
}

bool Trace::add_linked(std::uint64_t linked_id, const Entry& entry, std::uint32_t requests, std::size_t most_kept) {
  LinkedSpans* linked = find_linked(linked_id, entry);
  if (linked == nullptr) {
    if (linked_.size() >= kMostLinked) return false;
    linked_.push_back(std::make_unique<LinkedSpans>());
    linked = linked_.back().get();
    linked->linked_id = linked_id;
    linked->name = keep(entry.name);
    linked->process = process_number(*entry.process);
    bytes_ += sizeof(LinkedSpans) + 2 * sizeof(void*);
  }
  bytes_ += linked->add({entry.trace_id, entry.span_id, entry.start_unix_ns, entry.duration_ns, requests, entry.status},
                        most_kept);
  return true;
}

bool Trace::adopt(std::unique_ptr<LinkedSpans> linked, const ProcessPointer& process) {
  if (linked_.size() >= kMostLinked) return false;
  linked->process = process_number(process);
  bytes_ += sizeof(LinkedSpans) + 2 * sizeof(void*) + linked->longest.most_request.size() +
            linked->longest.most_tenant.size();
  linked_.push_back(std::move(linked));
  return true;
}

std::string Trace::request_id() const {
  Entry entry;
  entry.trace_id = id_;
  entry.foreign_id = foreign_id_;
  return request_id_of(entry);
}

void Trace::entries(std::vector<const PackedEntry*>& to) const {
  to.clear();
  to.reserve(size_);
  for (const Chunk& chunk : chunks_) {
    for (std::size_t at = 0; at < chunk.used;) {
      const auto* packed = reinterpret_cast<const PackedEntry*>(chunk.words.get() + at);
      to.push_back(packed);
      at += packed->size / 8;
    }
  }
}

Entry Trace::view(const PackedEntry& packed) const {
  Entry entry;
  static_cast<EntryHead&>(entry) = packed;
  entry.trace_id = id_;
  entry.foreign_id = foreign_id_;
  for (const auto& [kept, number] : kTexts) entry.*kept = text(packed.*number);
  entry.has_usage = (packed.parts & kHasUsage) != 0;
  entry.has_first_token = (packed.parts & kHasFirstToken) != 0;
  entry.has_engine_times = (packed.parts & kHasEngineTimes) != 0;
  entry.counts_tokens = (packed.parts & kCountsTokens) != 0;
  entry.counts_tool = (packed.parts & kCountsTool) != 0;
  entry.before_attach = (packed.parts & kBeforeAttach) != 0;
  entry.process = &processes_[packed.process];
  const char* at = reinterpret_cast<const char*>(&packed + 1);
  Values values{};
  walk_groups(packed.parts, entry, values, [&at](void* part, std::size_t bytes) {
    std::memcpy(part, at, bytes);
    at += bytes;
  });
  entry.value = values.value;
  entry.number = values.number;
  if ((packed.parts & kHasStep) != 0) {
    entry.step = reinterpret_cast<const nopspan_step*>(at);  // aligned, because each part is
    at += sizeof(nopspan_step);
  }
  entry.links = {at, packed.links_bytes};
  entry.attributes = {at + packed.links_bytes, packed.attributes_bytes};
  return entry;
}

}  // namespace nopspan::collector
