// SPDX-License-Identifier: Apache-2.0
#include "live/attachments.h"

#include "base/text.h"
#include "host/process_facts.h"
#include "live/clock_map.h"

#include <algorithm>
#include <atomic>
#include <iostream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kAttachMillisecond = 1'000'000;
// Enough for a host that starts hundreds of containers at once. Then a user may take a tenth of the thread's time.
constexpr std::uint64_t kBurst = 500 * kAttachMillisecond, kParts = 10;
// Other work of the thread must not wait longer.
constexpr std::uint64_t kLongestCall = 50 * kAttachMillisecond;
constexpr std::uint64_t kLongestPause = 30'000 * kAttachMillisecond;

// The kernel waits for several grace periods before it lets go of a link, some 50 ms. Threads that wait at the same
// time share these periods.
void detach(std::vector<ProbeLink> links) {
  constexpr std::size_t kMostThreads = 64;
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = 0; (i = next++) < links.size();) links[i] = {};
  };
  std::vector<std::thread> threads;
  try {
    while (threads.size() + 1 < std::min(links.size(), kMostThreads)) threads.emplace_back(work);
  } catch (const std::system_error&) {  // no more threads are allowed
  }
  work();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

Attachments::Attachments(Attach attach) : attach_(std::move(attach)), budget_(kBurst, kParts) {}

template <typename Function>
auto Attachments::charged(const std::optional<uid_t>& user, Function function) {
  const std::uint64_t began = monotonic_now();
  const auto result = function();
  const std::uint64_t ended = monotonic_now();
  if (user) budget_.spend(*user, ended - began, ended);
  return result;
}

bool Attachments::is_due(const std::vector<Target>& targets, std::uint64_t now_ns) const {
  std::set<Key> wanted;
  for (const Target& target : targets) {
    const auto known = attached_.find({target.file.get(), target.pid});
    if (known == attached_.end()) return true;
    if (!known->second.is_attached && now_ns >= known->second.again_ns) return true;
    wanted.insert(known->first);
  }
  return wanted.size() != attached_.size();
}

std::vector<Attachments::Target> Attachments::set(const std::vector<Target>& targets) {
  std::set<Key> wanted;
  for (const Target& target : targets) wanted.emplace(target.file.get(), target.pid);
  std::map<std::optional<uid_t>, std::vector<ProbeLink>> unwanted;
  for (auto& [key, attached] : attached_) {
    if (!wanted.contains(key)) unwanted[attached.user].push_back(std::move(attached.link));
  }
  std::erase_if(attached_, [&](const auto& entry) { return !wanted.contains(entry.first); });
  for (auto& entry : unwanted) {
    charged(entry.first, [&entry] { return detach(std::move(entry.second)), true; });
  }

  std::vector<Target> fresh;
  const std::uint64_t until = monotonic_now() + kLongestCall;
  for (const Target& target : targets) {
    if (monotonic_now() >= until) break;
    const auto [entry, is_new] = attached_.try_emplace({target.file.get(), target.pid});
    Attached& attached = entry->second;
    if (is_new) attached.target = target;
    if (!attached.is_attached && monotonic_now() >= attached.again_ns && may_attach(target, attached) &&
        attach(attached)) {
      fresh.push_back(target);
    }
  }
  return fresh;
}

void Attachments::detach_all() {
  std::vector<ProbeLink> links;
  for (auto& [key, attached] : attached_) links.push_back(std::exchange(attached.link, {}));
  detach(std::move(links));
}

bool Attachments::is_attached(const ProbeFile& file, int pid) const {
  const auto known = attached_.find({&file, pid});
  return known != attached_.end() && known->second.is_attached;
}

bool Attachments::may_attach(const Target& target, Attached& attached) {
  if (target.users.empty()) return true;
  const auto payer = std::find_if(target.users.begin(), target.users.end(),
                                  [this](std::uint32_t user) { return budget_.has_any(user, monotonic_now()); });
  if (payer != target.users.end()) {
    attached.user = *payer;
    return true;
  }
  const std::uint32_t first = *target.users.begin();
  if (slowed_.insert(first).second) {
    std::cerr << "nopspan: user " + std::to_string(first) +
                     " runs programs that map many files with probes: attaching to them takes longer\n";
  }
  return false;
}

bool Attachments::attach(Attached& attached) {
  std::string why_not;
  attached.is_attached = charged(attached.user, [&] {
    attached.link = attach_(*attached.target.file, attached.target.pid, why_not);
    return static_cast<bool>(attached.link);
  });
  if (attached.is_attached) {
    attached.why_not.clear();
    return true;
  }
  if (why_not != attached.why_not) {
    std::cerr << "nopspan: cannot attach to " + printable(attached.target.path) + ": " + why_not + "\n";
  }
  attached.why_not = why_not;
  attached.again_ns = monotonic_now() + attached.pause_ns;
  attached.pause_ns = std::min(attached.pause_ns * 2, kLongestPause);
  return false;
}

std::vector<Attachments::Target> attachment_targets(Host& host, const std::vector<std::uint32_t>& pids,
                                                    const Attachments& attachments) {
  std::vector<Attachments::Target> targets;
  if (pids.empty()) {
    for (const Host::Found& found : host.files()) targets.push_back({found.file, found.path, -1, found.users});
    return targets;
  }
  // Attaches to these processes only, so that no other process's gate is raised.
  for (const std::uint32_t pid : pids) {
    // The kernel finds a process by its main thread. If that has ended, only an attach to all processes works. A link
    // of uprobe_multi that was made before stays, but a perf event has no effect any more.
    const bool has_main_thread = thread_to_read(pid) == pid;
    for (const Host::Copy& copy : host.copies(pid)) {
      const bool is_alone =
          has_main_thread || (has_uprobe_multi() && attachments.is_attached(*copy.file, static_cast<int>(pid)));
      targets.push_back({copy.file, copy.path, is_alone ? static_cast<int>(pid) : -1, {}});
    }
  }
  return targets;
}

}  // namespace nopspan::collector
