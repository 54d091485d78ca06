// SPDX-License-Identifier: Apache-2.0
// Settings that every nopspan header needs: the compiler, and how the library is linked.
#ifndef NOPSPAN_DETAIL_CONFIG_H
#define NOPSPAN_DETAIL_CONFIG_H

#include <nopspan/detail/platform.h>

// This ends the compilation with one message, as in platform.h.
#if __cplusplus < 201703L
#define NOPSPAN_NEEDS "nopspan needs C++17: give the compiler -std=c++17 or later"
#include NOPSPAN_NEEDS
#endif

#include <cstddef>

// The namespace of everything. The shell has other symbols than the library, so that files of both kinds can be in one
// program.
#if NOPSPAN_SHELL
namespace nopspan {
inline namespace shell {}
}  // namespace nopspan
#define NOPSPAN_NAMESPACE nopspan::shell
#else
#define NOPSPAN_NAMESPACE nopspan
#endif

// The visibility of what the library defines. The static library (CMake target nopspan::nopspan_static, which defines
// NOPSPAN_STATIC) hides all its symbols, so that every copy is complete in itself. The shared library exports what is
// declared with NOPSPAN_API or NOPSPAN_VISIBLE, and nothing else.
#if NOPSPAN_SHELL
#define NOPSPAN_VISIBLE
#elif defined(NOPSPAN_STATIC)
#define NOPSPAN_VISIBLE __attribute__((__visibility__("hidden")))
#else
#define NOPSPAN_VISIBLE __attribute__((__visibility__("default")))
#endif

// The form of std::string in the names of the library. Two forms exist (_GLIBCXX_USE_CXX11_ABI), and libc++ has
// another, so a program with another one than the library's must not be linked to it.
#if defined(_LIBCPP_VERSION)
#define NOPSPAN_STRING_ABI __attribute__((__abi_tag__("libcxx")))
#elif defined(_GLIBCXX_USE_CXX11_ABI) && !_GLIBCXX_USE_CXX11_ABI
#define NOPSPAN_STRING_ABI __attribute__((__abi_tag__("old_strings")))
#else
#define NOPSPAN_STRING_ABI
#endif

// The form of containers in the names of types and functions that have any: libstdc++'s debug mode (_GLIBCXX_DEBUG)
// has another.
#if defined(_GLIBCXX_DEBUG)
#define NOPSPAN_CONTAINER_ABI __attribute__((__abi_tag__("debug_containers")))
#else
#define NOPSPAN_CONTAINER_ABI
#endif

// For functions that the library defines.
#if NOPSPAN_SHELL
#define NOPSPAN_API inline
#else
#define NOPSPAN_API NOPSPAN_VISIBLE NOPSPAN_STRING_ABI
#endif

// For constants that headers define. With default visibility gcc makes them STB_GNU_UNIQUE, and a plug-in that has one
// can never be unloaded.
#if defined(__ELF__)
#define NOPSPAN_CONSTANT inline constexpr __attribute__((__visibility__("hidden")))
#else
#define NOPSPAN_CONSTANT inline constexpr
#endif

// For functions that run only while a tracer or handler is attached: they are kept out of the caller's hot code.
#if NOPSPAN_SHELL
#define NOPSPAN_COLD
#else
#define NOPSPAN_COLD __attribute__((__cold__, __noinline__))
#endif

// 1 if the program is compiled with exceptions, otherwise 0.
#if defined(__cpp_exceptions)
#define NOPSPAN_EXCEPTIONS 1
#else
#define NOPSPAN_EXCEPTIONS 0
#endif

// 1 if spans catch the exceptions that leave them, and rethrow them. A shell has no spans that could report them.
#define NOPSPAN_CATCHES (NOPSPAN_EXCEPTIONS && !NOPSPAN_SHELL)

#endif  // NOPSPAN_DETAIL_CONFIG_H
