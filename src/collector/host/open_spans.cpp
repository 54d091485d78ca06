// SPDX-License-Identifier: Apache-2.0
#include "host/open_spans.h"

#include "base/clocks.h"
#include "host/process_facts.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <set>

namespace nopspan::collector {
namespace {

constexpr std::uint32_t kMostSlabs = 16384;  // all that the library has
constexpr std::uint32_t kMostDistance = 1U << 20U;
constexpr std::size_t kMostOpenSpans = 65536;
constexpr std::uint32_t kMostLabels = 65536;
constexpr std::size_t kMostLabelsOfSpans = 16384;
constexpr std::size_t kMostHeaders = 65536;
constexpr unsigned kSpansOfSlab = 64;

// The beginning of an answer. The spans follow, then the labels.
struct PackedOpen {
  std::uint64_t span_count, label_count, now_ns, raised_ns, gate, unread;
  std::uint16_t label_keys[4];
  std::uint32_t now_is_least, reserved;
};

struct SpanHead {
  std::uint32_t state, generation;
};
// Three reads of one span.
struct SpanCopy {
  SpanHead before;
  nopspan_open span;
  SpanHead after;
};

template <typename T>
bool read_object(const ReadRanges& read, std::uint64_t address, T& to) {
  const MemoryRange range{address, sizeof(T)};
  return read({&range, 1}, &to);
}

template <typename T>
std::string_view as_bytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// Collects the spans and labels of one copy of the library.
class OpenSpanPacker {
 public:
  explicit OpenSpanPacker(const ReadRanges& read) : read_(read) {}

  int pack(std::uint64_t gate_address, const std::function<std::uint64_t()>& now, std::string& bytes);

 private:
  void add_slab(const nopspan_slab& slab);
  void add_labels();
  // The newest time in the memory. A core file does not have the time when it was written.
  std::uint64_t newest_time();

