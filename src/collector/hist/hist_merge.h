// SPDX-License-Identifier: Apache-2.0
// nopspan hist --merge: one table from the JSON documents of several hosts.
#pragma once

#include "hist/hist_table.h"

#include <string>
#include <vector>

namespace nopspan::collector {

// Reads files with the output of `nopspan hist --json` ("-": standard input) and merges their tables. If a file has
// several documents (--interval), only the last counts, because it covers everything since the beginning. Throws
// Failure.
HistTable merged(const std::vector<std::string>& files);

}  // namespace nopspan::collector
