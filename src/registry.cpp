// SPDX-License-Identifier: Apache-2.0
// One writer at a time, readers without a lock: the handlers are an immutable table behind one pointer. A reader
// announces in its thread's `reading` the epoch it began in; a writer publishes a new table, begins a new epoch, and
// frees what it replaced when no thread reads in an older one.
#include "registry.h"

#include "counters.h"
#include "event_access.h"
#include "exceptions.h"
#include "gate_writer.h"
#include "hash.h"
#include "log.h"
#include "no_cancellation.h"
#include "orphans.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>

namespace nopspan {
namespace detail {

std::atomic<unsigned> handled_suffixes{0};

// What attach() was given; shared by the entries of its events.
struct Attachment {
  std::string id;
  Handler handler;
  Value config;
};

// All handlers of one event, in order of attachment.
struct HandlerList {
  std::string_view event;
  std::uint64_t hash = 0;
  std::vector<const Attachment*> handlers;
};

namespace {

constexpr std::size_t kMaxEventBytes = 127;
constexpr unsigned kMaxNestedDispatches = 16;

struct TableEntry {
  std::shared_ptr<const Attachment> attachment;
  std::string event;
};

struct Table {
  std::vector<TableEntry> entries;  // in order of attachment
  std::vector<HandlerList> lists;
  std::vector<const HandlerList*> slots;  // open addressing, a power of two, at least half empty

  void index();
  [[nodiscard]] const HandlerList* find(std::string_view event) const noexcept {
    if (slots.empty()) return nullptr;
    const std::uint64_t hash = hash_bytes(event);
    for (std::size_t i = hash & (slots.size() - 1); slots[i] != nullptr; i = (i + 1) & (slots.size() - 1)) {
      if (slots[i]->hash == hash && slots[i]->event == event) return slots[i];
    }
    return nullptr;
  }
};

void Table::index() {
  for (const TableEntry& entry : entries) {
    const auto same = [&](const HandlerList& list) { return list.event == entry.event; };
    auto found = std::find_if(lists.begin(), lists.end(), same);
    if (found == lists.end()) found = lists.insert(lists.end(), {entry.event, hash_bytes(entry.event), {}});
    found->handlers.push_back(entry.attachment.get());
  }
  if (lists.empty()) return;
  std::size_t size = 4;
  while (size < 2 * lists.size()) size *= 2;
  slots.assign(size, nullptr);
  for (const HandlerList& list : lists) {
    std::size_t i = list.hash & (size - 1);
    while (slots[i] != nullptr) i = (i + 1) & (size - 1);
    slots[i] = &list;
  }
}

struct Registry {
  std::mutex writer;
  std::atomic<const Table*> table{new Table};
  std::atomic<std::uint64_t> epoch{1};
  // Replaced, and not yet known to be unread. Guarded by `writer`.
  struct Retired {
    std::uint64_t epoch;
    std::unique_ptr<const Table> table;
  };
  std::vector<Retired> retired;
  std::atomic<bool> has_retired{false};
  // Emitting threads that are freeing what they were the last to read.
  std::atomic<unsigned> freeing{0};
};

// Never destroyed: spans may still end while the program's own statics are.
Registry& registry() {
  static auto* const instance = new Registry;
  return *instance;
}

// The oldest epoch that a thread reads in; without `self`, if that is given.
std::uint64_t oldest_reader(const ThreadState* self) noexcept {
  std::uint64_t oldest = UINT64_MAX;
  for (const ThreadState* thread = all_threads.load(std::memory_order_acquire); thread != nullptr;
       thread = thread->next) {
    if (thread == self) continue;
    const std::uint64_t reading = thread->reading.load(std::memory_order_seq_cst);
    if (reading != 0) oldest = std::min(oldest, reading);
  }
  return oldest;
}

// Takes what nobody reads any more out of the retired tables. Destroy it without the lock: it holds application code.
std::vector<Registry::Retired> take_unread(Registry& r) {
  std::vector<Registry::Retired> unread;
  const std::uint64_t oldest = oldest_reader(nullptr);
  auto keep = std::stable_partition(r.retired.begin(), r.retired.end(),
                                    [&](const Registry::Retired& old) { return old.epoch > oldest; });
  unread.assign(std::make_move_iterator(keep), std::make_move_iterator(r.retired.end()));
  r.retired.erase(keep, r.retired.end());
  r.has_retired.store(!r.retired.empty(), std::memory_order_relaxed);
  return unread;
}

// kStart, kStop or kException of a span's event; 0 for another event.
unsigned suffix_of(std::string_view name) noexcept {
  if (name == "gen_ai.stream.first_token") return kStop;  // told by a span, which must run for it
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return 0;
  const std::string_view last = name.substr(dot + 1);
  if (last == "start") return kStart;
  if (last == "stop") return kStop;
  return last == "exception" ? kException : 0U;
}

// Publishes a table; returns the epoch that readers of older ones are before. With `writer` held.
std::uint64_t publish(Registry& r, std::unique_ptr<Table> table) {
  table->index();
  unsigned suffixes = 0;
  for (const TableEntry& entry : table->entries) suffixes |= suffix_of(entry.event);
  const bool points = !table->entries.empty();  // execute() may emit an event of any name
  r.retired.reserve(r.retired.size() + 1);
  const Table* old = r.table.exchange(table.release(), std::memory_order_seq_cst);
  const std::uint64_t epoch = r.epoch.fetch_add(1, std::memory_order_seq_cst) + 1;
  r.retired.push_back({epoch, std::unique_ptr<const Table>(old)});
  r.has_retired.store(true, std::memory_order_relaxed);
  handled_suffixes.store(suffixes, std::memory_order_relaxed);
  set_handler_gate(suffixes != 0 && !disabled, points && !disabled);
  if (spans_are_unrecorded()) note_gate_down();
  return epoch;
}

bool is_event_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > kMaxEventBytes || name.front() == '.' || name.back() == '.') return false;
  char before = '\0';
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || (c == '.' && before == '.')) return false;
    before = c;
  }
  return true;
}

