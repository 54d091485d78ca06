// SPDX-License-Identifier: Apache-2.0
#include "live/attachments.h"

#include "base/text.h"
#include "host/obstacles.h"
#include "host/process_facts.h"
#include "stream/clock_map.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <iostream>
#include <iterator>
#include <system_error>
#include <thread>

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kAttachMillisecond = 1'000'000;
// Enough for a host that starts hundreds of containers at once. Then a user may take a tenth of the thread's time.
constexpr std::uint64_t kBurst = 500 * kAttachMillisecond, kParts = 10;
// Other work of the thread must not wait longer.
constexpr std::uint64_t kLongestCall = 50 * kAttachMillisecond;
// A call that takes longer is reported.
constexpr std::uint64_t kLongCall = 500 * kAttachMillisecond;
constexpr std::uint64_t kLongestPause = 30'000 * kAttachMillisecond;
// To hold a process takes longer than 100 ms beyond this number of mappings.
constexpr std::uint64_t kMostToHold = 2048;
constexpr std::size_t kMostHeld = 64, kMostKept = 1024;
constexpr std::size_t kMostRemembered = 16384;

// The kernel waits for several grace periods before it lets go of a link, some 50 ms. Threads that wait at the same
// time share these periods.
void detach(std::vector<OpenFile> links, std::size_t most_threads) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = 0; (i = next++) < links.size();) links[i] = {};
  };
  std::vector<std::thread> threads;
  try {
    while (threads.size() + 1 < std::min(links.size(), most_threads)) threads.emplace_back(work);
  } catch (const std::system_error&) {  // no more threads are allowed
  }
  work();
  for (std::thread& thread : threads) thread.join();
}

// Whether one process among others may have caused the error of an attach to all of them. It may have made its
// semaphore negative (EINVAL) or its page unusable (EFAULT, EBUSY), its memory limit may be reached (ENOMEM), and later
// kernels may have further errors. Not among them are the errors that every process would cause.
bool may_be_of_one(const WhyNot& why_not) {
  constexpr int kUprobeNotSupported = 524;  // ENOTSUPP: the instruction in the file
  constexpr int kOfAll[] = {0, EPERM, EACCES, EMFILE, ENFILE, ENOENT, EBADF, ENOTSUP, kUprobeNotSupported};
  return std::find(std::begin(kOfAll), std::end(kOfAll), why_not.error) == std::end(kOfAll);
}

std::string process_text(std::uint32_t pid, const std::string& comm) {
  return "process " + std::to_string(pid) + " (" + printable(comm) + ")";
}

std::string text_of(const Attachments::Target& target) {
  const std::string path = printable(target.path);
  return target.pid < 0 ? path : path + " in " + process_text(static_cast<std::uint32_t>(target.pid), target.comm);
}

std::uint64_t sum_of(const std::vector<Host::Mapper>& mappers) {
  std::uint64_t sum = 0;
  for (const Host::Mapper& mapper : mappers) sum += mapper.mappings;
  return sum;
}

constexpr char kWithoutMainThread[] = "its main thread has ended, so the kernel cannot attach to it alone";

std::string why_left_out(const Host::Mapper& mapper, std::uint64_t sum) {
  if (is_crowd(mapper)) return crowd_text(mapper);
  if (sum <= Attachments::kMostAtAll) return "";
  return "processes map the file " + std::to_string(sum) + " times, so an attach would stop all forks on this host";
}

// The processes that would keep the kernel in a call for too long: crowds, and the most costly of those that are costly
// together.
std::vector<Host::Mapper> crowds_of(const std::vector<Host::Mapper>& mappers) {
  std::vector<Host::Mapper> costly;
  std::uint64_t left_ns = 0;
  for (const Host::Mapper& mapper : mappers) {
    const std::uint64_t ns = attach_ns(mapper);
    if (ns <= Attachments::kUsualNs && !is_crowd(mapper)) continue;
    costly.push_back(mapper);
    left_ns += ns;
  }
  std::sort(costly.begin(), costly.end(), [](const auto& a, const auto& b) { return attach_ns(a) > attach_ns(b); });
  std::vector<Host::Mapper> crowds;
  for (const Host::Mapper& mapper : costly) {
    if (left_ns <= Attachments::kMostCostlyNs && !is_crowd(mapper)) continue;
    crowds.push_back(mapper);
    left_ns -= attach_ns(mapper);
  }
  return crowds;
}

