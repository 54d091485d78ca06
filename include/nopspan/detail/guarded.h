// SPDX-License-Identifier: Apache-2.0
// How the library calls code of the application that runs only while a tracer or handler is attached: callables that
// set fields, and conversions of values and names.
#ifndef NOPSPAN_DETAIL_GUARDED_H
#define NOPSPAN_DETAIL_GUARDED_H

#include <nopspan/detail/config.h>

#include <type_traits>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE::detail {

// Called in catch (...). Returns true for an exception, which is swallowed and counted (stats().metadata_failures), and
// false for thread exit and cancellation, which must be rethrown.
NOPSPAN_API NOPSPAN_COLD bool metadata_threw() noexcept NOPSPAN_IN_SHELL(return true);

// Calls `work`, and handles what it throws as guarded() does. For files without exceptions, which cannot catch any. The
// linker may use their functions in files with exceptions too, because it keeps one function of each name.
NOPSPAN_API NOPSPAN_COLD void run_guarded(void (*work)(void* object), void* object) NOPSPAN_IN_SHELL(work(object));

// Runs such code. An exception must not reach the application, because without a tracer it would not be thrown.
template <class Work>
[[gnu::__always_inline__]] inline void guarded(Work&& work) {
#if NOPSPAN_EXCEPTIONS
  try {
    work();
  } catch (...) {
    if (!metadata_threw()) throw;
  }
#else
  using Object = std::remove_reference_t<Work>;
  run_guarded([](void* object) { (*static_cast<Object*>(object))(); }, &work);
#endif
}

}  // namespace NOPSPAN_NAMESPACE::detail

#endif  // NOPSPAN_DETAIL_GUARDED_H
