/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether the headers are a shell. This is C too, for c.h.
 *
 * NOPSPAN_SHELL 1: the headers declare the same names, but a program needs no library, and nothing is recorded. So a
 * program that uses nopspan also builds where the library does not exist: everywhere but on Linux on x86-64 and
 * aarch64. There a program may ask for the shell by -DNOPSPAN_SHELL=1. docs/compatibility.md says what a shell does.
 * CMake compiles this header to decide whether it builds the library. */
#ifndef NOPSPAN_DETAIL_PLATFORM_H
#define NOPSPAN_DETAIL_PLATFORM_H

/* This ends the compilation with one message. After an #error, the compiler would go on, and report thousands of errors
 * in the headers. */
#if !defined(__GNUC__)
#define NOPSPAN_NEEDS "nopspan needs gcc or clang"
#include NOPSPAN_NEEDS
#endif

#if !defined(__linux__) || defined(__ANDROID__) || !defined(__LP64__) || \
    (!defined(__x86_64__) && !defined(__AARCH64EL__))
#undef NOPSPAN_SHELL
#define NOPSPAN_SHELL 1
#elif !defined(NOPSPAN_SHELL)
#define NOPSPAN_SHELL 0
#endif

/* NOPSPAN_IN_SHELL(...) follows the declaration of a function of the library: what the function does in a shell, where
 * it is inline. NOPSPAN_SHELL_HEADER follows the includes of a header: a shell does not use its parameters, and the
 * compiler does not warn of that in a header of the system. */
#if NOPSPAN_SHELL
#define NOPSPAN_IN_SHELL(...) \
  { __VA_ARGS__; }
#define NOPSPAN_SHELL_HEADER _Pragma("GCC system_header")
#else
#define NOPSPAN_IN_SHELL(...)
#define NOPSPAN_SHELL_HEADER
#endif

#endif /* NOPSPAN_DETAIL_PLATFORM_H */
