// SPDX-License-Identifier: Apache-2.0
#include "host/tracers.h"

#include "base/open_file.h"
#include "base/stopping.h"
#include "base/text.h"
#include "host/maps.h"
#include "host/process_facts.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <string_view>
#include <tuple>

namespace nopspan::collector {
namespace {

// Values of struct bpf_link_info that the installed headers may lack: they were added in Linux 6.6 and 6.8. An older
// kernel leaves the fields empty.
constexpr std::uint32_t kLinkPerfEvent = 7;
constexpr std::uint32_t kLinkUprobeMulti = 12;
constexpr std::uint32_t kEventUprobe = 1;  // enum bpf_perf_event_type
constexpr std::uint32_t kEventUretprobe = 2;
struct MultiInfo {
  std::uint64_t path, offsets, semaphore_offsets, cookies;
  std::uint32_t path_size, count, flags, pid;
};
struct EventInfo {
  std::uint32_t type, padding;
  std::uint64_t file_name;
  std::uint32_t name_length, offset;
  std::uint64_t cookie, semaphore_offset;
};
struct LinkInfo {
  std::uint32_t type, id, program, padding;
  union {
    MultiInfo multi;
    EventInfo event;
    std::array<unsigned char, 96> room;
  };
};
constexpr std::size_t kMaximumOffsets = 4096;
constexpr std::size_t kMaximumTracers = 16384;
// The longest time to look at the descriptors of all processes.
constexpr auto kMostTime = std::chrono::seconds(2);

// Processes with capabilities first, then in order of their number of descriptors: any user can run a thousand programs
// that have a million descriptors together, and only few processes attach to anything.
std::vector<std::uint32_t> processes_in_turn() {
  Deadline until(std::chrono::nanoseconds(kMostTime).count());
  until.begin();
  const std::string own = link_of("/proc/self/ns/user");
  std::vector<std::tuple<bool, std::uint64_t, std::uint32_t>> turn;
  for_each_numeric_entry("/proc", [&](std::uint32_t pid) {
    if (until.is_over()) return turn.emplace_back(true, UINT64_MAX, pid), void();
    // In a namespace of their own, users have all capabilities.
    const bool is_here = link_of("/proc/" + std::to_string(pid) + "/ns/user") == own;
    const bool has_any = process_status(pid, "CapEff").find_first_not_of('0') != std::string::npos;
    turn.emplace_back(!is_here || !has_any, std::strtoull(process_status(pid, "FDSize").c_str(), nullptr, 10), pid);
  });
  std::sort(turn.begin(), turn.end());
  std::vector<std::uint32_t> pids;
  pids.reserve(turn.size());
  for (const auto& [is_later, descriptors, pid] : turn) pids.push_back(pid);
  return pids;
}

std::string program_name(std::uint32_t id) {
  const OpenFile program(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  std::uint32_t size = sizeof(info);
  if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) return "";
  return {info.name, strnlen(info.name, sizeof(info.name))};
}

std::string comm_of(std::uint32_t pid) { return read_line("/proc/" + std::to_string(pid) + "/comm"); }

// One search. It examines the descriptors that processes hold, then the links that it did not find there, then the
// events of tracefs.
class TracerSearch {
 public:
  explicit TracerSearch(Tracers& to) : to_(to) {}
  void look_at_processes();
  void look_at_links();
  void look_at_events();

 private:
  void look_at_process(std::uint32_t pid);
  void look_at_event(std::uint32_t pid, std::uint32_t fd);
  void look_at_link_fd(std::uint32_t pid, std::uint32_t fd);
  void look_at_link(const OpenFile& link);
  void add(Tracer::Kind kind, std::uint32_t pid, std::uint32_t program, const std::string& name,
           const std::string& file, std::uint64_t offset);
  static void identify(Tracer& tracer);

