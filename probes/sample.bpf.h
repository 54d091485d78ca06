// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Whether a sample of one request in N has a request: as is_sampled() of src/collector/model/filter.h has it.
#ifndef NOPSPAN_SAMPLE_BPF_H
#define NOPSPAN_SAMPLE_BPF_H

#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

// Of the 16 bytes of a trace id: the first eight ^ the last eight.
static __always_inline bool is_in_sample(__u64 folded, unsigned int one_in) {
  return (folded * 6364136223846793005UL >> 32) % one_in == 0;
}

// What the characters of URL-safe Base64 stand for.
static const unsigned char base64[256] = {
    ['B'] = 1,  ['C'] = 2,  ['D'] = 3,  ['E'] = 4,  ['F'] = 5,  ['G'] = 6,  ['H'] = 7,  ['I'] = 8,  ['J'] = 9,
    ['K'] = 10, ['L'] = 11, ['M'] = 12, ['N'] = 13, ['O'] = 14, ['P'] = 15, ['Q'] = 16, ['R'] = 17, ['S'] = 18,
    ['T'] = 19, ['U'] = 20, ['V'] = 21, ['W'] = 22, ['X'] = 23, ['Y'] = 24, ['Z'] = 25, ['a'] = 26, ['b'] = 27,
    ['c'] = 28, ['d'] = 29, ['e'] = 30, ['f'] = 31, ['g'] = 32, ['h'] = 33, ['i'] = 34, ['j'] = 35, ['k'] = 36,
    ['l'] = 37, ['m'] = 38, ['n'] = 39, ['o'] = 40, ['p'] = 41, ['q'] = 42, ['r'] = 43, ['s'] = 44, ['t'] = 45,
    ['u'] = 46, ['v'] = 47, ['w'] = 48, ['x'] = 49, ['y'] = 50, ['z'] = 51, ['0'] = 52, ['1'] = 53, ['2'] = 54,
    ['3'] = 55, ['4'] = 56, ['5'] = 57, ['6'] = 58, ['7'] = 59, ['8'] = 60, ['9'] = 61, ['-'] = 62, ['_'] = 63};
#define BASE64_CHARACTERS 22

// By a request's id as the record has it. What is in no request is in every sample.
static __always_inline bool has_sampled_id(const char* id, unsigned int one_in) {
  if (id[0] == 0) return true;
  __u64 high = 0, low = 0;
  for (int i = 0; i < BASE64_CHARACTERS - 1; ++i) {
    high = (high << 6) | (low >> 58);
    low = (low << 6) | base64[(unsigned char)id[i]];
  }
  high = (high << 2) | (low >> 62);
  low = (low << 2) | (base64[(unsigned char)id[BASE64_CHARACTERS - 1]] >> 4);
  return is_in_sample(__builtin_bswap64(high ^ low), one_in);
}

#endif  // NOPSPAN_SAMPLE_BPF_H
