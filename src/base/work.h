// SPDX-License-Identifier: Apache-2.0
#pragma once

// What runs for a listener. The functions that the headers call are cold there, so that no caller is laid out for them,
// and gcc makes such a function small and slow: the work is in one of these.
#define NOPSPAN_WORK __attribute__((hot, noinline))
