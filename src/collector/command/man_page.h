// SPDX-License-Identifier: Apache-2.0
// nopspan(1): what --help tells of each command, and the sections that are written here.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace nopspan::collector {

// In roff, for `man`.
std::string man_page(const CLI::App& app, const std::string& version);

}  // namespace nopspan::collector
