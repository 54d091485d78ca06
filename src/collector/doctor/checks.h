// SPDX-License-Identifier: Apache-2.0
// The checks of `nopspan doctor`, and their results: one Check for each thing that it examines.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

class Host;
class KernelPrograms;
struct Tracers;

struct Check {
  enum class Result : std::uint8_t {
    ok,
    warning,  // tracing works, but is limited, or something is unusual
    failed,   // an attach would fail because of it, or show nothing
  };
  Result result = Result::ok;
  std::string name;    // what was examined
  std::string found;   // the state that was found
  std::string advice;  // what to do; "" if nothing is to be done
};
inline const char* to_string(Check::Result result) {
  static constexpr const char* kNames[] = {"ok", "warning", "failed"};
  return kNames[static_cast<unsigned>(result)];
}

class Checks {
 public:
  void ok(std::string name, std::string found) { add(Check::Result::ok, std::move(name), std::move(found), ""); }
  void warn(std::string name, std::string found, std::string advice) {
    add(Check::Result::warning, std::move(name), std::move(found), std::move(advice));
  }
  void fail(std::string name, std::string found, std::string advice) {
    add(Check::Result::failed, std::move(name), std::move(found), std::move(advice));
    failed_ = true;
  }

  [[nodiscard]] const std::vector<Check>& all() const { return all_; }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  void add(Check::Result result, std::string name, std::string found, std::string advice) {
    all_.push_back({result, std::move(name), std::move(found), std::move(advice)});
  }

  std::vector<Check> all_;
  bool failed_ = false;
};

// Checks the kernel: its version, its features and its settings.
void check_kernel(Checks& checks);

// Checks the privileges of this program by trying: it loads BPF programs and attaches one to itself. Returns the
// programs of the collector, or null if they cannot be loaded. The next two functions attach these.
std::unique_ptr<KernelPrograms> check_privileges(Checks& checks);

// Checks whether the process has probes, and whether an attach to them would work and show anything.
void check_process(Host& host, const Tracers& tracers, std::uint32_t pid, KernelPrograms* programs, Checks& checks);

// Checks all files with probes that processes of this host map.
void check_files(Host& host, KernelPrograms* programs, Checks& checks);

// Reports the processes that stand in the way of an attach to all processes together. `pid`: the one that is checked,
// or 0.
void check_obstacles(Host& host, std::uint32_t pid, Checks& checks);

// Reports the processes that could not be read because a read of them blocked.
void check_left_alone(Checks& checks);

// Whether the kernel may take the CPU from a thread that is in a BPF program of a uprobe, and give it to another
// thread.
enum class Preemption : std::uint8_t { no, yes, unknown };

// What the kernel says of itself. What cannot be read is empty.
struct PreemptionFacts {
  unsigned major = 0;        // of the kernel's version
  std::string version;       // `uname -v`
  std::string model;         // /sys/kernel/debug/sched/preempt
  std::string command_line;  // /proc/cmdline
  std::string config;        // the configuration that the kernel was built with
};

Preemption preemption_of(const PreemptionFacts& facts);
// Of this host's kernel.
PreemptionFacts preemption_facts();

}  // namespace nopspan::collector
