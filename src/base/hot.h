// SPDX-License-Identifier: Apache-2.0
// The attribute of the library's fast paths.
#pragma once

// The functions that public headers call are declared cold, so that gcc moves the calls out of the application's hot
// code. gcc would then also optimise their bodies for size and place them with other cold code. So each of them only
// calls a function with this attribute, which is compiled for speed and is not inlined into its caller.
#define NOPSPAN_HOT __attribute__((hot, noinline))
