// SPDX-License-Identifier: Apache-2.0
// What the sanitizers cannot do.
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
// Before a call that may leave by a forced unwind: AddressSanitizer would take the frames that are left for live ones.
inline void before_forced_unwind() { __asan_handle_no_return(); }
extern "C" void __lsan_disable();
extern "C" void __lsan_enable();
// What this thread allocates while one lives is no leak.
struct NoLeakCheck {
  NoLeakCheck() { __lsan_disable(); }
  ~NoLeakCheck() { __lsan_enable(); }
};
#else
inline constexpr bool kAddressSanitizer = false;
inline void before_forced_unwind() {}
struct NoLeakCheck {
  NoLeakCheck() {}
  ~NoLeakCheck() {}
};
#endif
