// SPDX-License-Identifier: Apache-2.0
// The registry of handlers. Writers (attach, detach) take two mutexes. One is held for the whole change. fork() waits
// only for the other one, under which nothing is allocated or freed: an allocator may have stopped its other threads
// until the fork is over. Readers, which dispatch events, take no lock, and allocate and free nothing.
//
// How it works: each change of a writer begins a new epoch. A reader stores the current epoch in its thread's
// `reading`, loads the epoch again as its own, and clears `reading` when it is done. attach() adds a handler to the
// table with the epoch that is about to begin (`since`). detach() stores that epoch beside the handler (`until`). A
// reader calls the handlers with since <= epoch < until. Memory of the table that a writer has replaced is retired with
// the epoch that is about to begin. What was detached or retired in an epoch is destroyed when every `reading` is 0 or
// at least that epoch.
//
// Why it is safe: a reader whose own epoch is at least that number sees every change that was made before that epoch
// began, so it uses nothing that was retired. Any other reader stored its `reading`, a smaller number, before the new
// epoch began, so the writer sees it. This holds because the accesses to `epoch` and `reading` are sequentially
// consistent.
//
// Who destroys: a thread that calls attach() or detach(), or whose handler throws. Inside a handler this is postponed
// to the end of the thread's outermost dispatch. A thread that only emits events destroys nothing. So the captures of
// handlers are not destroyed in unrelated requests, and a span in a signal handler that interrupted malloc() does not
// call free().
//
// Limits: detach() waits for running handlers and for the destruction of what they captured. Inside a handler, or
// inside such a destructor, nothing waits, because it would wait for itself. A handler that runs on a thread is not
// called again on that thread. A dispatch nested more than 16 deep is dropped. Both are counted.
#include "handlers/registry.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "base/exceptions.h"
#include "gate/gate.h"
#include "handlers/handler_table.h"
#include "state/orphans.h"
#include "thread/log.h"
#include "thread/stacktrace.h"

#include <nopspan/detail/span_result.h>

#include <nopspan/execute.h>

#include <sched.h>

#include <algorithm>
#include <list>
#include <map>
#include <new>
#include <string>
#include <utility>

namespace nopspan {
namespace detail {

std::atomic<unsigned> handled_suffixes{0};

namespace {

constexpr std::size_t kMaxWaiting = 65'536;

// Readers use only these two.
std::atomic<std::uint64_t> epoch{1};
HandlerTable table;

// What only writers use. `lock` guards it, and changes of the table. Members that only writers change may be read under
// `writer` alone.
struct Registry {
  using Attachments = std::list<Attachment>;
  using ById = std::map<std::string_view, Attachments::iterator>;

  std::mutex writer;                                  // taken first
  std::atomic<const ThreadLocals*> writing{nullptr};  // the thread that has it
  std::mutex lock;
  Attachments attached;  // in order of attachment; only writers change it
  ById by_id;            // the same
  Attachments waiting;   // detached, in order of `until`
  Attachments dying;     // detached, and a thread is still detaching them, or is destroying the captures
  Attachments lost;      // the same, but that thread does not exist, because this is the child after a fork()
};

// Never destroyed, because spans may still end while the destructors of static objects run.
Registry& registry() {
  alignas(Registry) static unsigned char memory[sizeof(Registry)];
  static auto* const instance = new (memory) Registry;
  return *instance;
}

// Makes this thread the only writer.
class Writing {
 public:
  explicit Writing(Registry& r) noexcept : r_(r), lock_(r.writer) { r_.writing = &locals; }
  ~Writing() { r_.writing = nullptr; }
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;

