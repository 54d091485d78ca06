// SPDX-License-Identifier: Apache-2.0
#include "base/counters.h"

#include <cstddef>
#include <cstring>

namespace nopspan {
namespace detail {

Counters counters;
std::atomic<unsigned char> content_mode{0};

namespace {

constexpr std::size_t kCounters = sizeof(Stats) / sizeof(std::uint64_t);
static_assert(sizeof(Counters) == sizeof(Stats) && offsetof(Counters, warnings) == offsetof(Stats, warnings));

std::atomic<std::uint64_t>& counter_at(std::size_t i) noexcept {
  return reinterpret_cast<std::atomic<std::uint64_t>*>(&counters)[i];
}

}  // namespace

void reset_counters() noexcept {
  for (std::size_t i = 0; i < kCounters; ++i) counter_at(i).store(0, std::memory_order_relaxed);
}

}  // namespace detail

Stats stats() noexcept {
  std::uint64_t counts[detail::kCounters];
  for (std::size_t i = 0; i < detail::kCounters; ++i) {
    counts[i] = detail::counter_at(i).load(std::memory_order_relaxed);
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
