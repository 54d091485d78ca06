// SPDX-License-Identifier: Apache-2.0
#include "emit/batch.h"

#include "base/copy_bytes.h"
#include "base/counters.h"
#include "emit/batch_tap.h"
#include "gate/gate.h"
#include "genai/attributes.h"
#include "genai/span_attributes.h"
#include "memory/blocks.h"
#include "state/context_stack.h"
#include "state/header_store.h"
#include "state/labels.h"
#include "state/step_data.h"

#include <algorithm>
#include <cstring>
#include <string_view>

static_assert(sizeof(nopspan_thread) == 160 && sizeof(nopspan_entry) == 120 && sizeof(nopspan_gate_page) == 152);

#if NOPSPAN_HAVE_USDT
extern "C" __attribute__((visibility("hidden"))) void nopspan_site_batch(const void*, std::uint64_t, std::uint64_t,
                                                                         std::uint64_t, std::uint64_t, const void*);
#else
static inline void nopspan_site_batch(const void*, std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t,
                                      const void*) {}
#endif

namespace nopspan::detail {
namespace {

// A batch is flushed if this much time has passed since the last flush: kRootWaitNs when a root span ends, kWaitNs when
// any other entry is written.
constexpr std::uint64_t kRootWaitNs = 1'000'000;
constexpr std::uint64_t kWaitNs = 100'000'000;

// Upper bounds of the size of an entry without attributes: the fixed part and its extras, ten texts of 63 bytes, the
// padding of the attributes, and what is written behind the last part, because it is copied in blocks. Few entries have
// a tracestate or links too.
constexpr std::size_t kUsualEntryBytes =
    sizeof(nopspan_entry) + std::size_t{16} * 8 + std::size_t{10} * 64 + 8 + FieldEntry::kBehindWire + 8;
constexpr std::size_t kMostEntryBytes = kUsualEntryBytes + kMaxTracestateBytes + 8 + kMaxLinks * sizeof(nopspan_link);
static_assert((kMostEntryBytes + kMaxAttributesBytes) * 2 < kBatchBytes);
// What the entry of a step, or one of further members, has beside that.
constexpr std::size_t kMostMemberBytes = NOPSPAN_MEMBERS_PER_ENTRY * sizeof(nopspan_member);
constexpr std::size_t kMostStepBytes = sizeof(nopspan_step) + kMostMemberBytes;
static_assert(kMostEntryBytes + kMaxAttributesBytes + kMostStepBytes < kBatchBytes);
static_assert(kBatchBytes / 8 <= UINT16_MAX);

// The same for a span without labels and other parts that few have, whose name is in the batch.
constexpr std::size_t kPlainEntryBytes = sizeof(nopspan_entry) + 2 * FieldEntry::kBehindWire + 8;

// Writes a field that another process, or the kernel, may read at the same time.
template <class T>
void publish(T& field, std::uint64_t value) noexcept {
  __atomic_store_n(&field, static_cast<T>(value), __ATOMIC_RELEASE);
}

unsigned char* buffer_of(const nopspan_thread& header) noexcept {
  return reinterpret_cast<unsigned char*>(header.buffer);  // NOLINT(performance-no-int-to-ptr): it is one
}

bool make_buffer(nopspan_thread& header) noexcept {
  if (__atomic_add_fetch(&nopspan_gate.memory_bytes, kBatchBytes, __ATOMIC_RELAXED) <= kMaxBatchesBytes) {
    const Block block = take_slab_block(kBatchBytes);  // stays mapped, because other threads and processes read it
    if (block.bytes != nullptr) {
      header.capacity = kBatchBytes;
      publish(header.buffer, reinterpret_cast<std::uintptr_t>(block.bytes));
      return true;
    }
  }
  __atomic_sub_fetch(&nopspan_gate.memory_bytes, kBatchBytes, __ATOMIC_RELAXED);
  return false;
}

void free_buffer(nopspan_thread& header) noexcept {
  if (header.buffer == 0) return;
  unsigned char* const bytes = buffer_of(header);
  publish(header.buffer, 0);
  header.capacity = 0;
  give_back_block(bytes);
  __atomic_sub_fetch(&nopspan_gate.memory_bytes, kBatchBytes, __ATOMIC_RELAXED);
}

// Empties the buffer. The sequence numbers continue.
void empty(BatchBuffer& batch) noexcept {
  nopspan_thread& header = *batch.header;
  publish(header.bytes, 0);
  publish(header.first, header.next);
  __atomic_thread_fence(__ATOMIC_RELEASE);  // a reader that sees the next entry also sees the new `first`
  header.open_entries = 0;
  header.name_bits = header.model_bits = header.request_bits = 0;
  ++batch.batch;
  batch.errors = batch.awaiting = batch.root_elsewhere = 0;
  batch.awaited_root = batch.longest_root_ns = 0;
}

// False in one case: a signal handler interrupted the library and forked, and the child has not left the library yet.
// The entry in progress belongs to the parent, so the child must not flush it.
bool is_of_this_process(const BatchBuffer& batch) noexcept { return batch.header->mark == process_mark(); }

void flush(BatchBuffer& batch, std::uint64_t now_ns) noexcept {
  const nopspan_thread& header = *batch.header;
  batch.flushed_ns = now_ns;
  if (header.next == header.first) return;
  if (__builtin_expect(!is_of_this_process(batch), 0)) {
    empty(batch);
    return;
  }
  // The compiler must store the entries and the header before the site, because only a BPF program reads them.
  __asm__ volatile("" : : "r"(header.buffer), "r"(&header) : "memory");
  if (calls_sites()) {
    nopspan_site_batch(buffer_of(header), header.bytes, header.next - header.first, batch.longest_root_ns, batch.errors,
                       &header);
  }
  if (__builtin_expect(batch_tap_up(), 0)) pass_to_tap(batch);
  empty(batch);
}

// Calls the site without entries.
void show_header(const BatchBuffer& batch) noexcept {
  if (calls_sites()) nopspan_site_batch(nullptr, 0, 0, 0, 0, batch.header);
}

void discard(BatchBuffer& batch) noexcept {
  nopspan_thread& header = *batch.header;
  header.discarded += header.next - header.first;
  empty(batch);
}

// Takes a header for the thread. A header that was never used is added to the list that tracers read from outside the
// process. Headers are never removed from the list. False if memory runs out.
bool make_header(BatchBuffer& batch) noexcept {
  const Slabs::Claim place = header_slabs.claim(1);
  if (place.bits == 0) return false;
  auto* const header = header_slabs.element<nopspan_thread>(place);
  batch.header_place = place;
  std::atomic_signal_fence(std::memory_order_seq_cst);  // a signal handler may fork, and the child looks at both
  batch.header = header;
  if (header->magic != 0) return true;
  header->magic = NOPSPAN_THREAD_MAGIC;
  header->size = offsetof(nopspan_thread, reserved);
  unsigned long first = __atomic_load_n(&nopspan_gate.threads, __ATOMIC_RELAXED);
  do {
    header->next_thread = first;
  } while (!__atomic_compare_exchange_n(&nopspan_gate.threads, &first, reinterpret_cast<std::uintptr_t>(header), true,
                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED));
  return true;
}

Interned hashed(std::string_view text) noexcept { return {text.data(), text.size(), hash_bytes(text)}; }

// Writes a text that the batch does not contain yet to `at`, and records where it is.
__attribute__((noinline)) void write_text(BatchBuffer::WrittenText& written, const Interned& text, std::uint32_t batch,
                                          std::size_t offset, unsigned char* at) noexcept {
  std::memcpy(at, text.text, text.size);
  std::memset(at + text.size, 0, 8);
  written = {text.hash,
             nopspan_text_bit(text.text, text.size),
             batch,
             {static_cast<unsigned short>(offset / 8), static_cast<unsigned short>(text.size)}};
}

// Appends one entry to the batch. Parts that few entries have are written by functions that are not inlined. They take
// the writer by value and return it, so that it stays in registers.
class EntryWriter {
 public:
  explicit EntryWriter(BatchBuffer& batch) noexcept
      : batch_(&batch),
        begin_(buffer_of(*batch.header)),
        entry_(new (begin_ + batch.header->bytes) nopspan_entry),
        at_(reinterpret_cast<unsigned char*>(entry_ + 1)) {}