// A target in one process. `mappings` are those of the file in all processes together.
Attachments::Target target_of(const ProbeFilePointer& file, const std::string& path, const Host::Mapper& mapper,
                              std::string left_out, std::uint64_t mappings) {
  std::vector<Host::Mapper> crowds;
  if (is_crowd(mapper)) crowds.push_back(mapper);
  const int pid = static_cast<int>(mapper.pid);
  return {file, path, pid, {}, mapper.comm, std::move(left_out), std::move(crowds), mapper.program, mappings};
}

// The held process with fewest mappings.
template <typename Map>
auto fewest(Map& held) {
  return std::min_element(held.begin(), held.end(),
                          [](const auto& a, const auto& b) { return a.second.mappings < b.second.mappings; });
}

}  // namespace

Attachments::Attachments(Attach attach, Attach hold)
    : attach_(std::move(attach)), hold_(std::move(hold)), budget_(kBurst, kParts) {}

template <typename Function>
auto Attachments::charged(const std::optional<uid_t>& user, Function function) {
  const std::uint64_t began = monotonic_now();
  const auto result = function();
  const std::uint64_t ended = monotonic_now();
  if (user) budget_.spend(*user, ended - began, ended);
  return result;
}

// A file is attached to together again as soon as no process stands in the way. The links to each process alone are
// kept until then, so nothing is lost. What both report is delivered once.
std::vector<Attachments::Target> Attachments::targets_for(const Host::Found& found,
                                                          const std::vector<Host::Mapper>& mappers,
                                                          const Others& others, std::uint64_t now_ns) const {
  const Key key(found.file.get(), -1);
  const std::uint64_t sum = sum_of(mappers);
  Target all{found.file, found.path, -1, found.users, "", "", {}, 0, sum};
  std::copy_if(mappers.begin(), mappers.end(), std::back_inserter(all.crowds), is_crowd);
  // A process that maps the file later pays for the change of each new mapping itself.
  if (is_attached(*found.file, -1) && !others.are_not_wanted) return {all};
  const auto alone = [&](const Host::Mapper& mapper) {
    const auto known = attached_.find({key.first, static_cast<int>(mapper.pid)});
    return known != attached_.end() && known->second.is_attached ? &known->second : nullptr;
  };
  const auto is_alone = [&](const Host::Mapper& mapper) {
    const Attached* known = alone(mapper);
    return known != nullptr && !is_other_program(known->target.program, mapper.program);
  };
  bool is_together =
      crowds_of(mappers).empty() && sum <= kMostTogether && !others.have_uncounted && !others.are_not_wanted;
  if (const auto apart = apart_.find(key.first); is_together && apart != apart_.end()) {
    is_together = now_ns >= apart->second.again_ns && std::all_of(mappers.begin(), mappers.end(), is_alone);
  }
  std::vector<Target> targets;
  if (is_together) targets.push_back(all);
  for (const Host::Mapper& mapper : mappers) {
    if (is_together && alone(mapper) == nullptr) continue;
    std::string left_out = is_alone(mapper) ? "" : why_left_out(mapper, sum);
    if (!is_alone(mapper) && left_out.empty() && thread_to_read(mapper.pid) != mapper.pid)
      left_out = kWithoutMainThread;
    targets.push_back(target_of(found.file, found.path, mapper, std::move(left_out), sum));
    targets.back().users = {mapper.user};
  }
  const auto was_tried = [this](const Target& target) { return attached_.contains({target.file.get(), target.pid}); };
  // Each other process is attached to alone before the file is detached from in all.
  if (is_attached(*found.file, -1) && !std::all_of(targets.begin(), targets.end(), was_tried)) targets.push_back(all);
  return targets;
}

