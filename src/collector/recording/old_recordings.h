// SPDX-License-Identifier: Apache-2.0
// The recordings that are already in the folder of a new one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace nopspan::collector {

// Whether the file has the beginning of a recording. A symbolic link is not followed.
bool is_recording(const std::string& path);

// The existing files `path`.1, `path`.2, … up to `path`.`most`, whatever they contain.
std::vector<std::string> older_files(const std::string& path, unsigned most);

// Deletes the oldest recordings in the folder of `path` until the rest has at most `bytes`. Only recordings count
// whose names differ from that of `path` in numbers alone, and their older files (.1, .2, …). `path` itself does not
// count. `report` receives each file before it is deleted, and again with the errno value if that fails.
void delete_oldest(const std::string& path, std::uint64_t bytes,
                   const std::function<void(const std::string& file, int error)>& report);

}  // namespace nopspan::collector
