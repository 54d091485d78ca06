// SPDX-License-Identifier: Apache-2.0
// The state that the library keeps for each thread, and the guards through which every function enters the library.
#pragma once

#include "memory/slabs.h"
#include "thread/counter_clock.h"
#include "thread/stacktrace.h"

#include <nopspan/context.h>
#include <nopspan/probes.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

struct Attachment;
struct SpanState;
struct ThreadState;

inline constexpr std::size_t kNotedChildren = 32;
inline constexpr unsigned kMaxNestedDispatches = 16;

struct Pooled;

// One entry of a thread's context stack: an open Span, or a context that the application made current.
struct Frame {
  static constexpr std::uint64_t kOnStack = 1;  // it is on the stack of `owner`
  static constexpr std::uint64_t kEnded = 2;    // another thread has ended it: `owner` must take it off its stack
  // For a context that ends with a coroutine. kLooking: its owner is reading the coroutine's memory, so another thread
  // that is destroying the coroutine must wait.
  static constexpr std::uint64_t kOfCoroutine = 4;
  static constexpr std::uint64_t kLooking = 8;
  static constexpr std::uint64_t kBits = kOnStack | kEnded | kOfCoroutine | kLooking;
  static constexpr std::uint64_t kGeneration = 16;  // the rest of `word` counts the uses of a ScopeFrame

  Frame* below;
  SpanState* span;  // null for a ScopeFrame
  ContextHead* context;
  char* foreign_id;
  std::atomic<ThreadState*> owner;
  std::atomic<std::uint64_t> word;
};

// The frame of a ContextScope or of a coroutine's context. It belongs to the thread and not to the object, because the
// object may be destroyed by another thread, or never. An element of slabs.
struct alignas(64) ScopeFrame : Frame {
  ScopeFrame* next_free;  // the frame itself if it came from another thread with a fiber
  void* coroutine;        // only with kOfCoroutine
  ContextHead head;
  char foreign[64];
  Slabs::Claim place;
};

// The sites in sites.S, without the batch site.
enum class Probe : std::uint8_t {
  span_start,
  span_stop,
  span_exception,
  event,
  first_token,
  tokens,
  retry,
  tool_call,
  engine_request,
  gauge,
  engine_step,
};
inline constexpr std::size_t kProbes = 11;

std::uint64_t monotonic_ns() noexcept;  // CLOCK_MONOTONIC; nopspan::now_ns() for programs
std::uint64_t system_ns() noexcept;     // CLOCK_REALTIME

// Whether the batch site was called with a thread's header since the gate was raised. `before_copy`: it was, but the
// process has become a copy since, and needs another sequence_id.
enum class Announced : unsigned char { no, before_copy, yes };

// The part of a thread's state for the batch probe: the header of its buffer, and a summary of the entries in it.
// emit/batch.cpp writes both.
struct BatchBuffer {
  // A name or label that the buffer already contains. Many entries have the same one, and the buffer has it only once.
  struct WrittenText {
    std::uint64_t hash;   // its hash_bytes()
    std::uint64_t bit;    // its nopspan_text_bit()
    std::uint32_t batch;  // the number of the batch that contains it
    nopspan_text where;
  };
  static constexpr std::size_t kWrittenTexts = 32;
  // A form that the buffer already contains.
  struct WrittenForm {
    std::uint64_t hash;
    std::uint32_t batch;
    unsigned short place;
  };
  static constexpr std::size_t kWrittenForms = 32;
  // A request that the buffer already contains.
  struct WrittenRequest {
    std::uint64_t trace_id[2];
    std::uint64_t root_id;
    std::uint64_t start_ns;
    std::uint32_t batch;
    unsigned short place;
    bool is_foreign, has_tracestate;
  };
  static constexpr std::size_t kWrittenRequests = 32;

  nopspan_thread* header;  // an element of header_slabs; null until a tracer wants batches
  Slabs::Claim header_place;
  Announced announced;
  bool thread_has_ended;          // each entry is flushed at once, because it may be the last
  std::uint32_t batch;            // the number of the batch that is being filled; not 0
  std::uint32_t errors;           // its entries with status error or exception
  std::uint32_t awaiting;         // its entries whose root span (`awaited_root`) may still end in it
  std::uint32_t root_elsewhere;   // its other entries whose root span is not in it
  std::uint32_t refused;          // entries at the thread's end so far that the tap has refused (emit/batch.h)
  std::uint64_t awaited_root;     // a span id
  std::uint64_t longest_root_ns;  // the longest duration of its root spans
  std::uint64_t flushed_ns;       // the time of the last flush
  WrittenText written_texts[kWrittenTexts];
  WrittenForm written_forms[kWrittenForms];
  WrittenRequest written_requests[kWrittenRequests];
};

struct ThisMachine : ProcessorCounter {
  static std::uint64_t clock() noexcept { return monotonic_ns(); }
};