bool Attachments::is_due(const std::vector<Target>& targets, std::uint64_t now_ns) const {
  std::set<Key> wanted;
  for (const Target& target : targets) {
    const auto known = attached_.find({target.file.get(), target.pid});
    if (known == attached_.end()) return true;
    const Attached& attached = known->second;
    const bool is_other = is_other_program(attached.target.program, target.program);
    if (is_other && !target.left_out.empty()) return true;
    if ((is_other || !attached.is_attached) && now_ns >= attached.again_ns && target.left_out.empty()) return true;
    for (const Host::Mapper& crowd : target.crowds) {
      const auto held = held_.find({target.file.get(), crowd.pid});
      if (!attached.is_attached) continue;
      if (held == held_.end() ? may_hold(crowd) : is_other_program(held->second.program, crowd.program)) return true;
    }
    wanted.insert(known->first);
  }
  return wanted.size() != attached_.size();
}

std::vector<Attachments::Target> Attachments::set(const std::vector<Target>& targets) {
  std::set<Key> wanted;
  most_mappings_ = 0;
  for (const Target& target : targets) {
    wanted.emplace(target.file.get(), target.pid);
    most_mappings_ = std::max(most_mappings_, target.mappings);
  }
  LinksOfUsers unwanted;
  for (auto& [key, attached] : attached_) {
    if (wanted.contains(key)) continue;
    keep_for_held(key, attached.link);
    unwanted[attached.user].push_back(std::move(attached.link));
  }
  std::erase_if(attached_, [&](const auto& entry) {
    if (wanted.contains(entry.first)) return false;
    // It may become a target again.
    if (entry.second.is_unnamed && (kill(entry.first.second, 0) == 0 || errno != ESRCH)) --unnamed_;
    return true;
  });
  std::erase_if(apart_, [&](const auto& entry) {
    const auto first = wanted.lower_bound({entry.first, -1});
    return first == wanted.end() || first->first != entry.first;
  });
  detach_each(unwanted);

  std::vector<Target> fresh;
  LinksOfUsers former;
  is_behind_ = false;
  const std::uint64_t until = monotonic_now() + kLongestCall;
  for (const Target& target : targets) {
    is_behind_ = monotonic_now() >= until;
    if (is_behind_) break;
    auto [entry, is_new] = attached_.try_emplace({target.file.get(), target.pid});
    Attached& attached = entry->second;
    is_new = is_new || is_other_program(attached.target.program, target.program);
    if (attached.is_attached && !is_new) continue;
    if (!target.left_out.empty()) {
      // The number of mappings may change all the time.
      if (is_new) {
        attached.target = target;
        note_failure(attached, {0, target.left_out});
      }
      continue;
    }
    if (!attached.is_attached) attached.target = target;
    if (monotonic_now() < attached.again_ns || !may_attach(target, attached)) continue;
    // The link to the former program is closed when there is another one.
    const Target former_target = std::exchange(attached.target, target);
    const bool has_former = std::exchange(attached.is_attached, false);
    OpenFile former_link = std::move(attached.link);
    if (attach(attached)) {
      fresh.push_back(target);
      if (has_former) former[attached.user].push_back(std::move(former_link));
    } else if (has_former) {
      attached.target = former_target;
      attached.is_attached = true;
      attached.link = std::move(former_link);
    }
  }
  detach_each(former);
  hold_crowds(targets);
  note_files();
  return fresh;
}

void Attachments::detach_each(LinksOfUsers& links) {
  for (auto& entry : links) {
    charged(entry.first, [&] { return detach(std::move(entry.second), most_detachers()), true; });
  }
}

std::size_t Attachments::most_detachers() const {
  constexpr std::uint64_t kMost = 64, kLockNs = 500;
  const std::uint64_t call_ns = most_mappings_ * kLockNs;
  return std::clamp<std::uint64_t>(kLongestCall / 2 / std::max<std::uint64_t>(call_ns, 1), 2, kMost);
}

