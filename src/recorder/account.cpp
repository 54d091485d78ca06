// SPDX-License-Identifier: Apache-2.0
#include "recorder/account.h"

#include "base/clocks.h"
#include "base/open_file.h"
#include "base/utf8.h"

#include <nopspan/detail/gate.h>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

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
  std::array<char, 17> instance{};
  std::snprintf(instance.data(), instance.size(), "%016llx", static_cast<unsigned long long>(random_number()));
  process.instance = instance.data();
  return process;
}

bool OwnProcess::is_restored() const {
  const std::uint64_t now = start_ticks();
  return now != 0 && numbers.start_ticks != 0 && now != numbers.start_ticks;
}

// A reader finds the container in the path of the cgroup.
void OwnProcess::add_to(collector::BatchChunk& chunk) const {
  chunk.add(numbers, {comm, executable, cgroup, "", library, NOPSPAN_VERSION, host, boot_id, service_name,
                      resource_attributes, instance});
}

std::uint64_t random_number() {
  std::uint64_t number = 0;
  if (::getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number)) number = collector::monotonic_now();
  return number;
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

namespace {

constexpr std::pair<const char*, std::uint64_t Counts::*> kFields[] = {
    {"emitted", &Counts::emitted},
    {"delivered", &Counts::delivered},
    {"discarded", &Counts::discarded},
    {"no_memory", &Counts::no_memory},
    {"over_limit", &Counts::over_limit},
    {"reentrant", &Counts::reentrant},
    {"export_dropped", &Counts::export_dropped},
    {"threads_at_attach", &Counts::threads_at_attach},
    {"attributes_dropped", &Counts::attributes_dropped},
    {"links_dropped", &Counts::links_dropped},
    {"members_dropped", &Counts::members_dropped},
};

void append_number(std::string& json, const char* key, std::uint64_t number) {
  json += "\"";
  json += key;
  json += "\":" + std::to_string(number) + ",";
}

void append_counts(std::string& json, const Counts& counts) {
  for (const auto& [name, field] : kFields) append_number(json, name, counts.*field);
  append_number(json, "lost", counts.lost());
  json.back() = '}';
}

}  // namespace

void append_json_text(std::string& json, const char* key, std::string_view text) {
  json += "\"";
  json += key;
  json += "\":\"";
  // Paths are bytes, and JSON is UTF-8.
  for (const char byte : collector::replaced_utf8(text)) {
    const auto code = static_cast<unsigned char>(byte);
    char escaped[8];
    if (code < ' ' || byte == '"' || byte == '\\') {
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", unsigned{code});
      json += escaped;
    } else {
      json += byte;
    }
  }
  json += "\",";
}

std::string ledger_text(const Counts& counts, const Counts& before, const OwnProcess& process) {
  Counts now = counts;
  for (const auto& [name, field] : kFields) now.*field -= before.*field;
  std::string json = "{\"total\":{";
  append_counts(json, now);
  json += ",\"processes\":[{";
  append_number(json, "pid", process.numbers.pid);
  append_number(json, "namespace_pid", process.numbers.namespace_pid);
  append_number(json, "start_ticks", process.numbers.start_ticks);
  append_json_text(json, "instance", process.instance);
  append_json_text(json, "comm", process.comm);
  append_json_text(json, "cgroup", process.cgroup);
  append_json_text(json, "library", process.library);
  append_json_text(json, "host", process.host);
  append_counts(json, now);
  return json + "]}";
}

void Account::begin(std::uint64_t threads) {
  before_ = stats();
  threads_at_attach_ = threads;
}

void Account::begin_thread(std::uint64_t sequence_id, std::uint64_t next, std::uint64_t discarded) {
  Thread& thread = threads_[sequence_id];
  thread.ledger = collector::ThreadLedger(next);
  thread.discarded_base = thread.discarded = discarded;
}

std::vector<std::uint64_t> Account::threads() const {
  std::vector<std::uint64_t> ids;
  for (const auto& one : threads_) ids.push_back(one.first);
  return ids;
}

Account::Thread& Account::find(std::uint64_t sequence_id, std::uint64_t discarded) {
  Thread& thread = threads_[sequence_id];
  thread.discarded = std::max(thread.discarded, discarded);
  return thread;
}

const std::vector<collector::Sequences>& Account::arrive(std::uint64_t sequence_id, collector::Sequences sequences,
                                                         std::uint64_t discarded) {
  return find(sequence_id, discarded).ledger.arrive(sequences);
}

void Account::emitted_until(std::uint64_t sequence_id, std::uint64_t next, std::uint64_t discarded) {
  find(sequence_id, discarded).ledger.emitted_until(next);
}

void Account::note_living(const std::unordered_set<std::uint64_t>& living) {
  for (auto one = threads_.begin(); one != threads_.end();) {
    Thread& thread = one->second;
    const bool had_ended = std::exchange(thread.has_ended, living.count(one->first) == 0);
    if (!had_ended || !thread.has_ended) {
      ++one;
      continue;
    }
    add(ended_, thread);
    one = threads_.erase(one);
  }
}

void Account::add(Counts& counts, const Thread& thread) {
  const std::uint64_t emitted = thread.ledger.next() - thread.ledger.base(), missing = thread.ledger.missing();
  const std::uint64_t discarded = std::min(missing, thread.discarded - thread.discarded_base);
  counts.emitted += emitted;
  counts.delivered += emitted - missing;
  counts.discarded += discarded;
  counts.export_dropped += missing - discarded;  // the ring refused them
}

Counts Account::counts() const {
  Counts counts = ended_;
  for (const auto& one : threads_) add(counts, one.second);
  const Stats now = stats();
  const std::uint64_t spans = now.spans_dropped - before_.spans_dropped;
  counts.over_limit = std::min(spans, now.spans_over_limit - before_.spans_over_limit);
  counts.no_memory = spans - counts.over_limit;
  counts.reentrant = now.reentrant - before_.reentrant;
  counts.emitted += spans + counts.reentrant;
  counts.threads_at_attach = threads_at_attach_;
  counts.attributes_dropped =
      now.fields_dropped - before_.fields_dropped + now.attributes_dropped - before_.attributes_dropped;
  counts.links_dropped = now.links_dropped - before_.links_dropped;
  counts.members_dropped = now.members_dropped - before_.members_dropped;
  return counts;
}

}  // namespace nopspan::recording
