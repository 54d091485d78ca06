// SPDX-License-Identifier: Apache-2.0
#include "host/mounts.h"

#include "base/text.h"
#include "host/process_facts.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <string_view>

namespace nopspan::collector {
namespace {

// In these files, blanks, line feeds and backslashes are octal numbers: "\040".
std::string without_escapes(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; (at = text.find('\\')) != std::string_view::npos && text.size() - at >= 4;
       text.remove_prefix(at + 4)) {
    result += text.substr(0, at);
    result += static_cast<char>(std::stoi(std::string(text.substr(at + 1, 3)), nullptr, 8));
  }
  return result.append(text);
}

}  // namespace

std::vector<Mount> mounts_of(std::uint32_t pid, std::optional<std::uint64_t> device) {
  std::ifstream file("/proc/" + (pid == 0 ? "self" : std::to_string(pid)) + "/mountinfo");
  const std::string wanted = device ? std::to_string(major(*device)) + ":" + std::to_string(minor(*device)) : "";
  std::vector<Mount> mounts;
  // "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw"
  for (std::string line; std::getline(file, line);) {
    // A name may contain any byte but a blank, which is escaped.
    std::string_view rest = line;
    const auto next = [&rest] { return take_before(rest, ' '); };
    next();
    next();
    if (const std::string_view number = next(); device && number != wanted) continue;
    next();
    Mount mount;
    mount.point = without_escapes(next());
    while (!rest.empty() && next() != "-") {
    }
    mount.type = next();
    mount.options = rest;
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

// The links in /proc are only read, because to follow one into a network file system may block.
bool is_idle(std::uint64_t device) {
  struct stat root {};
  if (stat("/", &root) != 0 || root.st_dev == device) return false;
  const std::vector<Mount> mounts = mounts_of(0, device);
  bool is_used = mounts.empty();
  for_each_numeric_entry("/proc", [&](std::uint32_t pid) {
    for (const char* name : {"/exe", "/cwd"}) {
      if (is_used) return;
      const std::string path = link_of("/proc/" + std::to_string(pid) + name) + "/";
      is_used = std::any_of(mounts.begin(), mounts.end(), [&](const Mount& mount) {
        return path.starts_with(mount.point == "/" ? mount.point : mount.point + "/");
      });
    }
  });
  return !is_used;
}

}  // namespace nopspan::collector