// To hold a process, the kernel looks at all mappings of the file, and forks wait. If that takes too long, or a process
// has made too many mappings before the first look, the target stays attached instead, and no further process is held.
void Attachments::hold_crowds(const std::vector<Target>& targets) {
  std::erase_if(held_, [](const auto& entry) { return has_ended(entry.second.process); });
  const std::uint64_t until = monotonic_now() + kLongestCall;
  for (const Target& target : targets) {
    if (!is_attached(*target.file, target.pid)) continue;
    for (const Host::Mapper& crowd : target.crowds) {
      const Key key(target.file.get(), crowd.pid);
      const auto known = held_.find(key);
      if (known != held_.end() && !is_other_program(known->second.program, crowd.program)) {
        known->second.mappings = crowd.mappings;
        continue;
      }
      if (known != held_.end()) held_.erase(known);
      if (!may_hold(crowd)) continue;
      if (held_.size() >= kMostKept) held_.erase(fewest(held_));
      const bool stays = std::any_of(held_.begin(), held_.end(), [&](const auto& other) {
        return other.first.first == target.file.get() && !other.second.link;
      });
      Held& held = held_[key];
      held = {target.file, {}, false, open_process(crowd.pid), crowd.comm, target.path, crowd.mappings, crowd.program};
      WhyNot why_not;
      // The kernel finds the process by its main thread.
      if (!stays && held_.size() <= kMostHeld && crowd.mappings <= kMostToHold && monotonic_now() < until &&
          held.process && thread_to_read(crowd.pid) == crowd.pid)
        held.link = hold_(*target.file, static_cast<int>(crowd.pid), why_not);
    }
  }
}

bool Attachments::may_hold(const Host::Mapper& crowd) const {
  return held_.size() < kMostKept || fewest(held_)->second.mappings < crowd.mappings;
}

void Attachments::keep_for_held(const Key& key, const OpenFile& link) {
  for (auto& [held_key, held] : held_) {
    if (held.link || held_key.first != key.first || (key.second >= 0 && key.second != held_key.second)) continue;
    held.link = link.duplicate();
    held.is_of_all = key.second < 0;
  }
}

// Notes which files were tried, and whether they were attached to anywhere.
void Attachments::note_files() {
  for (const auto& [key, attached] : attached_) {
    if (!attached.is_attached && attached.why_not.empty()) continue;
    if (tried_files_.size() >= kMostRemembered) std::erase_if(tried_files_, [](const auto& one) { return one.second; });
    if (tried_files_.size() >= kMostRemembered) return;
    const FileKey file = file_key(attached.target);
    tried_files_.try_emplace(file, false);
    if (!attached.is_attached) continue;
    tried_files_[file] = true;
    unattached_.erase({file, 0});
  }
}

std::vector<LeftLink> Attachments::left_links(std::string& text) {
  std::vector<LeftLink> left;
  for (auto& one : held_) {
    const Key& key = one.first;
    Held& held = one.second;
    if (has_ended(held.process)) continue;
    const auto pid = static_cast<std::uint32_t>(key.second);
    // A link to a process whose main thread has ended holds nothing.
    const bool is_held = held.link && !held.is_of_all && thread_to_read(pid) == pid;
    const std::string process = process_text(pid, held.comm);
    bool stays = false;
    const auto leave = [&](OpenFile link) {
      OpenFile until = held.process.duplicate();
      if (!link || !until) return;
      left.push_back({std::move(link), std::move(until)});
      stays = true;
    };
    leave(std::move(held.link));
    if (!is_held) {
      // The process may have been attached to alone first, and with all others later.
      for (const int pid : {key.second, -1}) {
        const auto target = attached_.find({key.first, pid});
        if (target != attached_.end()) leave(target->second.link.duplicate());
      }
    }
    text +=
        "nopspan: " + process + " maps " + printable(held.path) + " too many times: to detach from it " +
        (stays ? "would stop all forks on this host, so the process nopspan-keeper stays attached to " +
                     std::string(is_held ? "it" : "all processes that map the file") + " until " + process + " ends\n"
               : "may stop all forks on this host\n");
  }
  held_.clear();
  return left;
}

