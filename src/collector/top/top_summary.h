// SPDX-License-Identifier: Apache-2.0
// The lines of text above and below the table of `nopspan top`.
#pragma once

#include "top/top_feed.h"

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// "12.3k spans/s, 250 requests/s, 2 errors/s, 3 processes" in the window.
std::string traffic_text(const TopSnapshot& snapshot);
// "1.2M delivered, 12 lost (10 buffer full, 2 unreadable)" since the beginning.
std::string ledger_text(const Counts& counts);
// The reasons why the table is incomplete; "" if it is complete.
std::string bounds_text(const TopSnapshot& snapshot);
// "kv_cache_used 12/64", safe to print on a terminal.
std::string gauge_text(const GaugeReading& gauge);
// A line for each process, engine and model: "llama.cpp chat_server 1234: kv_cache_used 12/64, running 3".
std::vector<std::string> gauge_lines(const TopSnapshot& snapshot);

}  // namespace nopspan::collector
