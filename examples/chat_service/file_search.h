// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_FILE_SEARCH_H
#define EXAMPLES_FILE_SEARCH_H

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace example {

struct SearchLimits {
  std::size_t matches = 10;
  std::size_t files = 5000;
  std::size_t file_bytes = std::size_t{1} << 20;  // larger files are not read
  std::size_t line_bytes = 160;                   // longer lines are truncated
};

struct SearchResult {
  std::vector<std::string> matches;  // "path:line: text", where the path is relative to the root
  bool complete = true;              // false if a limit was reached
};

// The lines below `root` that contain `text`, without regard to the case of ASCII letters. Skips binary, hidden and
// unreadable files. Does not follow symbolic links. Throws std::runtime_error if the root is not a directory.
SearchResult search_files(const std::filesystem::path& root, std::string_view text, const SearchLimits& limits = {});

}  // namespace example

#endif  // EXAMPLES_FILE_SEARCH_H
