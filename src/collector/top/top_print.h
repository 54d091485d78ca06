// SPDX-License-Identifier: Apache-2.0
// Prints the table of `nopspan top` as text or JSON, without a screen.
#pragma once

#include "top/top_feed.h"
#include "top/top_table.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace nopspan::collector {

// The lines of text around the table of `nopspan top`, and those of one row in full.

// "12.3k spans/s, 250 requests/s, 250 received/s, 2 errors/s, 3 processes, 4 requests known from steps only" in the
// window; `total`: since the beginning.
std::string traffic_text(const TopSnapshot& snapshot, bool total);
// "1.2M delivered, 12 lost (10 buffer full, 2 unreadable)" since the beginning.
std::string ledger_text(const TopSnapshot& snapshot);
// The reasons why the table is incomplete; "" if it is complete.
std::string bounds_text(const TopSnapshot& snapshot);
// The gauges of each process, engine and model in a line, which begins with `before` and is broken at `width`:
// "llama.cpp chat_server 1234: kv_cache_used 12/64, running 3".
std::vector<std::string> gauge_lines(const TopSnapshot& snapshot, std::size_t width, const std::string& before = "");
// The facts of each engine since the beginning, in a line that begins with `before` and is broken at `width`:
// "llama.cpp: accepted 9 of 18 drafted tokens (50 %), 3 preempted". Engines that counted none of these facts have no
// line.
std::vector<std::string> fact_lines(const TopSnapshot& snapshot, std::size_t width, const std::string& before = "");
// A row in full. At most `lines` lines, but at least the counts, the times and a histogram of a few bars.
std::vector<std::string> top_detail(const RowDetail& detail, const TableNumbers& table, bool total, std::size_t width,
                                    std::size_t lines, bool has_utf8);

// A table with a blank line at the end. It has at most `most_rows` rows (0: all), the columns that fit into `width` (0:
// all), and the numbers of rows and columns left out.
std::string top_text(const TopSnapshot& snapshot, const TopView& view, std::size_t most_rows, std::size_t width = 0);

// The JSON that `nopspan top --help` and the man page describe. `view` sorts the rows, and rows that it hides are
// omitted.
nlohmann::ordered_json top_json(const TopSnapshot& snapshot, const TopView& view, std::size_t most_rows);

}  // namespace nopspan::collector
