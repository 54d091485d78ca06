// SPDX-License-Identifier: Apache-2.0
#include "recorder/own_process.h"

#include "base/open_file.h"

#include <nopspan/detail/gate.h>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace nopspan::recording {
namespace {

std::string content_of(const char* path) {
  constexpr std::size_t kMost = 65536;
  const collector::OpenFile file(::open(path, O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> part{};
  while (file && text.size() < kMost) {
    const ssize_t got = ::read(file.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  return text;
}

std::string line_of(std::string_view text, std::string_view begin) {
  std::size_t at = text.substr(0, begin.size()) == begin ? 0 : text.find("\n" + std::string(begin));
  if (at == std::string_view::npos) return "";
  at += (at == 0 ? 0 : 1) + begin.size();
  return std::string(text.substr(at, text.find('\n', at) - at));
}

// The 22nd field of /proc/self/stat. The second one is in parentheses, and may contain anything.
std::uint64_t start_ticks() {
  const std::string text = content_of("/proc/self/stat");
  std::size_t at = text.rfind(") ");
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + 1, nullptr, 10);
}

std::string variable(const char* name) {
  constexpr std::size_t kMost = 4096;  // as nopspan record reads of other processes
  const char* const value = std::getenv(name);
  return value != nullptr ? std::string(value, ::strnlen(value, kMost)) : "";
}

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

// The file with the probes, as /proc/PID/maps has it.
std::string library_file() {
  Dl_info found{};
  if (::dladdr(nopspan_gate_ptr, &found) == 0 || found.dli_fname == nullptr) return "";
  std::array<char, PATH_MAX> path{};
  return ::realpath(found.dli_fname, path.data()) != nullptr ? path.data() : found.dli_fname;
}

}  // namespace

OwnProcess OwnProcess::read() {
  OwnProcess process;
  process.numbers.pid = process.numbers.namespace_pid = static_cast<std::uint32_t>(::getpid());
  process.numbers.start_ticks = start_ticks();
  process.comm = line_of(content_of("/proc/self/comm"), "");
  process.cgroup = line_of(content_of("/proc/self/cgroup"), "0::");
  process.boot_id = line_of(content_of("/proc/sys/kernel/random/boot_id"), "");
  process.host = host_name();
  process.library = library_file();
  std::array<char, PATH_MAX> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  process.executable.assign(path.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  process.service_name = variable("OTEL_SERVICE_NAME");
  process.resource_attributes = variable("OTEL_RESOURCE_ATTRIBUTES");
  return process;
}

// A reader finds the container in the path of the cgroup.
void OwnProcess::add_to(collector::BatchChunk& chunk) const {
  chunk.add(numbers,
            {comm, executable, cgroup, "", library, NOPSPAN_VERSION, host, boot_id, service_name, resource_attributes});
}

std::uint64_t count_threads() {
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks(::opendir("/proc/self/task"), ::closedir);
  std::uint64_t threads = 0;
  while (const dirent* const entry = tasks ? ::readdir(tasks.get()) : nullptr)
    threads += entry->d_name[0] != '.' ? 1 : 0;
  return threads;
}

bool is_last_thread() {
  return content_of("/proc/self/status").find("\nState:\tZ") != std::string::npos && count_threads() == 2;
}

}  // namespace nopspan::recording
