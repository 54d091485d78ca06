// SPDX-License-Identifier: Apache-2.0
// Accounts for the entries of this process, from the sequence numbers that its threads give them. Each entry counts
// once, although what a thread holds is fetched before the thread flushes it.
#pragma once

#include "recording/chunk_format.h"
#include "stream/thread_ledger.h"

#include <nopspan/stats.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace nopspan::recording {

// What a recording says of this process.
struct OwnProcess {
  collector::RecordedProcess numbers;
  std::string comm, executable, cgroup, library, host, boot_id, service_name, resource_attributes;
  std::string instance;  // a random number: copies of this process may have the same pid, start and boot id

  // The facts of this process, with `library_version` of the library that emits its entries, and another instance.
  static OwnProcess read();
  // Whether the process has another start than these facts: it is a restored checkpoint.
  [[nodiscard]] bool is_restored() const;
  void add_to(collector::BatchChunk& chunk) const;
};

// How many threads this process has. 0 if /proc cannot be read.
std::uint64_t count_threads();
// Whether only the calling thread is left: the main thread has ended, which stays in the list, and no other one runs.
// Nothing can change that, except this thread.
bool is_last_thread();

// `emitted` is the sum of the others up to `reentrant`.
struct Counts {
  std::uint64_t emitted = 0, delivered = 0, export_dropped = 0, discarded = 0;
  std::uint64_t no_memory = 0, over_limit = 0, reentrant = 0;
  std::uint64_t threads_at_attach = 0;
  std::uint64_t attributes_dropped = 0, links_dropped = 0, members_dropped = 0;

  [[nodiscard]] std::uint64_t lost() const { return export_dropped + discarded + no_memory + over_limit + reentrant; }
};

// Appends "key":"text", of a JSON object.
void append_json_text(std::string& json, const char* key, std::string_view text);
std::uint64_t random_number();
// The ledger as JSON, with the counts less those of `before`.
std::string ledger_text(const Counts& counts, const Counts& before, const OwnProcess& process);

class Account {
 public:
  // The recording begins. `threads` run, and what the library has dropped so far is not of it.
  void begin(std::uint64_t threads);
  // A thread has emitted so much for others, before that.
  void begin_thread(std::uint64_t sequence_id, std::uint64_t next, std::uint64_t discarded);

  // Nothing of this thread is of the recording.
  void ignore_thread(std::uint64_t sequence_id) { begin_thread(sequence_id, ~std::uint64_t{0}, 0); }
  // The threads that it knows.
  [[nodiscard]] std::vector<std::uint64_t> threads() const;

  // Entries of a thread have arrived. Returns those that had not arrived before.
  const std::vector<collector::Sequences>& arrive(std::uint64_t sequence_id, collector::Sequences sequences,
                                                  std::uint64_t discarded);
  // The thread has emitted entries before this one, whether or not they arrive.
  void emitted_until(std::uint64_t sequence_id, std::uint64_t next, std::uint64_t discarded);

  // All threads that are not `living` have ended. Forgets those that had ended at the last call, of which nothing
  // arrives any more.
  void note_living(const std::unordered_set<std::uint64_t>& living);

  [[nodiscard]] Counts counts() const;

 private:
  struct Thread {
    collector::ThreadLedger ledger;
    std::uint64_t discarded_base = 0, discarded = 0;
    bool has_ended = false;
  };
  Thread& find(std::uint64_t sequence_id, std::uint64_t discarded);
  static void add(Counts& counts, const Thread& thread);

  std::unordered_map<std::uint64_t, Thread> threads_;
  Counts ended_;
  std::uint64_t threads_at_attach_ = 0;
  Stats before_{};
};

}  // namespace nopspan::recording