void Attachments::detach_all() {
  std::string text;
  const bool are_kept = leave_until_ended(left_links(text));
  std::cerr << text;
  if (!are_kept) std::cerr << "nopspan: cannot start nopspan-keeper, so to detach may stop all forks on this host\n";
  std::vector<OpenFile> links;
  for (auto& [key, attached] : attached_) links.push_back(std::exchange(attached.link, {}));
  detach(std::move(links), most_detachers());
}

std::string Attachments::hangs_at() const {
  const std::lock_guard lock(call_mutex_);
  return !call_path_.empty() && monotonic_now() - call_began_ns_ > kLongCall ? call_path_ : "";
}

bool Attachments::is_attached(const ProbeFile& file, int pid) const {
  const auto known = attached_.find({&file, pid});
  return known != attached_.end() && known->second.is_attached;
}

bool Attachments::is_traced(const ProbeFile& file, std::uint32_t pid) const {
  return is_attached(file, -1) || is_attached(file, static_cast<int>(pid));
}

bool Attachments::has_alone() const {
  return std::any_of(attached_.begin(), attached_.end(), [](const auto& entry) { return entry.first.second >= 0; });
}

Ledger Attachments::unattached() const {
  Ledger all;
  for (const auto& [key, one] : unattached_) all.unattached.push_back(one);
  all.unattached_others = unnamed_;
  return all;
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
  WhyNot why_not;
  const Target& target = attached.target;
  const std::uint64_t began = monotonic_now();
  const auto note_call = [this](const std::string& path, std::uint64_t began_ns) {
    const std::lock_guard lock(call_mutex_);
    call_path_ = path;
    call_began_ns_ = began_ns;
  };
  note_call(target.path, began);
  attached.is_attached = charged(attached.user, [&] {
    attached.link = attach_(*target.file, target.pid, why_not);
    return static_cast<bool>(attached.link);
  });
  note_call("", 0);
  if (const std::uint64_t took = monotonic_now() - began; took > kLongCall) {
    std::cerr << "nopspan: the kernel took " + std::to_string(took / kAttachMillisecond) + " ms to attach to " +
                     printable(target.path) + ". Forks on this host may have waited as long\n";
  }
  if (attached.is_attached) {
    const bool had_failed = !std::exchange(attached.why_not, {}).empty();
    if (std::exchange(attached.is_unnamed, false)) {
      --unnamed_;
    } else if (had_failed) {
      say("nopspan: attached to " + text_of(target) + " now\n");
    }
    unattached_.erase({file_key(target), target.pid < 0 ? 0 : target.pid});
    if (target.pid < 0) apart_.erase(target.file.get());
    return true;
  }
  attached.again_ns = monotonic_now() + attached.pause_ns;
  attached.pause_ns = std::min(attached.pause_ns * 2, kLongestPause);
  if (target.pid < 0 && may_be_of_one(why_not)) {
    const auto [apart, is_new] = apart_.try_emplace(target.file.get());
    apart->second.again_ns = monotonic_now() + apart->second.pause_ns;
    apart->second.pause_ns = std::min(apart->second.pause_ns * 2, kLongestPause);
    if (is_new) {
      say("nopspan: cannot attach to " + printable(target.path) + " in all processes together: " + why_not.text +
          ". It is attached to in each process alone\n");
    }
  } else if (why_not.error != ESRCH) {  // the process has ended
    if (why_not.error == EINVAL && target.pid >= 0) {
      why_not.text += ": it may have made its semaphore negative; see nopspan ps " + std::to_string(target.pid);
    }
    note_failure(attached, why_not);
  }
  return false;
}

// A user can make it fail and succeed in turn, and make a file come and go.
void Attachments::say(const std::string& text) {
  constexpr std::size_t kMostSaid = 4096;
  const std::uint64_t now = monotonic_now();
  if (said_.size() >= kMostSaid) said_.clear();
  const auto [said, is_new] = said_.try_emplace(text, now);
  if (!is_new && now - said->second < kLongestPause) return;
  said->second = now;
  std::cerr << text;
}

