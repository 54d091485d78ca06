// SPDX-License-Identifier: Apache-2.0
// malloc and the functions like it, replaced in the whole program, so that a test sees their calls and can make them
// fail.
#pragma once

#include <atomic>
#include <cstddef>

// Called before each allocation, and with 0 before each free(). If it returns false, the allocation fails. Null: none.
extern std::atomic<bool (*)(std::size_t bytes)> allocator_hook;

// Sets the hook until the end of the scope.
struct AllocatorHook {
  explicit AllocatorHook(bool (*hook)(std::size_t)) { allocator_hook = hook; }
  ~AllocatorHook() { allocator_hook = nullptr; }
  AllocatorHook(const AllocatorHook&) = delete;
  AllocatorHook& operator=(const AllocatorHook&) = delete;
};
