// SPDX-License-Identifier: Apache-2.0
// The functions that hot.cpp calls. They are in a file of their own, so that the compiler cannot inline them.

__attribute__((visibility("hidden"))) extern const char* const hot_name = "hot.text";
__attribute__((visibility("hidden"))) int hot_body(int x) { return x * 3; }
__attribute__((visibility("hidden"))) int hot_cost(int x) { return x + 1; }
