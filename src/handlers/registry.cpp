// SPDX-License-Identifier: Apache-2.0
// The registry of handlers: an immutable table behind one pointer. Writers (attach, detach) take a mutex. Readers,
// which dispatch events, take no lock.
//
// How it works: a reader stores the current epoch in its thread's `reading`, then loads the table, and clears `reading`
// when it is done. A writer publishes a new table, then begins a new epoch. It puts the old table and the detached
// handler on the list `retired`, with the number of the new epoch. They are freed when every `reading` is 0 or at least
// that number, by the first thread that notices this.
//
// Why it is safe: a reader with at least that number loaded the table after the new one was published. If a writer does
// not see the value that a reader stores in `reading`, that reader loads the table even later, because all these
// accesses are sequentially consistent. So no thread can be using what is freed.
//
// Limits: detach() waits for running handlers and for the destruction of what they captured. Inside a handler, or
// inside such a destructor, nothing waits, because it would wait for itself. A handler that runs on a thread is not
// called again on that thread. A dispatch nested more than 16 deep is dropped. Both are counted.
#include "handlers/registry.h"

#include "base/counters.h"
#include "base/exceptions.h"
#include "base/hash.h"
#include "base/no_cancellation.h"
#include "gate/gate.h"
#include "handlers/event_access.h"
#include "state/orphans.h"
#include "thread/log.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>

namespace nopspan {
namespace detail {

std::atomic<unsigned> handled_suffixes{0};

// The arguments of one attach().
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

struct TableEntry {
  const Attachment* attachment;
  std::string event;
};

// The two parts of a name are hashed separately, so that the lookup of a span's event need not join them.
std::uint64_t hash_of(const EventName& name) noexcept {
  return hash_bytes(name.base) * 0x9e3779b97f4a7c15U + hash_bytes(name.suffix);
}

bool is_named(const HandlerList& list, const EventName& name) noexcept {
  return list.event.size() == name.base.size() + name.suffix.size() &&
         list.event.compare(0, name.base.size(), name.base) == 0 &&
         list.event.compare(name.base.size(), name.suffix.size(), name.suffix) == 0;
}

struct Table {
  std::vector<TableEntry> entries;  // in order of attachment
  std::vector<HandlerList> lists;
  std::vector<const HandlerList*> slots;  // a hash table with open addressing: a power of two, at most half full

