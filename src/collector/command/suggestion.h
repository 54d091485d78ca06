// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The known word that somebody may have meant who typed `word`: the nearest within two edits; "" if there is none.
std::string suggestion_for(std::string_view word, const std::vector<std::string>& known);

}  // namespace nopspan::collector
