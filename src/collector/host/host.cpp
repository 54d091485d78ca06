// SPDX-License-Identifier: Apache-2.0
#include "host/host.h"

#include "base/clocks.h"
#include "base/failure.h"
#include "base/stopping.h"
#include "host/cgroup.h"
#include "host/library_view.h"
#include "host/privileges.h"
#include "host/process_memory.h"
#include "host/process_reader.h"
#include "model/service.h"

#include <nopspan/probes.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <string_view>

namespace nopspan::collector {
namespace {

using Clock = KnownFiles::Clock;
// If the memory size of a process has changed, its maps are read again after kSoon. After kInVain successive reads that
// showed nothing new, they are read again after kLater.
constexpr auto kSoon = std::chrono::milliseconds(250);
constexpr auto kLater = std::chrono::milliseconds(900);
constexpr unsigned kInVain = 8;
// If the size has not changed, the maps are still read this often, because one mapping may have replaced another.
constexpr auto kNowAndThen = std::chrono::seconds(20);
// The identity of a mapped file is looked up again after this time, because a file without probes may have been deleted
// and its inode number used for another one. Files with probes are held open, so that this cannot happen to them.
constexpr auto kRecognized = std::chrono::seconds(60);

// scan_some() looks at processes with copies of the library this often, and takes this long for all others.
constexpr auto kTraced = std::chrono::seconds(1);
constexpr auto kRound = std::chrono::seconds(25);

// The longest time to examine new files of one process, and in one scan. The next scan continues.
constexpr auto kMostTimeOfAProcess = std::chrono::milliseconds(250);
constexpr auto kMostTimeOfAScan = std::chrono::seconds(1);
// Reading maps and examining files costs each user's budget: kBurst, and then a tenth of the time. After kAtOnce of a
// scan, the processes of users who have used it up wait until the others were looked at, and then share kSpare. The
// rest waits for the next scan, which begins with it.
constexpr auto kBurst = std::chrono::milliseconds(500);
constexpr auto kAtOnce = std::chrono::milliseconds(100);
constexpr auto kSpare = std::chrono::milliseconds(250);
constexpr std::uint64_t kParts = 10;

constexpr std::size_t kMaximumEnded = 4096;
constexpr std::size_t kMaximumFilesOfAProcess = 4096;
constexpr std::size_t kMaximumSkippedOfAProcess = 16;
// A process with more mappings without probes is only remembered if all such processes together have at most so many
// (8 MiB). Otherwise they are examined again at each read, at the expense of its user's time.
constexpr std::size_t kUsualMappings = 256, kMaximumMappings = 1U << 20U;
// A process may map the page of a gate tens of thousands of times, and each copy has a list of threads.
constexpr std::size_t kMaximumCopies = 64;

const char* why_forbidden() {
  return has_capability(Capability::sys_ptrace) ? "permission denied despite CAP_SYS_PTRACE: the process is in another "
                                                  "user namespace, or a security module forbids it"
                                                : "examining it needs CAP_SYS_PTRACE or the same user";
}

std::uint64_t nanoseconds(Clock::duration time) {
  return static_cast<std::uint64_t>(time / std::chrono::nanoseconds(1));
}

// Whether the process may still be loading its program.
bool is_young(const ProcessState& state) {
  const auto ticks = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
  return state.start_ticks + 2 * ticks >= read_clock(CLOCK_BOOTTIME) / kSecond * ticks;
}

// The stack begins elsewhere after each exec.
std::uint64_t program_of(const ProcessState& state) {
  if (state.stack_start <= 1) return 0;
  const std::uint64_t both[] = {state.start_ticks, state.stack_start};
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(both), sizeof(both)});
}

std::uint64_t hash_of(const Mapping& mapping) {
  const std::uint64_t place[] = {mapping.device, mapping.inode, mapping.start};
  const std::hash<std::string_view> hash;
  return hash({reinterpret_cast<const char*>(place), sizeof(place)}) ^ hash(mapping.path);
}

}  // namespace

