// SPDX-License-Identifier: Apache-2.0
#include "emit/batch.h"

#include "base/copy_bytes.h"
#include "base/counters.h"
#include "genai/attributes.h"
#include "memory/slabs.h"
#include "state/context_stack.h"
#include "state/header_store.h"
#include "state/labels.h"
#include "state/orphans.h"
#include "state/step_data.h"

#include <algorithm>
#include <cstring>
#include <string_view>

static_assert(sizeof(nopspan_thread) == 160 && sizeof(nopspan_gate_page) == 152 && sizeof(nopspan_entry) == 32 &&
              sizeof(nopspan_request) == 48 && sizeof(nopspan_form) == 32);

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

// Upper bounds of the size of an entry without attributes, and of what it shares with others if it is the first one:
// the fixed parts, 16 words of other parts, five texts' places, ten texts of 63 bytes, the padding of the attributes,
// and what is written behind the last part, because it is copied in blocks. Few entries have a tracestate or links too.
constexpr std::size_t kUsualEntryBytes = sizeof(nopspan_request) + sizeof(nopspan_form) + sizeof(nopspan_entry) +
                                         std::size_t{16} * 8 + 24 + std::size_t{10} * 64 + 8 + FieldEntry::kBehindWire +
                                         8;
constexpr std::size_t kMostEntryBytes = kUsualEntryBytes + kMaxTracestateBytes + 8 + kMaxLinks * sizeof(nopspan_link);
static_assert((kMostEntryBytes + kMaxAttributesBytes) * 2 < kBatchBytes);
// What the entry of a step has in addition, and one of further members.
constexpr std::size_t kMostMemberBytes = NOPSPAN_MEMBERS_PER_ENTRY * sizeof(nopspan_member);
constexpr std::size_t kMostStepBytes = sizeof(nopspan_step) + kMostMemberBytes;
static_assert(kMostEntryBytes + kMaxAttributesBytes + kMostStepBytes < kBatchBytes);
// The entry of further members, which has no attributes and no other links.
constexpr std::size_t kMostMembersEntryBytes = kUsualEntryBytes + kMaxTracestateBytes + 8 + kMostMemberBytes;
// Readers take no more entries (NOPSPAN_MOST_ENTRIES).
static_assert(kBatchBytes / sizeof(nopspan_entry) <= 8192);
static_assert(kBatchBytes / 8 <= UINT16_MAX);

// The same for a span without other parts, whose form is in the batch.
constexpr std::size_t kPlainEntryBytes =
    sizeof(nopspan_request) + sizeof(nopspan_entry) + 2 * FieldEntry::kBehindWire + 8;

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
  header.open_entries = header.requests = 0;
  header.name_bits = header.model_bits = header.request_bits = 0;
  if (++batch.batch == 0) batch.batch = 1;  // 0 is that of tables that nothing was written to
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

std::uint64_t bit_of_request(const unsigned char (&trace_id)[16]) noexcept {
  return std::uint64_t{1} << (trace_id[15] % 64U);
}

// What the entries of a form have in common.
struct Form {
  unsigned char kind;
  std::uint32_t flags, parts;
  Interned name;
  Interned engine{}, model{}, tenant{};  // the size of an absent one is 0, and its hash too
};

// For a span that has only a name, parts, and the other hashes are 0.
std::uint64_t hash_of_form(std::uint64_t name, std::uint32_t flags, std::uint64_t others = 0) noexcept {
  return (name ^ (std::uint64_t{flags} << 32U)) * 0x9e3779b97f4a7c15U + others;
}

std::uint64_t hash_of(const Form& wanted) noexcept {
  return hash_of_form(wanted.name.hash, wanted.flags,
                      wanted.parts * std::uint64_t{0xff51afd7ed558ccd} +
                          wanted.kind * std::uint64_t{0xc4ceb9fe1a85ec53} + wanted.engine.hash * 3 +
                          wanted.model.hash * 5 + wanted.tenant.hash * 7);
}

constexpr std::size_t place_of_form(std::uint64_t hash) noexcept {
  static_assert(BatchBuffer::kWrittenForms == 32);
  return hash >> 59U;
}

// Appends one entry to the batch, after the records that it shares with later ones if they are not in the batch yet.
// Parts that few entries have are written by functions that are not inlined. They take the writer by value and return
// it, so that it stays in registers.
class EntryWriter {
 public:
  explicit EntryWriter(BatchBuffer& batch) noexcept
      : batch_(&batch), begin_(buffer_of(*batch.header)), at_(begin_ + batch.header->bytes) {}