 private:
  Registry& r_;
  std::lock_guard<std::mutex> lock_;
};

struct Reading {
  bool began;  // false if the thread was reading already
  std::uint64_t epoch;
};

Reading begin_reading(ThreadState* thread) noexcept {
  // Decided by `reading`, not by the depth of dispatches, because a signal handler may dispatch between any two lines.
  const bool begins = thread->reading.load(std::memory_order_relaxed) == 0;
  if (begins) thread->reading.store(epoch.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
  return {begins, epoch.load(std::memory_order_seq_cst)};
}

void end_reading(ThreadState* thread, bool began) noexcept {
  if (began) thread->reading.store(0, std::memory_order_release);
}

// The oldest epoch in which a thread is reading. UINT64_MAX if no thread is reading.
std::uint64_t oldest_reader() noexcept {
  std::uint64_t oldest = UINT64_MAX;
  for_each_thread([&](const ThreadState& thread) {
    const std::uint64_t reading = thread.reading.load(std::memory_order_seq_cst);
    if (reading != 0) oldest = std::min(oldest, reading);
  });
  return oldest;
}

// Begins an epoch, in which readers see the changes that were made for it. The caller holds both mutexes.
void begin_epoch(const Registry& r, std::uint64_t next) noexcept {
  epoch.store(next, std::memory_order_seq_cst);
  handled_suffixes.store(table.suffixes(), std::memory_order_relaxed);
  // A handler of point events needs spans too, because the events have the ids and labels of the spans they are in.
  const bool any = !r.attached.empty() && !disabled;
  set_handler_gate(any);
  if (spans_are_unrecorded()) note_gate_down();
}

// True for a name that an event may have, and for a prefix ("db.*").
bool is_event_name(std::string_view name) noexcept {
  if (name == "*") return true;
  const auto ends_with = [&](std::string_view end) {
    return name.size() > end.size() && name.substr(name.size() - end.size()) == end;
  };
  for (const std::string_view end : {".*", ".start", ".stop", ".exception", ".iteration_start"}) {
    if (!ends_with(end)) continue;
    name.remove_suffix(end.size());  // the rest is the name of a span, or as short as one
    break;
  }
  return is_clean(name) && name.front() != '.' && name.back() != '.' && name.find("..") == std::string_view::npos &&
         name.find('*') == std::string_view::npos;
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

// True inside a handler, and inside a destructor of what a handler had captured.
bool inside_handler() noexcept {
  return locals.state != nullptr && (locals.state->dispatching > 0 || locals.state->destroying > 0);
}

// Frees the memory that was retired first, unless that was after the epoch `unread`. False if there is none.
bool free_first(Registry& r, std::uint64_t unread) noexcept {
  const InsideLibrary inside;
  std::unique_ptr<Replaceable> first;  // freed after the unlock
  const std::lock_guard<std::mutex> lock(r.lock);
  first = table.take_retired(unread);
  return first != nullptr;
}

// Destroys the captures of the handler that was detached first, unless it was detached after the epoch `unread`. False
// if there is none. The destructors run without the lock, because they are application code, which may emit, attach and
// detach. A handler is taken from `waiting` only when its turn comes, so that a thread that waits for one handler does
// not wait for the destructors of the others.
bool destroy_first(Registry& r, std::uint64_t unread) noexcept {
  Registry::Attachments destroyed;
  Registry::Attachments::iterator first;
  {
    const InsideLibrary inside;
    const std::lock_guard<std::mutex> lock(r.lock);
    first = r.waiting.begin();
    if (first == r.waiting.end() || first->until > unread) return false;
    first->destroyer = &locals;
    r.dying.splice(r.dying.end(), r.waiting, first);
  }
  {
    const NoCancellation no_cancellation;
    ThreadState* thread = locals.state;
    if (thread != nullptr) ++thread->destroying;
    first->handler = nullptr;
    if (thread != nullptr) --thread->destroying;
  }
  const InsideLibrary inside;
  {
    const std::lock_guard<std::mutex> lock(r.lock);
    destroyed.splice(destroyed.end(), r.dying, first);
  }
  destroyed.clear();
  return true;
}

// Destroys and frees what no thread can be reading.
void destroy_unread(Registry& r) noexcept {
  ThreadState* thread = thread_state();
  do {
    if (thread != nullptr) thread->destroys_detached = false;
    // What was retired in this epoch or before stays unread, because readers that begin later begin in this epoch.
    const std::uint64_t now = epoch.load(std::memory_order_seq_cst);
    const std::uint64_t unread = std::min(now, oldest_reader());
    while (free_first(r, unread) || destroy_first(r, unread)) {
    }
    // A destructor may have emitted an event whose handler has detached another one.
  } while (thread != nullptr && thread->destroys_detached);
}

// The last epoch, not after `until`, in which a handler was detached under `id` whose captures still exist. 0 if there
// is none.
std::uint64_t last_detached(Registry& r, std::string_view id, std::uint64_t until) noexcept {
  const InsideLibrary inside;
  const std::lock_guard<std::mutex> lock(r.lock);
  const auto is_meant = [&](const Attachment& old) { return old.until <= until && old.id == id; };
  for (const Registry::Attachments* list : {&r.waiting, &r.dying}) {
    const auto found = std::find_if(list->rbegin(), list->rend(), is_meant);
    if (found != list->rend()) return found->until;
  }
  return 0;
}

// Waits until every handler that was detached under `id`, in the epoch `until` or earlier, has returned and is
// destroyed. Destroys them itself if no other thread does.
void wait_until_gone(Registry& r, std::string_view id, std::uint64_t until) noexcept {
  const NoCancellation no_cancellation;
  for (unsigned looks = 0;; ++looks) {
    destroy_unread(r);
    const std::uint64_t last = last_detached(r, id, until);
    if (last == 0) return;
    for (unsigned i = 0; oldest_reader() < last; ++i) pause_after(i);
    if (looks > 0) pause_after(looks);  // another thread is destroying it
  }
}

// Detaches the attachment with this id, or, if `only` is given, that attachment. Returns true if it was attached. Also
// waits for earlier attachments of the id, because a handler that has detached itself may still be running.
bool remove(std::string_view id, const Attachment* only = nullptr) noexcept {
  Registry& r = registry();
  std::uint64_t until = 0;
  bool is_attached = false;
  {
    const InsideLibrary inside;
    Registry::ById::node_type removed;  // freed after the unlock
    const Writing writing(r);
    until = epoch.load(std::memory_order_relaxed);
    const auto found = r.by_id.find(id);
    is_attached = found != r.by_id.end() && (only == nullptr || &*found->second == only);
    if (is_attached) {
      const Registry::Attachments::iterator attachment = found->second;
      {
        const std::lock_guard<std::mutex> lock(r.lock);
        attachment->until = ++until;
        attachment->destroyer = &locals;
        table.remove(*attachment);
        removed = r.by_id.extract(found);
        r.dying.splice(r.dying.end(), r.attached, attachment);
        begin_epoch(r, until);
      }
      const bool has_retired = table.save_memory(*attachment, until + 1, r.lock);
      const std::lock_guard<std::mutex> lock(r.lock);
      r.waiting.splice(r.waiting.end(), r.dying, attachment);
      if (has_retired) begin_epoch(r, until + 1);
    }
  }
  if (!inside_handler()) {
    wait_until_gone(r, id, until);
  } else if (is_attached) {
    locals.state->destroys_detached = true;
  }
  return is_attached;
}

Errc add(std::string_view id, std::vector<std::string> events, Handler handler, Value config) {
  Registry& r = registry();
  if (!inside_handler()) destroy_unread(r);
  Registry::Attachments made;  // destroyed after the unlock, because its destructor runs application code
  const InsideLibrary inside;
  made.push_back({std::string(id), std::move(handler), std::move(config), std::move(events), 0, 0});
  Attachment& attachment = made.front();
  Registry::ById named{{attachment.id, made.begin()}};
  const Writing writing(r);
  if (r.by_id.count(id) != 0) return Errc::already_exists;
  if (attachment.events.empty()) return Errc::ok;
  {
    const std::lock_guard<std::mutex> lock(r.lock);
    if (r.waiting.size() >= kMaxWaiting) return Errc::out_of_memory;
  }
  attachment.since = epoch.load(std::memory_order_relaxed) + 1;
  table.reserve(attachment, r.lock);
  const std::lock_guard<std::mutex> lock(r.lock);
  table.append(attachment);
  r.by_id.merge(named);
  if (spans_are_unrecorded()) note_gate_raised();
  r.attached.splice(r.attached.end(), made);
  begin_epoch(r, attachment.since);
  return Errc::ok;
}

void report_failure(const Attachment& attachment, const Event& event, const Caught& caught, const Value& stacktrace) {
  count(counters.handler_failures);
  remove(attachment.id, &attachment);
  log_line(LogLevel::error, NoSink::keep, [&] {
    const std::string id = printable(attachment.id, kMaxLogTextBytes, "\"");
    LogText line{"handler \"" + id + "\" of event " + printable(event.name()) + " failed, and has been detached: "};
    line.text += caught.kind;
    if (!caught.type.empty()) line.text += " " + printable(caught.type);
    line.content_at = line.text.size();
    if (!caught.message.empty()) line.text += ": " + printable(caught.message);
    return line;
  });

  // The configuration may have keys and passwords, and the reason has the message.
  execute(event.context(), "telemetry.handler.failure", [&](Fields& f) {
    f.measure("monotonic_time", monotonic_ns()).measure("system_time", system_ns());
    f.set("event_name", event.name()).set("handler_id", attachment.id).content("handler_config", attachment.config);
    f.set("kind", caught.kind).content("reason", reason_of(caught));
    f.content("stacktrace", stacktrace.is_null() ? Value::list() : stacktrace);
  });
}

}  // namespace

Dispatch::Dispatch(const EventName& name) noexcept : name_(name) {
  ThreadState* thread = thread_state();
  if (thread == nullptr || disabled) return;
  const Reading reading = begin_reading(thread);
  epoch_ = reading.epoch;
  handlers_ = table.find(name);
  prefixes_ = table.prefixes();
  std::size_t first = 0;
  if (next(prefixes_, first) == nullptr) prefixes_ = nullptr;
  bool is_handled = handlers_ != nullptr || prefixes_ != nullptr;
  if (is_handled && thread->dispatching >= kMaxNestedDispatches) {
    count(counters.recursion_dropped);
    is_handled = false;
  }
  if (!is_handled) {
    end_reading(thread, reading.began);
    return;
  }
  thread_ = thread;
  is_outermost_ = reading.began;
  depth_ = thread->dispatching++;
  thread->running[depth_] = nullptr;
}

Dispatch::~Dispatch() {
  if (thread_ == nullptr) return;
  --thread_->dispatching;
  end_reading(thread_, is_outermost_);
  // Destroying does not nest: if a destructor emits an event, the loop that called the destructor destroys the rest.
  if (is_outermost_ && thread_->destroys_detached && thread_->destroying == 0) destroy_unread(registry());
}

std::string_view Dispatch::name() noexcept {
  if (handlers_ != nullptr) return handlers_->event;
  std::size_t size = name_.base.copy(text_, sizeof(text_));
  size += name_.suffix.copy(text_ + size, sizeof(text_) - size);
  return {text_, size};
}

const HandlerSlot* Dispatch::next(const HandlerList* list, std::size_t& at) const noexcept {
  const std::size_t used = list != nullptr ? list->used.load(std::memory_order_acquire) : 0;
  while (at < used) {
    const HandlerSlot& slot = list->slots[at++];
    if (slot.since > epoch_ || slot.until.load(std::memory_order_relaxed) <= epoch_) continue;
    const std::string_view prefix = slot.prefix;  // empty, or with a dot at its end
    if (prefix.empty()) return &slot;
    const bool is_below = name_.base.substr(0, prefix.size()) == prefix ||
                          (prefix.size() == name_.base.size() + 1 &&
                           prefix.substr(0, prefix.size() - 1) == name_.base && !name_.suffix.empty());
    if (is_below) return &slot;
  }
  return nullptr;
}

void Dispatch::run(Event& event) {
  const NoCancellation no_cancellation;
  const Attachment** const running = thread_->running;
  std::size_t at = 0;
  std::size_t at_prefix = 0;
  const HandlerSlot* named = next(handlers_, at);
  const HandlerSlot* below = next(prefixes_, at_prefix);
  const Attachment* before = nullptr;
  while (named != nullptr || below != nullptr) {
    // In the order in which they were attached.
    const bool is_named = below == nullptr || (named != nullptr && named->since <= below->since);
    const Attachment* attachment = (is_named ? named : below)->attachment;
    (is_named ? named : below) = is_named ? next(handlers_, at) : next(prefixes_, at_prefix);
    if (attachment == before) continue;  // it is attached to the event, and to a prefix of it
    before = attachment;
    if (std::find(running, running + depth_, attachment) != running + depth_) {
      count(counters.recursion_dropped);
      continue;
    }
    running[depth_] = attachment;
    EventAccess::set_config(event, &attachment->config);
    try {
      attachment->handler(event);
    } catch (const AtThrow&) {
      __builtin_unreachable();
    } catch (...) {
      const Caught caught = describe_caught();
      try {
        const Value stacktrace = stacktrace_of_caught(nullptr);
        forget_thrown();
        report_failure(*attachment, event, caught, stacktrace);
      } catch (...) {  // memory ran out while the failure was reported
        forget_thrown();
        if (is_thread_exit()) throw;
      }
      if (is_thread_exit()) throw;
    }
  }
  running[depth_] = nullptr;
}

bool may_be_handled(const Interned& name) noexcept { return table.may_handle_span(name); }

bool may_be_event(const Interned& span) noexcept { return table.may_handle_event(span.hash); }

void warn_of_event(const Interned& span) noexcept {
  ThreadState* thread = thread_state();
  if (thread == nullptr || thread->busy) return;  // a signal handler that may have interrupted the log
  LogLine line;
  const Reading reading = begin_reading(thread);
  const HandlerList* const list = table.find(EventName(span.view()));
  const bool is_first = list != nullptr && !list->has_warned.exchange(true, std::memory_order_relaxed);
  end_reading(thread, reading.began);
  if (!is_first) return;
  line.add("a handler is attached to \"").add(span.view()).add("\", but this is a span, whose events are ");
  line.add(span.view()).add(".start, .stop and .exception");
  log(LogLevel::warning, NoSink::keep, line.view());
}

bool free_registry() noexcept {
  Registry& r = registry();
  const std::unique_lock<std::mutex> writer(r.writer, std::try_to_lock);
  if (!writer.owns_lock()) return false;
  const std::unique_lock<std::mutex> lock(r.lock, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  if (!r.attached.empty() || !r.waiting.empty() || !r.dying.empty()) return true;
  table.clear();
  return true;
}

std::mutex& registry_lock() noexcept { return registry().lock; }

void forget_other_threads_of_registry() noexcept {
  Registry& r = registry();
  if (r.writing != &locals) {
    // If a signal handler forked just after this thread took the mutex, it will release a mutex that nobody has.
    new (&r.writer) std::mutex;
    if (r.writing.exchange(nullptr) != nullptr) table.forget_reserved();
  }
  for (auto next = r.dying.begin(); next != r.dying.end();) {
    const auto dying = next++;
    if (dying->destroyer != &locals) r.lost.splice(r.lost.end(), r.dying, dying);
  }
}

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
      return "a handler needs an id, a callable, and names that events may have, such as \"llm.chat.stop\" (segments "
             "joined by dots, UTF-8 without control characters, at most 63 bytes without .start, .stop or .exception), "
             "or prefixes of names, such as \"llm.*\"";
    case Errc::out_of_memory:
      return "out of memory, or too many detached handlers wait to be destroyed";
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

Errc detach(Text id) { return !id.empty() && detail::remove(id.view()) ? Errc::ok : Errc::not_found; }

std::vector<HandlerInfo> list_handlers(Text prefix) {
  std::vector<HandlerInfo> list;
  detail::Registry& r = detail::registry();
  const detail::InsideLibrary inside;
  const detail::Writing writing(r);
  for (const detail::Attachment& attachment : r.attached) {
    const std::vector<std::string>& events = attachment.events;
    for (const std::string& event : events) {
      // An event that was given twice calls the handler once.
      if (std::find(events.data(), &event, event) != &event || !detail::under_prefix(event, prefix.view())) continue;
      list.push_back({attachment.id, event, attachment.config});
    }
  }
  return list;
}

}  // namespace nopspan
