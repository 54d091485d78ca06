// SPDX-License-Identifier: Apache-2.0
// What every nopspan header needs to know of the compiler and of the way the library is linked.
#ifndef NOPSPAN_CONFIG_H
#define NOPSPAN_CONFIG_H

#if !defined(__GNUC__)
#error "nopspan needs gcc or clang"
#endif
#if __cplusplus < 201703L
#error "nopspan needs C++17: give the compiler -std=c++17 or later"
#endif
#if !defined(__LP64__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "nopspan's records and gate are for 64-bit little-endian machines"
#endif

// The static library (CMake target nopspan::nopspan_static, which defines NOPSPAN_STATIC) hides all its symbols, so
// that every copy is complete in itself; the shared one exports just what is declared with NOPSPAN_API.
#if defined(NOPSPAN_STATIC)
#define NOPSPAN_API __attribute__((visibility("hidden")))
#else
#define NOPSPAN_API __attribute__((visibility("default")))
#endif

// For constants that headers define. Visible, gcc makes them STB_GNU_UNIQUE, and a plug-in that has one can never be
// unloaded again.
#define NOPSPAN_CONSTANT inline constexpr __attribute__((visibility("hidden")))

// For what runs only when somebody listens: it is kept out of the caller's hot code.
#define NOPSPAN_COLD __attribute__((cold, noinline))

#if defined(__cpp_exceptions)
#define NOPSPAN_EXCEPTIONS 1
#else
#define NOPSPAN_EXCEPTIONS 0
#endif

#endif  // NOPSPAN_CONFIG_H
