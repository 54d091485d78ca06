// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_LOAD_PROMPTS_H
#define EXAMPLES_LOAD_PROMPTS_H

#include <cstdint>
#include <string>

namespace example {

// The n-th prompt of a load: questions for the model alone, for the calculator (some of which fail), for the file
// search, or for both tools. The same n gives the same prompt.
std::string load_prompt(std::uint64_t n);

}  // namespace example

#endif  // EXAMPLES_LOAD_PROMPTS_H
