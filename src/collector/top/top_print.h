// SPDX-License-Identifier: Apache-2.0
// `nopspan top` without a screen: a table as text, or as JSON.
#pragma once

#include "top/top_feed.h"
#include "top/top_table.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <string>

namespace nopspan::collector {

// Lines, with a blank one at the end. Of no more than `most_rows` rows, 0: all; how many were left out is told.
std::string top_text(const TopSnapshot& snapshot, const TopView& view, std::size_t most_rows);

// What `nopspan top --help` and the man page describe. `view` orders the rows; those that it hides are not in it.
nlohmann::ordered_json top_json(const TopSnapshot& snapshot, const TopView& view, std::size_t most_rows);

}  // namespace nopspan::collector
