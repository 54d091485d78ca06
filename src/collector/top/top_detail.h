// SPDX-License-Identifier: Apache-2.0
// One row of `nopspan top` in full.
#pragma once

#include "top/span_table.h"

#include <cstddef>
#include <string>
#include <vector>

namespace nopspan::collector {

// Its counts, times and the histogram of its durations in at most `lines` lines, as far as it can be cut down to that.
std::vector<std::string> top_detail(const RowDetail& detail, const TableNumbers& table, bool total, std::size_t width,
                                    std::size_t lines, bool has_utf8);

}  // namespace nopspan::collector
