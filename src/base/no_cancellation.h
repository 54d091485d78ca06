// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>

namespace nopspan::detail {

// Keeps pthread_cancel() off the current scope. Spans begin and end in functions that cannot be unwound (a destructor
// is one): a thread that was cancelled at a read() or in a handler there would end the program.
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
