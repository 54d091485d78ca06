// SPDX-License-Identifier: Apache-2.0
// Where the running kernel has what the BPF programs read of tasks in pid namespaces below this program's.
#pragma once

#include <collector_events.h>

namespace nopspan::collector {

// Reads it from the kernel's BTF. All zero if the kernel has none, or does not let BPF programs read its memory
// (lockdown=confidentiality).
nopspan_task_layout find_task_layout();

}  // namespace nopspan::collector
