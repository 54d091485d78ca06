// SPDX-License-Identifier: Apache-2.0
#include "allocator.h"

#include <errno.h>

std::atomic<bool (*)(std::size_t)> allocator_hook{nullptr};

namespace {

bool may(std::size_t bytes) {
  const auto hook = allocator_hook.load(std::memory_order_relaxed);
  if (hook == nullptr || hook(bytes)) return true;
  errno = ENOMEM;
  return false;
}

}  // namespace

extern "C" {

// glibc's own functions.
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* block, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
void __libc_free(void* block);

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)
void* malloc(std::size_t bytes) noexcept { return may(bytes) ? __libc_malloc(bytes) : nullptr; }
void* calloc(std::size_t count, std::size_t bytes) noexcept {
  return may(count * bytes) ? __libc_calloc(count, bytes) : nullptr;
}
void* realloc(void* block, std::size_t bytes) noexcept { return may(bytes) ? __libc_realloc(block, bytes) : nullptr; }
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  return may(bytes) ? __libc_memalign(alignment, bytes) : nullptr;
}
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) noexcept {
  *block = aligned_alloc(alignment, bytes);
  return *block != nullptr ? 0 : ENOMEM;
}
void free(void* block) noexcept {
  if (block != nullptr) may(0);
  __libc_free(block);
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
}