Host::Host() : budget_(nanoseconds(kBurst), kParts) {}

void Host::begin_scan() {
  const auto now = Clock::now();
  scan_ends_ = now + kMostTimeOfAScan;
  budgets_count_ = now + kAtOnce;
  is_behind_ = false;
}

void Host::end_scan() {
  scan_ends_ = Clock::time_point::max();
  noted_.merge(std::exchange(left_, {}));
  files_.look_at_watched();
  update_files();
}

void Host::update_files() {
  const auto now = Clock::now();
  for (const std::uint32_t pid : with_copies_)
    for (const Copy& copy : processes_.at(pid).copies) files_.note_mapped(copy.file, now);
  if (!files_.update(now)) return;
  // A process that still maps such a file is examined again: the file has other content now.
  for (const std::uint32_t pid : with_copies_) {
    Known& known = processes_.at(pid);
    if (std::all_of(known.copies.begin(), known.copies.end(),
                    [&](const Copy& copy) { return files_.is_held(*copy.file); }))
      continue;
    known.is_due = true;
    unsettled_.insert(pid);
  }
}

void Host::look_in_turn(std::vector<std::uint32_t> turn) {
  std::vector<std::uint32_t> waiting;
  std::rotate(turn.begin(), std::lower_bound(turn.begin(), turn.end(), begin_at_), turn.end());
  const auto visit = [&](std::uint32_t pid) {
    look_again(pid);
    if (files_.take_is_behind()) leave_for_next(pid);
  };
  for (const std::uint32_t pid : turn) {
    if (must_wait(pid)) {
      waiting.push_back(pid);
    } else {
      visit(pid);
    }
  }
  const auto until = Clock::now() + kSpare;
  for (const std::uint32_t pid : waiting) {
    if (Clock::now() < until) {
      visit(pid);
    } else {
      leave_for_next(pid);
    }
  }
}

bool Host::must_wait(std::uint32_t pid) {
  const auto now = Clock::now();
  return now >= budgets_count_ && !budget_.has_any(user_of(pid), nanoseconds(now.time_since_epoch()));
}

void Host::leave_for_next(std::uint32_t pid) {
  left_.insert(pid);
  if (!std::exchange(is_behind_, true)) begin_at_ = pid;
}

// Also ends the processes that are gone. Returns false if this program has too many open files.
bool Host::list(std::vector<std::uint32_t>& pids) {
  pids.clear();
  has_too_many_files_ = is_file_limit(for_each_numeric_entry("/proc", [&](std::uint32_t pid) { pids.push_back(pid); }));
  if (has_too_many_files_) return false;
  std::sort(pids.begin(), pids.end());
  for (auto next = processes_.begin(); next != processes_.end();) {
    const auto known = next++;
    if (!std::binary_search(pids.begin(), pids.end(), known->first)) end(known);
  }
  return true;
}

void Host::scan() {
  std::vector<std::uint32_t> pids;
  if (!list(pids)) return update_files();
  begin_scan();
  noted_.clear();
  unsettled_.clear();
  look_in_turn(std::move(pids));
  std::erase_if(unsettled_, [&](std::uint32_t pid) { return !is_young(processes_.at(pid).state); });
  end_scan();
}

void Host::scan_noted() {
  const std::set<std::uint32_t> pids = std::exchange(noted_, {});
  begin_scan();
  look_in_turn({pids.begin(), pids.end()});
  end_scan();
}

void Host::look_again(std::uint32_t pid) {
  errno = 0;
  if (look_at(pid) == nullptr && !is_file_limit(errno)) note_exit(pid);
}

void Host::scan_some() {
  const auto now = Clock::now();
  std::set<std::uint32_t> pids = std::exchange(unsettled_, {});
  pids.merge(std::exchange(noted_, {}));
  if (now - traced_looked_at_ >= kTraced) {
    traced_looked_at_ = now;
    pids.insert(with_copies_.begin(), with_copies_.end());
  }
  begin_scan();
  look_in_turn({pids.begin(), pids.end()});
  look_at_next_of_all(now);
  end_scan();
}

