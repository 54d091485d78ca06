// SPDX-License-Identifier: Apache-2.0
#include "host/environment.h"

#include "base/text.h"
#include "host/process_facts.h"

#include <cerrno>
#include <cstddef>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostEnvironment = std::size_t{8} << 20U, kMostValue = 4096;

// Calls `each` for the texts of which each has a zero at its end.
template <class Each>
void for_each_text(std::string_view texts, const Each& each) {
  while (!texts.empty()) each(take_before(texts, '\0'));
}

// The request has the names. The answer has the values.
Answer environment_work(std::uint32_t pid, std::string_view names, OpenFile /*file*/) {
  const std::string all = read_small_file("/proc/" + std::to_string(pid) + "/environ", kMostEnvironment);
  Answer answer;
  if (all.empty()) answer.error = ESRCH;  // the thread has ended, unless the environment is empty
  for_each_text(names, [&](std::string_view name) {
    std::string_view value;
    for_each_text(all, [&](std::string_view text) {
      if (value.empty() && text.size() > name.size() && text.starts_with(name) && text[name.size()] == '=') {
        value = text.substr(name.size() + 1, kMostValue);
      }
    });
    (answer.bytes += value) += '\0';
  });
  return answer;
}

}  // namespace

std::vector<std::string> environment_of(const Target& process, std::initializer_list<std::string_view> names) {
  std::string request;
  for (const std::string_view name : names) (request += name) += '\0';
  const Answer answer = read_process(process, environment_work, request);
  std::vector<std::string> values;
  for_each_text(answer.bytes, [&](std::string_view value) { values.emplace_back(value); });
  values.resize(names.size());
  return values;
}

}  // namespace nopspan::collector