  Tracers& to_;
  Deadline until_{std::chrono::nanoseconds(kMostTime).count()};
  std::map<std::uint32_t, std::uint32_t> holder_of_link_;  // link id to pid
  std::map<std::uint32_t, std::string> others_;            // pid and comm of those with perf events of no program
  // Index of tracers by kind, pid, program, name and file.
  std::map<std::tuple<Tracer::Kind, std::uint32_t, std::uint32_t, std::string, std::string>, std::size_t> index_;
  std::set<std::tuple<std::uint32_t, std::uint64_t>> seen_;  // program and offset
};

// Finds the file that the name led to when the tracer attached, as far as that can be found out now.
void TracerSearch::identify(Tracer& tracer) {
  constexpr std::string_view kSelf = "/proc/self/";
  std::string path = tracer.file;
  if (tracer.pid != 0) {
    const std::string folder = "/proc/" + std::to_string(tracer.pid);
    path = path.starts_with(kSelf) ? folder + "/" + path.substr(kSelf.size()) : folder + "/root" + path;
  } else if (path.starts_with(kSelf)) {
    return;
  }
  tracer.id = FileId::at(path).value_or(FileId());
}

void TracerSearch::add(Tracer::Kind kind, std::uint32_t pid, std::uint32_t program, const std::string& name,
                       const std::string& file, std::uint64_t offset) {
  const auto [found, is_new] = index_.try_emplace({kind, pid, program, name, file}, to_.all.size());
  if (is_new) {
    if (to_.all.size() >= kMaximumTracers) {
      index_.erase(found);
      return;
    }
    Tracer& tracer = to_.all.emplace_back();
    tracer.kind = kind;
    tracer.pid = pid;
    tracer.comm = pid == 0 ? "" : comm_of(pid);
    tracer.program = program;
    tracer.name = program == 0 ? name : program_name(program);
    tracer.file = file;
    identify(tracer);
  }
  auto& offsets = to_.all[found->second].offsets;
  if (offsets.size() < kMaximumOffsets && std::find(offsets.begin(), offsets.end(), offset) == offsets.end())
    offsets.push_back(offset);
}

void TracerSearch::look_at_processes() {
  const std::vector<std::uint32_t> pids = processes_in_turn();
  until_.begin();
  std::size_t left_out = 0;
  for (const std::uint32_t pid : pids) {
    if (!until_.is_over()) look_at_process(pid);
    if (until_.is_over()) ++left_out;
  }
  if (left_out > 0 && to_.incomplete.empty())
    to_.incomplete = "the tracers of " + counted(left_out, "process", "processes") +
                     " may be missing: there was no time to look at all of their open files";
}

void TracerSearch::look_at_process(std::uint32_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  const int error = for_each_numeric_entry(
      folder,
      [&](std::uint32_t fd) {
        const std::string kind = link_of(folder + "/" + std::to_string(fd));
        if (kind == "anon_inode:[perf_event]") look_at_event(pid, fd);
        if (kind == "anon_inode:bpf_link") look_at_link_fd(pid, fd);
      },
      &until_);
  if (error == EACCES && to_.incomplete.empty())
    to_.incomplete = "tracers run by other users are not listed: that needs CAP_SYS_PTRACE";
}

void TracerSearch::look_at_event(std::uint32_t pid, std::uint32_t fd) {
  std::array<char, 4096> file{};
  auto size = static_cast<std::uint32_t>(file.size());
  std::uint32_t program = 0;
  std::uint32_t type = 0;
  __u64 offset = 0;
  __u64 address = 0;
  if (bpf_task_fd_query(static_cast<int>(pid), static_cast<int>(fd), 0, file.data(), &size, &program, &type, &offset,
                        &address) != 0) {
    if (errno == ENOENT) others_.try_emplace(pid, comm_of(pid));
    if (errno == EPERM) to_.incomplete = "tracers are not listed: that needs CAP_SYS_ADMIN";
    return;
  }
  if (type != BPF_FD_TYPE_UPROBE && type != BPF_FD_TYPE_URETPROBE) return;
  seen_.emplace(program, offset);
  add(Tracer::Kind::program, pid, program, "", {file.data(), strnlen(file.data(), file.size())}, offset);
}

void TracerSearch::look_at_link_fd(std::uint32_t pid, std::uint32_t fd) {
  const std::string text =
      read_small_file("/proc/" + std::to_string(pid) + "/fdinfo/" + std::to_string(fd), std::size_t{16} << 10U);
  constexpr std::string_view kId = "link_id:";
  const std::size_t at = text.find(kId);
  if (at == std::string::npos) return;
  holder_of_link_.try_emplace(static_cast<std::uint32_t>(std::strtoul(text.c_str() + at + kId.size(), nullptr, 10)),
                              pid);
}

void TracerSearch::look_at_link(const OpenFile& link) {
  LinkInfo info{};
  std::uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0) return;
  if (info.type != kLinkPerfEvent && info.type != kLinkUprobeMulti) return;
  const auto holder = holder_of_link_.find(info.id);
  const std::uint32_t pid = holder == holder_of_link_.end() ? 0 : holder->second;
  const std::uint32_t type = info.type;
  const std::uint32_t program = info.program;
  std::array<char, 4096> file{};
  std::vector<std::uint64_t> offsets(kMaximumOffsets);
  info = LinkInfo();
  size = sizeof(info);
  if (type == kLinkPerfEvent) {
    info.event.file_name = reinterpret_cast<std::uint64_t>(file.data());
    info.event.name_length = file.size();
  } else {
    info.multi.path = reinterpret_cast<std::uint64_t>(file.data());
    info.multi.path_size = file.size();
    info.multi.offsets = reinterpret_cast<std::uint64_t>(offsets.data());
    info.multi.count = static_cast<std::uint32_t>(offsets.size());
  }
  // ENOSPC means that there are more sites than room. The first ones were filled in.
  if (bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0 && errno != ENOSPC) return;
  if (type == kLinkPerfEvent) {
    if (info.event.type != kEventUprobe && info.event.type != kEventUretprobe) return;
    offsets.assign(1, info.event.offset);
    if (seen_.contains({program, info.event.offset})) return;
  } else {
    offsets.resize(std::min<std::size_t>(offsets.size(), info.multi.count));
  }
  for (const std::uint64_t offset : offsets)
    add(Tracer::Kind::program, pid, program, "", {file.data(), strnlen(file.data(), file.size())}, offset);
}

void TracerSearch::look_at_links() {
  std::uint32_t id = 0;
  while (bpf_link_get_next_id(id, &id) == 0) {
    const OpenFile link(bpf_link_get_fd_by_id(id));
    if (link) look_at_link(link);
  }
  // ENOENT: there is no further link. EINVAL: this kernel has no links.
  if (errno == EPERM) to_.incomplete = "tracers are not listed: that needs CAP_SYS_ADMIN";
}

// Events at a place in a file, written to tracefs' uprobe_events by `perf probe` or by hand.
void TracerSearch::look_at_events() {
  const std::string folder = tracefs();
  if (folder.empty()) return;
  std::ifstream events(folder + "/uprobe_events");
  // "p:sdt_nopspan/span_stop /usr/lib/libnopspan.so.0.3:0x0000000000049bd0(0x5f000) arg1=%di:u64"
  for (std::string line; std::getline(events, line);) {
    const std::size_t slash = line.find('/');
    const std::size_t space = line.find(' ');
    if (line.size() < 2 || line[1] != ':' || slash == std::string::npos || space == std::string::npos || slash > space)
      continue;
    const std::size_t offset = line.find(":0x", space);
    if (offset == std::string::npos) continue;
    const std::string group = line.substr(2, slash - 2), event = line.substr(slash + 1, space - slash - 1);
    const std::string name = group + ":" + event, file = line.substr(space + 1, offset - space - 1);
    const std::uint64_t place = std::strtoull(line.c_str() + offset + 1, nullptr, 16);
    // perf enables its own events without tracefs.
    std::ifstream enabled(folder + "/events/" + group + "/" + event + "/enable");
    if (enabled.get() == '1') {
      add(Tracer::Kind::event, 0, 0, name, file, place);
      continue;
    }
    // perf uses such an event without a visible sign. Each process with perf events of its own may be the one.
    for (const auto& [pid, comm] : others_) add(Tracer::Kind::perhaps, pid, 0, name, file, place);
  }
}

}  // namespace

