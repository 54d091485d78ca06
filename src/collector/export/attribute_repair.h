// SPDX-License-Identifier: Apache-2.0
// Repairs attributes that a receiver would refuse because of a text that is not UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace nopspan::collector {

// Returns a KeyValue with U+FFFD for the bytes of its texts that are not UTF-8. "" if it would be refused for another
// reason too.
std::string repaired_attribute(std::string_view key_value);

}  // namespace nopspan::collector
