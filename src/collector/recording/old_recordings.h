// SPDX-License-Identifier: Apache-2.0
// The recordings that are already in the folder of a new one.
#pragma once

#include <string>
#include <vector>

namespace nopspan::collector {

// Whether the file has the beginning of a recording. A symbolic link is not followed.
bool is_recording(const std::string& path);

// The existing files `path`.1, `path`.2, … up to `path`.`most`, whatever they contain.
std::vector<std::string> older_files(const std::string& path, unsigned most);

}  // namespace nopspan::collector
