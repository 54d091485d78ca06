// SPDX-License-Identifier: Apache-2.0
#include "host/mapped_file.h"

#include "host/mounts.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

namespace nopspan::collector {
namespace {

// The result of stat(2) from cached data, because a file server may never answer.
bool look(const std::string& path, struct statx& status) {
  return statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &status) == 0;
}

// The file system on a device, from the mounts that the process sees. Its type is "" if it sees none.
Mount file_system_of(std::uint32_t pid, std::uint64_t device) {
  const std::vector<Mount> mounts = mounts_of(pid, device);
  return mounts.empty() ? Mount() : mounts.front();
}

bool shares_mounts(std::uint32_t pid) {
  struct stat own {};
  struct stat other {};
  return stat("/proc/self/ns/mnt", &own) == 0 &&
         stat(("/proc/" + std::to_string(pid) + "/ns/mnt").c_str(), &other) == 0 && own.st_ino == other.st_ino;
}

// The device of files in memory (memfd_create). It is not mounted anywhere.
std::uint64_t device_of_memory_files() {
  static const std::uint64_t device = [] {
    const OpenFile file(memfd_create("nopspan", MFD_CLOEXEC));
    struct stat status {};
    return file && fstat(file.get(), &status) == 0 ? std::uint64_t{status.st_dev} : 0;
  }();
  return device;
}

}  // namespace

MappedFile::Place MappedFile::by_mapping(std::uint32_t pid, const Mapping& mapping) {
  std::array<char, 96> path{};
  std::snprintf(path.data(), path.size(), "/proc/%u/map_files/%llx-%llx", pid,
                static_cast<unsigned long long>(mapping.start), static_cast<unsigned long long>(mapping.end));
  struct statx status {};
  if (!look(path.data(), status)) return errno == EPERM || errno == EACCES ? Place::forbidden : Place::gone;
  if (!S_ISREG(status.stx_mode)) return Place::gone;
  path_ = path.data();
  id_ = FileId::of(status);
  has_attributes_ = (status.stx_attributes_mask & (STATX_ATTR_NODUMP | STATX_ATTR_COMPRESSED)) != 0;
  return Place::found;
}

MappedFile::Place MappedFile::by_name(std::uint32_t pid, const Mapping& mapping) {
  std::string_view name = mapping.path;
  const bool is_deleted = take_deleted(name);
  path_ = "/proc/" + std::to_string(pid) + "/root" + unescaped(name);
  struct statx status {};
  if (!look(path_, status)) return errno == EPERM || errno == EACCES || is_deleted ? Place::forbidden : Place::gone;
  id_ = FileId::of(status);
  has_attributes_ = (status.stx_attributes_mask & (STATX_ATTR_NODUMP | STATX_ATTR_COMPRESSED)) != 0;
  if (!S_ISREG(status.stx_mode)) return Place::gone;
  if (id_.inode != mapping.inode) return Place::forbidden;
  if (id_.device == mapping.device) return Place::found;
  // On these file systems stat(2) reports another device number than the mappings do.
  const std::string type = file_system_of(pid, id_.device).type + "," + file_system_of(pid, mapping.device).type;
  return type.find("overlay") != std::string::npos || type.find("btrfs") != std::string::npos ? Place::found
                                                                                              : Place::forbidden;
}

bool MappedFile::may_be_touched(std::uint32_t pid, const Mapping& mapping) {
  // File systems on a disk have a non-zero major number.
  if (major(id_.device) != 0 || id_.device == device_of_memory_files()) return true;
  Mount mount = file_system_of(pid, id_.device);
  if (mount.type.empty()) mount = file_system_of(pid, mapping.device);
  auto& [point, type, options] = mount;
  // Any user can mount an overlay above FUSE in a namespace. FUSE has neither of these attributes, but the file systems
  // of containers have one, and an overlay passes it on. From Linux 6.16 on, an overlay of any user can take a file's
  // attributes from one layer, and its data from another one.
  const bool has_data_layers =
      options.find("userxattr") != std::string::npos &&
      (options.find("::") != std::string::npos || options.find("datadir+=") != std::string::npos);
  if (type == "overlay" && (!has_attributes_ || has_data_layers) && !shares_mounts(pid)) type = "fuse below an overlay";
  if (!type.empty() && !type.starts_with("fuse")) return true;
  why_not_ = type.empty() ? "its file system is not mounted in the mount namespace of the process"
                          : "it is on " + type + ", where a read may block forever; to read it anyway, use --binary";
  return false;
}

bool MappedFile::find(std::uint32_t pid, const Mapping& mapping) {
  why_not_.clear();
  std::string_view name = mapping.path;
  const bool is_deleted = take_deleted(name);
  Place place = by_mapping(pid, mapping);
  if (place == Place::forbidden) {
    place = by_name(pid, mapping);
    if (place == Place::forbidden)
      why_not_ = is_deleted ? "it was deleted or replaced: opening it needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE"
                            : "opening it needs CAP_SYS_PTRACE and CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE";
  }
  return place == Place::found;
}

OpenFile MappedFile::open(std::uint32_t pid, const Mapping& mapping) {
  if (!may_be_touched(pid, mapping)) return OpenFile();
  OpenFile file = open_regular(path_, &id_);
  if (!file && errno != ENOENT) why_not_ = std::string("it cannot be opened: ") + std::strerror(errno);
  return file;
}

}  // namespace nopspan::collector
