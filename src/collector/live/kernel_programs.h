// SPDX-License-Identifier: Apache-2.0
// Loads the BPF programs of probes/collector.bpf.c, attaches them, and reads their messages and maps.
#pragma once

#include "base/open_file.h"
#include "host/probe_file.h"
#include "live/probe_link.h"
#include "stream/messages.h"

#include <collector_events.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

struct bpf_link;
struct collector;
struct ring_buffer;

namespace nopspan::collector {

// Whether the kernel is in lockdown=confidentiality, in which it refuses to load the collector's programs, because they
// read its memory. False if /sys/kernel/security is not mounted.
bool is_confidential();
extern const char* const kWithoutConfidentiality;  // what to do about it, for people

// Whether the kernel's version is before this one. False if it has no such number.
bool is_kernel_before(unsigned major, unsigned minor);

// Settings without conditions: what the BPF programs must know of this program's namespaces.
nopspan_settings settings_of_namespaces();

class KernelPrograms {
 public:
  // Receives a message and the bytes after it. Returns whether to continue.
  using OnMessage = std::function<bool(const nopspan_message& message, std::string_view bytes)>;

  // Loads the programs, and attaches those that run when a thread ends. Throws Failure.
  KernelPrograms(std::uint64_t buffer_bytes, const nopspan_settings& settings, OnMessage on_message);
  ~KernelPrograms();
  KernelPrograms(const KernelPrograms&) = delete;
  KernelPrograms& operator=(const KernelPrograms&) = delete;

  // Attaches to the batch probe of a file; `pid` -1 means all processes. If that fails, returns an empty link and sets
  // `why_not`.
  OpenFile attach(const ProbeFile& file, int pid, WhyNot& why_not);
  // Whether the entries that a killed thread holds are read when it ends.
  [[nodiscard]] bool sees_ends() const { return sees_ends_; }
  // Whether the programs handle processes in pid namespaces below this program's.
  [[nodiscard]] bool sees_below() const { return sees_below_; }
  // Whether the kernel skipped a program for the end of a thread or for an exec, because another thread was in it on
  // the same CPU. From Linux 7.0 on, a thread in such a program can be preempted.
  [[nodiscard]] bool has_missed_ends() const;

  // Passes all available messages to on_message, until it returns false. Rethrows its exceptions.
  void consume();
  // Waits until the ring buffer is a quarter full, a thread has announced its header, one of `fds` is readable, or the
  // timeout expires. With settings.by_cgroup, a process that executes another program ends the wait too, and so does a
  // signal.
  void wait(std::initializer_list<int> fds, int milliseconds);

  // Entries that could not be forwarded.
  AllLosses losses();
  std::optional<nopspan_thread_losses> losses_of(const nopspan_thread_key& key);
  void forget_process(std::uint32_t tgid);
  // Forgets the thread's losses and how far it was fetched.
  void forget_thread(const nopspan_thread_key& key);

  // Registers the address of a thread's header, so that the thread's entries are read when it ends. Both numbers are of
  // this program's pid namespace.
  void note_thread(std::uint32_t pid, std::uint32_t tid, std::uint64_t header);
  // Records that all entries of the thread before `next` were fetched. No batch with one of these entries is filtered
  // out afterwards. Returns false if the map is full.
  bool note_fetched(const nopspan_thread_key& key, std::uint64_t next);
  // With settings.by_cgroup, entries that are flushed outside this cgroup are filtered. Before the first call all
  // entries are filtered. Returns false if the cgroup has been removed. Then the earlier one stays set.
  bool set_cgroup(int folder);

 private:
  static int on_sample(void* self, void* data, std::size_t size);
  void attach_to_ends();

  ::collector* skeleton_ = nullptr;
  ring_buffer* ring_ = nullptr;
  OnMessage on_message_;
  std::exception_ptr failure_;
  struct Destroy {
    void operator()(bpf_link* link) const;
  };
  std::vector<std::unique_ptr<bpf_link, Destroy>> ends_;
  bool sees_ends_ = false, sees_below_ = true;
};

}  // namespace nopspan::collector
