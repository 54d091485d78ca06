// SPDX-License-Identifier: Apache-2.0
#include "recording/old_recordings.h"

#include "base/open_file.h"
#include "recording/chunks.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <tuple>

namespace nopspan::collector {
namespace {

constexpr std::string_view kDigits = "0123456789";

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

// "20260102T030405Z.rec" becomes "#T#Z.rec".
std::string without_numbers(std::string_view name) {
  std::string text;
  for (const char c : name) {
    const bool is_digit = kDigits.find(c) != std::string_view::npos;
    if (!is_digit || text.empty() || text.back() != '#') text += is_digit ? '#' : c;
  }
  return text;
}

// "spans.rec.3" becomes "spans.rec".
std::string_view without_part(std::string_view name) {
  const std::size_t end = name.find_last_not_of(kDigits);
  return end != std::string_view::npos && end + 1 < name.size() && name[end] == '.' ? name.substr(0, end) : name;
}

struct OldRecording {
  timespec written = {};
  std::string path;
  std::uint64_t bytes = 0;
};

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

void delete_oldest(const std::string& path, std::uint64_t bytes,
                   const std::function<void(const std::string& file, int error)>& report) {
  const std::string own = std::filesystem::path(path).filename(), wanted = without_numbers(own);
  std::vector<OldRecording> old;
  std::uint64_t sum = 0;
  for (std::string& file : files_beside(path, [&](std::string_view name) {
         return name != own && (without_numbers(name) == wanted || without_numbers(without_part(name)) == wanted);
       })) {
    struct stat facts = {};
    // Others may create files in a shared folder, to displace those of this user.
    if (::lstat(file.c_str(), &facts) != 0 || facts.st_uid != ::geteuid() || !is_recording(file)) continue;
    // A small file needs more space on the disk than it has bytes.
    constexpr std::uint64_t kBlock = 512;
    const std::uint64_t size =
        std::max(static_cast<std::uint64_t>(facts.st_size), static_cast<std::uint64_t>(facts.st_blocks) * kBlock);
    sum += size;
    old.push_back({facts.st_mtim, std::move(file), size});
  }
  std::sort(old.begin(), old.end(), [](const OldRecording& one, const OldRecording& other) {
    // If the times are equal, FILE.1 is older than FILE.
    return std::tie(one.written.tv_sec, one.written.tv_nsec, other.path) <
           std::tie(other.written.tv_sec, other.written.tv_nsec, one.path);
  });
  for (const OldRecording& one : old) {
    if (sum <= bytes) return;
    report(one.path, 0);
    if (::unlink(one.path.c_str()) == 0) {
      sum -= one.bytes;
    } else {
      report(one.path, errno);
    }
  }
}

}  // namespace nopspan::collector
