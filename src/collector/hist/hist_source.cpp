// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_source.h"

#include "base/failure.h"
#include "base/text.h"
#include "hist/hist_processes.h"
#include "hist/hist_program.h"
#include "host/hidden_processes.h"
#include "host/host.h"
#include "host/process_facts.h"

#include <hist_events.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

namespace nopspan::collector {
namespace {

std::uint64_t now_unix_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

bool is_alive(std::uint32_t pid) {
  struct stat status;
  return stat(("/proc/" + std::to_string(pid)).c_str(), &status) == 0;
}

}  // namespace

class HistSource::Loaded {
 public:
  explicit Loaded(const HistOptions& options) : options_(options), program_(options) {
    require_processes(options_.filter.pids);
    if (!options_.binary.empty()) host_.add_file(options_.binary);
  }

  void attach_new() {
    const Host::Changes changes = host_.scan();
    if (Clock::now() - looked_at_processes_ >= kLook) look_at_processes();
    for (const ProbeFilePointer& gone : changes.gone) {
      std::erase_if(links_, [&](const Attached& one) { return one.file == gone; });
    }
    if (options_.filter.pids.empty()) {
      for (const Host::Found& found : changes.appeared) attach(found.file, found.path, 0);
      return;
    }
    // Only what these processes map, and in them alone: no other process pays.
    for (const std::uint32_t pid : options_.filter.pids) {
      for (const Host::Copy& copy : host_.copies(pid)) attach(copy.file, copy.path, pid);
    }
  }

  [[nodiscard]] HistTable read() {
    HistTable table;
    table.by = options_.by;
    table.of = options_.of;
    table.hosts = {host_name()};
    table.began_unix_ns = began_unix_ns_;
    table.ended_unix_ns = now_unix_ns();
    program_.read_rows_into(table);
    look_at_processes();
    table.ledger.add(processes_.ledger());
    return table;
  }

  void detach() {
    links_.clear();
    is_detached_ = true;
  }
  [[nodiscard]] int watch_fd() const { return host_.watch_fd(); }
  [[nodiscard]] std::size_t attached() const { return links_.size(); }
  [[nodiscard]] bool may_see_more() const {
    const auto& pids = options_.filter.pids;
    return pids.empty() || std::any_of(pids.begin(), pids.end(), is_alive);
  }
  std::vector<std::string> take_warnings() { return std::exchange(warnings_, {}); }

 private:
  using Clock = std::chrono::steady_clock;
  // No pid is given again within this time, unless they are few.
  static constexpr std::chrono::seconds kLook{1};

  void look_at_processes() {
    looked_at_processes_ = Clock::now();
    processes_.look_at(program_.hits(is_detached_), [this](std::uint32_t pid) { return host_.process(pid); });
  }

  struct Attached {
    ProbeFilePointer file;
    std::uint32_t pid;
    ProbeLink link;
  };

  void attach(const ProbeFilePointer& file, const std::string& path, std::uint32_t pid) {
    // A file that is mapped twice is one for the kernel.
    for (const Attached& one : links_) {
      if (one.file == file && one.pid == pid) return;
    }
    const auto refused = std::make_pair(file, pid);
    if (refused_.contains(refused)) return;
    bool has_probe = false;
    for (const Probe& probe : file->probes()) {
      if (probe.provider != "nopspan" || probe.name != options_.of->probe) continue;
      has_probe = true;
      ProbeLink link = program_.attach(*file, probe, pid);
      if (link) {
        links_.push_back({file, pid, std::move(link)});
        continue;
      }
      const int error = errno;
      refused_.insert(refused);
      if (error == ESRCH) return;  // the process has ended meanwhile
      const std::string why = HistProgram::attach_failure(printable(path), error);
      if (links_.empty() && (error == EPERM || error == EACCES)) throw Failure(why);
      warnings_.push_back(why);
      return;
    }
    if (has_probe) return;
    refused_.insert(refused);
    warnings_.push_back(printable(path) + (file->notes_are_missing()
                                               ? ": its notes are missing (llvm-strip deletes them)"
                                               : ": it has no probe " + std::string(options_.of->probe)));
  }

  HistOptions options_;
  HistProgram program_;
  Host host_;
  std::vector<Attached> links_;
  std::set<std::pair<ProbeFilePointer, std::uint32_t>> refused_;
  std::vector<std::string> warnings_;
  HistProcesses processes_;
  Clock::time_point looked_at_processes_;
  bool is_detached_ = false;
  std::uint64_t began_unix_ns_ = now_unix_ns();
};

HistSource::HistSource(const HistOptions& options) : loaded_(std::make_unique<Loaded>(options)) {
  warn_of_hidden_processes();
}
HistSource::~HistSource() = default;
void HistSource::attach_new() { loaded_->attach_new(); }
int HistSource::watch_fd() const { return loaded_->watch_fd(); }
std::size_t HistSource::attached() const { return loaded_->attached(); }
bool HistSource::may_see_more() const { return loaded_->may_see_more(); }
std::vector<std::string> HistSource::take_warnings() { return loaded_->take_warnings(); }
HistTable HistSource::read() { return loaded_->read(); }
void HistSource::detach() { loaded_->detach(); }

}  // namespace nopspan::collector
