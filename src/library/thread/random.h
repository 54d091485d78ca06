// SPDX-License-Identifier: Apache-2.0
// Random bytes. A process calls getrandom(2) once, for the key of a ChaCha20 generator, and each thread has a generator
// with a key from that one. So neither a new thread nor a new request needs a system call, which a sandbox may forbid.
//
// Why ids differ: the process's key is in the page that the kernel clears in a child process (MADV_WIPEONFORK), so a
// child makes a key of its own, and new generators for its threads. Two copies of a virtual machine have the same keys.
// So the time is part of what a thread's next bytes are made of.
#pragma once

#include "thread/thread_state.h"

#include <cstddef>

namespace nopspan::detail {

// Fills `out`, at most 1 KiB, from the process's generator.
void process_random(void* out, std::size_t size) noexcept;

// Fills the entropy of a thread from its own generator, which gets a new key: earlier ids cannot be computed from it.
void refill_entropy(ThreadState* thread) noexcept;

}  // namespace nopspan::detail
