// SPDX-License-Identifier: Apache-2.0
// The members of engine steps in a compressed chunk. From one step to the next, most members are the same requests with
// a few tokens more. So each is written as its difference from the same request in the step before, and a step of 1,024
// members has 200 bytes instead of 25,000.
#pragma once

#include <string>

namespace nopspan::collector {

// In the payload of a chunk of batches (batch_chunk.h), which may be anything.
void shorten_steps(std::string& payload);
void restore_steps(std::string& payload);  // the reverse

}  // namespace nopspan::collector