bool under_prefix(std::string_view name, std::string_view prefix) noexcept {
  return prefix.empty() ||
         (name.substr(0, prefix.size()) == prefix && (name.size() == prefix.size() || name[prefix.size()] == '.'));
}

// Waits until no other thread reads a table older than `epoch`.
void wait_for_readers(std::uint64_t epoch) {
  const NoCancellation no_cancellation;
  const ThreadState* self = locals.state;
  for (unsigned spins = 0; oldest_reader(self) < epoch; ++spins) {
    if (spins < 100) {
      sched_yield();
    } else {
      const timespec pause{0, 50'000};
      nanosleep(&pause, nullptr);
    }
  }
}

bool inside_handler() noexcept { return locals.state != nullptr && locals.state->dispatching > 0; }

// Waits until no emitting thread destroys what a handler had captured.
void wait_until_freed(Registry& r) {
  const NoCancellation no_cancellation;
  while (r.freeing.load(std::memory_order_seq_cst) != 0) sched_yield();
}

// take_unread() with the lock. What finds no memory to be freed now is freed later.
std::vector<Registry::Retired> take_unread_now(Registry& r) noexcept {
  try {
    const std::lock_guard<std::mutex> lock(r.writer);
    return take_unread(r);
  } catch (const std::bad_alloc&) {
    return {};
  }
}

// Removes what `matches` an attachment; whether there was any.
template <class Matches>
bool remove(const Matches& matches) {
  Registry& r = registry();
  std::vector<Registry::Retired> unread;
  std::uint64_t epoch = 0;
  {
    const std::lock_guard<std::mutex> lock(r.writer);
    const Table* current = r.table.load(std::memory_order_relaxed);
    auto table = std::make_unique<Table>();
    for (const TableEntry& entry : current->entries) {
      if (!matches(*entry.attachment)) table->entries.push_back(entry);
    }
    if (table->entries.size() == current->entries.size()) return false;
    epoch = publish(r, std::move(table));
  }
  if (!inside_handler()) wait_for_readers(epoch);
  unread = take_unread_now(r);
  if (!inside_handler()) wait_until_freed(r);
  return true;
}

Errc add(std::string_view id, std::vector<std::string> events, Handler handler, Value config) {
  auto attachment = std::make_shared<Attachment>(Attachment{std::string(id), std::move(handler), std::move(config)});
  Registry& r = registry();
  std::vector<Registry::Retired> unread;
  {
    const std::lock_guard<std::mutex> lock(r.writer);
    const Table* current = r.table.load(std::memory_order_relaxed);
    for (const TableEntry& entry : current->entries) {
      if (entry.attachment->id == id) return Errc::already_exists;
    }
    if (events.empty()) return Errc::ok;
    if (spans_are_unrecorded()) note_gate_raised();
    auto table = std::make_unique<Table>();
    table->entries = current->entries;
    for (std::string& event : events) table->entries.push_back({attachment, std::move(event)});
    publish(r, std::move(table));
  }
  unread = take_unread_now(r);
  return Errc::ok;
}

void report_failure(const Attachment& attachment, std::string_view event_name, const Caught& caught) {
  count(counters.handler_failures);
  remove([&](const Attachment& other) { return &other == &attachment; });
  std::string message = "handler \"" + attachment.id + "\" of event " + std::string(event_name) + " failed with ";
  message += caught.kind;
  if (!caught.type.empty()) message += " " + caught.type;
  if (!caught.message.empty()) message += ": " + caught.message;
  message += "; it has been detached";
  log(LogLevel::error, message);

  constexpr std::string_view kFailure = "telemetry.handler.failure";
  Dispatch dispatch(kFailure);
  if (!dispatch) return;
  FieldBuffer fields;
  fields.put_word("monotonic_time", Value::Type::integer, monotonic_ns(), FieldEntry::kMeasurement);
  fields.put_word("system_time", Value::Type::integer, system_ns(), FieldEntry::kMeasurement);
  fields.put_string("event_name", event_name, 0);
  fields.put_string("handler_id", attachment.id, 0);
  fields.put_value("handler_config", attachment.config, 0);
  fields.put_string("kind", caught.kind, 0);
  fields.put_value("reason", reason_of(caught), 0);
  fields.put_value("stacktrace", Value::list(), 0);
  Event failure;
  EventAccess::set_name(failure, kFailure);
  EventAccess::set_fields(failure, fields);
  dispatch.run(failure);
}

// Frees what this thread was the last to read. To detach() it is inside a handler: the destructors are application
// code.
void free_unread(Registry& r, ThreadState* thread) noexcept {
  ++thread->dispatching;
  r.freeing.fetch_add(1, std::memory_order_seq_cst);
  try {
    std::vector<Registry::Retired> unread;  // destroyed last, without the lock
    const std::unique_lock<std::mutex> lock(r.writer, std::try_to_lock);
    if (lock.owns_lock()) unread = take_unread(r);
  } catch (const std::bad_alloc&) {  // later, then
  }
  r.freeing.fetch_sub(1, std::memory_order_seq_cst);
  --thread->dispatching;
}

}  // namespace

