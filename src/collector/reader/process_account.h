// SPDX-License-Identifier: Apache-2.0
// Accounts for the entries of one process, from what arrived of its threads and from the kernel programs' counts, and
// keeps the accounts of all processes.
#pragma once

#include "model/entry.h"
#include "model/ledger.h"
#include "stream/messages.h"
#include "stream/thread_ledger.h"

#include <collector_events.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace nopspan::collector {

class ProcessAccount {
 public:
  // The most threads that are kept per process; beyond it the least recently used ledgers are closed. The limit is
  // above that of the tracer (TracedProcesses), which says what it forgets, and well above the number of threads that
  // are examined, because ledgers with fetched entries must stay: these entries arrive again.
  static constexpr std::size_t kMostThreads = 49152;

  struct Thread {
    ThreadLedger ledger;
    ProcessPointer process;  // as of the thread's beginning, because the process may execute another program
    std::uint32_t tid = 0;   // in the initial pid namespace; 0 if not known
    std::uint64_t header = 0;
    std::uint64_t capacity = 0;            // of its buffer, in bytes
    std::uint64_t discarded_base = 0;      // by the library, before this collector attached
    std::uint64_t discarded = 0;           // by the library, in total
    std::uint64_t seen_ns = 0;             // when something of it last arrived
    std::uint64_t fetched_next = 0;        // all entries before this one that the thread held were fetched
    std::uint64_t flushed_next = 0;        // all entries before this one were flushed
    std::uint64_t closing_round = 0;       // the round in which its thread ended; 0 if it lives
    bool begins_at_first_arrival = false;  // its position when this collector began is not known
    Losses losses{};                       // as last read

    // `entries` is the total number of entries that the thread has discarded. All of them have sequences below `first`,
    // which is the sequence of the first entry that the thread holds.
    void note_discarded(std::uint64_t first, std::uint64_t entries) {
      if (first == ledger.base() && first != 0) discarded_base = entries;
      discarded = std::max(discarded, entries);
    }
    // The most entries that its buffer can hold. The process may have reported any capacity.
    [[nodiscard]] std::uint64_t most_held() const {
      return std::min<std::uint64_t>(capacity / sizeof(nopspan_entry), NOPSPAN_MOST_ENTRIES);
    }
    // Whether fetched entries will arrive again: the thread flushes them later, or the kernel program reads them when
    // the thread ends.
    [[nodiscard]] bool holds_fetched() const { return fetched_next > flushed_next; }
  };

  // `since_ns` is when this collector began. Every thread that the account does not know begins after that, unless
  // set_some_unknown() was called.
  ProcessAccount(ProcessPointer process, std::uint64_t since_ns) : process_(std::move(process)), since_ns_(since_ns) {}

  [[nodiscard]] const ProcessPointer& process() const { return process_; }
  // Call it when the process has executed another program.
  void set_process(ProcessPointer process) {
    process_ = std::move(process);
    libraries_.clear();
  }
  // Call it when the process has moved to another cgroup.
  void set_moved(const ProcessPointer& process);
  // Some threads could not be examined. From now on an unknown thread begins where it is first seen.
  void set_some_unknown() { all_are_known_ = false; }

  // The collector has attached to one of its files, at the latest at this time. So many threads were running then.
  void attached(std::uint64_t time_ns, std::uint64_t threads) {
    attached_ns_ = std::max(attached_ns_, time_ns);
    threads_at_attach_ = std::max(threads_at_attach_, threads);
  }
  [[nodiscard]] bool has_begun() const { return attached_ns_ != 0; }
  [[nodiscard]] bool began_before_attach(std::uint64_t start_ns) const { return start_ns < attached_ns_; }

  // Sets a thread's state at the time when this collector began. Entries before `next` are not counted.
  void begin_thread(std::uint64_t id, std::uint64_t next, std::uint64_t discarded, std::uint64_t now_ns);
  // Null if the thread is not known.
  Thread* find(std::uint64_t id);
  [[nodiscard]] const std::unordered_map<std::uint64_t, Thread>& threads() const { return threads_; }
  std::unordered_map<std::uint64_t, Thread>& threads() { return threads_; }

  // Registers entries that have arrived. An unknown thread is added. If it may have run before the attach, because not
  // all threads are known or it was seen at a time before, it begins with these entries, otherwise at 0. Returns null
  // if the thread, or all CPUs together, could not have emitted that many in the time; they are counted as malformed.
  // The thread's ledger decides which of them are new.
  Thread* arriving(std::uint64_t id, Sequences sequences, std::uint64_t time_ns);

  // These count the new entries among them, by outcome.
  void delivered(std::uint64_t entries) { delivered_ += entries; }
  void filtered(std::uint64_t entries) { filtered_ += entries; }
  void malformed(std::uint64_t entries) { malformed_ += entries; }
  // Entries of no known thread. They are counted as emitted and as lost.
  void malformed_of_no_thread(std::uint64_t entries) { malformed_of_no_thread_ += entries; }
  void held_by_killed(std::uint64_t at_most) { held_by_killed_ += at_most; }
  // The process is gone, and the kernel did not let anybody read what its threads held, unless they are known to have
  // ended.
  void count_held_by_killed();