void Attachments::note_failure(Attached& attached, const WhyNot& why_not) {
  const Target& target = attached.target;
  if (why_not.text == std::exchange(attached.why_not, why_not.text)) return;
  const std::uint32_t pid = target.pid < 0 ? 0 : static_cast<std::uint32_t>(target.pid);
  const auto key = std::pair(file_key(target), pid);
  if (unattached_.size() >= Ledger::kMostUnattached && !unattached_.contains(key)) {
    if (!std::exchange(attached.is_unnamed, true) && ++unnamed_ == 1)
      std::cerr << "nopspan: cannot attach to more processes and files than are named: the others are only counted\n";
    return;
  }
  if (std::exchange(attached.is_unnamed, false)) --unnamed_;
  unattached_[key] = {target.path, pid, target.comm, why_not.text};
  say("nopspan: cannot attach to " + text_of(target) + ": " + why_not.text + "\n");
}

namespace {

// The files of --binary that the process does not map now. It may be a plug-in that is loaded and unloaded again and
// again: as long as the file is attached to, each load of it is traced from its first span on.
void add_unmapped(Host& host, std::uint32_t pid, std::vector<Attachments::Target>& targets) {
  for (const Host::Found& found : host.files().added()) {
    const auto is_it = [&](const Attachments::Target& target) {
      return target.file == found.file && (target.pid < 0 || target.pid == static_cast<int>(pid));
    };
    if (std::any_of(targets.begin(), targets.end(), is_it)) continue;
    targets.push_back({found.file, found.path, static_cast<int>(pid), {}, "", "", {}, 0, 0});
  }
}

}  // namespace

std::vector<Attachments::Target> attachment_targets(Host& host, const std::vector<std::uint32_t>& pids,
                                                    const LeaveOut& leave_out, const Attachments& attachments) {
  std::vector<Attachments::Target> targets;
  if (pids.empty()) {
    const std::uint64_t now = monotonic_now();
    for (const Host::Found& found : host.files().attachable()) {
      const bool is_attached = attachments.is_attached(*found.file, -1);
      const bool needs_all = !is_attached || !leave_out.empty();
      auto mappers =
          needs_all || host.has_crowds() ? host.mappers(*found.file, !needs_all) : std::vector<Host::Mapper>();
      const auto left_out = std::erase_if(mappers, [&](const auto& mapper) { return leave_out.has(mapper.pid); });
      auto of_file = attachments.targets_for(found, mappers, {host.has_uncounted(), left_out > 0}, now);
      targets.insert(targets.end(), std::make_move_iterator(of_file.begin()), std::make_move_iterator(of_file.end()));
    }
    return targets;
  }
  // Attaches to these processes only, so that no other process's gate is raised.
  for (const std::uint32_t pid : pids) {
    if (leave_out.has(pid)) continue;
    // The kernel finds a process by its main thread. If that has ended, only an attach to all processes works. A link
    // of uprobe_multi that was made before stays, but a perf event has no effect any more.
    const bool has_main_thread = thread_to_read(pid) == pid;
    for (const Host::Copy& copy : host.copies(pid)) {
      if (!host.files().may_be_attached(*copy.file)) continue;
      const bool is_alone =
          has_main_thread || (has_uprobe_multi() && attachments.is_attached(*copy.file, static_cast<int>(pid)));
      const std::vector<Host::Mapper> mappers = host.mappers(*copy.file);
      for (const Host::Mapper& mapper : mappers) {
        if (mapper.pid != pid) continue;
        std::string left_out = why_left_out(mapper, sum_of(mappers));
        if (!is_alone && !crowds_of(mappers).empty()) left_out = kWithoutMainThread;
        targets.push_back(target_of(copy.file, copy.path, mapper, std::move(left_out), sum_of(mappers)));
        if (is_alone) continue;
        targets.back().pid = -1;
        targets.back().program = 0;
      }
    }
    if (has_main_thread) add_unmapped(host, pid, targets);
  }
  return targets;
}

}  // namespace nopspan::collector
