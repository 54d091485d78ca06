// SPDX-License-Identifier: Apache-2.0
// One row of `nopspan top` in full: its counts, times and histogram.
#pragma once

#include "top/span_table.h"

#include <cstddef>
#include <string>
#include <vector>

namespace nopspan::collector {

// Returns at most `lines` lines, but at least the counts, the times and a histogram of a few bars.
std::vector<std::string> top_detail(const RowDetail& detail, const TableNumbers& table, bool total, std::size_t width,
                                    std::size_t lines, bool has_utf8);

}  // namespace nopspan::collector
