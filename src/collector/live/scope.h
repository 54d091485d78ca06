// SPDX-License-Identifier: Apache-2.0
// Which processes are wanted at all, and where: by pid and cgroup.
#pragma once

#include "model/filter.h"
#include "model/span.h"

#include <cstdint>
#include <optional>
#include <unordered_map>

namespace nopspan::collector {

class Scope {
 public:
  explicit Scope(const Filter& filter);

  [[nodiscard]] bool has_pid(const ProcessPointer& process) const;
  // Whether the process is in a cgroup that is wanted, as far as is known of it now.
  [[nodiscard]] bool has_place(const ProcessPointer& process) const;
  // Whether the kernel's numbers tell where a process is; else /proc alone does.
  [[nodiscard]] bool numbers_tell() const { return numbers_tell_; }
  // Whether a cgroup is one, by the kernel's number: `process` was there, and may have been moved on. Nothing if it
  // cannot be told: the cgroup is gone, or numbers are not told apart (path_of_cgroup()).
  std::optional<bool> has_cgroup(std::uint64_t cgroup, const Process& process);

 private:
  Filter by_pid_, by_cgroup_;
  bool numbers_tell_ = false;
  std::unordered_map<std::uint64_t, std::optional<bool>> known_;
};

}  // namespace nopspan::collector
