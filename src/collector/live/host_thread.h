// SPDX-License-Identifier: Apache-2.0
// The thread that finds processes, attaches to their files, and reads what their threads hold. Each of these may take
// long, because the processes can delay it. So the thread that reads the ring buffer only exchanges messages with it.
#pragma once

#include "base/stopping.h"
#include "host/host.h"
#include "host/leave_out.h"
#include "host/library_view.h"
#include "host/obstacles.h"
#include "live/attachments.h"
#include "live/kernel_programs.h"
#include "live/traced_processes.h"
#include "model/filter.h"
#include "stream/messages.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace nopspan::collector {

// The host's thread reports these to the thread that reads the ring buffer.

// Everything that was found at the start is attached.
struct Live {
  std::size_t processes;  // that were found
  bool is_complete;       // false: there was no time to attach to all of them
};
// The threads of one copy of the library that hold or have discarded entries, and what the copy has dropped so far.
struct HeadersRead {
  std::uint32_t pid;
  std::uint64_t gate_address;
  std::vector<ThreadHeaders::Thread> threads;
  std::uint64_t time_ns;  // they were read after it
  Counts dropped;
  bool is_unseen;  // its batches are not received, because this kernel does not say whose they are
};
// read_headers() is done. `is_whole`: nothing was left for the next round.
struct RoundRead {
  bool is_whole = true;
};
// The answer to fetch(). `is_whole`: nothing was left for the next round.
struct Fetched {
  struct Thread {
    nopspan_thread header;
    std::uint64_t address;
    std::string bytes;
  };
  std::uint32_t pid;
  std::vector<Thread> threads;
  std::uint64_t time_ns;  // they were fetched after it
  bool is_whole = true;
};
struct Detached {
  std::size_t forked;  // ProcessFilter::count_forked()
};
struct HostFailed {
  std::exception_ptr why;
};
using HostReport = std::variant<Described, Begun, Live, HeadersRead, RoundRead, Fetched, Detached, HostFailed>;

// Passes objects from one thread to another.
template <typename T>
class Mailbox {
 public:
  void post(T object) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(object));
      size_ = waiting_.size();
    }
    wake_up_.wake();
  }
  // All objects that were posted since the last call, in order.
  std::vector<T> take() {
    wake_up_.clear();
    const std::lock_guard lock(mutex_);
    size_ = 0;
    return std::exchange(waiting_, {});
  }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] int fd() const { return wake_up_.fd(); }

 private:
  WakeUp wake_up_;
  std::mutex mutex_;
  std::vector<T> waiting_;
  std::atomic<std::size_t> size_ = 0;  // of waiting_
};

class HostThread {
 public:
  // `tail_sampling`: the kernel programs filter out whole batches, but no batch of which a part was fetched. Throws
  // Failure. The other objects must outlive the thread.
  HostThread(const SourceOptions& options, const ProcessFilter& processes, KernelPrograms& programs,
             bool tail_sampling);
  void start();

  // The reports, in order. The reader is the thread that reads the ring buffer.
  [[nodiscard]] Mailbox<HostReport>& reports() { return reports_; }
  // Whether it is attaching to a file: entries of threads may arrive whose Begun follows.
  [[nodiscard]] bool is_attaching() const { return is_attaching_; }
  // A change is there before the kernel is asked for the attach. So what a process emits because of it is read later.
  [[nodiscard]] Mailbox<AttachChange>& attach_changes() { return attach_changes_; }

  // Files that are not traced, because their users have too many.
  [[nodiscard]] std::size_t refused_files() const { return refused_files_; }
  // Processes in pid namespaces below that are not traced, because the BPF programs do not find out their pids.
  [[nodiscard]] std::size_t unseen_processes() const { return unseen_processes_; }
  // What could not be attached to so far, and processes of which only one copy of a file can be. From any thread.
  // In a ledger with nothing else.
  Ledger unattached();
  // Whether a file among them is attached to in no process, or a process among them was asked for.
  [[nodiscard]] bool has_failed_to_attach() const { return has_failed_to_attach_ || !attachments_.hangs_at().empty(); }

  // Requests, from any thread.

  // Describes the process again, because it is new or has executed a program. `answer`: reports Described in any case.
  void look(std::uint32_t pid, bool answer) {
    ask([&](Requests& requests) {
      auto& pids = answer ? requests.answers : requests.looks;
      if (pids.size() < kMostAsked) pids.insert(pid);
    });
  }
  // The process may have moved to another cgroup. Reports Described.
  void note_moved(std::uint32_t pid) {
    ask([&](Requests& requests) { requests.moves.insert(pid); });
  }
  // The process has ended.
  void note_exit(std::uint32_t pid) {
    ask([&](Requests& requests) { requests.exits.insert(pid); });
  }
  // Begins a round: reads the headers of all threads, and reports HeadersRead for each copy of the library, then
  // RoundRead. In a round, the time for reads and fetches from each user's processes is limited. The users who took
  // long in the last round come last.
  void read_headers() {
    ask([](Requests& requests) { requests.reads_headers = true; });
  }
  // Fetches what these threads hold, and reports Fetched.
  struct Fetch {
    std::uint32_t pid;
    std::uint32_t tgid;
    std::uint64_t gate_address;
    std::vector<ThreadHeaders::Thread> threads;
  };
  void fetch(Fetch wanted) {
    ask([&](Requests& requests) { requests.fetches.push_back(std::move(wanted)); });
  }
  // Detaches from all files, and reports Detached.
  void detach() {
    ask([](Requests& requests) { requests.detaches = true; });
  }

