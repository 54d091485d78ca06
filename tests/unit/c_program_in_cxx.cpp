// SPDX-License-Identifier: Apache-2.0
// The program in C, compiled as C++.
#define NOPSPAN_PROGRAM program_in_cxx
#include "c_program.c"
