// SPDX-License-Identifier: Apache-2.0
#include "base/file_watch.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMaximumFolders = 256;
constexpr std::size_t kMostAtOnce = 1024;

struct Place {
  std::string folder, stem;
};

Place place_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (const std::size_t library = name.find(".so"); library != std::string::npos) name.resize(library + 3);
  return {std::move(folder), std::move(name)};
}

}  // namespace

FileWatch::FileWatch() : fd_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {}

bool FileWatch::watch(const std::string& path, const Add& add) {
  if (!fd_) return false;
  const Place place = place_of(path);
  const int id = add(fd_.get(), place.folder);
  if (id < 0) return false;
  if (folders_.size() >= kMaximumFolders && !folders_.contains(id)) {
    inotify_rm_watch(fd_.get(), id);
    return false;
  }
  Folder& folder = folders_[id];
  folder.path = place.folder;
  ++folder.stems[place.stem];
  return true;
}

void FileWatch::forget(const std::string& path) {
  const Place place = place_of(path);
  for (auto folder = folders_.begin(); folder != folders_.end(); ++folder) {
    auto stem = folder->second.stems.find(place.stem);
    if (folder->second.path != place.folder || stem == folder->second.stems.end()) continue;
    if (--stem->second == 0) folder->second.stems.erase(stem);
    if (folder->second.stems.empty()) {
      inotify_rm_watch(fd_.get(), folder->first);
      folders_.erase(folder);
    }
    return;
  }
}

std::vector<std::string> FileWatch::appeared() {
  std::vector<std::string> paths;
  alignas(inotify_event) std::array<char, 16384> buffer{};
  ssize_t got = 0;
  while (fd_ && paths.size() < kMostAtOnce && (got = ::read(fd_.get(), buffer.data(), buffer.size())) > 0) {
    for (std::size_t at = 0; at + sizeof(inotify_event) <= static_cast<std::size_t>(got);) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof(event));
      const std::string name(event.len == 0 ? "" : buffer.data() + at + sizeof(event));
      at += sizeof(event) + event.len;
      const auto folder = folders_.find(event.wd);
      if (folder == folders_.end()) continue;
      if ((event.mask & IN_IGNORED) != 0) {  // the folder was removed
        folders_.erase(folder);
        continue;
      }
      const auto& stems = folder->second.stems;
      if (std::any_of(stems.begin(), stems.end(), [&](const auto& stem) { return name.starts_with(stem.first); }))
        paths.push_back(folder->second.path + name);
    }
  }
  return paths;
}

}  // namespace nopspan::collector
