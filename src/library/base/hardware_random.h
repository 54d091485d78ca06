// SPDX-License-Identifier: Apache-2.0
// Random numbers of the processor (RDRAND, RNDR), which need no system call. Unlike everything in memory, they are not
// in a copy of the process.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace nopspan::detail {

inline bool can_make_random_numbers() noexcept {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_RDRND) != 0;
#elif defined(__aarch64__)
  constexpr unsigned long kRng = 1UL << 16U;  // HWCAP2_RNG
  return (getauxval(AT_HWCAP2) & kRng) != 0;
#else
  return false;
#endif
}

// 0 if the processor does not have such numbers, or none now.
inline std::uint64_t hardware_random() noexcept {
  enum : unsigned char { kUnknown, kNone, kSome };
  static std::atomic<unsigned char> known{kUnknown};  // in a virtual machine, the question takes 10 us
  unsigned char has = known.load(std::memory_order_relaxed);
  if (has == kUnknown) known.store(has = can_make_random_numbers() ? kSome : kNone, std::memory_order_relaxed);
  std::uint64_t made = 0;
  unsigned char is_made = 0;
#if defined(__x86_64__)
  if (has == kSome) __asm__ volatile("rdrand %0\n\tsetc %1" : "=&r"(made), "=q"(is_made) : : "cc");
#elif defined(__aarch64__)
  std::uint64_t set = 0;
  if (has == kSome) __asm__ volatile("mrs %0, s3_3_c2_c4_0\n\tcset %1, ne" : "=r"(made), "=r"(set) : : "cc");
  is_made = static_cast<unsigned char>(set);
#endif
  return is_made != 0 ? made : 0;
}

}  // namespace nopspan::detail
