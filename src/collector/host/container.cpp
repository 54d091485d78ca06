// SPDX-License-Identifier: Apache-2.0
#include "host/container.h"

#include <algorithm>

namespace nopspan::collector {
namespace {

std::string_view take_line(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool all(std::string_view text, bool (*is)(char)) { return !text.empty() && std::all_of(text.begin(), text.end(), is); }

// Accepts "docker-<id>.scope", "cri-containerd-<id>.scope", "crio-<id>.scope", "libpod-<id>.scope", "<id>",
// "kubepods-burstable-pod<uid>.slice:cri-containerd:<id>", and ECS's "<32 digits>-<number>".
std::string_view id_in(std::string_view part) {
  if (part.ends_with(".scope")) part.remove_suffix(6);
  // The monitor of a container has a cgroup beside the container's, but is not in the container.
  if (part.find("conmon") != std::string_view::npos) return {};
  const std::size_t dash = part.rfind('-');
  if (dash == 32 && all(part.substr(0, dash), is_hex) && all(part.substr(dash + 1), is_digit)) return part;
  const std::size_t before = part.find_last_of("-:");
  const std::string_view last = before == std::string_view::npos ? part : part.substr(before + 1);
  return last.size() == 64 && all(last, is_hex) ? last : std::string_view();
}

}  // namespace

std::string cgroup_path(std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = take_line(text, '\n');
    if (line.starts_with("0::")) return std::string(line.substr(3));
  }
  return "";
}

std::string container_id(std::string_view cgroup) {
  std::string_view found;
  std::string_view previous;
  while (!cgroup.empty()) {
    const std::string_view part = take_line(cgroup, '/');
    // If containers are nested, the innermost one counts. It comes last in the path.
    if (const std::string_view id = id_in(part); !id.empty()) found = id;
    if (previous == "lxc" || previous == "lxc.payload") found = part;
    if (part.starts_with("lxc.payload.")) found = part.substr(12);
    previous = part;
  }
  return std::string(found);
}

}  // namespace nopspan::collector
