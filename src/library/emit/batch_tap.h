// SPDX-License-Identifier: Apache-2.0
// The library's side of the tap (nopspan/detail/batch_tap.h).
#pragma once

#include <nopspan/detail/batch_tap.h>

namespace nopspan::detail {

struct BatchBuffer;

// Called by flush(): passes the thread's batch to the tap.
void pass_to_tap(BatchBuffer& batch) noexcept;
// Called at the end of a thread whose last entries were refused.
void tell_refused_at_end(const BatchBuffer& batch) noexcept;
// Called in the child after fork().
void forget_batch_tap() noexcept;

}  // namespace nopspan::detail