  // Begins a record that entries share. end() ends it. Both come before begin().
  template <class Record>
  Record& shared(unsigned char kind) noexcept {
    auto* const record = new (at_) Record{};
    record->kind = kind;
    at_ += sizeof(Record);
    return *record;
  }
  template <class Record>
  void end(Record& record) noexcept {
    record.size = static_cast<unsigned short>(at_ - reinterpret_cast<unsigned char*>(&record));
  }
  template <class Record>
  [[nodiscard]] unsigned short place_of(const Record& record) const noexcept {
    return static_cast<unsigned short>(
        static_cast<std::size_t>(reinterpret_cast<const unsigned char*>(&record) - begin_) / 8);
  }
  template <class Record>
  [[nodiscard]] Record& at_place(unsigned short place) const noexcept {
    return *reinterpret_cast<Record*>(begin_ + std::size_t{place} * 8);
  }

  // Begins the entry.
  void begin(unsigned char kind, unsigned char status, unsigned short form, unsigned short request,
             const ContextHead& context, std::uint32_t parts) noexcept {
    entry_ = new (at_) nopspan_entry{};
    entry_->kind = kind;
    entry_->status = status;
    entry_->form = form;
    entry_->request = request;
    entry_->span_id = context.span_id;
    entry_->parent_id = context.parent_id;
    at_ += sizeof(nopspan_entry);
    texts_ = parts & NOPSPAN_PART_TEXTS;
  }
  // Either these two, or extra(start, duration) for the part TIMES.
  void times(std::uint64_t start_after_request_ns, std::uint64_t duration_ns) noexcept {
    entry_->start_ns = static_cast<int>(start_after_request_ns);
    entry_->duration_ns = static_cast<unsigned>(duration_ns);
  }

  // Adds a part of words. Call it in the order of the NOPSPAN_PART_* bits.
  template <class... Words>
  void extra(Words... words) noexcept {
    const std::uint64_t all[] = {words...};
    std::memcpy(at_, all, sizeof(all));
    at_ += sizeof(all);
  }
  void extra(const nopspan_step& step) noexcept {
    std::memcpy(at_, &step, sizeof(step));
    at_ += sizeof(step);
  }
  // After the parts of words: the places of the texts.
  void begin_texts() noexcept {
    if (texts_ == 0) return;
    places_ = at_;
    std::memset(at_, 0, 24);
    at_ += padded(sizeof(nopspan_text) * static_cast<std::size_t>(__builtin_popcount(texts_)));
  }
  // Sets the place of the text that this bit stands for.
  void set(std::uint32_t bit, nopspan_text where) noexcept {
    std::memcpy(places_ + sizeof(where) * static_cast<std::size_t>(__builtin_popcount(texts_ & (bit - 1))), &where,
                sizeof(where));
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
    if (written.batch == batch_->batch && written.hash == text.hash && is(written.where, text)) {
      if (bits != nullptr) *bits |= written.bit;
      return written.where;
    }
    write_text(written, text, batch_->batch, static_cast<std::size_t>(at_ - begin_), at_);
    at_ += padded(text.size);
    if (bits != nullptr) *bits |= written.bit;
    return written.where;
  }
  // Whether the text in the batch is this one.
  [[nodiscard]] bool is(nopspan_text where, const Interned& text) const noexcept {
    return where.length == text.size &&
           (text.size == 0 || is_same(begin_ + std::size_t{where.offset} * 8, text.text, text.size));
  }

  // For what another function writes: it writes to room(), at most as many bytes as open_batch() has made room for.
  [[nodiscard]] unsigned char* room() const noexcept { return at_; }
  // Adds the attributes, whose `size` bytes were written to room(). They are the last part.
  void attributes(std::size_t size, bool were_dropped) noexcept {
    if (were_dropped) entry_->status |= NOPSPAN_ENTRY_ATTRIBUTES_DROPPED;
    if ((texts_ & NOPSPAN_PART_ATTRIBUTES) != 0) {
      set(NOPSPAN_PART_ATTRIBUTES, written(size));
    } else {
      at_ += size;
    }
  }

