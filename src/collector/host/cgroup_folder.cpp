// SPDX-License-Identifier: Apache-2.0
#include "host/cgroup_folder.h"

#include "base/failure.h"
#include "base/text.h"
#include "host/container.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

namespace nopspan::collector {
namespace {

namespace fs = std::filesystem;

// /proc/self/mounts writes blanks and the like as \040.
std::string unescaped(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// Where the unified hierarchy is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside the old ones; "" if nowhere.
std::string mount_point() {
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device, point, type;
    if (words >> device >> point >> type && type == "cgroup2") return unescaped(point);
  }
  return "";
}

std::string without_prefix(const std::string& path, const std::string& prefix) {
  const bool has_it = path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
  return has_it ? path.substr(prefix.size()) : path;
}

std::vector<std::string> folders_of_container(const std::string& mount, const std::string& id) {
  std::vector<std::string> found;
  std::error_code error;
  fs::recursive_directory_iterator all(mount, fs::directory_options::skip_permission_denied, error);
  for (; !error && all != fs::recursive_directory_iterator(); all.increment(error)) {
    if (!all->is_directory(error)) continue;
    const std::string path = all->path().string();
    if (!container_id(path.substr(mount.size())).starts_with(id)) continue;
    found.push_back(path);
    all.disable_recursion_pending();  // what lies within belongs to it
  }
  return found;
}

}  // namespace

OpenFile open_cgroup(const std::string& wanted) {
  const std::string mount = mount_point();
  if (mount.empty()) {
    throw Failure(
        "--cgroup needs the unified hierarchy (cgroup2), which is not mounted: mount -t cgroup2 none /sys/fs/cgroup");
  }
  std::string path = without_prefix(without_prefix(wanted, mount), "/sys/fs/cgroup");
  if (!path.empty() && path.front() != '/') path.insert(0, "/");
  OpenFile folder(open((mount + path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder) return folder;
  const std::string why = std::strerror(errno);
  if (wanted.find('/') != std::string::npos) throw Failure(printable(mount + path) + ": " + why);

  const auto found = folders_of_container(mount, wanted);
  if (found.empty()) throw Failure("no cgroup and no container is called \"" + printable(wanted) + "\"");
  if (found.size() > 1) {
    throw Failure(std::to_string(found.size()) + " containers' ids begin with \"" + printable(wanted) +
                  "\": give more of it");
  }
  folder.reset(open(found.front().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) throw Failure(printable(found.front()) + ": " + std::strerror(errno));
  return folder;
}

std::uint64_t cgroup_id(const std::string& path) {
  static const std::string mount = mount_point();
  struct stat facts = {};
  if (mount.empty() || path.empty() || stat((mount + path).c_str(), &facts) != 0) return 0;
  return facts.st_ino;
}

}  // namespace nopspan::collector
