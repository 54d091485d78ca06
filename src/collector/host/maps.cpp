// SPDX-License-Identifier: Apache-2.0
#include "host/maps.h"

#include "host/mounts.h"
#include "host/process_facts.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

namespace nopspan::collector {

namespace {

// Removes a number from the front of `text`, and the one character after it.
bool take(std::string_view& text, int base, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (!text.empty()) text.remove_prefix(1);
  return true;
}

// "7f1c6f2d6000-7f1c6f2fc000 r-xp 00001000 fe:00 1234                       /usr/lib/…"
bool parse(std::string_view line, Mapping& mapping) {
  std::uint64_t major = 0;
  std::uint64_t minor = 0;
  if (!take(line, 16, mapping.start) || !take(line, 16, mapping.end) || line.size() < 5) return false;
  mapping.is_writable = line[1] == 'w';
  mapping.is_executable = line[2] == 'x';
  mapping.is_private = line[3] == 'p';
  line.remove_prefix(5);
  if (!take(line, 16, mapping.offset) || !take(line, 16, major) || !take(line, 16, minor)) return false;
  if (!take(line, 10, mapping.inode)) return false;
  mapping.device = makedev(static_cast<unsigned>(major), static_cast<unsigned>(minor));
  const std::size_t path = line.find_first_not_of(' ');
  mapping.path = path == std::string_view::npos ? std::string_view() : line.substr(path);
  return true;
}

// The beginning of an answer. The crowds follow, and then the lines of the mapped files.
struct MapsHead {
  std::uint64_t all, crowds;
};

class Crowds {
 public:
  void count_one() { ++all_; }
  void count(const Mapping& mapping) {
    File& file = files_[{mapping.inode, mapping.device}];
    if (file.mappings.empty()) {
      file.path = mapping.path;
      file.first = mapping;
    }
    file.mappings.emplace_back(mapping.offset, mapping.offset + mapping.end - mapping.start);
  }
  [[nodiscard]] std::string packed(std::uint32_t pid) {
    // A file may have several devices in one process (overlays), so its number is that of the inode.
    std::map<std::uint64_t, std::uint64_t> of_inode;
    for (auto& [key, file] : files_) of_inode[key.first] += file.most = most_of_a_page(file.mappings);
    std::size_t identified = 0;
    std::vector<Mappings::Crowd> crowds;
    for (auto& [key, file] : files_) {
      const bool has_few = of_inode[key.first] <= Mappings::kFewMappings;
      if (has_few && of_inode[key.first] * all_ < Mappings::kFewSteps) continue;
      Mappings::Crowd crowd{{key.second, key.first, 0, 0, 0}, file.most};
      file.first.path = file.path;
      MappedFile mapped;
      if ((!has_few || identified++ < kMostIdentified) && mapped.find(pid, file.first)) crowd.id = mapped.id();
      crowds.push_back(crowd);
    }
    const MapsHead head{all_, crowds.size()};
    std::string bytes(reinterpret_cast<const char*>(&head), sizeof(head));
    return bytes.append(reinterpret_cast<const char*>(crowds.data()), crowds.size() * sizeof(Mappings::Crowd));
  }

 private:
  // Of those that have few mappings. Of further ones only the numbers in /proc/PID/maps are known.
  static constexpr std::size_t kMostIdentified = 256;
  struct File {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> mappings;  // begins and ends in the file
    std::uint64_t most = 0;                                         // of a page
    Mapping first;
    std::string path;
  };

  static std::uint64_t most_of_a_page(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& mappings) {
    std::vector<std::pair<std::uint64_t, int>> changes;
    changes.reserve(2 * mappings.size());
    for (const auto& [begin, end] : mappings) {
      changes.emplace_back(begin, 1);
      changes.emplace_back(end, -1);
    }
    std::sort(changes.begin(), changes.end());
    std::int64_t now = 0, most = 0;
    for (const auto& [offset, change] : changes) most = std::max(most, now += change);
    return static_cast<std::uint64_t>(most);
  }

