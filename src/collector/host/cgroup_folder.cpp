// SPDX-License-Identifier: Apache-2.0
#include "host/cgroup_folder.h"

#include "base/failure.h"
#include "base/text.h"
#include "host/container.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
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

struct Mount {
  std::string point;
  bool is_unified;   // cgroup2
  bool is_systemds;  // the old hierarchy that systemd keeps for itself, named in /proc/PID/cgroup like the unified one
};

std::vector<Mount> cgroup_mounts() {
  std::vector<Mount> found;
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device, point, type, options;
    if (!(words >> device >> point >> type >> options) || (type != "cgroup" && type != "cgroup2")) continue;
    const bool is_systemds = ("," + options + ",").find(",name=systemd,") != std::string::npos;
    found.push_back({unescaped(point), type == "cgroup2", is_systemds});
  }
  return found;
}

// Where the unified hierarchy is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside the old ones; "" if nowhere.
std::string mount_point() {
  for (const Mount& mount : cgroup_mounts()) {
    if (mount.is_unified) return mount.point;
  }
  return "";
}

std::string without_prefix(const std::string& path, const std::string& prefix) {
  const bool has_it = path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
  return has_it ? path.substr(prefix.size()) : path;
}

enum class Walk { on, not_inside, no_more };

// All cgroups below one of the hierarchy, by their paths in it, until `visit` says otherwise: false then. Of one that
// goes away meanwhile the others are seen all the same.
template <class Visit>
bool each_cgroup(const std::string& mount, const Visit& visit, const std::string& below = "") {
  std::error_code error;
  for (fs::directory_iterator all(mount + below, error); !error && all != fs::directory_iterator();
       all.increment(error)) {
    std::error_code gone;
    if (!all->is_directory(gone)) continue;
    const std::string path = all->path().string().substr(mount.size());
    const Walk next = visit(path);
    if (next == Walk::no_more || (next == Walk::on && !each_cgroup(mount, visit, path))) return false;
  }
  return true;
}

std::vector<std::string> folders_of_container(const std::string& mount, const std::string& id) {
  std::vector<std::string> found;
  each_cgroup(mount, [&](const std::string& path) {
    if (!container_id(path).starts_with(id)) return Walk::on;
    found.push_back(mount + path);
    return Walk::not_inside;  // what lies within belongs to it
  });
  return found;
}

// The folder that is meant; "" if there is none.
std::string folder_of(const std::string& mount, const std::string& wanted) {
  std::string path = without_prefix(without_prefix(wanted, mount), "/sys/fs/cgroup");
  if (!path.empty() && path.front() != '/') path.insert(0, "/");
  std::error_code error;
  if (fs::is_directory(mount + path, error)) return mount + path;
  if (wanted.find('/') != std::string::npos) return "";
  const auto found = folders_of_container(mount, wanted);
  if (found.size() > 1) {
    throw Failure("--cgroup: " + std::to_string(found.size()) + " containers' ids begin with \"" + printable(wanted) +
                      "\": give more of it",
                  Failure::kMisused);
  }
  return found.empty() ? "" : found.front();
}

[[noreturn]] void refuse(const std::string& wanted) {
  throw Failure("--cgroup: there is no cgroup \"" + printable(wanted) +
                    "\", and no container whose id begins so. `nopspan ps` shows where processes with probes are",
                Failure::kMisused);
}

}  // namespace

std::string cgroup_named(const std::string& wanted) {
  if (wanted != "." && wanted != ".." && wanted.find('/') == std::string::npos) return wanted;
  std::string path = fs::path("/" + wanted).lexically_normal();
  while (path.ends_with('/')) path.pop_back();
  for (const Mount& mount : cgroup_mounts()) {
    if (!mount.is_unified && !mount.is_systemds) continue;
    const std::string inside = without_prefix(path, mount.point);
    if (inside != path) return inside.empty() ? "/" : inside;
  }
  path = without_prefix(path, "/sys/fs/cgroup");
  return path.empty() ? "/" : path;
}

OpenFile open_cgroup(const std::string& wanted) {
  const std::string mount = mount_point();
  if (mount.empty()) {
    throw Failure(
        "--cgroup needs the unified hierarchy (cgroup2), which is not mounted: mount -t cgroup2 none /sys/fs/cgroup");
  }
  const std::string path = folder_of(mount, wanted);
  if (path.empty()) {
    require_cgroup(wanted);
    throw Failure("--cgroup: there is no cgroup \"" + printable(wanted) + "\" in the unified hierarchy (" +
                      printable(mount) + "), by which the kernel tells processes apart",
                  Failure::kMisused);
  }
  OpenFile folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) throw Failure(printable(path) + ": " + std::strerror(errno));
  return folder;
}

void require_cgroup(const std::string& wanted) {
  if (wanted.empty()) return;
  bool has_any = false;
  for (const Mount& mount : cgroup_mounts()) {
    if (!mount.is_unified && !mount.is_systemds) continue;
    has_any = true;
    if (!folder_of(mount.point, wanted).empty()) return;
  }
  if (has_any) refuse(wanted);
}

std::uint64_t cgroup_id(const std::string& path) {
  static const std::string mount = mount_point();
  struct stat facts = {};
  if (mount.empty() || path.empty() || stat((mount + path).c_str(), &facts) != 0) return 0;
  return facts.st_ino;
}

bool has_number(const std::string& wanted) {
  const std::string mount = mount_point();
  return !mount.empty() && !folder_of(mount, wanted).empty();
}

std::string path_of_cgroup(std::uint64_t id) {
  const auto mounts = cgroup_mounts();
  const auto unified = std::find_if(mounts.begin(), mounts.end(), [](const Mount& mount) { return mount.is_unified; });
  if (id == 0 || unified == mounts.end()) return "";
  if (cgroup_id("/") == id) {
    const bool is_alone =
        std::all_of(mounts.begin(), mounts.end(), [](const Mount& mount) { return mount.is_unified; });
    return is_alone ? "/" : "";
  }
  std::string found;
  each_cgroup(unified->point, [&](const std::string& path) {
    if (cgroup_id(path) != id) return Walk::on;
    found = path;
    return Walk::no_more;
  });
  return found;
}

}  // namespace nopspan::collector
