// SPDX-License-Identifier: Apache-2.0
// The programs of probes/collector.bpf.c in the kernel: loaded, attached, and what they tell.
#pragma once

#include "host/probe_file.h"
#include "live/probe_link.h"
#include "live/process_account.h"

#include <collector_events.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct bpf_link;
struct bpf_program;
struct collector;
struct ring_buffer;

namespace nopspan::collector {

struct LinkDeleter {
  void operator()(bpf_link* link) const;
};
using Link = std::unique_ptr<bpf_link, LinkDeleter>;

class KernelPrograms {
 public:
  // What a record says, and the bytes behind it. Returns whether to go on.
  using OnRecord = std::function<bool(const nopspan_record& record, std::string_view bytes)>;

  // Loads them, and attaches those that look at the ends of threads. Throws Failure.
  KernelPrograms(std::uint64_t buffer_bytes, const nopspan_settings& settings, OnRecord on_record);
  ~KernelPrograms();
  KernelPrograms(const KernelPrograms&) = delete;
  KernelPrograms& operator=(const KernelPrograms&) = delete;

  // To the batch probe of a file; `pid` -1: for all processes. Returns no link if that fails, and sets `why_not`.
  ProbeLink attach(const ProbeFile& file, int pid, std::string& why_not);
  // Whether what a killed thread holds is read when it ends.
  [[nodiscard]] bool sees_ends() const { return sees_ends_; }

  // Gives all records that are there to on_record, until that says no. Throws what it throws.
  void consume();
  // Until much has come, one of `fds` is readable, or the time is over. Less than all if interrupted.
  void wait(std::initializer_list<int> fds, int milliseconds);

  using ProcessLosses = std::vector<std::pair<std::uint32_t, Losses>>;
  struct StreamLosses {
    nopspan_stream_key key;
    nopspan_stream_losses losses;
  };
  // What could not be passed on, by process, and by stream; and of processes that had no place in the map.
  ProcessLosses process_losses();
  std::vector<StreamLosses> stream_losses();
  [[nodiscard]] Losses other_losses() const;
  std::optional<nopspan_stream_losses> losses_of(const nopspan_stream_key& key);
  void forget_process(std::uint32_t tgid);
  // Its losses, and what was fetched from it.
  void forget_stream(const nopspan_stream_key& key);

  // A thread has its header there; from here on it is looked at when it ends.
  void note_thread(std::uint32_t tgid, std::uint32_t tid, std::uint64_t header);
  // All before `next` was fetched from the stream: no batch with a part of that is left out. False if there is no room.
  bool note_fetched(const nopspan_stream_key& key, std::uint64_t next);
  // With settings.by_cgroup: entries that are emitted elsewhere are filtered, and so are all until this is called.
  void set_cgroup(int folder);

 private:
  static int on_sample(void* self, void* data, std::size_t size);
  void attach_to_ends();

  ::collector* skeleton_ = nullptr;
  ring_buffer* ring_ = nullptr;
  OnRecord on_record_;
  std::exception_ptr failure_;
  std::vector<Link> ends_;
  bool sees_ends_ = false;
};

}  // namespace nopspan::collector
