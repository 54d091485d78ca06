// SPDX-License-Identifier: Apache-2.0
// Prints the table of `nopspan top` as text or JSON, without a screen.
#pragma once

#include "top/top_feed.h"
#include "top/top_table.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <string>

namespace nopspan::collector {

// A table with a blank line at the end. It has at most `most_rows` rows (0: all), the columns that fit into `width` (0:
// all), and the numbers of rows and columns left out.
std::string top_text(const TopSnapshot& snapshot, const TopView& view, std::size_t most_rows, std::size_t width = 0);

// The JSON that `nopspan top --help` and the man page describe. `view` sorts the rows, and rows that it hides are
// omitted.
nlohmann::ordered_json top_json(const TopSnapshot& snapshot, const TopView& view, std::size_t most_rows);

}  // namespace nopspan::collector