  const ReadRanges& read_;
  nopspan_gate_page page_{};
  std::uint64_t mark_ = 0, unread_ = 0;
  std::vector<nopspan_open> spans_;
  std::vector<nopspan_label> labels_;
};

int OpenSpanPacker::pack(std::uint64_t gate_address, const std::function<std::uint64_t()>& now, std::string& bytes) {
  if (!read_object(read_, gate_address, page_)) return errno == 0 ? EFAULT : errno;
  constexpr unsigned kFirstAbiVersion = 2;
  if (page_.abi_version < kFirstAbiVersion) return ENOTSUP;
  // The library's constructor has not run yet, so there are no spans.
  if (page_.magic != NOPSPAN_GATE_MAGIC || page_.size < offsetof(nopspan_gate_page, warnings)) return ESRCH;
  if (page_.open_bytes < sizeof(nopspan_open) || page_.open_bytes > kMostDistance) return EBADMSG;
  if (page_.process_mark != 0 && !read_object(read_, page_.process_mark, mark_)) return EBADMSG;
  std::vector<nopspan_slab> slabs(std::min(page_.open_slabs_count, kMostSlabs));
  const MemoryRange table{page_.open_slabs, slabs.size() * sizeof(nopspan_slab)};
  if (!slabs.empty() && !read_({&table, 1}, slabs.data())) return EBADMSG;
  for (const nopspan_slab& slab : slabs) {
    if (slab.spans == 0 || mark_ == 0) break;  // no span has begun yet
    add_slab(slab);
  }
  add_labels();
  PackedOpen head{};
  head.span_count = spans_.size();
  head.label_count = labels_.size();
  head.now_ns = now();
  head.now_is_least = head.now_ns == 0 ? 1 : 0;
  if (head.now_ns == 0) head.now_ns = newest_time();
  head.raised_ns = page_.raised_ns;
  head.gate = page_.gate;
  head.unread = unread_;
  std::memcpy(head.label_keys, page_.label_keys, sizeof(head.label_keys));
  bytes = as_bytes(head);
  bytes.append(reinterpret_cast<const char*>(spans_.data()), spans_.size() * sizeof(nopspan_open));
  bytes.append(reinterpret_cast<const char*>(labels_.data()), labels_.size() * sizeof(nopspan_label));
  return 0;
}

void OpenSpanPacker::add_slab(const nopspan_slab& slab) {
  std::array<MemoryRange, std::size_t{3} * kSpansOfSlab> ranges{};
  std::array<SpanCopy, kSpansOfSlab> copies{};
  std::size_t count = 0;
  for (unsigned i = 0; i < kSpansOfSlab; ++i) {
    if ((slab.free >> i & 1U) != 0) continue;
    const std::uint64_t at = slab.spans + std::uint64_t{i} * page_.open_bytes;
    ranges[3 * count] = {at, sizeof(SpanHead)};
    ranges[3 * count + 1] = {at, sizeof(nopspan_open)};
    ranges[3 * count + 2] = {at, sizeof(SpanHead)};
    ++count;
  }
  if (count == 0) return;
  if (spans_.size() + count > kMostOpenSpans || !read_({ranges.data(), 3 * count}, copies.data())) {
    unread_ += count;
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const SpanCopy& copy = copies[i];
    const bool is_valid = copy.before.state == NOPSPAN_OPEN && copy.span.state == NOPSPAN_OPEN &&
                          copy.after.state == NOPSPAN_OPEN && copy.before.generation == copy.span.generation &&
                          copy.before.generation == copy.after.generation && copy.span.mark == mark_;
    if (is_valid) spans_.push_back(copy.span);
  }
}

void OpenSpanPacker::add_labels() {
  if (page_.label_bytes < sizeof(nopspan_label) || page_.label_bytes > kMostDistance) return;
  std::set<std::uint32_t> numbers(std::begin(page_.label_keys), std::end(page_.label_keys));
  for (const nopspan_open& span : spans_) numbers.insert(std::begin(span.labels), std::end(span.labels));
  for (const std::uint32_t number : numbers) {
    if (number == 0 || number >= std::min(page_.labels_count, kMostLabels)) continue;
    if (labels_.size() == kMostLabelsOfSpans) break;
    nopspan_label label{};
    if (!read_object(read_, page_.labels + std::uint64_t{number} * page_.label_bytes, label)) continue;
    label.number = number;
    labels_.push_back(label);
  }
}

std::uint64_t OpenSpanPacker::newest_time() {
  std::uint64_t newest = page_.raised_ns;
  for (const nopspan_open& span : spans_)
    if ((span.flags & NOPSPAN_FLAG_GIVEN_TIMES) == 0) newest = std::max(newest, span.start_ns + span.first_token_ns);
  nopspan_thread header{};
  std::uint64_t at = page_.threads;
  for (std::size_t i = 0; i < kMostHeaders && at != 0; ++i, at = header.next_thread) {
    if (!read_object(read_, at, header) || header.magic != NOPSPAN_THREAD_MAGIC) break;
    if (header.mark == mark_) newest = std::max(newest, header.written_ns);
  }
  return newest;
}

// CLOCK_MONOTONIC in the time namespace of the process. 0 if it is not known.
std::uint64_t monotonic_time_of(std::uint32_t pid) {
  const std::uint64_t own = monotonic_now();
  const auto offset = clock_offset(pid);
  return offset ? own + static_cast<std::uint64_t>(*offset) : 0;
}

Answer open_spans_work(std::uint32_t pid, std::string_view request, OpenFile /*file*/) {
  std::uint64_t gate_address = 0;
  std::memcpy(&gate_address, request.data(), sizeof(gate_address));
  const ReadRanges read = [pid](std::span<const MemoryRange> ranges, void* to) {
    std::size_t size = 0;
    for (const MemoryRange& range : ranges) size += range.size;
    return read_ranges_here(pid, ranges, to, size) == size;
  };
  return pack_open_spans(read, gate_address, [pid] { return monotonic_time_of(pid); });
}

template <std::size_t N>
void end_text(char (&text)[N]) {
  text[N - 1] = '\0';
}

}  // namespace

Answer pack_open_spans(const ReadRanges& read, std::uint64_t gate_address, const std::function<std::uint64_t()>& now) {
  Answer answer;
  answer.error = OpenSpanPacker(read).pack(gate_address, now, answer.bytes);
  return answer;
}

int unpack_open_spans(const Answer& answer, OpenSpans& open) {
  open = OpenSpans();
  if (answer.error != 0) return answer.error;
  PackedOpen head{};
  std::string_view bytes = answer.bytes;
  if (bytes.size() < sizeof(head)) return EBADMSG;
  std::memcpy(&head, bytes.data(), sizeof(head));
  bytes.remove_prefix(sizeof(head));
  if (head.span_count > kMostOpenSpans || head.label_count > kMostLabelsOfSpans ||
      bytes.size() != head.span_count * sizeof(nopspan_open) + head.label_count * sizeof(nopspan_label))
    return EBADMSG;
  open.spans.resize(head.span_count);
  if (!open.spans.empty()) std::memcpy(open.spans.data(), bytes.data(), open.spans.size() * sizeof(nopspan_open));
  bytes.remove_prefix(open.spans.size() * sizeof(nopspan_open));
  for (nopspan_open& span : open.spans) {
    end_text(span.name);
    end_text(span.foreign_id);
  }
  for (; !bytes.empty(); bytes.remove_prefix(sizeof(nopspan_label))) {
    nopspan_label label{};
    std::memcpy(&label, bytes.data(), sizeof(label));
    end_text(label.text);
    if (label.size > 0) open.labels.emplace(label.number, label.text);
  }
  for (std::size_t i = 0; i < 3; ++i) {
    const auto key = open.labels.find(head.label_keys[i]);
    open.label_keys.push_back(key == open.labels.end() ? "" : key->second);
  }
  open.now_ns = head.now_ns;
  open.now_is_least = head.now_is_least != 0;
  constexpr std::uint64_t kSpanParts = 0xff'ffff'ffff;  // spans, batch, span_handlers
  open.is_raised = (head.gate & kSpanParts) != 0;
  open.raised_ns = head.raised_ns;
  open.unread = head.unread;
  return 0;
}

Answer read_packed_open_spans(const Target& process, std::uint64_t gate_address) {
  return read_process(process, open_spans_work, as_bytes(gate_address));
}

}  // namespace nopspan::collector