  // Publishes the entry to readers.
  void finish(std::uint64_t now_ns) noexcept {
    nopspan_thread& header = *batch_->header;
    end(*entry_);
    std::memset(at_, 0, 8);  // the padding
    header.written_ns = now_ns;
    publish(header.bytes, padded(static_cast<std::size_t>(at_ - begin_)));
    publish(header.next, header.next + 1);
  }

 private:
  static std::size_t padded(std::size_t size) { return (size + 7) & ~std::size_t{7}; }
  nopspan_text written(std::size_t size) noexcept {
    const nopspan_text where{static_cast<unsigned short>(static_cast<std::size_t>(at_ - begin_) / 8),
                             static_cast<unsigned short>(size)};
    std::memset(at_ + size, 0, 8);  // the padding
    at_ += padded(size);
    return where;
  }

  BatchBuffer* batch_;
  unsigned char* begin_;
  unsigned char* at_;
  nopspan_entry* entry_ = nullptr;
  unsigned char* places_ = nullptr;
  std::uint32_t texts_ = 0;  // the bits of the entry's texts
};

bool is_of_request(const BatchBuffer::WrittenRequest& written, const BatchBuffer& batch, const ContextHead& context,
                   std::uint32_t flags) noexcept {
  std::uint64_t trace_id[2];
  static_assert(sizeof(trace_id) == sizeof(context.trace_id));
  std::memcpy(trace_id, context.trace_id, sizeof(trace_id));
  return written.batch == batch.batch && written.root_id == context.root_id && written.trace_id[0] == trace_id[0] &&
         written.trace_id[1] == trace_id[1] && written.is_foreign == ((flags & NOPSPAN_FLAG_FOREIGN_ID) != 0);
}

// Sets what each request has.
inline void begin_request(nopspan_request& request, const nopspan_thread& header, const ContextHead& context,
                          std::uint64_t start_ns) noexcept {
  request = {};
  request.size = sizeof(request);
  request.kind = NOPSPAN_SHARED_REQUEST;
  request.previous = static_cast<unsigned short>(header.requests);
  std::memcpy(request.trace_id, context.trace_id, sizeof(request.trace_id));
  request.root_id = context.root_id;
  request.start_ns = start_ns;
}

// A request without texts is at this place.
inline void note_request(BatchBuffer::WrittenRequest& written, const BatchBuffer& batch, const ContextHead& context,
                         std::uint64_t start_ns, unsigned short place) noexcept {
  std::memcpy(written.trace_id, context.trace_id, sizeof(written.trace_id));
  written.root_id = context.root_id;
  written.start_ns = start_ns;
  written.batch = batch.batch;
  written.place = place;
  written.is_foreign = written.has_tracestate = false;
  batch.header->requests = place + 1U;
  batch.header->request_bits |= bit_of_request(context.trace_id);
}