Dispatch::Dispatch(std::string_view name) noexcept {
  ThreadState* thread = thread_state();
  if (thread == nullptr || disabled) return;
  if (thread->dispatching >= kMaxNestedDispatches) {
    count(counters.recursion_dropped);
    return;
  }
  Registry& r = registry();
  thread_ = thread;
  if (thread->dispatching++ == 0) {
    thread->reading.store(r.epoch.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
  }
  handlers_ = r.table.load(std::memory_order_seq_cst)->find(name);
}

Dispatch::~Dispatch() {
  if (thread_ == nullptr || --thread_->dispatching > 0) return;
  thread_->reading.store(0, std::memory_order_release);
  Registry& r = registry();
  if (__builtin_expect(r.has_retired.load(std::memory_order_relaxed), 0)) free_unread(r, thread_);
}

void Dispatch::run(Event& event) {
  const NoCancellation no_cancellation;
  for (const Attachment* attachment : handlers_->handlers) {
    EventAccess::set_config(event, &attachment->config);
    try {
      attachment->handler(event);
    } catch (...) {
      const Caught caught = describe_caught();
      try {
        report_failure(*attachment, handlers_->event, caught);
      } catch (...) {  // no memory to report it
        if (is_thread_exit()) throw;
      }
      if (is_thread_exit()) throw;
    }
  }
}

void lock_registry() noexcept { registry().writer.lock(); }
void unlock_registry() noexcept { registry().writer.unlock(); }

}  // namespace detail

const char* describe(Errc error) noexcept {
  switch (error) {
    case Errc::ok:
      return "ok";
    case Errc::already_exists:
      return "a handler of this id is attached already: detach it first, or choose another id";
    case Errc::not_found:
      return "no handler of this id is attached";
    case Errc::invalid_argument:
      return "a handler needs an id, a callable, and event names of non-empty segments joined by dots (at most 127 "
             "bytes, no control characters), as \"llm.chat.stop\"";
    case Errc::out_of_memory:
      return "out of memory";
  }
  return "unknown error";
}

Errc attach(Text id, Text event, Handler handler, Value config) {
  if (id.empty() || !detail::is_event_name(event.view()) || !handler) return Errc::invalid_argument;
  try {
    return detail::add(id.view(), {std::string(event.view())}, std::move(handler), std::move(config));
  } catch (const std::bad_alloc&) {
    return Errc::out_of_memory;
  }
}

Errc attach_many(Text id, const std::vector<std::string>& events, Handler handler, Value config) {
  const bool valid =
      std::all_of(events.begin(), events.end(), [](const std::string& event) { return detail::is_event_name(event); });
  if (id.empty() || !valid || !handler) return Errc::invalid_argument;
  try {
    return detail::add(id.view(), events, std::move(handler), std::move(config));
  } catch (const std::bad_alloc&) {
    return Errc::out_of_memory;
  }
}

Errc detach(Text id) {
  if (id.empty()) return Errc::not_found;
  try {
    const auto matches = [&](const detail::Attachment& attachment) { return attachment.id == id.view(); };
    return detail::remove(matches) ? Errc::ok : Errc::not_found;
  } catch (const std::bad_alloc&) {
    return Errc::out_of_memory;
  }
}

std::vector<HandlerInfo> list_handlers(Text prefix) {
  std::vector<HandlerInfo> list;
  detail::Registry& r = detail::registry();
  const std::lock_guard<std::mutex> lock(r.writer);
  for (const detail::TableEntry& entry : r.table.load(std::memory_order_relaxed)->entries) {
    if (!detail::under_prefix(entry.event, prefix.view())) continue;
    list.push_back({entry.attachment->id, entry.event, entry.attachment->config});
  }
  return list;
}

}  // namespace nopspan