// Looks at a part of all processes. Call it every kSoon: then a round through all of them takes kRound.
void Host::look_at_next_of_all(Clock::time_point now) {
  if (next_of_all_ == all_.size() && now - round_began_ >= kRound) {
    next_of_all_ = 0;
    if (!list(all_)) return;
    round_began_ = now;
  }
  const std::size_t due = all_.size() * static_cast<std::size_t>((now - round_began_) / kSoon + 1) /
                          static_cast<std::size_t>(kRound / kSoon);
  for (; next_of_all_ < std::min(due, all_.size()) && Clock::now() < scan_ends_; ++next_of_all_) {
    const std::uint32_t pid = all_[next_of_all_];
    if (must_wait(pid)) {
      left_.insert(pid);
    } else {
      look_again(pid);
    }
  }
}

void Host::note_pid(std::uint32_t pid) {
  noted_.insert(pid);
  if (const auto found = processes_.find(pid); found != processes_.end()) found->second.is_due = true;
}

void Host::note_exit(std::uint32_t pid) {
  if (const auto found = processes_.find(pid); found != processes_.end()) end(found);
}

void Host::note_moved(std::uint32_t pid) {
  const auto found = processes_.find(pid);
  const auto state = process_state(pid);
  // If the process is gone, its last description is kept.
  if (found == processes_.end() || !state || state->start_ticks != found->second.state.start_ticks) return;
  const std::string cgroup = cgroup_of(pid);
  auto& process = found->second.process;
  if (!process || process->cgroup == cgroup) return;
  auto moved = std::make_shared<Process>(*process);
  moved->cgroup = cgroup;
  moved->container = container_id(cgroup);
  process = moved;
}

void Host::end(std::map<std::uint32_t, Known>::iterator ended) {
  const std::uint32_t pid = ended->first;
  if (ended->second.process) {
    if (ended_.insert_or_assign(pid, ended->second.process).second) ended_order_.push_back(pid);
    if (ended_order_.size() > kMaximumEnded) {
      ended_.erase(ended_order_.front());
      ended_order_.pop_front();
    }
  }
  with_copies_.erase(pid);
  with_crowds_.erase(pid);
  uncounted_.erase(pid);
  remember(ended->second, {});
  processes_.erase(ended);
}

Host::Known* Host::look_at(std::uint32_t pid) {
  const auto began = Clock::now();
  const auto state = process_state(pid);
  if (!state && is_file_limit(errno)) has_too_many_files_ = true;
  if (!state || !state->has_memory()) return nullptr;
  Known& known = processes_[pid];
  update(pid, known, *state, began);
  if (!known.is_settled && known.reads_in_vain < kInVain) unsettled_.insert(pid);
  return &known;
}

void Host::update(std::uint32_t pid, Known& known, const ProcessState& state, Clock::time_point began) {
  const bool is_new = known.state.start_ticks != state.start_ticks || known.state.stack_start != state.stack_start;
  if (is_new) {  // a new process, or another program in the same one
    remember(known, {});
    known = Known();
  } else if (known.state.memory_bytes != state.memory_bytes) {
    known.is_settled = false;
  }
  const auto age = began - known.read_at;
  const bool is_due = known.is_due || age >= kNowAndThen ||
                      (!known.is_settled && age >= (known.reads_in_vain < kInVain ? kSoon : kLater));
  known.state = state;
  if (!is_due) return charge(known, began);
  // A program that is still being loaded is read once more.
  known.is_settled = !is_new && !known.is_due;
  known.is_due = false;
  known.read_at = began;
  if (!known.is_settled) known.user = user_of(pid);
  read_maps(pid, known);
  const auto note = [pid](std::set<std::uint32_t>& pids, bool is_in) {
    if (is_in) {
      pids.insert(pid);
    } else {
      pids.erase(pid);
    }
  };
  note(with_copies_, !known.copies.empty());
  note(with_crowds_, !known.crowds.empty());
  note(uncounted_, !known.is_counted);
  charge(known, began);
}