  // Asks the thread to end, and waits for it until then. Returns false if it is still busy: the kernel may not let it
  // go for long. Then this object and what it uses must not be destroyed.
  bool stop(std::chrono::steady_clock::time_point until);

 private:
  using CopyKey = std::pair<std::uint32_t, std::uint64_t>;  // pid, and the gate's address
  struct Copy {
    ProcessPointer process;
    ThreadHeaders headers;
    Counts dropped;  // as reported last
    unsigned rounds_with_gate_down = 0, attached_again = 0;
  };
  struct Requests {
    std::set<std::uint32_t> looks, answers, moves, exits;
    bool reads_headers = false, detaches = false, stops = false;
    std::vector<Fetch> fetches;
  };

  void run();
  void work();
  template <typename Change>
  void ask(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change(requests_);
    }
    wake_up_.wake();
  }
  void warn();
  void warn_of_processes_without_probes();
  void warn_of_attach_to_all(const std::vector<Attachments::Target>& wanted);
  void count_refused();
  void note_unseen();
  void warn_of_killed();
  void note_partly_seen(const Unattached& one);
  void note_left_out();
  [[nodiscard]] bool was_just_left_out(std::uint32_t pid) const;
  void note_unattached();
  void publish_unattached();
  void serve(Requests& requests);
  // Attaches to the files that were found, once. Returns whether there may be more to attach to at once.
  bool attach();
  void begin(std::uint32_t pid, const ProbeFile& file);
  void describe(std::uint32_t pid, bool answer);
  // Returns whether nothing was left for the next round.
  bool read_all_headers();
  void read_headers_of(std::uint32_t pid);
  void attach_again_if_restored(std::uint32_t pid, const Host::Copy& copy);
  bool may_attach_again(std::uint32_t pid, const ProbeFile& file);
  void say_attached_again(std::uint32_t pid, const std::string& comm);
  void fetch_now(const Fetch& wanted);
  bool may_be_filtered(const Fetch& wanted, const ThreadHeaders& headers, const ThreadHeaders::Thread& thread);
  Copy& copy_of(std::uint32_t pid, std::uint64_t gate_address);
  // Calls `function`, which reads memory of the process. Returns false if the time of its user in this round is over,
  // or what `function` returns.
  template <typename Function>
  bool in_time(std::uint32_t pid, Function function);

  // A process in another pid namespace may be traced without these numbers being asked for.
  static constexpr std::size_t kMostAsked = 65536;

  const SourceOptions& options_;
  const ProcessFilter& processes_;
  KernelPrograms& programs_;
  const bool tail_sampling_;
  Mailbox<HostReport> reports_;
  std::atomic<bool> is_attaching_ = false;
  std::atomic<std::size_t> refused_files_ = 0, unseen_processes_ = 0;
  std::atomic<bool> has_failed_to_attach_ = false;
  Mailbox<AttachChange> attach_changes_;

  WakeUp wake_up_;
  std::mutex mutex_;
  Requests requests_;
  Ledger unattached_;  // under mutex_

  // Only the thread uses these.
  Host host_;
  LeaveOut leave_out_;
  std::map<std::uint32_t, std::chrono::steady_clock::time_point> left_out_;  // since when they are detached from
  Attachments attachments_;
  Sandboxed sandboxed_;
  std::map<CopyKey, Copy> headers_;
  std::map<std::uint32_t, std::uint64_t> spent_ns_;  // by user_range(), in this round
  bool is_whole_ = true;                             // nothing was left for the next round
  std::uint32_t begin_at_ = 0;                       // the process with which the next round begins, among the last
  std::map<std::uint32_t, ProcessPointer> described_;
  std::set<std::uint32_t> waited_;               // were not examined in time after an attach
  std::map<std::uint32_t, bool> is_unseen_;      // the wanted processes, if programs_ does not see all of them
  Attachments::LinksOfUsers links_to_restored_;  // of this round
  std::size_t restored_ = 0;                     // attached to again
  std::set<std::pair<std::string, std::uint32_t>> partly_seen_;  // paths and pids
  Ledger partly_seen_ledger_;                                    // with nothing else
  bool has_warned_ = false, has_warned_of_all_ = false;
  std::set<std::uint32_t> refused_users_;  // whom stderr has named
  bool is_detached_ = false;
  bool is_at_start_ = true;

  std::thread thread_;
  std::atomic<bool> has_ended_ = false;
  WakeUp ended_;
};

}  // namespace nopspan::collector
