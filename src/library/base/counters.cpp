// SPDX-License-Identifier: Apache-2.0
#include "base/counters.h"

#include <cstddef>
#include <cstring>
#include <type_traits>

namespace nopspan {
namespace detail {

Stats counters;
std::atomic<unsigned char> content_mode{0};

namespace {

constexpr std::size_t kCounters = sizeof(Stats) / sizeof(std::uint64_t);
static_assert(std::is_trivially_copyable_v<Stats> && alignof(Stats) == alignof(std::uint64_t));

std::uint64_t* counter_at(std::size_t i) noexcept { return reinterpret_cast<std::uint64_t*>(&counters) + i; }

}  // namespace

void reset_counters() noexcept {
  for (std::size_t i = 0; i < kCounters; ++i) __atomic_store_n(counter_at(i), 0, __ATOMIC_RELAXED);
}

}  // namespace detail

Stats stats() noexcept {
  std::uint64_t counts[detail::kCounters];
  for (std::size_t i = 0; i < detail::kCounters; ++i) {
    counts[i] = __atomic_load_n(detail::counter_at(i), __ATOMIC_RELAXED);
  }
  Stats all;
  std::memcpy(&all, counts, sizeof(all));
  return all;
}

void capture_content(ContentMode mode) noexcept {
  detail::content_mode.store(static_cast<unsigned char>(mode), std::memory_order_relaxed);
}

void capture_content(bool on) noexcept { capture_content(on ? ContentMode::spans_and_events : ContentMode::none); }

}  // namespace nopspan