void Host::charge(const Known& known, Clock::time_point since) {
  const auto now = Clock::now();
  budget_.spend(known.user, nanoseconds(now - since), nanoseconds(now.time_since_epoch()));
}

void Host::read_maps(std::uint32_t pid, Known& known) {
  known.skipped.clear();
  const Mappings mappings({pid, known.state.start_ticks});
  const int error = mappings.error();
  if (error == EACCES || error == EPERM) {
    known.skipped.push_back({"", pid, known.state.comm, why_forbidden()});
  } else if (error == EOVERFLOW) {
    known.skipped.push_back({"", pid, known.state.comm, "it maps too many files, so some were not examined"});
  } else if (error != 0 && error != ESRCH && error != ENOENT) {
    // Keep the copies that were found before.
    known.is_due = true;
    if (known.crowds.empty() && known.copies.empty()) known.is_counted = false;
    known.skipped.push_back({"", pid, known.state.comm, read_error_text(error)});
    return;
  }
  known.crowds = mappings.crowds();
  known.all_mappings = mappings.all();
  known.is_counted = true;
  if (find_files(pid, known, mappings)) {
    known.reads_in_vain = 0;
    find_copies(known, mappings);
    describe(pid, known);
  } else {
    ++known.reads_in_vain;
    if (known.process && !known.copies.empty() && known.process->library_version.empty()) describe(pid, known);
  }
  if (known.copies.size() == kMaximumCopies) {
    known.skipped.push_back(
        {"", pid, known.state.comm, "it maps too many copies of the library, so some were not examined"});
  }
}

// Returns whether anything has changed or is incomplete, so that another read soon is worthwhile.
bool Host::find_files(std::uint32_t pid, Known& known, const Mappings& mappings) {
  const auto now = Clock::now();
  if (now - known.recognized_since >= kRecognized) {
    remember(known, {});
    known.recognized_since = now;
  }
  std::map<Seen, ProbeFilePointer> seen;
  std::vector<std::uint64_t> without_probes;
  std::vector<Mapping> unseen;
  std::set<std::pair<std::uint64_t, std::uint64_t>> with_text;
  mappings.for_each([&](const Mapping& mapping) {
    if (mapping.is_executable) with_text.emplace(mapping.device, mapping.inode);
    return true;
  });
  mappings.for_each([&](const Mapping& mapping) {
    // A program may have moved its text to other memory. Then only its data is mapped from the file.
    const bool may_be_data =
        mapping.is_writable && mapping.is_private && !with_text.contains({mapping.device, mapping.inode});
    if (!mapping.is_executable && !may_be_data) return true;
    const Seen key = seen_key(mapping);
    if (const auto before = known.seen.find(key); before != known.seen.end() && files_.is_held(*before->second)) {
      seen.insert(*before);
    } else if (const std::uint64_t hash = hash_of(mapping);
               std::binary_search(known.without_probes.begin(), known.without_probes.end(), hash)) {
      without_probes.push_back(hash);
    } else {
      unseen.push_back(mapping);
    }
    return seen.size() + without_probes.size() + unseen.size() < kMaximumFilesOfAProcess;
  });
  bool is_new = false;
  const auto until = std::min(scan_ends_, now + kMostTimeOfAProcess);
  const auto results =
      unseen.empty() ? std::vector<KnownFiles::Result>() : files_.find({pid, known.state.start_ticks}, unseen, until);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const KnownFiles::Result& result = results[i];
    is_new = is_new || result.file != nullptr;
    known.is_due = known.is_due || !result.is_known;
    if (!result.why_not.empty() && unseen[i].is_executable) {
      std::string_view name = unseen[i].path;
      take_deleted(name);
      if (known.skipped.size() < kMaximumSkippedOfAProcess)
        known.skipped.push_back({unescaped(name), pid, known.state.comm, result.why_not});
    } else if (result.file) {
      seen.emplace(seen_key(unseen[i]), result.file);
    } else if (result.is_known) {
      without_probes.push_back(hash_of(unseen[i]));
    }
  }
  remember(known, std::move(without_probes));
  const bool is_less = seen.size() != known.seen.size();
  known.seen = std::move(seen);
  // A copy may be found before its gate is mapped. It is looked for again.
  const bool is_incomplete = std::any_of(known.copies.begin(), known.copies.end(), [](const Copy& copy) {
    return copy.file->has_gate() && copy.gate_address == 0;
  });
  return is_new || is_less || is_incomplete;
}

