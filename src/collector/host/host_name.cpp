// SPDX-License-Identifier: Apache-2.0
#include "host/host_name.h"

#include "base/text.h"
#include "host/process_facts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <climits>

namespace nopspan::collector {
namespace {

bool is_same_file(const char* one, const char* other) {
  struct stat a {};
  struct stat b {};
  return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// A service with ProtectHostname= also has a UTS namespace of its own, with a copy of the host's name. It has the
// host's files, which a container does not have. The name of another namespace cannot be read, so a container uses the
// host's file. This file may be wrong, because a network or a cloud can name a host too.
bool is_in_container() {
  const std::string first = link_of("/proc/1/ns/uts");
  if (first.empty() || first == link_of("/proc/self/ns/uts")) return false;
  return !is_same_file("/", "/proc/1/root/") || !is_same_file("/etc/hostname", "/proc/1/root/etc/hostname");
}

std::string find_host_name() {
  if (is_in_container()) {
    std::string name = name_in_hostname_file(read_small_file("/proc/1/root/etc/hostname"));
    if (!name.empty()) return name;
  }
  std::array<char, HOST_NAME_MAX + 1> buffer{};
  return gethostname(buffer.data(), buffer.size() - 1) == 0 ? std::string(buffer.data()) : std::string();
}

}  // namespace

const std::string& host_name() {
  static const std::string name = find_host_name();
  return name;
}

std::string name_in_hostname_file(std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = trimmed(take_before(text, '\n'));
    if (line.empty() || line.front() == '#') continue;
    return line == "localhost" || line.starts_with("localhost.") ? "" : std::string(line);
  }
  return "";
}

}  // namespace nopspan::collector
