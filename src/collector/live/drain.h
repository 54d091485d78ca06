// SPDX-License-Identifier: Apache-2.0
// Fetches from threads what they have held for long: no thread of the library's runs in the traced programs, and one
// that has nothing more to tell hands nothing over.
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
  // `tail_sampling`: kernel programs leave out whole batches, but not what was fetched in part.
  Drain(Host& host, const ProcessFilter& processes, const Attachments& attachments, Delivery& delivery,
        KernelPrograms& programs, bool tail_sampling)
      : host_(host),
        processes_(processes),
        attachments_(attachments),
        delivery_(delivery),
        programs_(programs),
        tail_sampling_(tail_sampling) {}

  // Notes what threads of a process have written before this collector was attached to a file: nothing of that is its.
  void begin(std::uint32_t pid, const ProbeFile& file, std::uint64_t now_ns);

  // Begins a round, in which everything is fetched that threads have held for longer than `max_age_ns` (0: everything).
  void begin_round(std::uint64_t max_age_ns, std::uint64_t now_ns);
  // Fetches the next part. False if nothing is left in this round. Otherwise consume the ring buffer and then call
  // deliver_fetched(): what was handed over before the fetch must come first.
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
    std::size_t copy = 0;              // the one that is fetched from
    ThreadHeaders* headers = nullptr;  // of it; null: they are not read yet
    std::size_t thread = 0;            // the next one of it
    std::uint64_t bytes = 0;           // that were fetched from its process
  };

  // False if nothing is left to fetch from that copy.
  bool fetch_from(const Copy& copy);
  bool is_due(Account& account, const nopspan_thread& header) const;
  bool may_be_left_out(const Account& account, const ThreadHeaders& headers, const ThreadHeaders::Thread& thread);
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
