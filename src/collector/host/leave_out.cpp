// SPDX-License-Identifier: Apache-2.0
#include "host/leave_out.h"

#include "base/failure.h"
#include "base/open_file.h"
#include "base/text.h"
#include "host/cgroup.h"
#include "host/process_facts.h"
#include "model/filter.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iostream>
#include <optional>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostLeaveOutBytes = 65536;
// The most processes between one and a named one that it descends from.
constexpr int kMostGenerations = 64;

std::optional<std::uint32_t> number_of_process(std::string_view text) {
  std::uint32_t pid = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), pid);
  const bool is_pid = read.ec == std::errc() && read.ptr == text.data() + text.size() && pid > 0;
  return is_pid ? std::optional(pid) : std::nullopt;
}

bool is_in(const std::string& cgroup, const std::string& named) {
  if (container_id(cgroup).starts_with(named)) return true;
  return is_below_cgroup(cgroup, named.starts_with('/') ? named : "/" + named);
}

}  // namespace

LeaveOut::LeaveOut(std::string path) : path_(std::move(path)) {
  text_ = read();
  named_ = parse(text_);
}

void LeaveOut::read_again() {
  if (path_.empty()) return;
  try {
    std::string text = read();
    if (text == text_) return;
    named_ = parse(text);
    text_ = std::move(text);
    said_.clear();
  } catch (const Failure& failure) {
    if (std::exchange(said_, failure.what()) == failure.what()) return;
    std::cerr << "nopspan: " + said_ + ". What it said before holds\n";
  }
}

// "" if there is no file.
std::string LeaveOut::read() const {
  std::string text;
  if (path_.empty()) return text;
  const auto fail = [this](const std::string& why) {
    return Failure("--leave-out: " + printable(path_) + ": " + why, Failure::kUsageError);
  };
  // Opening a pipe that nobody writes to would wait for ever.
  const OpenFile file(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!file && errno == ENOENT) return text;
  if (!file || fstat(file.get(), &status) != 0) throw fail(errno_text(errno));
  if (!S_ISREG(status.st_mode)) throw fail("it is not a regular file");
  text.resize(kMostLeaveOutBytes + 1);
  const ssize_t bytes = pread(file.get(), text.data(), text.size(), 0);
  if (bytes < 0) throw fail(errno_text(errno));
  text.resize(static_cast<std::size_t>(bytes));
  if (text.size() > kMostLeaveOutBytes) throw fail("it has more than 64 KiB");
  return text;
}

LeaveOut::Named LeaveOut::parse(std::string_view text) const {
  Named named;
  for (unsigned number = 1; !text.empty(); ++number) {
    std::string_view line = take_before(text, '\n');
    line = trimmed(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const std::string whole = printable(line, 40);
    const std::string_view kind = take_before(line, ' ');
    const std::string_view value = trimmed(line);
    const std::optional<std::uint32_t> pid = number_of_process(value);
    if (kind == "pid" && pid) {
      named.pids.push_back(*pid);
    } else if (kind == "cgroup" && !value.empty()) {
      named.cgroups.push_back(cgroup_named(std::string(value)));
    } else {
      throw Failure("--leave-out: " + printable(path_) + ":" + std::to_string(number) + ": \"" + whole +
                        "\" is not \"pid NUMBER\" or \"cgroup NAME\"",
                    Failure::kUsageError);
    }
  }
  return named;
}

bool LeaveOut::has(std::uint32_t pid) const {
  if (!named_.cgroups.empty()) {
    const std::string cgroup = cgroup_of(pid);
    const auto is_in_it = [&](const std::string& named) { return is_in(cgroup, named); };
    if (std::any_of(named_.cgroups.begin(), named_.cgroups.end(), is_in_it)) return true;
  }
  if (named_.pids.empty()) return false;
  for (int i = 0; pid != 0 && i < kMostGenerations; ++i) {
    if (std::count(named_.pids.begin(), named_.pids.end(), pid) > 0) return true;
    const auto state = process_state(pid);
    pid = state ? static_cast<std::uint32_t>(state->parent) : 0;
  }
  return false;
}

}  // namespace nopspan::collector
