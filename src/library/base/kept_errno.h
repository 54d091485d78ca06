// SPDX-License-Identifier: Apache-2.0
// A guard that keeps errno.
#pragma once

#include <errno.h>
#include <pthread.h>

namespace nopspan::detail {

// Restores errno at the end of the scope, because errno belongs to the application.
class KeptErrno {
 public:
  KeptErrno() noexcept : kept_(errno) {}
  ~KeptErrno() { errno = kept_; }
  KeptErrno(const KeptErrno&) = delete;
  KeptErrno& operator=(const KeptErrno&) = delete;

 private:
  int kept_;
};

// A guard that disables thread cancellation.

// Defers pthread_cancel() until the end of the current scope. Spans begin and end in noexcept functions, for example in
// destructors. If a thread were cancelled there, at a read() or in a handler, the unwinding would end the program.
class NoCancellation {
 public:
  NoCancellation() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~NoCancellation() { pthread_setcancelstate(before_, nullptr); }
  NoCancellation(const NoCancellation&) = delete;
  NoCancellation& operator=(const NoCancellation&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace nopspan::detail