__attribute__((noinline)) EntryWriter write_request(EntryWriter out, BatchBuffer& batch, const SpanState& state,
                                                    BatchBuffer::WrittenRequest& written,
                                                    std::uint64_t start_ns) noexcept {
  const ContextHead& context = state.context;
  char tracestate[kMaxTracestateBytes + 1];  // NOLINT: it has `size` bytes
  const std::size_t size = has_tracestate(context.headers) ? load_tracestate(context.headers, tracestate) : 0;
  // A request's tracestate may change, and one that was given up is empty.
  if (is_of_request(written, batch, context, state.flags) &&
      out.is(out.at_place<nopspan_request>(written.place).tracestate, {tracestate, size, 0})) {
    return out;
  }
  auto& request = out.shared<nopspan_request>(NOPSPAN_SHARED_REQUEST);
  begin_request(request, *batch.header, context, start_ns);
  const bool is_foreign = (state.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0;
  if (is_foreign) {
    request.flags = NOPSPAN_REQUEST_FOREIGN_ID;
    const char* id = visible_id(state);
    request.foreign_id = out.text(id, std::strlen(id));
  }
  request.tracestate = out.text(tracestate, size);
  out.end(request);
  note_request(written, batch, context, start_ns, out.place_of(request));
  written.is_foreign = is_foreign;
  written.has_tracestate = size != 0;
  return out;
}

// The request of an entry that begins at this time.
inline const BatchBuffer::WrittenRequest& request_of(EntryWriter& out, BatchBuffer& batch, const SpanState& state,
                                                     std::uint64_t start_ns) noexcept {
  const ContextHead& context = state.context;
  BatchBuffer::WrittenRequest& written = batch.written_requests[context.root_id % BatchBuffer::kWrittenRequests];
  if (!is_of_request(written, batch, context, state.flags) || written.has_tracestate || has_tracestate(context.headers))
    out = write_request(out, batch, state, written, start_ns);
  return written;
}

__attribute__((noinline)) EntryWriter write_form(EntryWriter out, BatchBuffer& batch, const Form& wanted,
                                                 std::uint64_t hash) noexcept {
  nopspan_thread& header = *batch.header;
  auto& form = out.shared<nopspan_form>(NOPSPAN_SHARED_FORM);
  form.entry_kind = wanted.kind;
  form.flags = wanted.flags;
  form.parts = wanted.parts;
  const bool is_point =
      wanted.kind == NOPSPAN_ENTRY_EVENT || wanted.kind == NOPSPAN_ENTRY_RETRY || wanted.kind == NOPSPAN_ENTRY_GAUGE;
  form.name = out.text_once(wanted.name, is_point ? nullptr : &header.name_bits);
  form.engine = out.text_once(wanted.engine);
  form.model = out.text_once(wanted.model, &header.model_bits);
  form.tenant = out.text_once(wanted.tenant);
  out.end(form);
  batch.written_forms[place_of_form(hash)] = {hash, batch.batch, out.place_of(form)};
  return out;
}

inline unsigned short form_of(EntryWriter& out, BatchBuffer& batch, const Form& wanted) noexcept {
  const std::uint64_t hash = hash_of(wanted);
  const BatchBuffer::WrittenForm& written = batch.written_forms[place_of_form(hash)];
  const auto is_it = [&](const nopspan_form& form) {
    return form.entry_kind == wanted.kind && form.flags == wanted.flags && form.parts == wanted.parts &&
           out.is(form.name, wanted.name) && out.is(form.engine, wanted.engine) && out.is(form.model, wanted.model) &&
           out.is(form.tenant, wanted.tenant);
  };
  if (written.batch != batch.batch || written.hash != hash || !is_it(out.at_place<nopspan_form>(written.place)))
    out = write_form(out, batch, wanted, hash);
  return written.place;
}

Interned label_of(const ContextHead& context, ContextAccess::Label which) noexcept {
  const std::uint16_t number = context.labels[which];
  return number == kNoLabel ? Interned{} : Interned{label(number)};
}

void add_labels(Form& wanted, const ContextHead& context) noexcept {
  if (!has_labels(context)) return;
  wanted.engine = label_of(context, ContextAccess::engine);
  wanted.model = label_of(context, ContextAccess::model);
  wanted.tenant = label_of(context, ContextAccess::tenant);
}

// Whether an entry has no part TIMES.
inline bool are_near(std::uint64_t start_after_request_ns, std::uint64_t duration_ns) noexcept {
  constexpr std::uint64_t kHalf = std::uint64_t{1} << 31U;
  return (start_after_request_ns + kHalf) >> 32U == 0 && duration_ns >> 32U == 0;
}

// Begins an entry of this form, with its times and without other parts.
inline void begin_entry(EntryWriter& out, BatchBuffer& batch, Form& wanted, const SpanState& state,
                        std::uint32_t status, std::uint64_t start_ns, std::uint64_t duration_ns) noexcept {
  const BatchBuffer::WrittenRequest& request = request_of(out, batch, state, start_ns);
  const std::uint64_t start = start_ns - request.start_ns;
  const bool is_near = are_near(start, duration_ns);
  if (!is_near) wanted.parts |= NOPSPAN_PART_TIMES;
  const unsigned short form = form_of(out, batch, wanted);
  out.begin(wanted.kind, static_cast<unsigned char>(status), form, request.place, state.context, wanted.parts);
  if (is_near) {
    out.times(start, duration_ns);
  } else {
    out.extra(start_ns, duration_ns);
  }
}

// The entry of these kinds belongs to other requests too.
void note_others(BatchBuffer& batch, const ContextHead& context) noexcept {
  const BatchBuffer::WrittenRequest& written = batch.written_requests[context.root_id % BatchBuffer::kWrittenRequests];
  reinterpret_cast<nopspan_request*>(buffer_of(*batch.header) + std::size_t{written.place} * 8)->flags |=
      NOPSPAN_REQUEST_OF_OTHERS;
}

// True if the entry may have texts of its own, or a tracestate. Few have.
bool has_more(const SpanState& state) noexcept {
  return state.status != NOPSPAN_STATUS_OK || (state.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0 || state.link_count > 0 ||
         has_tracestate(state.context.headers);
}

// The bits of the texts of a failure and of links.
std::uint32_t more_parts(const SpanState& state) noexcept {
  std::uint32_t parts = 0;
  if (state.status != NOPSPAN_STATUS_OK) {
    if (!std::string_view(state.exception_kind).empty()) parts |= NOPSPAN_PART_EXCEPTION_KIND;
    if (state.error_type[0] != '\0') parts |= NOPSPAN_PART_ERROR_TYPE;
  }
  if (state.link_count > 0) parts |= NOPSPAN_PART_LINKS;
  return parts;
}

__attribute__((noinline)) EntryWriter write_more(EntryWriter out, const SpanState& state,
                                                 std::uint32_t parts) noexcept {
  if ((parts & NOPSPAN_PART_EXCEPTION_KIND) != 0)
    out.set(NOPSPAN_PART_EXCEPTION_KIND, out.text_once(hashed(state.exception_kind)));
  if (state.status != NOPSPAN_STATUS_OK && (parts & NOPSPAN_PART_ERROR_TYPE) != 0)
    out.set(NOPSPAN_PART_ERROR_TYPE, out.text(state.error_type, std::strlen(state.error_type)));
  if (state.link_count > 0) {
    out.set(NOPSPAN_PART_LINKS,
            out.text(reinterpret_cast<const char*>(state.links), state.link_count * sizeof(nopspan_link)));
  }
  return out;
}

inline void write_attributes(EntryWriter& out, const SpanState& state, bool at_end) noexcept {
  if (!may_have_attributes(state)) return;
  const EncodedAttributes encoded = encode_attributes(state, at_end, captures_content(state.is_span), out.room());
  out.attributes(encoded.size, encoded.dropped > 0);
}

// Updates the header's open_entries and request_bits for a new entry. The batch counts two kinds of entries whose root
// span is not in it: `awaiting` for the latest root, which may still end in this batch, and `root_elsewhere` for
// earlier ones. Because only the latest root is tracked, entries of an earlier one stay open even if it ends in this
// batch.
inline void note_root(BatchBuffer& batch, const ContextHead& context, bool is_root,
                      std::uint64_t duration_ns) noexcept {
  if (context.root_id == 0) return;
  if (context.root_id != batch.awaited_root) {
    batch.root_elsewhere += batch.awaiting;
    batch.awaited_root = context.root_id;
    batch.awaiting = 0;
  }
  if (is_root) {
    batch.awaiting = 0;
    if (duration_ns > batch.longest_root_ns) batch.longest_root_ns = duration_ns;
  } else {
    ++batch.awaiting;
  }
  batch.header->open_entries = batch.root_elsewhere + batch.awaiting;
}

// Whether the entry of a span is its request's root, and everything of the request in this process is known.
inline bool is_whole_root(const SpanState& span) noexcept {
  constexpr std::uint32_t kBelow = NOPSPAN_FLAG_REMOTE_PARENT | NOPSPAN_FLAG_ORPHAN;
  return span.context.span_id == span.context.root_id && (span.flags & kBelow) == 0;
}

// For a span that links to several requests (for example a step of an engine): it belongs to each of them, and they are
// still open.
__attribute__((noinline)) void note_linked_requests(BatchBuffer& batch, const SpanState& span) noexcept {
  for (std::uint32_t i = 0; i < span.link_count; ++i) {
    batch.header->request_bits |= std::uint64_t{1} << (static_cast<unsigned char>(span.links[i].trace_id[15]) % 64U);
  }
  note_others(batch, span.context);
  if ((span.flags & NOPSPAN_FLAG_ORPHAN) == 0) batch.header->open_entries = ++batch.root_elsewhere + batch.awaiting;
}

// For a STEP or MEMBERS entry. A step with members belongs to requests that may still be open, and a step without a
// parent belongs to no request of this batch.
inline void note_step(BatchBuffer& batch, const ContextHead& context, bool has_members) noexcept {
  if (context.parent_id != 0 && !has_members) {
    note_root(batch, context, false, 0);
    return;
  }
  if (has_members) {
    batch.header->request_bits = ~std::uint64_t{0};
    note_others(batch, context);
  }
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

namespace {

// Reports the rest of the entries of a sequence_id that is not used any more.
void end_sequence(BatchBuffer& batch) noexcept {
  if (!is_of_this_process(batch)) return;
  if (batch_up()) {
    // Entries that were discarded for lack of a buffer have not been reported, and the next sequence_id resets the
    // count. So the site is called with the header once more.
    const bool has_unreported =
        batch.announced != Announced::no && batch.header->discarded != 0 && batch.header->next == batch.header->first;
    if (has_unreported) show_header(batch);
    flush(batch, 0);
  }
  if (batch.header->next != batch.header->first) discard(batch);
  if (batch.refused != 0) tell_refused_at_end(batch);
}

}  // namespace

void announce_thread(ThreadState* thread) noexcept {
  BatchBuffer& batch = thread->batch;
  if (batch.header == nullptr && !make_header(batch)) return;
  if (batch.announced == Announced::before_copy) end_sequence(batch);
  begin_batches(thread);  // if it has entries, they are for an earlier tracer, which has detached
  batch.announced = Announced::yes;
  batch.flushed_ns = 0;
  note_gate_up();
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
  if (__builtin_expect(
          batch.announced != Announced::yes || batch.thread_has_ended || has_labels(context) || context.headers != 0,
          0)) {
    return false;
  }
  const std::size_t fields_size = span.fields.size();
  nopspan_thread& header = *batch.header;
  const std::size_t offset = header.bytes;
  // Without a buffer, the capacity is 0. Fields in wire form are shorter as attributes, by more than a block of 16.
  if (__builtin_expect(offset + kPlainEntryBytes + fields_size > header.capacity, 0)) return false;
  if (__builtin_expect(fields_size > kMaxAttributesBytes - FieldEntry::kMostWire, 0)) return false;
  BatchBuffer::WrittenRequest& request = batch.written_requests[context.root_id % BatchBuffer::kWrittenRequests];
  const bool is_known = is_of_request(request, batch, context, span.flags);
  if (__builtin_expect(is_known ? request.has_tracestate : (span.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0, 0))
    return false;
  const std::uint64_t start = is_known ? span.start_ns - request.start_ns : 0;
  if (__builtin_expect(!are_near(start, span.duration_ns), 0)) return false;
  const std::uint64_t hash = hash_of_form(span.name.hash, span.flags);
  const BatchBuffer::WrittenForm& written = batch.written_forms[place_of_form(hash)];
  unsigned char* const begin = buffer_of(header);
  const auto& form = *reinterpret_cast<const nopspan_form*>(begin + std::size_t{written.place} * 8);
  if (__builtin_expect(written.batch != batch.batch || written.hash != hash || form.flags != span.flags ||
                           form.parts != 0 || form.entry_kind != NOPSPAN_ENTRY_SPAN ||
                           (form.engine.length | form.model.length | form.tenant.length) != 0 ||
                           form.name.length != span.name.size ||
                           !is_same(begin + std::size_t{form.name.offset} * 8, span.name.text, span.name.size),
                       0)) {
    return false;
  }
  // Until the end, nothing refers to what is written here.
  const auto new_place = static_cast<unsigned short>(offset / 8);
  if (!is_known) begin_request(*new (begin + offset) nopspan_request, header, context, span.start_ns);
  const std::size_t entry_at = offset + (is_known ? 0 : sizeof(nopspan_request));
  auto& entry = *new (begin + entry_at) nopspan_entry;
  auto* const after = reinterpret_cast<unsigned char*>(&entry + 1);
  std::size_t size = sizeof(entry);
  if (fields_size != 0) {
    unsigned char* const end = copy_wire(span.fields, after);
    if (__builtin_expect(end == nullptr, 0)) return false;
    std::memset(end, 0, 8);  // the padding
    size += static_cast<std::size_t>(end - after);
  }
  const std::uint64_t span_id = context.span_id;
  entry.size = static_cast<unsigned short>(size);
  entry.kind = NOPSPAN_ENTRY_SPAN;
  entry.status = NOPSPAN_STATUS_OK;
  entry.form = written.place;
  entry.request = is_known ? request.place : new_place;
  entry.span_id = span_id;
  entry.parent_id = context.parent_id;
  entry.start_ns = static_cast<int>(start);
  entry.duration_ns = static_cast<unsigned>(span.duration_ns);
  if (!is_known) note_request(request, batch, context, span.start_ns, new_place);
  note_root(batch, context, is_whole_root(span), span.duration_ns);
  const std::uint64_t now = span.end_ns;
  header.written_ns = now;
  publish(header.bytes, entry_at + ((size + 7) & ~std::size_t{7}));
  publish(header.next, header.next + 1);
  if (now - batch.flushed_ns >= kRootWaitNs) flush_if_due(batch, now, span_id == context.root_id);
  return true;
}

namespace {

// Writes the members of a step from `first` on, as many as an entry may have. Returns the number of the next one.
std::uint32_t write_members(EntryWriter& out, const SpanState& step, std::uint32_t first) noexcept {
  if (step.step == nullptr) return 0;
  const std::uint32_t left = step.step->facts.members - first;
  const std::uint32_t count = std::min<std::uint32_t>(left, NOPSPAN_MEMBERS_PER_ENTRY);
  if (count == 0) return first;
  const nopspan_member* const members = step.step->members() + first;
  out.set(NOPSPAN_PART_LINKS, out.text(reinterpret_cast<const char*>(members), count * sizeof(nopspan_member)));
  return first + count;
}

// Writes the MEMBERS entries of a step: its members from `first` on.
__attribute__((noinline)) void batch_further_members(ThreadState* thread, const SpanState& step, std::uint32_t first,
                                                     std::uint64_t now) noexcept {
  while (step.step != nullptr && first < step.step->facts.members) {
    const std::uint32_t before = first;
    BatchBuffer* const batch = open_batch(thread, kMostMembersEntryBytes, now);
    if (batch == nullptr) return;
    EntryWriter out(*batch);
    Form wanted{NOPSPAN_ENTRY_MEMBERS, step.flags, NOPSPAN_PART_VALUES | NOPSPAN_PART_LINKS, step.name};
    add_labels(wanted, step.context);
    // Without the step's status, so that a failed step counts once.
    begin_entry(out, *batch, wanted, step, NOPSPAN_STATUS_OK, step.start_ns, step.duration_ns);
    out.extra(std::uint64_t{0}, std::uint64_t{before});
    out.begin_texts();
    first = write_members(out, step, before);
    note_step(*batch, step.context, true);
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
  const bool has_usage = (span.flags & NOPSPAN_FLAG_HAS_USAGE) != 0;
  const bool has_first_token = (span.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) != 0;
  const bool has_tool = span.has_tool && span.tool_name[0] != '\0';
  const bool has_members = of_step && span.step != nullptr && span.step->facts.members > 0;
  Form wanted{static_cast<unsigned char>(of_step ? NOPSPAN_ENTRY_STEP : NOPSPAN_ENTRY_SPAN), span.flags, 0, span.name};
  wanted.parts = (fired.tokens ? NOPSPAN_COUNTS_TOKENS : 0U) | (fired.tool_call ? NOPSPAN_COUNTS_TOOL : 0U) |
                 (has_usage ? NOPSPAN_PART_USAGE : 0U) | (has_first_token ? NOPSPAN_PART_FIRST_TOKEN : 0U) |
                 (span.has_engine_times ? NOPSPAN_PART_ENGINE : 0U) | (of_step ? NOPSPAN_PART_STEP : 0U) |
                 (has_tool ? NOPSPAN_PART_TEXT : 0U) | (has_members ? NOPSPAN_PART_LINKS : 0U) | more_parts(span);
  if ((wanted.parts & NOPSPAN_PART_TEXTS) != 0 && may_have_attributes(span)) wanted.parts |= NOPSPAN_PART_ATTRIBUTES;
  add_labels(wanted, span.context);
  begin_entry(out, *batch, wanted, span, span.status, span.start_ns, span.duration_ns);
  if (has_usage) out.extra(span.input_tokens, span.output_tokens, span.cached_tokens, span.reasoning_tokens);
  if (has_first_token) out.extra(span.first_token_ns);
  if (span.has_engine_times) {
    const EngineTimes& t = span.engine;
    out.extra(t.arrival_ns != 0 ? t.arrival_ns : span.start_ns, t.queue_ns, t.prefill_ns, t.decode_ns, t.prefill_tokens,
              t.decode_tokens, t.preemptions);
  }
  if (__builtin_expect(of_step, 0)) out.extra(facts_of(span));
  out.begin_texts();
  if (has_tool) out.set(NOPSPAN_PART_TEXT, out.text(span.tool_name, std::strlen(span.tool_name)));
  if (__builtin_expect(has_more(span), 0)) out = write_more(out, span, wanted.parts);
  if (has_failed(span)) ++batch->errors;
  // The members are an upper bound of the room, so they come before the attributes, which are copied in blocks.
  const std::uint32_t written = of_step ? write_members(out, span, 0) : 0;
  write_attributes(out, span, true);
  const bool is_root = span.context.span_id == span.context.root_id && !of_step;
  if (__builtin_expect(of_step, 0)) {
    note_step(*batch, span.context, has_members);
    out.finish(now);
    batch_further_members(thread, span, written, now);
  } else {
    note_root(*batch, span.context, is_whole_root(span), span.duration_ns);
    if (__builtin_expect(span.link_count > 0, 0) && span.context.parent_id == 0) note_linked_requests(*batch, span);
    out.finish(now);
  }
  flush_if_due(*batch, now, is_root);
}

void batch_point(ThreadState* thread, const SpanState& event, const PointEntry& point) noexcept {
  const std::uint64_t now = event.end_ns == 0 ? point.time_ns : thread->clock.now();
  BatchBuffer* batch = open_batch(thread, most_bytes(event), now);
  if (batch == nullptr) return;
  EntryWriter out(*batch);
  const bool is_gauge = point.kind == NOPSPAN_ENTRY_GAUGE;
  const bool has_attributes = may_have_attributes(event) || (is_gauge && !point.label.key.empty());
  const Interned around = enclosing_name(event);
  Form wanted{point.kind, event.flags, 0, point.name != nullptr ? hashed(point.name) : event.name};
  wanted.parts = (point.kind != NOPSPAN_ENTRY_EVENT ? NOPSPAN_PART_VALUES : 0U) |
                 (event.retry_reason[0] != '\0' ? NOPSPAN_PART_ERROR_TYPE : 0U) |
                 (around.size > 0 ? NOPSPAN_PART_TEXT : 0U) | more_parts(event);
  if ((wanted.parts & NOPSPAN_PART_TEXTS) != 0 && has_attributes) wanted.parts |= NOPSPAN_PART_ATTRIBUTES;
  add_labels(wanted, event.context);
  if (point.engine != nullptr) wanted.engine = hashed(point.engine);
  begin_entry(out, *batch, wanted, event, event.status, point.time_ns, 0);
  if (point.kind != NOPSPAN_ENTRY_EVENT) out.extra(point.value, point.number);
  out.begin_texts();
  if (event.retry_reason[0] != '\0')
    out.set(NOPSPAN_PART_ERROR_TYPE, out.text(event.retry_reason, std::strlen(event.retry_reason)));
  if (around.size > 0) out.set(NOPSPAN_PART_TEXT, out.text_once(around));
  if (has_more(event)) out = write_more(out, event, wanted.parts);
  if (!is_gauge) {
    write_attributes(out, event, false);
  } else if (has_attributes) {
    const EncodedAttributes encoded = encode_gauge_labels(event, point.label, out.room());
    out.attributes(encoded.size, encoded.dropped > 0);
  }
  note_root(*batch, event.context, false, 0);
  out.finish(now);
  flush_if_due(*batch, now, false);
}

void discard_batch(ThreadState* thread) noexcept {
  BatchBuffer& batch = thread->batch;
  batch.announced = Announced::no;
  if (batch.header->next != batch.header->first) discard(batch);
  free_buffer(*batch.header);
}

void end_batches(ThreadState* thread) noexcept {
  BatchBuffer& batch = thread->batch;
  if (batch.header == nullptr) return;
  end_sequence(batch);
  publish(batch.header->mark, 0);
  free_buffer(*batch.header);
  batch.announced = Announced::no;
  batch.header = nullptr;
  header_slabs.give_back(batch.header_place);
}

void begin_batches(ThreadState* thread) noexcept {
  BatchBuffer& batch = thread->batch;
  batch.announced = Announced::no;
  batch.thread_has_ended = locals.has_ended;
  if (batch.header == nullptr) return;
  nopspan_thread& header = *batch.header;
  publish(header.mark, 0);
  header.thread_id = thread->thread_id;
  thread->clock.now();  // for make_span_id()
  header.sequence_id = make_span_id(thread);
  header.discarded = 0;
  batch.refused = 0;
  header.next = 0;
  header.first = ~0UL;  // so that empty() changes `first`, and a concurrent reader discards what it has read
  empty(batch);
  publish(header.mark, thread->process_mark);
}

}  // namespace nopspan::detail