std::string tracefs() {
  for (const char* folder : {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"})
    if (access((std::string(folder) + "/uprobe_events").c_str(), R_OK) == 0) return folder;
  return "";
}

Tracers Tracers::find() {
  Tracers result;
  TracerSearch search(result);
  search.look_at_processes();
  search.look_at_links();
  search.look_at_events();
  return result;
}

std::vector<AttachedTracer> Tracers::of(const ProbeFile& file, const std::string& path) const {
  const auto id = FileId::of(file.fd());
  if (!id) return {};
  std::vector<AttachedTracer> result;
  for (const Tracer& tracer : all) {
    AttachedTracer attached;
    attached.tracer = &tracer;
    const bool is_it = tracer.id.inode == id->inode && tracer.id.device == id->device;
    // The kernel adds a mark to the name of a file that was deleted or replaced.
    std::string_view file_of_tracer = tracer.file, name = path;
    take_deleted(file_of_tracer);
    take_deleted(name);
    attached.is_by_name = !is_it && file_of_tracer == name;
    if (!is_it && !attached.is_by_name) continue;
    for (const Probe& probe : file.probes())
      if (std::find(tracer.offsets.begin(), tracer.offsets.end(), probe.offset) != tracer.offsets.end())
        attached.probes.push_back(probe.name);
    if (!attached.probes.empty()) result.push_back(std::move(attached));
  }
  return result;
}

}  // namespace nopspan::collector
