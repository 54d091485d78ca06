// SPDX-License-Identifier: Apache-2.0
// Initializes the library when it is loaded, and keeps its locks usable across fork().
#include "base/counters.h"
#include "gate/gate.h"
#include "handlers/registry.h"
#include "state/context_stack.h"
#include "state/orphans.h"
#include "state/span_pool.h"
#include "thread/log.h"
#include "thread/thread_state.h"

#include <nopspan/version.h>

#include <pthread.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" {
#if !NOPSPAN_HAVE_USDT
alignas(64) nopspan_gate_page nopspan_gate{};
#endif
const std::uint64_t* const nopspan_gate_ptr = &nopspan_gate.gate;
}

namespace nopspan::detail {
namespace {

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && std::string_view(value) == "1";
}

void before_fork() noexcept {
  lock_registry();
  lock_log();
}
void after_fork_in_parent() noexcept {
  unlock_log();
  unlock_registry();
}
void after_fork_in_child() noexcept {
  forget_scopes_of_other_threads();
  reclaim_states_of_other_threads();
  forget_other_threads();
  after_fork_in_parent();
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
  nopspan_gate.process_mark = reinterpret_cast<std::uintptr_t>(process_mark_address());
  nopspan_gate.magic = NOPSPAN_GATE_MAGIC;
  nopspan_gate.size = sizeof(nopspan_gate_page);
}

// This function must stay in the object that defines nopspan_gate_ptr and set_handler_gate(). A program that uses spans
// refers to the pointer, and the registry refers to the function, so the linker takes this object from libnopspan.a,
// and the constructor with it.
__attribute__((constructor)) void load() {
  fill_page();
  disabled = is_set("NOPSPAN_DISABLE");
  if (is_set("NOPSPAN_CAPTURE_CONTENT")) capture_content(true);
  if (!spans_are_unrecorded()) note_gate_up_at_load();
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

}  // namespace

void set_handler_gate(bool spans, bool points) noexcept {
  constexpr unsigned kSpanHandlersByte = 4;
  constexpr unsigned kPointHandlersByte = 5;
  auto* bytes = reinterpret_cast<unsigned char*>(&nopspan_gate.gate);
  __atomic_store_n(bytes + kSpanHandlersByte, static_cast<unsigned char>(spans ? 1 : 0), __ATOMIC_RELAXED);
  __atomic_store_n(bytes + kPointHandlersByte, static_cast<unsigned char>(points ? 1 : 0), __ATOMIC_RELAXED);
}

}  // namespace nopspan::detail
