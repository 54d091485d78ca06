// SPDX-License-Identifier: Apache-2.0
// Settings that every nopspan header needs: the compiler, and how the library is linked.
#ifndef NOPSPAN_DETAIL_CONFIG_H
#define NOPSPAN_DETAIL_CONFIG_H

#include <cstddef>

#if !defined(__GNUC__)
#error "nopspan needs gcc or clang"
#endif
#if __cplusplus < 201703L
#error "nopspan needs C++17: give the compiler -std=c++17 or later"
#endif
#if !defined(__LP64__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "nopspan's records and gate are for 64-bit little-endian machines"
#endif

// The visibility of what the library defines. The static library (CMake target nopspan::nopspan_static, which defines
// NOPSPAN_STATIC) hides all its symbols, so that every copy is complete in itself. The shared library exports what is
// declared with NOPSPAN_API or NOPSPAN_VISIBLE, and nothing else.
#if defined(NOPSPAN_STATIC)
#define NOPSPAN_VISIBLE __attribute__((visibility("hidden")))
#else
#define NOPSPAN_VISIBLE __attribute__((visibility("default")))
#endif

// The form of std::string in the names of the library. Two forms exist (_GLIBCXX_USE_CXX11_ABI), and libc++ has
// another, so a program with another one than the library's must not be linked to it.
#if defined(_LIBCPP_VERSION)
#define NOPSPAN_STRING_ABI __attribute__((abi_tag("libcxx")))
#elif defined(_GLIBCXX_USE_CXX11_ABI) && !_GLIBCXX_USE_CXX11_ABI
#define NOPSPAN_STRING_ABI __attribute__((abi_tag("old_strings")))
#else
#define NOPSPAN_STRING_ABI
#endif

// The form of containers in the names of types and functions that have any: libstdc++'s debug mode (_GLIBCXX_DEBUG)
// has another.
#if defined(_GLIBCXX_DEBUG)
#define NOPSPAN_CONTAINER_ABI __attribute__((abi_tag("debug_containers")))
#else
#define NOPSPAN_CONTAINER_ABI
#endif

// For functions that the library defines.
#define NOPSPAN_API NOPSPAN_VISIBLE NOPSPAN_STRING_ABI

// For constants that headers define. With default visibility gcc makes them STB_GNU_UNIQUE, and a plug-in that has one
// can never be unloaded.
#define NOPSPAN_CONSTANT inline constexpr __attribute__((visibility("hidden")))

// For functions that run only while a tracer or handler is attached: they are kept out of the caller's hot code.
#define NOPSPAN_COLD __attribute__((cold, noinline))

// 1 if the program is compiled with exceptions, otherwise 0.
#if defined(__cpp_exceptions)
#define NOPSPAN_EXCEPTIONS 1
#else
#define NOPSPAN_EXCEPTIONS 0
#endif

#endif  // NOPSPAN_DETAIL_CONFIG_H