  void index();
  [[nodiscard]] const HandlerList* find(const EventName& event) const noexcept {
    if (slots.empty()) return nullptr;
    const std::uint64_t hash = hash_of(event);
    for (std::size_t i = hash & (slots.size() - 1); slots[i] != nullptr; i = (i + 1) & (slots.size() - 1)) {
      if (slots[i]->hash == hash && is_named(*slots[i], event)) return slots[i];
    }
    return nullptr;
  }
};

void Table::index() {
  for (const TableEntry& entry : entries) {
    const auto same = [&](const HandlerList& list) { return list.event == entry.event; };
    auto found = std::find_if(lists.begin(), lists.end(), same);
    if (found == lists.end()) found = lists.insert(lists.end(), {entry.event, hash_of(EventName(entry.event)), {}});
    found->handlers.push_back(entry.attachment);
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

// A replaced table, and the attachment that was detached with it, if any.
struct Retired {
  enum class Stage : std::uint8_t { waiting, freeing, freed };

  std::uint64_t epoch = 0;  // readers that began in this epoch or later have a newer table
  std::unique_ptr<const Table> table;
  std::unique_ptr<const Attachment> attachment;
  std::string id;                            // the id of the attachment
  std::atomic<Stage> stage{Stage::waiting};  // the freeing thread sets `freed` without the lock
};

struct Registry {
  std::mutex writer;
  std::atomic<const Table*> table{new Table};
  std::atomic<std::uint64_t> epoch{1};
  std::vector<std::unique_ptr<const Attachment>> attached;  // guarded by `writer`
  std::list<Retired> retired;                               // guarded by `writer`
  std::atomic<bool> has_waiting{false};                     // an element of `retired` is in stage `waiting`
};

// Never destroyed, because spans may still end while the destructors of static objects run.
Registry& registry() {
  static auto* const instance = new Registry;
  return *instance;
}

// The oldest epoch in which a thread is reading, not counting `self`. UINT64_MAX if no thread is reading.
std::uint64_t oldest_reader(const ThreadState* self) noexcept {
  std::uint64_t oldest = UINT64_MAX;
  for_each_thread([&](const ThreadState& thread) {
    if (&thread == self) return;
    const std::uint64_t reading = thread.reading.load(std::memory_order_seq_cst);
    if (reading != 0) oldest = std::min(oldest, reading);
  });
  return oldest;
}

// kStart, kStop or kException for a span's event. 0 for any other event.
unsigned suffix_of(std::string_view name) noexcept {
  const std::string_view suffix = EventName(name).suffix;
  if (suffix == ".start" || suffix == ".iteration_start") return kStart;
  if (suffix == ".stop") return kStop;
  return suffix == ".exception" ? kException : 0U;
}

// Publishes an indexed table. `place` is a list of one element, which receives the old table: it was allocated before,
// so that this cannot fail. The caller holds `writer`.
void publish(Registry& r, std::unique_ptr<Table> table, std::list<Retired>& place,
             std::unique_ptr<const Attachment> detached) noexcept {
  unsigned suffixes = 0;
  for (const TableEntry& entry : table->entries) suffixes |= suffix_of(entry.event);
  // A handler of point events needs spans too, because the events have the ids and labels of the spans they are in.
  const bool any = !table->entries.empty() && !disabled;
  Retired& retired = place.front();
  retired.table.reset(r.table.exchange(table.release(), std::memory_order_seq_cst));
  retired.attachment = std::move(detached);
  retired.epoch = r.epoch.fetch_add(1, std::memory_order_seq_cst) + 1;
  r.retired.splice(r.retired.end(), place);
  r.has_waiting.store(true, std::memory_order_relaxed);
  handled_suffixes.store(suffixes, std::memory_order_relaxed);
  set_handler_gate(any, any);
  if (spans_are_unrecorded()) note_gate_down();
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

// Pauses between two checks of what other threads do: yields at first, sleeps 50 us after 100 checks.
void pause_after(unsigned looks) noexcept {
  if (looks < 100) {
    sched_yield();
  } else {
    const timespec pause{0, 50'000};
    nanosleep(&pause, nullptr);
  }
}

// Waits until no other thread reads a table older than `epoch`.
void wait_for_readers(std::uint64_t epoch) noexcept {
  const NoCancellation no_cancellation;
  const ThreadState* self = locals.state;
  for (unsigned looks = 0; oldest_reader(self) < epoch; ++looks) pause_after(looks);
}

// True inside a handler, and inside a destructor of what a handler had captured.
bool inside_handler() noexcept {
  return locals.state != nullptr && (locals.state->dispatching > 0 || locals.state->destroying > 0);
}

// Claims one retired element that no thread can be reading, or returns null. If `epoch` is not 0, only the element of
// that epoch is considered. Also removes the freed elements from the list. The caller holds `writer`.
Retired* take_unread(Registry& r, std::uint64_t epoch) noexcept {
  using Stage = Retired::Stage;
  r.retired.remove_if([](const Retired& old) { return old.stage.load(std::memory_order_acquire) == Stage::freed; });
  const std::uint64_t oldest = oldest_reader(nullptr);
  Retired* taken = nullptr;
  bool waiting = false;
  for (Retired& old : r.retired) {
    if (old.stage.load(std::memory_order_relaxed) != Stage::waiting) continue;
    if (taken == nullptr && old.epoch <= oldest && (epoch == 0 || epoch == old.epoch)) {
      old.stage.store(Stage::freeing, std::memory_order_relaxed);
      taken = &old;
    } else {
      waiting = true;
    }
  }
  r.has_waiting.store(waiting, std::memory_order_relaxed);
  return taken;
}

// Frees the retired elements that no thread can be reading. Frees them one by one, so that a thread that waits for one
// of them does not wait for the others. The destructors run without the lock, because they are application code, which
// may emit, attach and detach. If the lock is taken and `may_wait` is false, the function returns without freeing.
void free_unread(Registry& r, bool may_wait, std::uint64_t epoch = 0) noexcept {
  ThreadState* thread = thread_state();
  for (;;) {
    Retired* old = nullptr;
    {
      const InsideLibrary inside;
      std::unique_lock<std::mutex> lock(r.writer, std::defer_lock);
      if (may_wait) {
        lock.lock();
      } else if (!lock.try_lock()) {
        return;
      }
      old = take_unread(r, epoch);
      if (old == nullptr) return;
      old->table.reset();
    }
    {
      const NoCancellation no_cancellation;
      if (thread != nullptr) ++thread->destroying;
      old->attachment.reset();
      if (thread != nullptr) --thread->destroying;
    }
    old->stage.store(Retired::Stage::freed, std::memory_order_release);
  }
}

// Waits until every handler that was detached under `id`, in `epoch` or before, has returned and is destroyed. Frees
// them itself if no other thread does.
void wait_until_gone(Registry& r, std::string_view id, std::uint64_t epoch) noexcept {
  const NoCancellation no_cancellation;
  const auto next = [&]() -> std::uint64_t {
    const InsideLibrary inside;
    const std::lock_guard<std::mutex> lock(r.writer);
    for (const Retired& old : r.retired) {
      const bool gone = old.stage.load(std::memory_order_acquire) == Retired::Stage::freed;
      if (!gone && old.epoch <= epoch && old.id == id) return old.epoch;
    }
    return 0;
  };
  std::uint64_t waiting_for = next();
  for (unsigned looks = 0; waiting_for != 0; waiting_for = next(), ++looks) {
    wait_for_readers(waiting_for);
    free_unread(r, true, waiting_for);
    if (looks > 0) pause_after(looks);
  }
}

// Detaches the attachment with this id, or, if `only` is given, that attachment. Returns true if it was attached. Also
// waits for earlier attachments of the id, because a handler that has detached itself may still be running.
bool remove(std::string_view id, const Attachment* only = nullptr) {
  Registry& r = registry();
  std::uint64_t epoch = 0;
  bool found = false;
  {
    const InsideLibrary inside;
    const std::lock_guard<std::mutex> lock(r.writer);
    const auto at = std::find_if(r.attached.begin(), r.attached.end(), [&](const auto& other) {
      return only != nullptr ? other.get() == only : other->id == id;
    });
    found = at != r.attached.end();
    if (found) {
      auto table = std::make_unique<Table>();
      for (const TableEntry& entry : r.table.load(std::memory_order_relaxed)->entries) {
        if (entry.attachment != at->get()) table->entries.push_back(entry);
      }
      table->index();
      std::list<Retired> place(1);
      place.front().id = id;
      publish(r, std::move(table), place, std::move(*at));
      r.attached.erase(at);
    }
    epoch = r.epoch.load(std::memory_order_relaxed);
  }
  if (inside_handler()) return found;  // freed after the last handler has returned
  wait_until_gone(r, id, epoch);
  free_unread(r, true);
  return found;
}

Errc add(std::string_view id, std::vector<std::string> events, Handler handler, Value config) {
  Registry& r = registry();
  std::unique_ptr<const Attachment> attachment;  // destroyed after the unlock, because its destructor runs user code
  {
    const InsideLibrary inside;
    attachment = std::make_unique<const Attachment>(Attachment{std::string(id), std::move(handler), std::move(config)});
    const std::lock_guard<std::mutex> lock(r.writer);
    for (const auto& other : r.attached) {
      if (other->id == id) return Errc::already_exists;
    }
    if (events.empty()) return Errc::ok;
    auto table = std::make_unique<Table>();
    table->entries = r.table.load(std::memory_order_relaxed)->entries;
    for (std::string& event : events) table->entries.push_back({attachment.get(), std::move(event)});
    table->index();
    std::list<Retired> place(1);
    r.attached.reserve(r.attached.size() + 1);
    if (spans_are_unrecorded()) note_gate_raised();
    r.attached.push_back(std::move(attachment));
    publish(r, std::move(table), place, nullptr);
  }
  if (!inside_handler()) free_unread(r, true);
  return Errc::ok;
}

void report_failure(const Attachment& attachment, std::string_view event_name, const Caught& caught) {
  count(counters.handler_failures);
  remove(attachment.id, &attachment);
  log_line(LogLevel::error, [&] {
    const std::string id = printable(attachment.id, kMaxLogTextBytes, "\"");
    std::string message = "handler \"" + id + "\" of event " + printable(event_name) + " failed with ";
    message += caught.kind;
    if (!caught.type.empty()) message += " " + printable(caught.type);
    if (!caught.message.empty()) message += ": " + printable(caught.message);
    return message + "; it has been detached";
  });

  constexpr std::string_view kFailure = "telemetry.handler.failure";
  Dispatch dispatch{EventName(kFailure)};
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

}  // namespace

Dispatch::Dispatch(const EventName& name) noexcept {
  ThreadState* thread = thread_state();
  if (thread == nullptr || disabled) return;
  if (thread->dispatching >= kMaxNestedDispatches) {
    count(counters.recursion_dropped);
    return;
  }
  Registry& r = registry();
  thread_ = thread;
  depth_ = thread->dispatching++;
  thread->running[depth_] = nullptr;
  // Decided by `reading`, not by the depth, because a signal handler may dispatch between any two of these lines.
  outermost_ = thread->reading.load(std::memory_order_relaxed) == 0;
  if (outermost_) thread->reading.store(r.epoch.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
  handlers_ = r.table.load(std::memory_order_seq_cst)->find(name);
}

Dispatch::~Dispatch() {
  if (thread_ == nullptr) return;
  if (outermost_) thread_->reading.store(0, std::memory_order_release);
  --thread_->dispatching;
  Registry& r = registry();
  // Freeing does not nest: if a destructor emits an event, the loop that called the destructor frees the rest.
  if (outermost_ && __builtin_expect(r.has_waiting.load(std::memory_order_relaxed), 0) && thread_->destroying == 0) {
    free_unread(r, false);
  }
}

std::string_view Dispatch::name() const noexcept { return handlers_->event; }

void Dispatch::run(Event& event) {
  const NoCancellation no_cancellation;
  const Attachment** const running = thread_->running;
  for (const Attachment* attachment : handlers_->handlers) {
    if (std::find(running, running + depth_, attachment) != running + depth_) {
      count(counters.recursion_dropped);
      continue;
    }
    running[depth_] = attachment;
    EventAccess::set_config(event, &attachment->config);
    try {
      attachment->handler(event);
    } catch (...) {
      const Caught caught = describe_caught();
      try {
        report_failure(*attachment, handlers_->event, caught);
      } catch (...) {  // memory ran out while the failure was reported
        if (is_thread_exit()) throw;
      }
      if (is_thread_exit()) throw;
    }
  }
  running[depth_] = nullptr;
}

void lock_registry() noexcept { registry().writer.lock(); }
void unlock_registry() noexcept { registry().writer.unlock(); }

}  // namespace detail

const char* describe(Errc error) noexcept {
  switch (error) {
    case Errc::ok:
      return "ok";
    case Errc::already_exists:
      return "a handler with this id is attached already: detach it first, or choose another id";
    case Errc::not_found:
      return "no handler with this id is attached";
    case Errc::invalid_argument:
      return "a handler needs an id, a callable, and event names of non-empty segments joined by dots (at most 127 "
             "bytes, no control characters), for example \"llm.chat.stop\"";
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
    return detail::remove(id.view()) ? Errc::ok : Errc::not_found;
  } catch (const std::bad_alloc&) {
    return Errc::out_of_memory;
  }
}

std::vector<HandlerInfo> list_handlers(Text prefix) {
  std::vector<HandlerInfo> list;
  detail::Registry& r = detail::registry();
  const detail::InsideLibrary inside;
  const std::lock_guard<std::mutex> lock(r.writer);
  for (const detail::TableEntry& entry : r.table.load(std::memory_order_relaxed)->entries) {
    if (!detail::under_prefix(entry.event, prefix.view())) continue;
    list.push_back({entry.attachment->id, entry.event, entry.attachment->config});
  }
  return list;
}

}  // namespace nopspan