// An element of `thread_slabs`. It has no constructor: zero-filled memory and the state of a thread that has ended are
// states too, and make_thread_state() sets what differs. Aligned to a cache line because other threads read `reading`.
struct alignas(64) ThreadState {
  // The epoch in which this thread began to read the registry's table; 0 if it is not reading. See registry.cpp.
  std::atomic<std::uint64_t> reading;
  Slabs::Claim place;

  // Addresses of the thread's own variables, kept because finding them takes a call.
  int* error_number;                     // errno
  const unsigned* exceptions_in_flight;  // see exceptions.h
  Thrown thrown;

  unsigned dispatching;    // depth of nested dispatches
  unsigned destroying;     // depth of destructors of detached handlers
  bool destroys_detached;  // a handler of this thread has detached one; see registry.cpp
  bool busy;               // inside the library, not in application code: a signal handler must not enter

  std::uint64_t process_mark;  // identifies the process that the fields below belong to
  // Of the records of probes. It begins when the gate is raised, because a number that is made earlier could be in
  // copies of this process.
  std::uint64_t sequence_id;
  std::uint64_t sequence[kProbes];
  std::uint64_t sequence_since_ns;  // nopspan_gate_page::raised_ns then
  // A new thread fills the first bytes by one call of process_random().
  struct {
    std::uint64_t state[4];  // xoshiro256**
    std::uint64_t key[4];    // of the generator of the entropy
    unsigned char entropy[512];
  } random;
  std::size_t entropy_left;
  std::atomic<std::uint64_t> renewed_ns;  // when renew_random() was called; 0: call it for the next number
  std::uint64_t copies;                   // ProcessPage::copies then
  CounterClock<ThisMachine> clock;        // use only inside a LibraryGuard

  bool in_doubt;  // see orphans.h
  std::uint64_t doubt_since_ns;
  std::uint64_t noted_children[kNotedChildren];  // hashes of names that it has passed to note_new_child()

  // The handler that each of the nested dispatches is calling, or null. Only compared, because it may be dangling.
  const Attachment* running[kMaxNestedDispatches];

  std::uint32_t thread_id;      // in the thread's own pid namespace
  ScopeFrame* free_scopes;      // a list; see context_stack.cpp
  Slabs::Claim claimed_scopes;  // further frames, which were not used yet
  std::size_t frames_kept;      // in the stack, when drop_ended_below() last looked through it
  std::size_t frames_claimed;   // since then, about
  Pooled* pool;                 // states of spans that are not in use; see span_pool.h
  std::size_t pooled;
  Slabs::Claim claimed;  // further states, which were not used yet
  BatchBuffer batch;
  unsigned char* attribute_bytes;  // kMaxAttributesBytes, taken at first use
};

// The thread-local variables. The type is trivial, so they can be used before any constructor of the thread has run and
// after all of its destructors.
struct ThreadLocals {
  Frame* top = nullptr;
  ThreadState* state = nullptr;
  bool making = false;       // the state is being made: a signal handler must not enter
  bool has_ended = false;    // the state was released; spans can now come only from later destructors of the thread
  unsigned char rounds = 0;  // of the destructors of keys at the end of the thread
  struct {                   // from before fork() until after it
    unsigned char depth;     // more than 1 if a signal handler forks in the middle of fork()
    bool interrupted;        // a signal handler forks that interrupted the library
    bool has_registry;       // it has this lock
    bool has_log;
  } forking{};
};
// __thread, because thread_local would add a check for dynamic initialization in every other file. initial-exec TLS,
// because the default model makes every access in the shared library a call. The few bytes fit into the static TLS
// block of any process, even after a dlopen().
extern __thread ThreadLocals locals __attribute__((tls_model("initial-exec")));

// The next two variables are defined in span/load.cpp, which also explains why.

// True under NOPSPAN_DISABLE=1: this process emits nothing.
extern bool disabled;

// True while the library is being unloaded: no state is made.
extern std::atomic<bool> unloading;

// The states of all threads, and the headers of their batches. Other processes read the headers.
extern Slabs thread_slabs;
extern Slabs header_slabs;

// Calls `each(ThreadState&)` for the threads that have a state. They may end meanwhile, and others may begin.
template <class Each>
void for_each_thread(const Each& each) {
  thread_slabs.for_each_used<ThreadState>([&](ThreadState& thread, const Slabs::Claim&) { each(thread); });
}

// What belongs to this process alone. The kernel gives a child process this page filled with zeroes (MADV_WIPEONFORK).
// So the library detects fork() without calling getpid(), and a raw clone() without pthread_atfork().
struct ProcessPage {
  std::atomic<std::uint64_t> mark{0};    // first, because tracers read it; 0: not made yet
  std::atomic<std::uint64_t> key[4]{};   // of random.cpp; 0: not made yet
  std::atomic<std::uint64_t> uses{0};    // of the key
  std::atomic<std::uint64_t> copies{0};  // how often this process was found to be a copy
  std::atomic<long> pid{0};              // set with the mark: a sandbox may forbid getpid()
};
extern std::atomic<ProcessPage*> own_page;
ProcessPage& process_page() noexcept;
std::uint64_t make_process_mark() noexcept;

