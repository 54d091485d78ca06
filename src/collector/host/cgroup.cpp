// SPDX-License-Identifier: Apache-2.0
#include "host/cgroup.h"

#include "base/failure.h"
#include "base/text.h"
#include "host/mounts.h"
#include "host/process_facts.h"

#include <sys/stat.h>

#include <filesystem>
#include <system_error>
#include <vector>

namespace nopspan::collector {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDigits = "0123456789", kHexDigits = "0123456789abcdef";

bool has_only(std::string_view text, std::string_view digits) {
  return !text.empty() && text.find_first_not_of(digits) == std::string_view::npos;
}

// Accepts "docker-<id>.scope", "cri-containerd-<id>.scope", "crio-<id>.scope", "libpod-<id>.scope", "<id>",
// "kubepods-burstable-pod<uid>.slice:cri-containerd:<id>", and ECS's "<32 hexadecimal digits>-<number>".
std::string_view id_in(std::string_view part) {
  if (part.ends_with(".scope")) part.remove_suffix(6);
  // The monitor of a container has a cgroup beside the container's, but is not in the container.
  if (part.find("conmon") != std::string_view::npos) return {};
  const std::size_t dash = part.rfind('-');
  if (dash == 32 && has_only(part.substr(0, dash), kHexDigits) && has_only(part.substr(dash + 1), kDigits)) return part;
  const std::size_t before = part.find_last_of("-:");
  const std::string_view last = before == std::string_view::npos ? part : part.substr(before + 1);
  return last.size() == 64 && has_only(last, kHexDigits) ? last : std::string_view();
}

// The mount points of hierarchies of a type ("cgroup" or "cgroup2").
std::vector<std::string> mount_points(const std::string& type) {
  std::vector<std::string> found;
  for (const Mount& mount : mounts_of(0))
    if (mount.type == type) found.push_back(mount.point);
  return found;
}

// The path of the cgroup with this inode number below `below`; "" if there is none.
std::string find_inode(const std::string& mount, const std::string& below, ino_t inode) {
  std::error_code error;
  for (fs::directory_iterator all(mount + below, error); !error && all != fs::directory_iterator();
       all.increment(error)) {
    struct stat facts {};
    if (lstat(all->path().c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode)) continue;
    const std::string path = below + "/" + all->path().filename().string();
    if (facts.st_ino == inode) return path;
    if (std::string found = find_inode(mount, path, inode); !found.empty()) return found;
  }
  return "";
}

// What a program in a cgroup namespace knows of the host's hierarchy. Both are "" in the host's namespace.
struct HostCgroups {
  std::string mount;  // where it is mounted for the first process
  std::string own;    // the cgroup that is the root of the namespace
};

HostCgroups find_host_cgroups() {
  const std::string first = link_of("/proc/1/ns/cgroup");
  struct stat root {};
  const auto here = mount_points("cgroup2");
  if (first.empty() || first == link_of("/proc/self/ns/cgroup") || here.empty() ||
      stat(here.front().c_str(), &root) != 0)
    return {};
  for (const Mount& mount : mounts_of(1)) {
    if (mount.type != "cgroup2") continue;
    HostCgroups found{"/proc/1/root" + mount.point, ""};
    found.own = find_inode(found.mount, "", root.st_ino);
    return found.own.empty() ? HostCgroups() : found;
  }
  return {};
}

const HostCgroups& host_cgroups() {
  static const HostCgroups found = find_host_cgroups();
  return found;
}

// Where cgroup v2 is mounted. The host's whole hierarchy comes first.
std::vector<std::string> hierarchies() {
  std::vector<std::string> mounts = mount_points("cgroup2");
  if (!host_cgroups().mount.empty()) mounts.insert(mounts.begin(), host_cgroups().mount);
  return mounts;
}

std::string without_prefix(const std::string& path, const std::string& prefix) {
  const bool has_it = path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
  return has_it ? path.substr(prefix.size()) : path;
}

// Appends the paths of the cgroups below `below` that belong to containers whose ids begin with `id`. A cgroup that is
// removed during the search is skipped.
void find_containers(const std::string& mount, const std::string& below, const std::string& id,
                     std::vector<std::string>& found) {
  std::error_code error;
  for (fs::directory_iterator all(mount + below, error); !error && all != fs::directory_iterator();
       all.increment(error)) {
    std::error_code gone;
    if (!all->is_directory(gone)) continue;
    const std::string path = all->path().string().substr(mount.size());
    if (container_id(path).starts_with(id)) {
      found.push_back(path);  // no recursion: the cgroups inside it belong to the same container
    } else {
      find_containers(mount, path, id, found);
    }
  }
}

// Whether the path is in a hierarchy of cgroup v1: "/sys/fs/cgroup/memory/x" or "/memory/x".
bool is_of_version_1(const std::string& wanted) {
  for (const std::string& mount : mount_points("cgroup")) {
    if (without_prefix(wanted, mount) != wanted ||
        without_prefix("/sys/fs/cgroup" + wanted, mount).size() < wanted.size())
      return true;
  }
  return false;
}

[[noreturn]] void refuse(const std::string& why) { throw Failure("--cgroup" + why, Failure::kUsageError); }

}  // namespace

