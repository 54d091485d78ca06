// SPDX-License-Identifier: Apache-2.0
// A guard that keeps errno.
#pragma once

#include <errno.h>

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

}  // namespace nopspan::detail
