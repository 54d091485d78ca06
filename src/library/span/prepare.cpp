// SPDX-License-Identifier: Apache-2.0
#include <nopspan/stats.h>

#include "emit/batch.h"
#include "genai/attributes.h"
#include "memory/blocks.h"
#include "memory/slabs.h"
#include "state/context_stack.h"
#include "state/span_pool.h"
#include "thread/thread_state.h"

namespace nopspan {
namespace {

bool reserve(std::size_t threads) noexcept {
  using namespace detail;
  constexpr std::size_t kSmall = std::size_t{2} << 10U;  // links, the fields of most spans, a StreamMeter
  constexpr std::size_t kSmallBlocks = 16;
  constexpr std::size_t kMostThreads = 65536;
  return threads <= kMostThreads && thread_slabs.reserve(threads) && header_slabs.reserve(threads) &&
         reserve_states(threads) && reserve_scopes(threads) && reserve_blocks(kSmall, threads * kSmallBlocks) &&
         reserve_blocks(kMaxAttributesBytes, threads * 2) && reserve_blocks(kBatchBytes, threads);
}

}  // namespace

bool prepare(std::size_t threads, Growth growth) noexcept {
  if (detail::disabled) return true;
  const bool has_memory = reserve(threads) && detail::thread_state() != nullptr;
  if (growth == Growth::none) detail::stop_mapping();
  return has_memory;
}

}  // namespace nopspan