void Host::remember(Known& known, std::vector<std::uint64_t> without_probes) {
  mappings_ -= known.without_probes.size();
  if (without_probes.size() > kUsualMappings && mappings_ + without_probes.size() > kMaximumMappings)
    without_probes.clear();
  std::sort(without_probes.begin(), without_probes.end());
  without_probes.shrink_to_fit();
  mappings_ += without_probes.size();
  known.without_probes = std::move(without_probes);
}

void Host::find_copies(Known& known, const Mappings& mappings) {
  // Keyed by device and inode as /proc/PID/maps has them.
  std::map<std::pair<std::uint64_t, std::uint64_t>, ProbeFilePointer> wanted;
  for (const auto& [seen, file] : known.seen) wanted[{seen.device, seen.inode}] = file;
  known.copies.clear();
  std::set<const ProbeFile*> with_text;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Copy> without_gate;
  mappings.for_each([&](const Mapping& mapping) {
    const auto found = wanted.find({mapping.device, mapping.inode});
    if (found == wanted.end()) return true;
    const Probe* site = found->second->batch_probe();
    if (mapping.is_executable && (site == nullptr || (mapping.offset <= site->offset &&
                                                      site->offset - mapping.offset < mapping.end - mapping.start)))
      with_text.insert(found->second.get());
    if (known.copies.size() == kMaximumCopies) return true;
    Copy copy;
    copy.file = found->second;
    std::string_view name = mapping.path;
    copy.is_deleted = take_deleted(name);
    copy.path = unescaped(name);
    const std::uint64_t gate = copy.file->gate().offset;
    const bool has_gate = copy.file->has_gate() && mapping.is_writable && mapping.offset <= gate &&
                          gate - mapping.offset < mapping.end - mapping.start;
    if (has_gate) {
      copy.gate_address = mapping.start + (gate - mapping.offset);
      known.copies.push_back(copy);
      without_gate.erase(found->first);
    } else if (std::none_of(known.copies.begin(), known.copies.end(),
                            [&](const Copy& other) { return other.file == copy.file; })) {
      without_gate.emplace(found->first, copy);
    }
    return true;
  });
  for (auto& [key, copy] : without_gate) {
    if (known.copies.size() < kMaximumCopies) known.copies.push_back(std::move(copy));
  }
  for (Copy& copy : known.copies) copy.has_text = with_text.contains(copy.file.get());
}

void Host::describe(std::uint32_t pid, Known& known) {
  auto process = std::make_shared<Process>(process_facts(pid));
  if (!known.copies.empty()) {
    const Copy& copy = known.copies.front();
    process->library = copy.path;
    // The version is written when the library is loaded.
    process->library_version =
        copy.gate_address == 0 ? "" : library_version({pid, known.state.start_ticks}, copy.gate_address);
    auto values = environment_of({pid, known.state.start_ticks}, {"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"});
    set_service(*process, std::move(values[0]), std::move(values[1]));
  }
  const auto ended = ended_.find(pid);
  if (!known.process && ended != ended_.end()) known.process = ended->second;  // its exit was reported too early
  // Objects that hold the old description keep it. As long as the process runs the same program, only its cgroup and
  // the library's fields can differ.
  const auto& before = known.process;
  // A process that is left alone has not lost what could be read before.
  if (before && before->library == process->library) {
    if (process->library_version.empty()) process->library_version = before->library_version;
    if (process->service_name.empty()) process->service_name = before->service_name;
    if (process->resource_attributes.empty()) set_service(*process, process->service_name, before->resource_attributes);
  }
  if (!before || before->start_ticks != process->start_ticks || before->executable != process->executable ||
      before->cgroup != process->cgroup || before->library != process->library ||
      before->library_version != process->library_version || before->clock_offset_ns != process->clock_offset_ns ||
      before->service_name != process->service_name || before->resource_attributes != process->resource_attributes)
    known.process = process;
}

