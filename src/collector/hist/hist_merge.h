// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "hist/hist_table.h"

#include <string>
#include <vector>

namespace nopspan::collector {

// What `nopspan hist --json` printed into each of these files ("-": standard input), as one. Of a file with several
// documents (--interval) the last is taken: it has everything since the beginning. Throws Failure.
HistTable merged(const std::vector<std::string>& files);

}  // namespace nopspan::collector
