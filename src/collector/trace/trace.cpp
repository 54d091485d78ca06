// SPDX-License-Identifier: Apache-2.0
#include "trace/trace.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <type_traits>

namespace nopspan::collector {
namespace {

constexpr std::uint32_t kOwnText = 0x80000000U;
constexpr std::size_t kFirstChunkWords = 64;
constexpr std::size_t kMaxChunkWords = 8192;
// The limit of sums of linked spans in one trace: one for each name and linked-to span. They are searched linearly.
constexpr std::size_t kMostShared = 256;

// TraceEntry::parts
constexpr std::uint8_t kHasUsage = 1, kHasFirstToken = 2, kHasEngineTimes = 4, kHasValues = 8, kTellsTokens = 16,
                       kTellsTool = 32;

constexpr std::size_t words_for(std::size_t bytes) { return (bytes + 7) / 8; }

static_assert(std::is_trivially_copyable_v<TraceEntry> && sizeof(TraceEntry) % 8 == 0);
static_assert(std::is_trivially_copyable_v<Usage> && std::is_trivially_copyable_v<EngineTimes>);

struct Values {
  std::int64_t value;
  std::uint64_t number;
};

std::uint8_t parts_of(const Span& span) {
  return static_cast<std::uint8_t>((span.has_usage ? kHasUsage : 0) | (span.has_first_token ? kHasFirstToken : 0) |
                                   (span.has_engine_times ? kHasEngineTimes : 0) |
                                   (span.value != 0 || span.number != 0 ? kHasValues : 0) |
                                   (span.tells_tokens ? kTellsTokens : 0) | (span.tells_tool ? kTellsTool : 0));
}

// Calls on_part(part, bytes) for each optional part that exists, in the order of their layout. Writing and reading use
// this same walk.
template <class SpanType, class OnPart>
void walk_parts(std::uint8_t parts, SpanType& span, Values& values, const OnPart& on_part) {
  if ((parts & kHasUsage) != 0) on_part(&span.usage, sizeof(span.usage));
  if ((parts & kHasFirstToken) != 0) on_part(&span.first_token_ns, sizeof(span.first_token_ns));
  if ((parts & kHasEngineTimes) != 0) on_part(&span.engine_times, sizeof(span.engine_times));
  if ((parts & kHasValues) != 0) on_part(&values, sizeof(values));
}

}  // namespace

std::uint64_t* Trace::allocate(std::size_t words) {
  if (chunks_.empty() || chunks_.back().capacity - chunks_.back().used < words) {
    const std::size_t usual =
        chunks_.empty() ? kFirstChunkWords : std::min(2 * chunks_.back().capacity, kMaxChunkWords);
    const std::size_t capacity = std::max(usual, words);
    chunks_.push_back({std::make_unique_for_overwrite<std::uint64_t[]>(capacity), 0, capacity});
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

std::uint32_t Trace::process_number(const ProcessPointer* process) {
  static const ProcessPointer unknown = std::make_shared<const Process>();
  const ProcessPointer& known = process != nullptr && *process != nullptr ? *process : unknown;
  const auto found = std::find_if(processes_.begin(), processes_.end(),
                                  [&](const ProcessPointer& other) { return is_same_process(*other, *known); });
  if (found != processes_.end()) return static_cast<std::uint32_t>(found - processes_.begin());
  // Such a trace is hostile, and the search above is linear. Processes beyond the limit are shown as one unknown
  // process.
  constexpr std::size_t kMaxProcesses = 1024;
  if (processes_.size() > kMaxProcesses) return kMaxProcesses;
  processes_.push_back(processes_.size() == kMaxProcesses ? unknown : known);
  bytes_ += 2 * sizeof(ProcessPointer);
  return static_cast<std::uint32_t>(processes_.size() - 1);
}

void Trace::add(const Span& span) {
  TraceEntry entry{};
  entry.span_id = span.span_id;
  entry.parent_id = span.parent_id;
  entry.root_id = span.root_id;
  entry.start_unix_ns = span.start_unix_ns;
  entry.duration_ns = span.duration_ns;
  entry.flags = span.flags;
  entry.thread_id = span.thread_id;
  entry.process = process_number(span.process);
  entry.name = keep(span.name);
  entry.engine = keep(span.engine);
  entry.model = keep(span.model);
  entry.tenant = keep(span.tenant);
  entry.exception_kind = keep(span.exception_kind);
  entry.error_type = keep(span.error_type);
  entry.text = keep(span.text);
  entry.tracestate = keep(span.tracestate);
  entry.attributes_bytes = static_cast<std::uint32_t>(span.attributes.size());
  entry.links_bytes = static_cast<std::uint32_t>(span.links.size());
  entry.kind = span.kind;
  entry.status = span.status;
  entry.parts = parts_of(span);
  Values values{span.value, span.number};
  std::size_t size = sizeof(TraceEntry);
  walk_parts(entry.parts, span, values, [&](const void*, std::size_t bytes) { size += bytes; });
  size = words_for(size + span.links.size() + span.attributes.size()) * 8;
  entry.size = static_cast<std::uint32_t>(size);

  auto* at = reinterpret_cast<unsigned char*>(allocate(size / 8));
  const auto write = [&at](const void* part, std::size_t bytes) {
    if (bytes > 0) std::memcpy(at, part, bytes);
    at += bytes;
  };
  write(&entry, sizeof(entry));
  walk_parts(entry.parts, span, values, write);
  write(span.links.data(), span.links.size());
  write(span.attributes.data(), span.attributes.size());
  if (foreign_id_.empty() && !span.foreign_id.empty()) {
    foreign_id_ = span.foreign_id;
    bytes_ += foreign_id_.size();
  }
  ++size_;
}

void Trace::add_bare(Span span) {
  span.attributes = {};
  span.links = {};
  add(span);
}

SharedSpans* Trace::find_shared(std::uint64_t linked_id, const Span& span) const {
  for (const auto& shared : shared_) {
    if (shared->linked_id == linked_id && text(shared->name) == span.name &&
        is_same_process(*processes_[shared->process], **span.process)) {
      return shared.get();
    }
  }
  return nullptr;
}

bool Trace::knows_shared(std::uint64_t linked_id, const Span& span) const {
  return find_shared(linked_id, span) != nullptr;
}

bool Trace::add_shared(std::uint64_t linked_id, const Span& span, std::uint32_t requests, std::size_t most_kept) {
  SharedSpans* shared = find_shared(linked_id, span);
  if (shared == nullptr) {
    if (shared_.size() >= kMostShared) return false;
    shared_.push_back(std::make_unique<SharedSpans>());
    shared = shared_.back().get();
    shared->linked_id = linked_id;
    shared->name = keep(span.name);
    shared->process = process_number(span.process);
    bytes_ += sizeof(SharedSpans) + 2 * sizeof(void*);
  }
  bytes_ += shared->add({span.trace_id, span.span_id, span.start_unix_ns, span.duration_ns, requests, span.status},
                        most_kept);
  return true;
}

std::string Trace::request_id() const {
  Span span;
  span.trace_id = id_;
  span.foreign_id = foreign_id_;
  return request_id_of(span);
}

std::vector<const TraceEntry*> Trace::entries() const {
  std::vector<const TraceEntry*> entries;
  entries.reserve(size_);
  for (const Chunk& chunk : chunks_) {
    for (std::size_t at = 0; at < chunk.used;) {
      const auto* entry = reinterpret_cast<const TraceEntry*>(chunk.words.get() + at);
      entries.push_back(entry);
      at += entry->size / 8;
    }
  }
  return entries;
}

Span Trace::view(const TraceEntry& entry) const {
  Span span;
  span.kind = entry.kind;
  span.status = entry.status;
  span.flags = entry.flags;
  span.trace_id = id_;
  span.span_id = entry.span_id;
  span.parent_id = entry.parent_id;
  span.root_id = entry.root_id;
  span.start_unix_ns = entry.start_unix_ns;
  span.duration_ns = entry.duration_ns;
  span.name = text(entry.name);
  span.engine = text(entry.engine);
  span.model = text(entry.model);
  span.tenant = text(entry.tenant);
  span.exception_kind = text(entry.exception_kind);
  span.error_type = text(entry.error_type);
  span.foreign_id = foreign_id_;
  span.tracestate = text(entry.tracestate);
  span.text = text(entry.text);
  span.has_usage = (entry.parts & kHasUsage) != 0;
  span.has_first_token = (entry.parts & kHasFirstToken) != 0;
  span.has_engine_times = (entry.parts & kHasEngineTimes) != 0;
  span.tells_tokens = (entry.parts & kTellsTokens) != 0;
  span.tells_tool = (entry.parts & kTellsTool) != 0;
  span.thread_id = entry.thread_id;
  span.process = &processes_[entry.process];
  const char* at = reinterpret_cast<const char*>(&entry + 1);
  Values values{};
  walk_parts(entry.parts, span, values, [&at](void* part, std::size_t bytes) {
    std::memcpy(part, at, bytes);
    at += bytes;
  });
  span.value = values.value;
  span.number = values.number;
  span.links = {at, entry.links_bytes};
  span.attributes = {at + entry.links_bytes, entry.attributes_bytes};
  return span;
}

}  // namespace nopspan::collector
