// SPDX-License-Identifier: Apache-2.0
/// @file
/// For programs that enter a sandbox: makes the system calls of spans beforehand.
///
/// @code
/// nopspan::prepare(8);  // this thread and up to 7 others will have spans
/// // … install the seccomp filter
/// @endcode
///
/// While a tracer or handler is attached, or open spans are kept, spans need memory and random bytes, for which the
/// library makes system calls. If a seccomp filter kills the process for one of these, an attach ends the program.
/// docs/developers.md has the list of system calls.
///
/// Thread safety: prepare() may be called from any thread at any time, but not in a signal handler.
#ifndef NOPSPAN_PREPARE_H
#define NOPSPAN_PREPARE_H

#include <nopspan/detail/config.h>

#include <cstddef>

namespace nopspan {

/// Whether the library may map more memory than prepare() has mapped.
enum class Growth : unsigned char {
  allowed,  ///< the filter allows mmap, madvise and munmap
  none      ///< no system call for memory from now on: what has no memory is dropped, and counted (stats())
};

/// Makes what the first spans of a process and of this thread need: the key of the generator of ids, the state of this
/// thread, and memory for `threads` threads at a time. That is enough for threads that have up to 64 spans open, up to
/// 32 scopes, and a few spans with more than 768 bytes of fields. It is address space of 400 KiB for each thread, which
/// becomes memory when it is used. More memory than that is mapped when it is needed, unless `growth` is none.
///
/// After this, spans of this thread make no system call while that memory is enough. (If the clock of the host cannot
/// be read without a system call, each span calls clock_gettime. If a nopspan::recording::Writer is open, spans call
/// futex.) The first span of any other thread calls gettid. Call it again in a child process after fork().
///
/// A process that may not read the processor's time-stamp counter cannot have spans, because reading any clock ends it
/// by SIGSEGV: after PR_SET_TSC, and in seccomp's strict mode. Start it with NOPSPAN_DISABLE=1.
///
/// @return false if there was not so much memory. With NOPSPAN_DISABLE=1 it does nothing and returns true.
NOPSPAN_API bool prepare(std::size_t threads = 1, Growth growth = Growth::allowed) noexcept;

}  // namespace nopspan

#endif  // NOPSPAN_PREPARE_H