  std::uint64_t all_ = 0;
  std::map<std::pair<std::uint64_t, std::uint64_t>, File> files_;  // by inode and device
};

// Copies the lines of mapped files, after the Crowds. A program may have 65,536 other mappings.
Answer maps_work(std::uint32_t pid, std::string_view /*request*/, OpenFile /*file*/) {
  constexpr std::size_t kMostText = 4U << 20U;
  const OpenFile file(::open(("/proc/" + std::to_string(pid) + "/maps").c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return {errno, "", OpenFile()};
  // A path has at most 4095 bytes, and escaping makes it at most four times as long.
  std::vector<char> buffer(std::size_t{64} << 10U);
  std::size_t held = 0;
  bool is_empty = true;
  std::string lines;
  Crowds crowds;
  bool is_cut = false;
  const auto answer_with = [&](int error) {
    return Answer{error == 0 && is_cut ? EOVERFLOW : error, crowds.packed(pid) + lines, OpenFile()};
  };
  while (true) {
    const ssize_t got = ::read(file.get(), buffer.data() + held, buffer.size() - held);
    if (got < 0 && errno == EINTR) continue;
    // Every program maps something, so a thread without mappings has ended.
    if (got <= 0) return answer_with(got < 0 ? errno : is_empty ? ESRCH : 0);
    is_empty = false;
    held += static_cast<std::size_t>(got);
    std::string_view text(buffer.data(), held);
    for (std::size_t end = 0; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1)) {
      Mapping mapping;
      crowds.count_one();
      if (!parse(text.substr(0, end), mapping) || mapping.inode == 0) continue;
      crowds.count(mapping);
      if (!is_cut) lines.append(text, 0, end + 1);
    }
    if (text.size() == buffer.size()) return answer_with(EOVERFLOW);
    is_cut = lines.size() > kMostText;
    std::memmove(buffer.data(), text.data(), text.size());
    held = text.size();
  }
}

}  // namespace

// The child that reads may have been taken over, so the numbers may be anything.
Mappings::Mappings(const Target& process) {
  Answer answer = read_process(process, maps_work);
  error_ = answer.error;
  MapsHead head{};
  if (answer.bytes.size() < sizeof(head)) return;
  std::memcpy(&head, answer.bytes.data(), sizeof(head));
  if (head.crowds > (answer.bytes.size() - sizeof(head)) / sizeof(Crowd)) return;
  all_ = head.all;
  crowds_.resize(head.crowds);
  if (!crowds_.empty()) std::memcpy(crowds_.data(), answer.bytes.data() + sizeof(head), head.crowds * sizeof(Crowd));
  text_ = std::move(answer.bytes);
  text_.erase(0, sizeof(head) + head.crowds * sizeof(Crowd));
}

void Mappings::for_each(const std::function<bool(const Mapping&)>& on_mapping) const {
  std::string_view text = text_;
  for (std::size_t end = 0; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1)) {
    Mapping mapping;
    if (parse(text.substr(0, end), mapping) && !on_mapping(mapping)) return;
  }
}

std::string unescaped(std::string_view path) {
  std::string result;
  for (std::size_t end = 0; (end = path.find("\\012")) != std::string_view::npos; path.remove_prefix(end + 4)) {
    result += path.substr(0, end);
    result += '\n';
  }
  return result.append(path);
}

bool take_deleted(std::string_view& path) {
  constexpr std::string_view kDeleted = " (deleted)";
  if (!path.ends_with(kDeleted)) return false;
  path.remove_suffix(kDeleted.size());
  return true;
}

namespace {

// The file system on a device, from the mounts that the process sees. Its type is "" if it sees none.
Mount file_system_of(std::uint32_t pid, std::uint64_t device) {
  const std::vector<Mount> mounts = mounts_of(pid, device);
  return mounts.empty() ? Mount() : mounts.front();
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

// Uses cached data, because a file server may never answer.
MappedFile::Place MappedFile::look_at(std::string path) {
  path_ = std::move(path);
  struct statx status {};
  if (statx(AT_FDCWD, path_.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &status) != 0)
    return errno == EPERM || errno == EACCES ? Place::forbidden : Place::nowhere;
  id_ = FileId::of(status);
  has_attributes_ = (status.stx_attributes_mask & (STATX_ATTR_NODUMP | STATX_ATTR_COMPRESSED)) != 0;
  return S_ISREG(status.stx_mode) ? Place::found : Place::irregular;
}

bool MappedFile::is_of(std::uint32_t pid, const Mapping& mapping) const {
  if (id_.inode != mapping.inode) return false;
  if (id_.device == mapping.device) return true;
  // On these file systems stat(2) reports another device number than the mappings do.
  const std::string type = file_system_of(pid, id_.device).type + "," + file_system_of(pid, mapping.device).type;
  return type.find("overlay") != std::string::npos || type.find("btrfs") != std::string::npos;
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
  if (type == "overlay" && (!has_attributes_ || has_data_layers) &&
      link_of("/proc/" + std::to_string(pid) + "/ns/mnt") != link_of("/proc/self/ns/mnt"))
    type = "fuse below an overlay";
  if (!type.empty() && !type.starts_with("fuse")) return true;
  why_not_ = type.empty() ? "its file system is not mounted in the mount namespace of the process"
                          : "it is on " + type + ", where a read may block forever; to read it anyway, use --binary";
  return false;
}

bool MappedFile::find(std::uint32_t pid, const Mapping& mapping) {
  why_not_.clear();
  const std::string folder = "/proc/" + std::to_string(pid);
  std::array<char, 64> addresses{};
  std::snprintf(addresses.data(), addresses.size(), "%llx-%llx", static_cast<unsigned long long>(mapping.start),
                static_cast<unsigned long long>(mapping.end));
  Place place = look_at(folder + "/map_files/" + addresses.data());
  if (place == Place::forbidden) {
    std::string_view name = mapping.path;
    const bool is_deleted = take_deleted(name);
    place = look_at(folder + "/root" + unescaped(name));
    if ((place == Place::nowhere && is_deleted) || (place == Place::found && !is_of(pid, mapping)))
      place = Place::forbidden;
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
