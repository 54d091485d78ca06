// SPDX-License-Identifier: Apache-2.0
// Workarounds for what the sanitizers cannot handle.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define NOPSPAN_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NOPSPAN_TEST_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define NOPSPAN_TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NOPSPAN_TEST_TSAN 1
#endif
#endif

#if defined(NOPSPAN_TEST_TSAN)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

#if defined(NOPSPAN_TEST_ASAN)
inline constexpr bool kAddressSanitizer = true;
extern "C" void __asan_handle_no_return();
// Call this before a call that may be left by a forced unwind, because AddressSanitizer would regard the abandoned
// frames as live.
inline void before_forced_unwind() { __asan_handle_no_return(); }
extern "C" void __lsan_disable();
extern "C" void __lsan_enable();
// While an instance exists, allocations of this thread do not count as leaks.
struct NoLeakCheck {
  NoLeakCheck() { __lsan_disable(); }
  ~NoLeakCheck() { __lsan_enable(); }
};
#else
inline constexpr bool kAddressSanitizer = false;
inline void before_forced_unwind() {}
struct [[maybe_unused]] NoLeakCheck {};
#endif
