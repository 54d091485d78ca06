// SPDX-License-Identifier: Apache-2.0
#include "recording/old_recordings.h"

#include "base/open_file.h"
#include "recording/chunks.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace nopspan::collector {
namespace {

// The paths of the files in the folder of `path` for whose names `is_wanted` returns true.
template <class IsWanted>
std::vector<std::string> files_beside(const std::filesystem::path& path, IsWanted is_wanted) {
  std::vector<std::string> files;
  const std::filesystem::path folder = path.parent_path();
  std::error_code error;
  std::filesystem::directory_iterator end, at(folder.empty() ? "." : folder, error);
  for (; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename();
    if (is_wanted(name)) files.push_back(folder / name);
  }
  return files;
}

}  // namespace

bool is_recording(const std::string& path) {
  // O_NONBLOCK, so that open() does not wait for the writer of a named pipe.
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat facts = {};
  std::array<char, kFileHeaderBytes + kChunkHeaderBytes> begin{};
  return file && ::fstat(file.get(), &facts) == 0 && S_ISREG(facts.st_mode) &&
         ::pread(file.get(), begin.data(), begin.size(), 0) == static_cast<ssize_t>(begin.size()) &&
         begins_recording({begin.data(), begin.size()});
}

std::vector<std::string> older_files(const std::string& path, unsigned most) {
  const std::string first = std::filesystem::path(path).filename().string() + ".";
  return files_beside(path, [&](std::string_view name) {
    if (!name.starts_with(first) || name.size() == first.size() || name[first.size()] == '0') return false;
    unsigned number = 0;
    const auto [end, error] = std::from_chars(name.data() + first.size(), name.data() + name.size(), number);
    return error == std::errc() && end == name.data() + name.size() && number <= most;
  });
}

}  // namespace nopspan::collector
