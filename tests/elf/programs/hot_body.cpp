// SPDX-License-Identifier: Apache-2.0
// What the functions of hot.cpp call: in a file of its own, so that the compiler knows nothing of it.

__attribute__((visibility("hidden"))) int hot_body(int x) { return x * 3; }
__attribute__((visibility("hidden"))) int hot_cost(int x) { return x + 1; }