std::string cgroup_path(std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = take_before(text, '\n');
    if (line.starts_with("0::")) return std::string(line.substr(3));
  }
  return "";
}

std::string cgroup_of_host(const std::string& path) {
  const std::string& own = host_cgroups().own;
  if (own.empty() || path.empty()) return path;
  std::string whole = fs::path(own + path).lexically_normal();
  while (whole.size() > 1 && whole.ends_with('/')) whole.pop_back();
  return whole;
}

std::string container_id(std::string_view cgroup) {
  std::string_view found;
  std::string_view previous;
  while (!cgroup.empty()) {
    const std::string_view part = take_before(cgroup, '/');
    // If containers are nested, the innermost one counts. It comes last in the path.
    if (const std::string_view id = id_in(part); !id.empty()) found = id;
    if (previous == "lxc" || previous == "lxc.payload") found = part;
    if (part.starts_with("lxc.payload.")) found = part.substr(12);
    previous = part;
  }
  return std::string(found);
}

std::string cgroup_named(const std::string& wanted) {
  if (wanted != "." && wanted != ".." && wanted.find('/') == std::string::npos) return wanted;
  std::string path = fs::path("/" + wanted).lexically_normal();
  while (path.ends_with('/')) path.pop_back();
  for (const std::string& mount : hierarchies()) {
    const std::string inside = without_prefix(path, mount);
    if (inside != path) return inside.empty() ? "/" : inside;
  }
  path = without_prefix(path, "/sys/fs/cgroup");
  return path.empty() ? "/" : path;
}

CgroupFolder find_cgroup(const std::string& wanted) {
  const auto mounts = hierarchies();
  if (mounts.empty()) refuse(" needs cgroup v2, which is not mounted: mount -t cgroup2 none /sys/fs/cgroup");
  const std::string& mount = mounts.front();
  std::string path = without_prefix(without_prefix(wanted, mount), "/sys/fs/cgroup");
  if (!path.starts_with('/')) path.insert(0, "/");
  std::error_code error;
  if (fs::is_directory(mount + path, error)) return {path, mount + path};
  if (is_of_version_1(wanted))
    refuse(": \"" + printable(wanted) +
           "\" is in a hierarchy of cgroup v1. Use a cgroup of version 2: " + printable(mount) + "/…");
  std::vector<std::string> found;
  if (wanted.find('/') == std::string::npos) find_containers(mount, "", wanted, found);
  if (found.size() > 1)
    refuse(": " + std::to_string(found.size()) + " container ids begin with \"" + printable(wanted) +
           "\": use a longer prefix");
  if (found.empty())
    refuse(": there is no cgroup \"" + printable(wanted) +
           "\", and no container whose id begins with it. `nopspan ps` lists the cgroup or container of each process");
  return {found.front(), mount + found.front()};
}

void require_cgroup(const std::string& wanted) {
  if (!wanted.empty()) find_cgroup(wanted);
}

}  // namespace nopspan::collector