  // The most entries that all threads together can have written until then, because each takes a CPU some time.
  [[nodiscard]] std::uint64_t most_until(std::uint64_t time_ns) const;
  // The current contents of the kernel programs' maps. Set the process's losses first, then its threads'. `tgid` is the
  // process's number there. Of its losses at most `most` are believed.
  void process_losses(std::uint32_t tgid, const Losses& losses, std::uint64_t most = UINT64_MAX);
  // `discarded` is the library's count, as the thread reported it with the lost batch.
  void thread_losses(std::uint64_t id, Sequences sequences, const Losses& losses, std::uint64_t discarded,
                     std::uint64_t now_ns);

  // Sets what a copy of the library has dropped since its process began: no_memory to reentrant, and the parts of
  // entries. The copy is identified by its gate's address. `begin_library()`: this collector has just attached to it.
  void begin_library(std::uint64_t gate, const Counts& dropped);
  void library_dropped(std::uint64_t gate, const Counts& dropped, std::uint64_t now_ns);

  // Closes the least recently used ledgers of threads beyond `most`.
  void bound_threads(std::size_t most);
  // Closes the ledgers of these threads. If they appear again, their earlier entries are no longer known.
  void forget_threads(const std::vector<std::uint64_t>& ids);
  // Closes the ledgers of threads that ended before `round`.
  void close_ended(std::uint64_t round);
  // The kernel programs' counts of the threads whose ledgers are closed are no longer reported.
  void forget_closed() { closed_ids_.clear(); }

  [[nodiscard]] Counts counts() const;

 private:
  // The missing entries of threads, by explanation.
  struct Gaps {
    std::uint64_t arrived = 0;
    std::uint64_t discarded = 0;
    Losses explained{};
    std::uint64_t unexplained = 0;
    Losses counted{};  // the kernel's counts for these threads, including lost entries that had been fetched before
    void add(const Thread& thread);
  };

  [[nodiscard]] bool has_room_for(std::uint64_t gate) const;
  void close(std::unordered_map<std::uint64_t, Thread>::iterator thread);
  void forget(std::unordered_map<std::uint64_t, Thread>::iterator thread);

  ProcessPointer process_;
  std::uint64_t since_ns_;
  std::uint64_t threads_at_attach_ = 0;
  std::uint64_t attached_ns_ = 0;  // to the last of its files; 0 if all were attached when it mapped them
  bool all_are_known_ = true;
  bool has_forgotten_ = false;  // ledgers of live threads were closed
  std::unordered_map<std::uint64_t, Thread> threads_;
  Gaps closed_;
  std::unordered_set<std::uint64_t> closed_ids_;
  std::map<std::uint32_t, Losses> losses_;     // of the process, by tgid
  std::map<std::uint64_t, Counts> libraries_;  // what was last read, by the gate's address
  Counts dropped_;                             // of all copies, since this collector began
  std::uint64_t claimed_ = 0;                  // entries by the sequences of all threads, including closed ones
  std::uint64_t delivered_ = 0, filtered_ = 0, malformed_ = 0, malformed_of_no_thread_ = 0, held_by_killed_ = 0;
};

// The accounts of all processes, including ended ones. The ledger is made from them.
class Accounts {
 public:
  struct Account : ProcessAccount {
    explicit Account(ProcessAccount account) : ProcessAccount(std::move(account)) {}

    // The kernel programs' number of the process; 0 if it is not known yet.
    [[nodiscard]] std::uint32_t tgid() const { return tgids.empty() ? 0 : tgids.back(); }

    // Set by set_tgid(). There are several if the pid was reused, because processes of a pid namespace can have the
    // same pid and different numbers in the kernel. All their losses belong to this account.
    std::vector<std::uint32_t> tgids;
    bool is_gone = false;      // the process was found to have ended
    std::uint64_t cgroup = 0;  // the cgroup of its last message; 0 if there was none
    ProcessPointer successor;  // the process that has the same pid now; null if there is none
  };

  // Finds an account by the pid in the collector's namespace. Null if there is none.
  Account* find(std::uint32_t pid);
  Account* find_tgid(std::uint32_t tgid);
  void set_tgid(std::uint32_t pid, std::uint32_t tgid);
  Account& add(std::uint32_t pid, ProcessAccount account);
  [[nodiscard]] std::map<std::uint32_t, Account>& all() { return accounts_; }
  // Closes the account of a process that is gone. No more messages of it can arrive.
  void close(std::uint32_t pid);

  // If there are more than kMostThreads threads, closes the ledgers of threads of the processes that have the most.
  void bound_threads();

  // Sets the losses of processes that have no account.
  void set_others(const Losses& losses) { others_losses_ = losses; }
  [[nodiscard]] Ledger ledger() const;

 private:
  // The number of ended processes with a row of their own. Older ones are added to `others_`.
  static constexpr std::size_t kMostEnded = 1000;
  // The limit for all processes together. A tracer reports which threads it forgets beyond a lower limit.
  static constexpr std::size_t kMostThreads = 98304;

  std::map<std::uint32_t, Account> accounts_;
  std::unordered_map<std::uint32_t, std::uint32_t> pids_;  // by tgid
  std::deque<ProcessLedger> ended_;
  Counts others_;
  std::uint64_t others_processes_ = 0;
  Losses others_losses_{};
};

}  // namespace nopspan::collector
