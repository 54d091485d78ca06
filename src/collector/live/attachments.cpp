// SPDX-License-Identifier: Apache-2.0
#include "live/attachments.h"

#include "base/text.h"

#include <algorithm>
#include <climits>
#include <iostream>
#include <set>

namespace nopspan::collector {

std::vector<Attachments::Target> Attachments::set(const std::vector<Target>& targets, std::uint64_t now_ns) {
  std::set<Key> wanted;
  for (const Target& target : targets) wanted.emplace(target.file.get(), target.pid);
  std::erase_if(attached_, [&](const auto& entry) { return !wanted.contains(entry.first); });

  std::vector<Target> fresh;
  for (const Target& target : targets) {
    const auto [entry, is_new] = attached_.try_emplace({target.file.get(), target.pid});
    Attached& attached = entry->second;
    if (is_new) attached.target = target;
    if (!attached.is_attached && now_ns >= attached.again_ns && attach(attached, now_ns)) fresh.push_back(target);
  }
  return fresh;
}

void Attachments::detach_all() {
  for (auto& [key, attached] : attached_) attached.link = {};
}

bool Attachments::is_attached(const ProbeFile& file) const {
  const auto first = attached_.lower_bound({&file, INT_MIN});
  return first != attached_.end() && first->first.first == &file && first->second.is_attached;
}

bool Attachments::attach(Attached& attached, std::uint64_t now_ns) {
  constexpr std::uint64_t kLongestPause = 30'000'000'000;
  std::string why_not;
  attached.link = programs_.attach(*attached.target.file, attached.target.pid, why_not);
  attached.is_attached = static_cast<bool>(attached.link);
  if (attached.is_attached) {
    attached.why_not.clear();
    return true;
  }
  if (why_not != attached.why_not) {
    std::cerr << "nopspan: cannot attach to " << printable(attached.target.path) << ": " << why_not << "\n";
  }
  attached.why_not = why_not;
  attached.again_ns = now_ns + attached.pause_ns;
  attached.pause_ns = std::min(attached.pause_ns * 2, kLongestPause);
  return false;
}

}  // namespace nopspan::collector
