// SPDX-License-Identifier: Apache-2.0
#include "host/thread_ids.h"

#include "base/numeric_entries.h"
#include "host/process_facts.h"

#include <charconv>
#include <string>

namespace nopspan::collector {
namespace {

// The number of a thread in its own namespace: the last number in the line NSpid.
std::uint32_t own_number(std::uint32_t id) {
  const std::string numbers = process_status(id, "NSpid");
  const auto last = numbers.find_last_of(" \t");
  const char* begin = numbers.data() + (last == std::string::npos ? 0 : last + 1);
  std::uint32_t number = 0;
  std::from_chars(begin, numbers.data() + numbers.size(), number);
  return number;
}

}  // namespace

std::unordered_map<std::uint32_t, std::uint32_t> thread_ids(const Process& process) {
  std::unordered_map<std::uint32_t, std::uint32_t> ids;
  const bool same = process.namespace_pid == process.pid;
  for_each_numeric_entry("/proc/" + std::to_string(process.pid) + "/task",
                         [&](std::uint32_t id) { ids.emplace(same ? id : own_number(id), id); });
  return ids;
}

}  // namespace nopspan::collector