  [[nodiscard]] nopspan_entry& entry() const noexcept { return *entry_; }

  // Adds an optional part. Call it in the order of the NOPSPAN_EXTRA_* bits, before any text is written.
  template <class... Words>
  void extra(std::uint32_t bit, Words... words) noexcept {
    entry_->extras |= bit;
    const std::uint64_t all[] = {words...};
    std::memcpy(at_, all, sizeof(all));
    at_ += sizeof(all);
  }

  void extra(std::uint32_t bit, const nopspan_step& step) noexcept {
    entry_->extras |= bit;
    std::memcpy(at_, &step, sizeof(step));
    at_ += sizeof(step);
  }

  nopspan_text text(const char* text, std::size_t size) noexcept {
    if (size == 0) return {};
    std::memcpy(at_, text, size);
    return written(size);
  }

  // Writes a text that other entries are likely to have too, unless the batch contains it already. Adds its bit to
  // `bits`.
  nopspan_text text_once(const Interned& text, unsigned long* bits = nullptr) noexcept {
    if (text.size == 0) return {};
    BatchBuffer::WrittenText& written = batch_->written_texts[text.hash % BatchBuffer::kWrittenTexts];
    if (written.batch == batch_->batch && written.hash == text.hash && written.where.length == text.size &&
        is_same(begin_ + std::size_t{written.where.offset} * 8, text.text, text.size)) {
      if (bits != nullptr) *bits |= written.bit;
      return written.where;
    }
    write_text(written, text, batch_->batch, static_cast<std::size_t>(at_ - begin_), at_);
    at_ += padded(text.size);
    if (bits != nullptr) *bits |= written.bit;
    return written.where;
  }

