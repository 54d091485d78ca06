// SPDX-License-Identifier: Apache-2.0
// Initializes the library when it is loaded, and keeps its locks usable across fork().
#include "base/clean_text.h"
#include "base/counters.h"
#include "emit/batch.h"
#include "gate/gate.h"
#include "genai/attributes.h"
#include "genai/genai_mapping.h"
#include "handlers/registry.h"
#include "memory/slabs.h"
#include "span/span.h"
#include "state/context_stack.h"
#include "state/intern.h"
#include "state/orphans.h"
#include "state/span_pool.h"
#include "thread/log.h"
#include "thread/thread_state.h"

#include <nopspan/span.h>
#include <nopspan/stats.h>
#include <nopspan/version.h>

#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <utility>

extern "C" {
#if !NOPSPAN_HAVE_USDT
alignas(64) nopspan_gate_page nopspan_gate{};
#endif
const std::uint64_t* const nopspan_gate_ptr = &nopspan_gate.gate;

// The ELF header of the module that contains this code. The linker defines it.
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));  // NOLINT(bugprone-reserved-identifier)
}

namespace nopspan::detail {

bool disabled = false;
std::atomic<bool> unloading{false};

namespace {

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && std::string_view(value) == "1";
}

void read_content_mode() noexcept {
  constexpr const char* kVariable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";
  constexpr std::pair<const char*, ContentMode> kModes[] = {{"", ContentMode::none},
                                                            {"NO_CONTENT", ContentMode::none},
                                                            {"FALSE", ContentMode::none},
                                                            {"SPAN_ONLY", ContentMode::spans},
                                                            {"EVENT_ONLY", ContentMode::events},
                                                            {"SPAN_AND_EVENT", ContentMode::spans_and_events},
                                                            {"TRUE", ContentMode::spans_and_events}};
  if (std::getenv("NOPSPAN_CAPTURE_CONTENT") != nullptr) return capture_content(is_set("NOPSPAN_CAPTURE_CONTENT"));
  const char* const value = std::getenv(kVariable);
  if (value == nullptr) return;
  for (const auto& [word, mode] : kModes) {
    if (is_same_word(value, word)) return capture_content(mode);
  }
  LogLine line;
  line.add(kVariable).add("=").add_printable(value, 32, "");
  log(LogLevel::warning, NoSink::print,
      line.add(" is unknown, so no content is captured; valid: NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT")
          .view());
}

// A thread that forks is inside the library, because a span in a signal handler, or in a fork handler of the
// application, may wait for the locks.
bool& inside_library() noexcept { return locals.state != nullptr ? locals.state->busy : locals.making; }

// Returns false if the thread itself seems to have the lock. Other threads do not keep it for long.
bool lock_for_fork(std::mutex& mutex) noexcept {
  constexpr unsigned kLooks = 1000;
  for (unsigned looks = 0; locals.forking.interrupted; ++looks) {
    if (mutex.try_lock()) return true;
    if (looks == kLooks) return false;
    const timespec pause{0, 50'000};
    nanosleep(&pause, nullptr);
  }
  mutex.lock();
  return true;
}

void before_fork() noexcept {
  if (++locals.forking.depth > 1) return;
  locals.forking.interrupted = std::exchange(inside_library(), true);
  locals.forking.has_registry = lock_for_fork(registry_lock());
  locals.forking.has_log = lock_for_fork(log_lock());
}
void after_fork_in_parent() noexcept {
  if (--locals.forking.depth > 0) return;
  if (locals.forking.has_log) log_lock().unlock();
  if (locals.forking.has_registry) registry_lock().unlock();
  inside_library() = locals.forking.interrupted;
}
void after_fork_in_child() noexcept {
  if (locals.forking.depth == 1) reset_counters();
  const bool was_outside = !locals.forking.interrupted && locals.forking.depth == 1;
  if (was_outside) {
    forget_scopes_of_other_threads();
    reclaim_states_of_other_threads();
  }
  forget_other_threads(was_outside);
  if (locals.forking.has_registry) forget_other_threads_of_registry();
  forget_batch_tap();
  after_fork_in_parent();
}

// Sets or clears one bit of the gate that the library owns. The other bits are semaphores, which the kernel increments
// and decrements, so only the byte with that bit is written.
void set_gate_bit(std::uint64_t bit, bool on) noexcept {
  const auto number = static_cast<unsigned>(__builtin_ctzll(bit));
  unsigned char* const byte = reinterpret_cast<unsigned char*>(&nopspan_gate.gate) + number / 8;
  const auto mask = static_cast<unsigned char>(1U << number % 8);
  if (on) {
    __atomic_fetch_or(byte, mask, __ATOMIC_RELAXED);
  } else {
    __atomic_fetch_and(byte, static_cast<unsigned char>(~mask), __ATOMIC_RELAXED);
  }
}

// Whether Valgrind translates this program. It would end the program at a tracer's breakpoint. The question is a
// sequence of instructions without an effect: "client requests" in Valgrind's manual.
bool runs_in_valgrind() noexcept {
#if defined(__x86_64__) || defined(__aarch64__)
  constexpr std::uint64_t kRunningOnValgrind = 0x1001;
  const volatile std::uint64_t question[6] = {kRunningOnValgrind, 0, 0, 0, 0, 0};
  std::uint64_t answer = 0;
#if defined(__x86_64__)
  __asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
                   : "+d"(answer)
                   : "a"(&question[0])
                   : "cc", "memory");
#else
  register std::uint64_t result __asm__("x3") = 0;
  register const volatile std::uint64_t* asked __asm__("x4") = &question[0];
  __asm__ volatile("ror x12, x12, #3; ror x12, x12, #13; ror x12, x12, #51; ror x12, x12, #61; orr x10, x10, x10"
                   : "+r"(result)
                   : "r"(asked)
                   : "cc", "memory");
  answer = result;
#endif
  return answer != 0;
#else
  return false;
#endif
}

// Fills in the page around the gate, which describes this copy of the library to tracers.
void fill_page() {
  constexpr std::uint64_t kMajor = NOPSPAN_VERSION_MAJOR, kMinor = NOPSPAN_VERSION_MINOR;
  nopspan_gate.library_version = (kMajor << 32U) | (kMinor << 16U) | NOPSPAN_VERSION_PATCH;
  nopspan_gate.stats = reinterpret_cast<std::uintptr_t>(&counters);
  nopspan_gate.stats_count = sizeof(counters) / sizeof(std::uint64_t);
  nopspan_gate.open_slabs = reinterpret_cast<std::uintptr_t>(&span_table);
  nopspan_gate.open_slabs_count = kMaxOpenSlabs;
  nopspan_gate.open_bytes = sizeof(SpanState);
  nopspan_gate.labels = reinterpret_cast<std::uintptr_t>(&label_table);
  nopspan_gate.labels_count = kLabels;
  nopspan_gate.label_bytes = sizeof(nopspan_label);
  nopspan_gate.warnings = reinterpret_cast<std::uintptr_t>(&warning_table);
  nopspan_gate.warnings_count = kWarnings;
  nopspan_gate.warning_bytes = sizeof(nopspan_warning);
  nopspan_gate.process_mark = reinterpret_cast<std::uintptr_t>(&process_page().mark);
  nopspan_gate.flags = runs_in_valgrind() ? NOPSPAN_GATE_NO_SITES : 0;
  nopspan_gate.magic = NOPSPAN_GATE_MAGIC;
  nopspan_gate.size = sizeof(nopspan_gate_page);
}

// Called at exit() and at quick_exit(), after the handlers and destructors of the application.
void end_process() {
  end_open_spans();
  end_this_thread();
}

// False for a copy of the library in a plug-in, which may be unloaded.
bool stays_mapped() {
#if defined(NOPSPAN_STATIC)
  return reinterpret_cast<std::uintptr_t>(&__ehdr_start) + __ehdr_start.e_phoff == getauxval(AT_PHDR);
#else
  return true;
#endif
}

// This function must stay in the object that defines nopspan_gate_ptr and `unloading`. A program that uses spans refers
// to the pointer, and the object that makes the states and the key of threads refers to the variable. So the linker
// takes this object from libnopspan.a, and the constructor and the destructor with it.
__attribute__((constructor)) void load() {
  fill_page();
  disabled = is_set("NOPSPAN_DISABLE");
  if (!disabled) read_content_mode();
  if (is_set("NOPSPAN_STACKTRACE")) capture_stacktraces(true);
  if (is_set("NOPSPAN_KEEP_OPEN") && !disabled) set_gate_bit(kKeepOpenBit, true);
  if (!spans_are_unrecorded()) note_gate_up_at_load();
  // This fails if glibc has no memory for an entry of its list. Nothing can replace the handlers. In a child, the
  // memory of the other threads is then not reused, and a lock that one of them held stays locked.
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  // Without memory for this, spans that are open at quick_exit() are not reported.
  if (stays_mapped()) at_quick_exit(end_process);
}

#if defined(NOPSPAN_STATIC)
// Returns the memory of this copy of the library, unless another thread, an open span or a scope may use it. dlclose()
// unmaps the code too. But at exit() the code stays mapped, and other threads and the destructors of other libraries
// may still run it. Such threads have a state, or make none while `unloading` is set, and what they can have a pointer
// to stays mapped. The headers of batches and the mark in them stay too, because a collector reads them when the
// process ends.
void unload() {
  unloading.store(true, std::memory_order_seq_cst);
  forget_thread_ends();
  if (!thread_slabs.is_idle() || !span_slabs.is_idle() || !free_registry()) return;
  set_log_sink(nullptr);
  free_prices();
  span_slabs.unmap();
  unmap_scopes();
  unmap_blocks();
  thread_slabs.unmap();
  if (header_slabs.is_unused()) unmap_process_mark();
}
#endif

// Called at exit(), and at dlclose() of a plug-in with a static copy of the library. The destructor of a key does not
// run for the thread that calls exit(), so its batch is flushed here, and later entries at once. The priority is the
// last one: the destructors of static objects of the same module run before. A plug-in's copy does not know which of
// the two it is, so it does not end what is open.
__attribute__((destructor(101))) void end() {
#if defined(NOPSPAN_STATIC)
  if (!stays_mapped()) {
    end_this_thread();
    unload();
    return;
  }
#endif
  end_process();
}

// Maps the memory of prepare().
bool reserve_memory(std::size_t threads) noexcept {
  constexpr std::size_t kSmall = std::size_t{2} << 10U;  // links, the fields of most spans, a StreamMeter
  constexpr std::size_t kSmallBlocks = 16;
  constexpr std::size_t kMostThreads = 65536;
  return threads <= kMostThreads && thread_slabs.reserve(threads) && header_slabs.reserve(threads) &&
         reserve_states(threads) && reserve_scopes(threads) && reserve_blocks(kSmall, threads * kSmallBlocks) &&
         reserve_blocks(kMaxAttributesBytes, threads * 2) && reserve_blocks(kBatchBytes, threads);
}

}  // namespace

void set_handler_gate(bool any_handler) noexcept {
  set_gate_bit(kSpanHandlersBit, any_handler);
  set_gate_bit(kPointHandlersBit, any_handler);
}

void set_tap_gate(bool any_tap) noexcept {
  set_gate_bit(kSpanTapBit, any_tap);
  set_gate_bit(kPointTapBit, any_tap);
}

}  // namespace nopspan::detail

namespace nopspan {

void keep_open_spans(bool on) noexcept {
  if (detail::disabled) return;
  if (on && detail::spans_are_unrecorded()) detail::note_gate_raised();
  detail::set_gate_bit(detail::kKeepOpenBit, on);
  if (detail::spans_are_unrecorded()) detail::note_gate_down();
}

bool prepare(std::size_t threads, Growth growth) noexcept {
  if (detail::disabled) return true;
  const bool has_memory = detail::reserve_memory(threads) && detail::thread_state() != nullptr;
  if (growth == Growth::none) detail::stop_mapping();
  return has_memory;
}

void reseed() noexcept {
  if (!detail::disabled) detail::note_copy();
}

}  // namespace nopspan