// Fills `out`, at most 1 KiB, with random bytes of the process's generator.
void process_random(void* out, std::size_t size) noexcept;
// Fills the entropy of a thread from its own generator, which gets a new key: earlier ids cannot be computed from it.
void refill_entropy(ThreadState* thread) noexcept;

// Adds new bytes to the generators of a thread. It is called before a thread makes a number, if it was called longer
// ago than kRenewEveryNs: so rarely that it costs nothing, but in nearly each copy of the process.
inline constexpr std::uint64_t kRenewEveryNs = 10'000'000;
void renew_random(ThreadState* thread, std::uint64_t now_ns) noexcept;
// This process has become a copy: makes a new key, renews all threads, and gives them new sequence_ids.
void note_copy() noexcept;
inline constexpr std::uint64_t kNoSequence = ~std::uint64_t{0};  // a `sequence_since_ns`: the next record begins one

// A number that differs between this process and its children by fork() or clone().
inline std::uint64_t process_mark() noexcept {
  const ProcessPage* page = own_page.load(std::memory_order_acquire);
  const std::uint64_t mark = page != nullptr ? page->mark.load(std::memory_order_relaxed) : 0;
  return __builtin_expect(mark != 0, 1) ? mark : make_process_mark();
}

void unmap_process_mark() noexcept;

ThreadState* make_thread_state() noexcept;  // in span/thread_life.cpp

// This thread's state, made at first use. In a child process, the inherited state first gets a new sequence_id,
// sequence 0 and new seeds. Null if memory runs out, or in a signal handler that interrupted the making of the state.
inline ThreadState* thread_state() noexcept {
  ThreadState* thread = locals.state;
  const ProcessPage* page = own_page.load(std::memory_order_acquire);
  // The mark of a state is not 0.
  return __builtin_expect(
             thread != nullptr && page != nullptr && thread->process_mark == page->mark.load(std::memory_order_relaxed),
             1)
             ? thread
             : make_thread_state();
}

// The same for what emits nothing, so that it does not matter whether the state was inherited.
inline ThreadState* any_thread_state() noexcept {
  ThreadState* thread = locals.state;
  return __builtin_expect(thread != nullptr, 1) ? thread : make_thread_state();
}

// Called in the child after fork(), where no other thread exists. If `reuses` is true, the states of the other threads
// become available again. It is false if a signal handler that interrupted the library forked: the frames of the other
// threads then still name their states, or this thread's own state is not known yet.
void forget_other_threads(bool reuses) noexcept;

// Marks the thread as inside the library until the end of the scope, and keeps errno. Converts to false if nothing may
// be emitted: under NOPSPAN_DISABLE, if memory runs out (counted), or in a signal handler that interrupted the library
// (counted).
class LibraryGuard {
 public:
  LibraryGuard() noexcept {
    if (disabled) return;
    ThreadState* thread = locals.state;
    if (thread != nullptr && __builtin_expect(thread->busy, 0)) {
      refused();
      return;
    }
    thread = thread_state();
    if (__builtin_expect(thread == nullptr, 0)) {
      if (locals.making) {
        refused();
      } else {
        no_state();
      }
      return;
    }
    thread->busy = true;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    thread_ = thread;
    kept_errno_ = *thread->error_number;
  }
  ~LibraryGuard() {
    if (thread_ == nullptr) return;
    *thread_->error_number = kept_errno_;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    thread_->busy = false;
  }
  LibraryGuard(const LibraryGuard&) = delete;
  LibraryGuard& operator=(const LibraryGuard&) = delete;

  explicit operator bool() const noexcept { return thread_ != nullptr; }
  [[nodiscard]] ThreadState* thread() const noexcept { return thread_; }

 private:
  static void refused() noexcept;
  static void no_state() noexcept;

  ThreadState* thread_ = nullptr;
  int kept_errno_ = 0;
};

// Marks the thread as inside the library too, but can always be entered. It is for code that emits nothing: the setters
// of Fields and the registry's writers. It nests.
class InsideLibrary {
 public:
  InsideLibrary() noexcept : InsideLibrary(any_thread_state()) {}
  explicit InsideLibrary(ThreadState* thread) noexcept : thread_(thread) {  // null: there is no state
    if (thread_ == nullptr) return;
    before_ = thread_->busy;
    thread_->busy = true;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~InsideLibrary() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (thread_ != nullptr) thread_->busy = before_;
  }
  InsideLibrary(const InsideLibrary&) = delete;
  InsideLibrary& operator=(const InsideLibrary&) = delete;

  [[nodiscard]] bool is_nested() const noexcept { return before_; }

 private:
  ThreadState* thread_;
  bool before_ = false;
};

// The time on the clock of this thread's spans, for callers without a LibraryGuard. If the thread is inside the library
// already, for example in a signal handler, this is CLOCK_MONOTONIC itself.
inline std::uint64_t thread_ns() noexcept {
  ThreadState* thread = locals.state;
  if (thread == nullptr || thread->busy) return monotonic_ns();
  thread->busy = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const std::uint64_t now = thread->clock.now();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  thread->busy = false;
  return now;
}

}  // namespace nopspan::detail
