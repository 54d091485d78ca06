// SPDX-License-Identifier: Apache-2.0
// Fetches from threads what they have held for long: no thread of the library's runs in the traced programs, and one
// that has nothing more to tell hands nothing over.
#pragma once

#include "host/host.h"
#include "live/delivery.h"
#include "live/kernel_programs.h"
#include "live/process_filter.h"
#include "live/thread_headers.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

class Drain {
 public:
  struct Settings {
    bool tail_sampling = false;                              // kernel programs leave out what was fetched in part
    std::function<bool(const ProbeFile& file)> is_attached;  // others' batches may go anywhere
    std::function<void()> consume;                           // delivers what is in the ring buffer
  };
  Drain(Host& host, const ProcessFilter& processes, Delivery& delivery, KernelPrograms& programs, Settings settings)
      : host_(host), processes_(processes), delivery_(delivery), programs_(programs), settings_(std::move(settings)) {}

  // Notes what threads of a process have written before this collector was attached to a file: nothing of that is its.
  void begin(std::uint32_t pid, const ProbeFile& file, std::uint64_t now_ns);
  // Fetches what has been held for longer than `max_age_ns`; 0: all.
  void run(std::uint64_t max_age_ns, std::uint64_t now_ns);

 private:
  using Account = Delivery::Account;
  using Copy = std::pair<std::uint32_t, std::uint64_t>;  // pid, and the gate's address
  struct Fetched {
    nopspan_thread header;
    std::uint64_t address;
    std::string bytes;
  };

  void run_process(std::uint32_t pid, std::uint64_t max_age_ns, std::uint64_t now_ns);
  static bool is_due(Account& account, const nopspan_thread& header, std::uint64_t max_age_ns, std::uint64_t now_ns);
  bool may_be_left_out(const Account& account, const ThreadHeaders& headers, const ThreadHeaders::Thread& thread);
  void deliver(Account& account, std::uint64_t now_ns);
  ThreadHeaders& headers_of(std::uint32_t pid, const Host::Copy& copy);

  Host& host_;
  const ProcessFilter& processes_;
  Delivery& delivery_;
  KernelPrograms& programs_;
  Settings settings_;
  std::map<Copy, std::pair<ProcessPointer, ThreadHeaders>> headers_;
  std::vector<Fetched> fetched_;
};

}  // namespace nopspan::collector
