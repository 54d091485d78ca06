// SPDX-License-Identifier: Apache-2.0
// Fetches entries that threads have held for a long time. The library starts no thread in the traced programs, so a
// thread that emits nothing more does not flush.
#pragma once

#include "host/host.h"
#include "live/attachments.h"
#include "live/delivery.h"
#include "live/kernel_programs.h"
#include "live/process_filter.h"
#include "live/thread_headers.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

class Drain {
 public:
  // `tail_sampling`: the kernel programs filter out whole batches, but no batch of which a part was fetched.
  Drain(Host& host, const ProcessFilter& processes, const Attachments& attachments, Delivery& delivery,
        KernelPrograms& programs, bool tail_sampling)
      : host_(host),
        processes_(processes),
        attachments_(attachments),
        delivery_(delivery),
        programs_(programs),
        tail_sampling_(tail_sampling) {}

  // Records which entries the threads of a process had written before this collector attached to a file. Those entries
  // are not counted.
  void begin(std::uint32_t pid, const ProbeFile& file, std::uint64_t now_ns);

  // Begins a round. A round fetches everything that threads have held for longer than `max_age_ns` (0 means
  // everything).
  void begin_round(std::uint64_t max_age_ns, std::uint64_t now_ns);
  // Fetches the next part. Returns false if nothing is left in this round. Otherwise the caller must consume the ring
  // buffer and then call deliver_fetched(), because batches that were flushed before the fetch must be delivered first.
  bool fetch();
  void deliver_fetched();

 private:
  using Account = Delivery::Account;
  using CopyKey = std::pair<std::uint32_t, std::uint64_t>;  // pid, and the gate's address
  struct Copy {
    std::uint32_t pid;
    Host::Copy copy;
  };
  struct Fetched {
    nopspan_thread header;
    std::uint64_t address;
    std::string bytes;
  };
  struct Round {
    std::uint64_t max_age_ns = 0, now_ns = 0;
    std::vector<Copy> copies;
    std::size_t copy = 0;              // index of the current copy
    ThreadHeaders* headers = nullptr;  // of that copy; null if they have not been read yet
    std::size_t thread = 0;            // index of its next thread
    std::uint64_t bytes = 0;           // bytes fetched from its process in this round
  };

  // Returns false if nothing is left to fetch from that copy.
  bool fetch_from(const Copy& copy);
  bool is_due(Account& account, const nopspan_thread& header) const;
  bool may_be_filtered(const Account& account, const ThreadHeaders& headers, const ThreadHeaders::Thread& thread);
  ThreadHeaders& headers_of(std::uint32_t pid, const Host::Copy& copy);

  Host& host_;
  const ProcessFilter& processes_;
  const Attachments& attachments_;
  Delivery& delivery_;
  KernelPrograms& programs_;
  bool tail_sampling_;
  std::map<CopyKey, std::pair<ProcessPointer, ThreadHeaders>> headers_;
  Round round_;
  std::vector<Fetched> fetched_;
};

}  // namespace nopspan::collector
