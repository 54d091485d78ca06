// SPDX-License-Identifier: Apache-2.0
// Decides whether a span without a parent is a root span, or an orphan: a span whose parent was not recorded.
//
// The problem: a span that begins while the gate is down is not recorded, which is why it costs nothing. If a tracer
// attaches in the middle of a request, the spans inside it look like root spans.
//
// What is certain: a span is a root if its process was started after the attach, or if it is the first span inside a
// ContextScope whose context has no span. After the attach of a handler, or keep_open_spans(true), a span is also a
// root if its thread was started later: attach() reads the id of the youngest thread, and later threads have higher
// ids. After the attach of a tracer the age of a thread is unknown, because the library does not run at that moment,
// and the first span of a thread must not open a file of /proc. Every thread then counts as older.
//
// The heuristic: any other span without a parent is in doubt. It is marked as an orphan (NOPSPAN_FLAG_ORPHAN) during
// the first second after the gate was first seen raised. Until a minute has passed, it is still marked if a span of the
// same name has been seen as a child. After the first second, the first span whose name has not been seen as a child
// ends the doubt of its thread.
//
// Limits: root spans may be marked as orphans during that second (or minute). For a server that starts a thread for
// each request, that is every request of the first second after a tracer's attach, unless the request gets a context. A
// false root is possible in three cases. First, a request that was running at the attach begins its first span of a
// name more than a second later. Second, one tracer detached and another attached while no span ended, so the library
// did not see that the gate was down. Third, after the attach of a handler: thread ids have started again at 1 since
// the thread was started (the kernel's limit pid_max), so that an older thread has a higher id.
#pragma once

#include "state/intern.h"
#include "thread/thread_state.h"

#include <cstdint>

namespace nopspan::detail {

// Called if the gate is raised when the library is loaded: every span was recorded from the beginning.
void note_gate_up_at_load() noexcept;
// Called when attach() or keep_open_spans() is about to raise a gate that is down.
void note_gate_raised() noexcept;
// Called before the first span or entry of a thread since a tracer raised the gate.
void note_gate_up() noexcept;
// Called when the gate is seen down: spans that begin now are not recorded.
void note_gate_down() noexcept;

// Called when a child of another span of this process begins: records the name as a child's.
void note_new_child(const Interned& name, std::uint64_t& noted) noexcept;
inline void note_child(ThreadState* thread, const Interned& name) noexcept {
  std::uint64_t& noted = thread->noted_children[name.hash % kNotedChildren];
  if (noted != name.hash) note_new_child(name, noted);
}
// Called when the application takes the context of this thread, and the thread has none. True if an unrecorded span may
// be open on the thread.
bool may_be_untraced(ThreadState* thread) noexcept;
// Called when a span begins on this thread, and the thread has no context. True if the span must be marked as an
// orphan. `thread` is null if the span begins in an empty context that a thread gave while it may have been untraced.
bool is_in_doubt(ThreadState* thread, const Interned& name, std::uint64_t now_ns) noexcept;

}  // namespace nopspan::detail
