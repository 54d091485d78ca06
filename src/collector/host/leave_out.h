// SPDX-License-Identifier: Apache-2.0
// The processes that nopspan must not attach to, because somebody copies their memory meanwhile (--leave-out). A copy
// of a process that is attached to has the breakpoint and the raised gate, and dies at its first span.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

class LeaveOut {
 public:
  // `path` is of a file with a line for each process or group of processes: "pid 4711" or "cgroup NAME", where NAME is
  // a path or the beginning of a container's id. Empty lines, and what follows a #, are ignored. "" is no file.
  // Throws Failure if the file has another line or cannot be read. A file that does not exist leaves out nothing.
  explicit LeaveOut(std::string path);
  // Reads the file again. If that fails, what it said before holds, and stderr has the reason once.
  void read_again();

  [[nodiscard]] bool empty() const { return named_.pids.empty() && named_.cgroups.empty(); }
  // Whether it is in a named cgroup or in one below it, or is a named process or descends from it.
  [[nodiscard]] bool has(std::uint32_t pid) const;

 private:
  struct Named {
    std::vector<std::uint32_t> pids;
    std::vector<std::string> cgroups;  // as cgroup_named() returns them
  };
  [[nodiscard]] std::string read() const;
  [[nodiscard]] Named parse(std::string_view text) const;

  std::string path_, text_, said_;
  Named named_;
};

}  // namespace nopspan::collector