ProcessPointer Host::process(std::uint32_t pid) {
  auto found = processes_.find(pid);
  const bool waits = found == processes_.end() && must_wait(pid);
  Known* known = found != processes_.end() ? &found->second : waits ? nullptr : look_at(pid);
  if (known != nullptr) {
    if (!known->process) describe(pid, *known);
    return known->process;
  }
  if (const auto ended = ended_.find(pid); ended != ended_.end()) return ended->second;
  if (waits) return std::make_shared<Process>(process_facts(pid));
  return std::make_shared<Process>(unknown_process(pid));
}

void Host::scan_completely(const std::vector<std::uint32_t>& pids) {
  Deadline until(10'000'000'000);
  until.begin();
  for (const std::uint32_t pid : pids) note_pid(pid);
  if (pids.empty()) {
    scan();
  } else {
    scan_noted();
  }
  while (is_behind() && !until.is_over()) scan_noted();
}

std::vector<Host::Mapper> Host::mappers(const ProbeFile& file, bool only_crowds) {
  std::map<std::uint32_t, std::uint64_t> found;
  for (const std::uint32_t pid : only_crowds ? std::set<std::uint32_t>() : with_copies_) {
    const auto& copies = processes_.at(pid).copies;
    const auto of_file =
        std::count_if(copies.begin(), copies.end(), [&](const Copy& copy) { return copy.file.get() == &file; });
    if (of_file > 0) found[pid] = static_cast<std::uint64_t>(of_file);
  }
  for (const std::uint32_t pid : with_crowds_) {
    std::uint64_t mappings = 0;
    for (const Mappings::Crowd& crowd : processes_.at(pid).crowds)
      if (file.may_be(crowd.id)) mappings += crowd.mappings;
    if (mappings > 0) found[pid] = mappings;
  }
  std::vector<Mapper> mappers;
  mappers.reserve(found.size());
  for (const auto& [pid, mappings] : found) {
    const Known& known = processes_.at(pid);
    mappers.push_back({pid, mappings, known.user, process(pid)->comm, known.all_mappings, program_of(known.state)});
  }
  return mappers;
}

const std::vector<Host::Copy>& Host::copies(std::uint32_t pid) {
  static const std::vector<Copy> kNone;
  const auto found = processes_.find(pid);
  const Known* known = found != processes_.end() ? &found->second : look_at(pid);
  return known == nullptr ? kNone : known->copies;
}

std::uint32_t Host::user(std::uint32_t pid) const {
  const auto found = processes_.find(pid);
  return found != processes_.end() ? found->second.user : user_of(pid);
}

std::vector<Unattached> Host::skipped() const {
  std::vector<Unattached> all;
  if (has_too_many_files_) all.push_back({"", 0, "", read_error_text(EMFILE)});
  if (is_behind_) all.push_back({"", 0, "", "there was no time for " + std::to_string(noted_.size()) + " of them"});
  std::set<std::uint32_t> left_alone;
  for (const LeftAlone& process : processes_left_alone()) {
    if (process.pid == 0 || process.until <= Clock::now() || !left_alone.insert(process.pid).second) continue;
    all.push_back({"", process.pid, process.comm, process.why + ", so it is not read for a while"});
  }
  for (const auto& [pid, known] : processes_)
    if (!left_alone.contains(pid)) all.insert(all.end(), known.skipped.begin(), known.skipped.end());
  return all;
}

}  // namespace nopspan::collector
