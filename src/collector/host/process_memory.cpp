// SPDX-License-Identifier: Apache-2.0
#include "host/process_memory.h"

#include "base/text.h"
#include "host/process_facts.h"

#include <sys/uio.h>

#include <array>
#include <cerrno>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostRanges = 512;
constexpr std::size_t kMostEnvironment = std::size_t{8} << 20U, kMostValue = 4096;

Answer ranges_work(std::uint32_t pid, std::string_view request, OpenFile /*file*/) {
  std::array<MemoryRange, kMostRanges> ranges{};
  const std::size_t count = request.size() / sizeof(MemoryRange);
  std::memcpy(ranges.data(), request.data(), request.size());
  std::size_t size = 0;
  for (std::size_t i = 0; i < count; ++i) size += ranges[i].size;
  Answer answer;
  answer.bytes.resize(size);
  answer.bytes.resize(read_ranges_here(pid, {ranges.data(), count}, answer.bytes.data(), size));
  if (answer.bytes.size() != size) answer.error = errno;
  return answer;
}

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

std::size_t read_ranges_here(std::uint32_t pid, std::span<const MemoryRange> ranges, void* to, std::size_t size) {
  std::array<iovec, kMostRanges> remote{};
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): it came as a number
    remote[i] = {reinterpret_cast<void*>(ranges[i].address), ranges[i].size};
  }
  iovec local{to, size};
  const ssize_t got = process_vm_readv(static_cast<pid_t>(pid), &local, 1, remote.data(), ranges.size(), 0);
  if (got >= 0 && static_cast<std::size_t>(got) < size) errno = EFAULT;
  return got < 0 ? 0 : static_cast<std::size_t>(got);
}

bool read_memory_here(std::uint32_t pid, std::uint64_t address, void* to, std::size_t size) {
  const MemoryRange range{address, size};
  return read_ranges_here(pid, {&range, 1}, to, size) == size;
}

bool read_ranges(const Target& process, std::span<const MemoryRange> ranges, std::string& bytes) {
  const std::string_view request(reinterpret_cast<const char*>(ranges.data()), ranges.size_bytes());
  return take_ranges(read_process(process, ranges_work, request), ranges, bytes);
}

bool take_ranges(Answer answer, std::span<const MemoryRange> ranges, std::string& bytes) {
  std::size_t size = 0;
  for (const MemoryRange& range : ranges) size += range.size;
  errno = answer.error == 0 && answer.bytes.size() != size ? EBADMSG : answer.error;
  bytes = std::move(answer.bytes);
  return errno == 0;
}

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
