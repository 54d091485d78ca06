// SPDX-License-Identifier: Apache-2.0
#include "file_search.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <stdexcept>
#include <system_error>

namespace example {
namespace {

namespace fs = std::filesystem;

bool same_letter(char a, char b) {
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

bool contains(std::string_view line, std::string_view text) {
  return std::search(line.begin(), line.end(), text.begin(), text.end(), same_letter) != line.end();
}

bool is_hidden(const fs::path& path) { return path.filename().native().front() == '.'; }

std::vector<fs::path> files_below(const fs::path& root, std::size_t limit, bool& complete) {
  std::vector<fs::path> files;
  std::error_code ignored;
  fs::recursive_directory_iterator entry(root, fs::directory_options::skip_permission_denied, ignored);
  for (; entry != fs::recursive_directory_iterator(); entry.increment(ignored)) {
    if (is_hidden(entry->path())) {
      entry.disable_recursion_pending();
    } else if (!entry->is_symlink(ignored) && entry->is_regular_file(ignored)) {
      if (files.size() == limit) {
        complete = false;
        break;
      }
      files.push_back(entry->path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// The beginning of a line, cut between two UTF-8 characters.
std::string_view cut(std::string_view line, std::size_t longest) {
  const std::size_t first = std::min(line.find_first_not_of(" \t"), line.size());
  line.remove_prefix(first);
  if (line.size() <= longest) return line;
  while (longest > 0 && (static_cast<unsigned char>(line[longest]) & 0xC0U) == 0x80U) --longest;
  return line.substr(0, longest);
}

void search_file(const fs::path& file, const fs::path& root, std::string_view text, const SearchLimits& limits,
                 SearchResult& result) {
  std::error_code error;
  if (fs::file_size(file, error) > limits.file_bytes || error) return;
  std::ifstream stream(file, std::ios::binary);
  std::string line;
  for (std::size_t number = 1; std::getline(stream, line); ++number) {
    if (line.find('\0') != std::string::npos) return;  // a binary file
    if (!contains(line, text)) continue;
    if (result.matches.size() == limits.matches) {
      result.complete = false;
      return;
    }
    result.matches.push_back(file.lexically_relative(root).string() + ":" + std::to_string(number) + ": " +
                             std::string(cut(line, limits.line_bytes)));
  }
}

}  // namespace

SearchResult search_files(const fs::path& root, std::string_view text, const SearchLimits& limits) {
  std::error_code error;
  if (!fs::is_directory(root, error)) throw std::runtime_error("not a directory: " + root.string());
  SearchResult result;
  if (text.empty()) return result;
  for (const fs::path& file : files_below(root, limits.files, result.complete)) {
    search_file(file, root, text, limits, result);
    if (result.matches.size() == limits.matches && !result.complete) break;
  }
  return result;
}

}  // namespace example
