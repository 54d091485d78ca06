// SPDX-License-Identifier: Apache-2.0
// Makes every allocation fail, of malloc() and of the library's blocks.
#pragma once

#include "memory/slabs.h"

#include <sys/resource.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

// Does it as long as it exists.
class NoMemory {
 public:
  NoMemory() {
    getrlimit(RLIMIT_AS, &before_);
    const rlimit none{0, before_.rlim_max};
    setrlimit(RLIMIT_AS, &none);
    while (auto* chunk = static_cast<void**>(std::malloc(1024))) {
      *chunk = chunks_;
      chunks_ = chunk;
    }
    for (const std::size_t size : {1U << 10U, 8U << 10U, 32U << 10U, 128U << 10U}) {  // of each sort of slab
      while (unsigned char* block = nopspan::detail::take_block(size).bytes) {
        std::memcpy(block, &blocks_, sizeof(blocks_));
        blocks_ = block;
      }
    }
  }
  ~NoMemory() {
    setrlimit(RLIMIT_AS, &before_);
    while (blocks_ != nullptr) {
      unsigned char* const block = blocks_;
      std::memcpy(&blocks_, block, sizeof(blocks_));
      nopspan::detail::give_back_block(block);
    }
    while (chunks_ != nullptr) std::free(std::exchange(chunks_, static_cast<void**>(*chunks_)));
  }
  NoMemory(const NoMemory&) = delete;
  NoMemory& operator=(const NoMemory&) = delete;

 private:
  rlimit before_{};
  void** chunks_ = nullptr;
  unsigned char* blocks_ = nullptr;
};