  // For texts that another function writes: it writes to room(), at most as many bytes as kMaxEntryBytes allows for.
  // Then written() adds the `size` bytes that it wrote.
  [[nodiscard]] unsigned char* room() const noexcept { return at_; }
  nopspan_text written(std::size_t size) noexcept {
    const nopspan_text where{static_cast<unsigned short>(static_cast<std::size_t>(at_ - begin_) / 8),
                             static_cast<unsigned short>(size)};
    std::memset(at_ + size, 0, 8);  // the padding
    at_ += padded(size);
    return where;
  }

  // Publishes the entry to readers.
  void finish(std::uint64_t now_ns) noexcept {
    nopspan_thread& header = *batch_->header;
    entry_->size = static_cast<unsigned>(at_ - reinterpret_cast<unsigned char*>(entry_));
    header.written_ns = now_ns;
    publish(header.bytes, static_cast<std::uint64_t>(at_ - begin_));
    publish(header.next, header.next + 1);
  }

 private:
  static std::size_t padded(std::size_t size) { return (size + 7) & ~std::size_t{7}; }

  BatchBuffer* batch_;
  unsigned char* begin_;
  nopspan_entry* entry_;
  unsigned char* at_;
};

// Writes the fixed fields that spans and events share, and clears the texts.
inline void write_place(EntryWriter& out, const SpanState& state) noexcept {
  const ContextHead& context = state.context;
  nopspan_entry& entry = out.entry();
  entry.status = static_cast<unsigned char>(state.status);
  entry.fixed_size = sizeof(nopspan_entry);
  entry.flags = state.flags;
  std::memcpy(entry.trace_id, context.trace_id, sizeof(entry.trace_id));
  entry.span_id = context.span_id;
  entry.parent_id = context.parent_id;
  entry.root_id = context.root_id;
  static_assert(offsetof(nopspan_entry, reserved) + sizeof(entry.reserved) == sizeof(entry));
  std::memset(&entry.name, 0, sizeof(entry) - offsetof(nopspan_entry, name));
}

__attribute__((noinline)) EntryWriter write_labels(EntryWriter out, BatchBuffer& batch,
                                                   const ContextHead& context) noexcept {
  nopspan_entry& entry = out.entry();
  const auto label_text = [&](ContextAccess::Label which, unsigned long* bits) {
    const std::uint16_t number = context.labels[which];
    return number == kNoLabel ? nopspan_text{} : out.text_once(label(number), bits);
  };
  entry.engine = label_text(ContextAccess::engine, nullptr);
  entry.model = label_text(ContextAccess::model, &batch.header->model_bits);
  entry.tenant = label_text(ContextAccess::tenant, nullptr);
  return out;
}

// True if the entry needs write_more(), which few do.
bool has_more(const SpanState& state) noexcept {
  return state.status != NOPSPAN_STATUS_OK || (state.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0 || state.link_count > 0 ||
         has_tracestate(state.context.headers);
}

__attribute__((noinline)) EntryWriter write_more(EntryWriter out, const SpanState& state) noexcept {
  const ContextHead& context = state.context;
  nopspan_entry& entry = out.entry();
  if (state.status != NOPSPAN_STATUS_OK) {
    entry.exception_kind = out.text_once(hashed(state.exception_kind));
    entry.error_type = out.text(state.error_type, std::strlen(state.error_type));
  }
  if ((state.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0) {
    const char* id = visible_id(state);
    entry.foreign_id = out.text(id, std::strlen(id));
  }
  if (has_tracestate(context.headers)) {
    char* room = reinterpret_cast<char*>(out.room());
    room[0] = '\0';
    load_tracestate(context.headers, *reinterpret_cast<char(*)[kMaxTracestateBytes + 1]>(room));
    entry.tracestate = out.written(std::strlen(room));
  }
  if (state.link_count > 0) {
    entry.links = out.text(reinterpret_cast<const char*>(state.links), state.link_count * sizeof(nopspan_link));
  }
  return out;
}

template <class Encode>
inline void write_encoded(EntryWriter& out, const Encode& encode) noexcept {
  nopspan_entry& entry = out.entry();
  const EncodedAttributes encoded = encode(out.room());
  if (encoded.dropped > 0) entry.flags |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
  entry.attributes = out.written(encoded.size);
}

inline void write_attributes(EntryWriter& out, const SpanState& state, bool at_end) noexcept {
  if (!may_have_attributes(state)) return;
  write_encoded(out, [&](unsigned char* room) {
    return encode_attributes(state, at_end, state.is_span ? kSpanAttributesField : kEventAttributesField,
                             captures_content(state.is_span), room);
  });
}

// Updates the header's open_entries and request_bits for a new entry. The batch counts two kinds of entries whose root
// span is not in it: `awaiting` for the latest root, which may still end in this batch, and `root_elsewhere` for
// earlier ones. Because only the latest root is tracked, entries of an earlier one stay open even if it ends in this
// batch.
inline void note_root(BatchBuffer& batch, const nopspan_entry& entry) noexcept {
  batch.header->request_bits |= std::uint64_t{1} << (static_cast<unsigned char>(entry.trace_id[15]) % 64U);
  if (entry.root_id == 0) return;
  constexpr std::uint32_t kBelow = NOPSPAN_FLAG_REMOTE_PARENT | NOPSPAN_FLAG_ORPHAN;
  const bool is_root =
      entry.kind == NOPSPAN_ENTRY_SPAN && entry.span_id == entry.root_id && (entry.flags & kBelow) == 0;
  if (entry.root_id != batch.awaited_root) {
    batch.root_elsewhere += batch.awaiting;
    batch.awaited_root = entry.root_id;
    batch.awaiting = 0;
  }
  if (is_root) {
    batch.awaiting = 0;
    if (entry.duration_ns > batch.longest_root_ns) batch.longest_root_ns = entry.duration_ns;
  } else {
    ++batch.awaiting;
  }
  batch.header->open_entries = batch.root_elsewhere + batch.awaiting;
}

// For a span that links to several requests (for example a step of an engine): it belongs to each of them, and they are
// still open.
__attribute__((noinline)) void note_linked_requests(BatchBuffer& batch, const SpanState& span) noexcept {
  for (std::uint32_t i = 0; i < span.link_count; ++i) {
    batch.header->request_bits |= std::uint64_t{1} << (static_cast<unsigned char>(span.links[i].trace_id[15]) % 64U);
  }
  if ((span.flags & NOPSPAN_FLAG_ORPHAN) == 0) batch.header->open_entries = ++batch.root_elsewhere + batch.awaiting;
}

// For a STEP or MEMBERS entry. A step with members belongs to requests that may still be open, and a step without a
// parent belongs to no request of this batch.
inline void note_step(BatchBuffer& batch, const nopspan_entry& entry) noexcept {
  if (entry.parent_id != 0 && entry.links.length == 0) {
    note_root(batch, entry);
    return;
  }
  const std::uint64_t own = std::uint64_t{1} << (static_cast<unsigned char>(entry.trace_id[15]) % 64U);
  batch.header->request_bits |= entry.links.length > 0 ? ~std::uint64_t{0} : own;
  batch.header->open_entries = ++batch.root_elsewhere + batch.awaiting;
}

bool has_open_span() noexcept {
  const Frame* frame = guarded_top();
  while (frame != nullptr && frame->span == nullptr) frame = frame->below;
  return frame != nullptr;
}

// An upper bound of the size of the entry of this span or event. An attribute is at most a little longer than the field
// that it is made of: by 4 bytes, if its key has more than 127. The keys of a catalogue may become longer ones.
inline std::size_t most_bytes(const SpanState& state) noexcept {
  std::size_t attributes = kMaxAttributesBytes;
  if (state.keys == 0 && !has_extra_labels(state.context)) {
    attributes = std::min(attributes, state.fields.size() + state.fields.size() / 32);
  }
  return (has_more(state) ? kMostEntryBytes : kUsualEntryBytes) + attributes + (is_step(state) ? kMostStepBytes : 0);
}

// Returns the thread's batch, with room for an entry of `bytes`. If there is no memory for a buffer, returns null and
// counts the entry as discarded.
inline BatchBuffer* open_batch(ThreadState* thread, std::size_t bytes, std::uint64_t now_ns) noexcept {
  BatchBuffer& batch = thread->batch;
  announce_once(thread);
  if (__builtin_expect(batch.header == nullptr, 0)) {
    count_dropped(header_slabs.is_full());
    return nullptr;
  }
  if (__builtin_expect(batch.header->buffer == 0, 0) && !make_buffer(*batch.header)) {
    ++batch.header->discarded;
    publish(batch.header->next, batch.header->next + 1);
    publish(batch.header->first, batch.header->next);
    return nullptr;
  }
  if (batch.header->bytes + bytes > batch.header->capacity) flush(batch, now_ns);
  return &batch;
}

inline void flush_if_due(BatchBuffer& batch, std::uint64_t now_ns, bool is_root) noexcept {
  if (batch.thread_has_ended) {
    flush(batch, now_ns);
    return;
  }
  if (now_ns - batch.flushed_ns >= (is_root ? kRootWaitNs : kWaitNs) && !has_open_span()) flush(batch, now_ns);
}

}  // namespace

void announce_thread(ThreadState* thread) noexcept {
  BatchBuffer& batch = thread->batch;
  if (batch.header == nullptr) {
    if (!make_header(batch)) return;
    begin_batches(thread);
  }
  if (batch.header->next != batch.header->first) discard(batch);  // entries for an earlier tracer, which has detached
  batch.announced = true;
  batch.flushed_ns = 0;
  if (is_of_this_process(batch)) show_header(batch);
}

namespace {

// Copies fields in wire form to `to`, and returns the end of what it wrote. Null if one of them has another form.
inline unsigned char* copy_wire(const FieldBuffer& fields, unsigned char* to) noexcept {
  const unsigned char* at = fields.begin();
  const unsigned char* const end = fields.end();
  while (at != end) {
    const FieldEntry& entry = *FieldEntry::at(at);
    if (__builtin_expect(!entry.is_wire(), 0)) return nullptr;
    const unsigned char* const from = entry.wire();
    const std::size_t size = entry.wire_size();
    std::memcpy(to, from, 16);
    std::memcpy(to + 16, from + 16, 16);
    for (std::size_t copied = 32; __builtin_expect(copied < size, 0); copied += 16) {
      std::memcpy(to + copied, from + copied, 16);
    }
    at += entry.size;
    to += size;
  }
  return to;
}

}  // namespace

// The same entry as batch_span() writes.
__attribute__((hot)) bool batch_usual_span(ThreadState* thread, const SpanState& span) noexcept {
  BatchBuffer& batch = thread->batch;
  const ContextHead& context = span.context;
  if (__builtin_expect(!batch.announced || batch.thread_has_ended || has_labels(context) || context.headers != 0, 0)) {
    return false;
  }
  const std::size_t fields_size = span.fields.size();
  nopspan_thread& header = *batch.header;
  const std::size_t offset = header.bytes;
  // Without a buffer, the capacity is 0. Fields in wire form are shorter as attributes, by more than a block of 16.
  if (__builtin_expect(offset + kPlainEntryBytes + fields_size > header.capacity, 0)) return false;
  if (__builtin_expect(fields_size > kMaxAttributesBytes - FieldEntry::kMostWire, 0)) return false;
  const BatchBuffer::WrittenText& name = batch.written_texts[span.name.hash % BatchBuffer::kWrittenTexts];
  unsigned char* const begin = buffer_of(header);
  if (__builtin_expect(name.batch != batch.batch || name.hash != span.name.hash ||
                           name.where.length != span.name.size ||
                           !is_same(begin + std::size_t{name.where.offset} * 8, span.name.text, span.name.size),
                       0)) {
    return false;
  }
  auto& entry = *new (begin + offset) nopspan_entry;
  auto* const after = reinterpret_cast<unsigned char*>(&entry + 1);
  std::size_t size = sizeof(entry);
  nopspan_text attributes{};
  if (fields_size != 0) {
    unsigned char* const end = copy_wire(span.fields, after);
    if (__builtin_expect(end == nullptr, 0)) return false;
    const auto attributes_size = static_cast<std::size_t>(end - after);
    std::memset(end, 0, 8);  // the padding
    attributes = {static_cast<unsigned short>((offset + sizeof(entry)) / 8),
                  static_cast<unsigned short>(attributes_size)};
    size += (attributes_size + 7) & ~std::size_t{7};
  }
  entry.size = static_cast<unsigned>(size);
  entry.kind = NOPSPAN_ENTRY_SPAN;
  entry.status = NOPSPAN_STATUS_OK;
  entry.fixed_size = sizeof(nopspan_entry);
  entry.flags = span.flags;
  entry.extras = 0;
  std::memcpy(entry.trace_id, context.trace_id, sizeof(entry.trace_id));
  const std::uint64_t span_id = context.span_id;
  const std::uint64_t root_id = context.root_id;
  entry.span_id = span_id;
  entry.parent_id = context.parent_id;
  entry.root_id = root_id;
  entry.start_ns = span.start_ns;
  entry.duration_ns = span.duration_ns;
  std::memset(&entry.name, 0, sizeof(entry) - offsetof(nopspan_entry, name));
  entry.name = name.where;
  entry.attributes = attributes;
  header.name_bits |= name.bit;
  note_root(batch, entry);
  const std::uint64_t now = span.end_ns;
  header.written_ns = now;
  publish(header.bytes, offset + size);
  publish(header.next, header.next + 1);
  if (now - batch.flushed_ns >= kRootWaitNs) flush_if_due(batch, now, span_id == root_id);
  return true;
}

namespace {

// Writes the members of a step from `first` on, as many as an entry may have. Returns the number of the next one.
std::uint32_t write_members(EntryWriter& out, const SpanState& step, std::uint32_t first) noexcept {
  if (step.step == nullptr) return 0;
  const std::uint32_t left = step.step->facts.members - first;
  const std::uint32_t count = std::min<std::uint32_t>(left, NOPSPAN_MEMBERS_PER_ENTRY);
  const nopspan_member* const members = step.step->members() + first;
  out.entry().links = out.text(reinterpret_cast<const char*>(members), count * sizeof(nopspan_member));
  return first + count;
}

// Writes the MEMBERS entries of a step: its members from `first` on.
__attribute__((noinline)) void batch_further_members(ThreadState* thread, const SpanState& step, std::uint32_t first,
                                                     std::uint64_t now) noexcept {
  while (step.step != nullptr && first < step.step->facts.members) {
    const std::uint32_t before = first;
    BatchBuffer* const batch = open_batch(thread, kUsualEntryBytes + kMostMemberBytes, now);
    if (batch == nullptr) return;
    EntryWriter out(*batch);
    nopspan_entry& entry = out.entry();
    entry.kind = NOPSPAN_ENTRY_MEMBERS;
    entry.extras = 0;
    write_place(out, step);
    entry.status = NOPSPAN_STATUS_OK;  // so that a failed step counts once
    entry.start_ns = step.start_ns;
    entry.duration_ns = step.duration_ns;
    out.extra(NOPSPAN_EXTRA_VALUES, std::uint64_t{0}, std::uint64_t{before});
    entry.name = out.text_once(step.name, &batch->header->name_bits);
    if (has_labels(step.context)) out = write_labels(out, *batch, step.context);
    first = write_members(out, step, before);
    note_step(*batch, entry);
    out.finish(now);
  }
}

}  // namespace

__attribute__((hot)) void batch_span(ThreadState* thread, const SpanState& span, const OnceProbes& fired) noexcept {
  const std::uint64_t now = (span.flags & NOPSPAN_FLAG_GIVEN_TIMES) == 0 ? span.end_ns : thread->clock.now();
  BatchBuffer* batch = open_batch(thread, most_bytes(span), now);
  if (batch == nullptr) return;
  const bool of_step = is_step(span);
  // A step stays in the buffer until the next one ends, so that its members can be read from outside at any time.
  if (__builtin_expect(of_step, 0)) flush_if_due(*batch, now, true);
  EntryWriter out(*batch);
  nopspan_entry& entry = out.entry();
  entry.kind = of_step ? NOPSPAN_ENTRY_STEP : NOPSPAN_ENTRY_SPAN;
  entry.extras = (fired.tokens ? NOPSPAN_COUNTS_TOKENS : 0U) | (fired.tool_call ? NOPSPAN_COUNTS_TOOL : 0U);
  write_place(out, span);
  entry.start_ns = span.start_ns;
  entry.duration_ns = span.duration_ns;
  if ((span.flags & NOPSPAN_FLAG_HAS_USAGE) != 0) {
    out.extra(NOPSPAN_EXTRA_USAGE, span.input_tokens, span.output_tokens, span.cached_tokens, span.reasoning_tokens);
  }
  if ((span.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) != 0) out.extra(NOPSPAN_EXTRA_FIRST_TOKEN, span.first_token_ns);
  if (span.has_engine_times) {
    const EngineTimes& t = span.engine;
    out.extra(NOPSPAN_EXTRA_ENGINE, t.arrival_ns != 0 ? t.arrival_ns : span.start_ns, t.queue_ns, t.prefill_ns,
              t.decode_ns, t.prefill_tokens, t.decode_tokens, t.preemptions);
  }
  if (__builtin_expect(of_step, 0)) out.extra(NOPSPAN_EXTRA_STEP, facts_of(span));
  entry.name = out.text_once(span.name, &batch->header->name_bits);
  if (has_labels(span.context)) out = write_labels(out, *batch, span.context);
  if (span.has_tool) entry.text = out.text(span.tool_name, std::strlen(span.tool_name));
  if (__builtin_expect(has_more(span), 0)) out = write_more(out, span);
  if (has_failed(span)) ++batch->errors;
  write_attributes(out, span, true);
  const bool is_root = entry.span_id == entry.root_id && !of_step;
  if (__builtin_expect(of_step, 0)) {
    const std::uint32_t written = write_members(out, span, 0);
    note_step(*batch, entry);
    out.finish(now);
    batch_further_members(thread, span, written, now);
  } else {
    note_root(*batch, entry);
    if (__builtin_expect(span.link_count > 0, 0) && span.context.parent_id == 0) note_linked_requests(*batch, span);
    out.finish(now);
  }
  flush_if_due(*batch, now, is_root);
}

void batch_point(ThreadState* thread, const SpanState& event, const PointEntry& point) noexcept {
  BatchBuffer* batch = open_batch(thread, most_bytes(event), point.time_ns);
  if (batch == nullptr) return;
  EntryWriter out(*batch);
  nopspan_entry& entry = out.entry();
  entry.kind = point.kind;
  entry.extras = 0;
  write_place(out, event);
  entry.start_ns = point.time_ns;
  entry.duration_ns = 0;
  if (point.kind != NOPSPAN_ENTRY_EVENT) out.extra(NOPSPAN_EXTRA_VALUES, point.value, point.number);
  entry.name = out.text_once(point.name != nullptr ? hashed(point.name) : event.name);
  if (has_labels(event.context)) out = write_labels(out, *batch, event.context);
  if (point.engine != nullptr) entry.engine = out.text(point.engine, std::strlen(point.engine));
  entry.error_type = out.text(event.retry_reason, std::strlen(event.retry_reason));
  entry.text = out.text_once(enclosing_name(event));
  if (has_more(event)) out = write_more(out, event);
  if (point.kind == NOPSPAN_ENTRY_GAUGE) {
    if (may_have_attributes(event) || !point.label.key.empty()) {
      write_encoded(out, [&](unsigned char* room) {
        return encode_gauge_labels(event, point.label, kEventAttributesField, room);
      });
    }
  } else {
    write_attributes(out, event, false);
  }
  note_root(*batch, entry);
  out.finish(point.time_ns);
  flush_if_due(*batch, point.time_ns, false);
}

void discard_batch(ThreadState* thread) noexcept {
  BatchBuffer& batch = thread->batch;
  batch.announced = false;
  if (batch.header->next != batch.header->first) discard(batch);
  free_buffer(*batch.header);
}

void end_batches(ThreadState* thread) noexcept {
  BatchBuffer& batch = thread->batch;
  if (batch.header == nullptr) return;
  const bool is_its_own = is_of_this_process(batch);
  if (is_its_own && batch_up()) {
    // Entries that were discarded for lack of a buffer have not been reported, and the next owner of the header resets
    // the count. So the site is called with the header once more.
    const bool has_unreported =
        batch.announced && batch.header->discarded != 0 && batch.header->next == batch.header->first;
    if (has_unreported) show_header(batch);
    flush(batch, 0);
  }
  if (is_its_own && batch.header->next != batch.header->first) discard(batch);
  if (is_its_own && batch.refused != 0) tell_refused_at_end(batch);
  publish(batch.header->mark, 0);
  free_buffer(*batch.header);
  batch.announced = false;
  batch.header = nullptr;
  header_slabs.give_back(batch.header_place);
}

void begin_batches(ThreadState* thread) noexcept {
  BatchBuffer& batch = thread->batch;
  batch.announced = false;
  batch.thread_has_ended = locals.has_ended;
  if (batch.header == nullptr) return;
  nopspan_thread& header = *batch.header;
  publish(header.mark, 0);
  header.thread_id = thread->thread_id;
  header.sequence_id = thread->random.sequence_id;
  header.discarded = 0;
  batch.refused = 0;
  header.next = 0;
  header.first = ~0UL;  // so that empty() changes `first`, and a concurrent reader discards what it has read
  empty(batch);
  publish(header.mark, thread->process_mark);
}

}  // namespace nopspan::detail
