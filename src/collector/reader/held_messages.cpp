// SPDX-License-Identifier: Apache-2.0
#include "reader/held_messages.h"

#include <utility>

namespace nopspan::collector {

void HeldMessages::hold(std::uint32_t pid, unsigned until, std::uint64_t now_ns) {
  const auto [found, is_new] = processes_.try_emplace(pid);
  if (is_new) found->second.since_ns = now_ns;
  found->second.until |= until;
}

bool HeldMessages::add(const nopspan_message& message, std::string_view bytes) {
  const std::size_t size = sizeof(Message) + bytes.size();
  Process& process = processes_.at(message.pid);
  if (process.bytes + size > kMostBytesOfProcess || bytes_ + size > kMostBytes) return false;
  process.bytes += size;
  bytes_ += size;
  process.messages.push_back({message, std::string(bytes)});
  return true;
}

void HeldMessages::happened(std::uint32_t pid, Until until) {
  if (const auto found = processes_.find(pid); found != processes_.end()) found->second.until &= ~unsigned{until};
}

void HeldMessages::happened(Until until) {
  for (auto& [pid, process] : processes_) process.until &= ~unsigned{until};
}

std::vector<HeldMessages::Released> HeldMessages::take_due(std::uint64_t now_ns) {
  std::vector<std::uint32_t> due;
  for (const auto& [pid, process] : processes_) {
    if (process.until == 0 || now_ns - process.since_ns >= kLongest) due.push_back(pid);
  }
  std::vector<Released> released;
  released.reserve(due.size());
  for (const std::uint32_t pid : due) released.push_back(take(pid));
  return released;
}

HeldMessages::Released HeldMessages::take(std::uint32_t pid) {
  auto process = processes_.extract(pid);
  if (process.empty()) return {pid, 0, {}};
  bytes_ -= process.mapped().bytes;
  return {pid, process.mapped().until, std::move(process.mapped().messages)};
}

}  // namespace nopspan::collector
