// SPDX-License-Identifier: Apache-2.0
// Whether a span without a parent is a root, or has a parent that nobody recorded.
//
// A span that began while nobody listened has left no trace (that is what makes it free), so that spans inside it look
// like roots after a tracer has attached. Only these are certainly roots: those of a process that was started after the
// attach, those on threads started after it (10 ms after, if it was a tracer's), and those inside a ContextScope
// without a span. Others are in doubt, and are marked as orphans (NOPSPAN_FLAG_ORPHAN) rather than shown as false
// roots: all of them for the first second after the gate was first seen up, and until a minute has passed those whose
// name has been seen as some span's child. The doubt of a thread ends with the first span after that second whose name
// has not. So a false root is possible where a request that was running at the attach begins its first span of a kind
// later than a second after it; and where one tracer followed another with no span ending in between, which leaves no
// sign that the gate was down.
#pragma once

#include "state/intern.h"
#include "thread/thread_state.h"

#include <cstdint>

namespace nopspan::detail {

// The gate was up when the library was loaded: nothing began before it.
void note_gate_up_at_load() noexcept;
// attach() raises a gate that was down.
void note_gate_raised() noexcept;
// A span ended and found the gate down: what begins now is not recorded.
void note_gate_down() noexcept;

// A span began inside another one of this process.
void note_new_child(const Interned& name, const char*& noted) noexcept;
inline void note_child(ThreadState* thread, const Interned& name) noexcept {
  const char*& noted = thread->noted_children[(reinterpret_cast<std::uintptr_t>(name.text) >> 3U) % kNotedChildren];
  if (noted != name.text) note_new_child(name, noted);
}
// Whether a context that was taken in doubt (not from a span) can no longer be one of a request that was running at the
// attach.
bool is_stale_doubt(std::uint64_t now_ns) noexcept;
// Whether an unrecorded span may be running on this thread, for a context taken from it.
bool may_be_untraced(ThreadState* thread) noexcept;
// A scope began on this thread with no context at all.
bool is_in_doubt(ThreadState* thread, const Interned& name, std::uint64_t now_ns) noexcept;

}  // namespace nopspan::detail
