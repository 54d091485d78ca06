// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "doctor/checks.h"
#include "host/host.h"
#include "host/library_view.h"
#include "host/maps.h"
#include "host/marks_of_tracers.h"
#include "host/obstacles.h"
#include "host/process_facts.h"
#include "host/process_memory.h"
#include "host/process_reader.h"
#include "host/tracers.h"
#include "live/kernel_programs.h"

#include <nopspan/probes.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <set>

namespace nopspan::collector {
namespace {

constexpr const char* kKeepNotes =
    "strip it with GNU strip or llvm-strip --keep-section=.note.stapsdt: llvm-strip deletes the notes by default";

// Attaches as the collector does, but only to this program. It does not map the file, so no gate is raised.
void try_attach(const ProbeFile& file, const std::string& path, KernelPrograms* programs, Checks& checks) {
  if (programs == nullptr) return;
  const std::string name = "attach to " + path;
  WhyNot why_not;
  if (programs->attach(file, getpid(), why_not)) {
    checks.ok(name, "works");
  } else {
    checks.fail(name, "fails: " + why_not.text, "see the check `attach`");
  }
}

void check_gate(const ProbeFile& file, const std::string& path, Checks& checks) {
  const std::string name = "gate page of " + path;
  const ProbeFile::Gate& gate = file.gate();
  if (!file.has_gate()) {
    checks.fail(name, "missing: the probes have no semaphores, so the program does not notice a tracer",
                "build it with the library's own probes/sites.S");
  } else if (!gate.is_page_aligned || !gate.is_alone) {
    checks.fail(name, "the gate is not alone in its page, so an attach may raise another copy of it",
                "link it without a linker script that moves the section .probes");
  } else if (gate.section_size == 0) {
    checks.warn(name, "the gate is not in a section .probes, so bpftrace 0.17 and perf do not raise it",
                "use nopspan, or link it without a linker script that renames the section");
  } else {
    checks.ok(name, "the gate is alone in its page, in section .probes");
  }
  if (gate.abi_version > NOPSPAN_ABI_VERSION)
    checks.warn(name,
                "has ABI version " + std::to_string(gate.abi_version) + "; this nopspan knows version " +
                    std::to_string(NOPSPAN_ABI_VERSION),
                "use a newer nopspan: this one does not show what later versions added");
}

void check_file(const ProbeFile& file, const std::string& printable_path, KernelPrograms* programs, Checks& checks) {
  const std::string name = "probes of " + printable_path;
  if (file.notes_are_missing()) {
    checks.fail(name, "the notes that describe the probes were stripped", kKeepNotes);
    return;
  }
  std::set<NopKind> nops;
  for (const Probe& probe : file.probes()) nops.insert(probe.nop);
  if (file.batch_probe() == nullptr) {
    checks.fail(name, std::string("nopspan cannot trace it: ") + file.why_not_traceable(),
                "build it with a released version of nopspan, or trace it with bpftrace");
  } else {
    checks.ok(name, std::to_string(file.probes().size()) + " probe sites");
  }
  if (nops.contains(NopKind::five_byte))
    checks.fail(name, "a site is a 5-byte nop: if the kernel optimizes it, it overwrites the stack of the program",
                "build it with the library's own probes/sites.S, which uses a 1-byte nop");
  if (nops.contains(NopKind::other))
    checks.warn(name, "a site is not a nop, so each hit is slow, or the kernel refuses to attach",
                "build it with the library's own probes/sites.S");
  check_gate(file, printable_path, checks);
  if (file.batch_probe() != nullptr) try_attach(file, printable_path, programs, checks);
}

bool is_disabled(std::uint32_t pid) { return environment_of(pid, {"NOPSPAN_DISABLE"}).front() == "1"; }

// Explains why the process maps no file with probes.
void explain_none(Host& host, std::uint32_t pid, const std::string& name, Checks& checks) {
  bool is_explained = false;
  for (const Unattached& skipped : host.skipped()) {
    if (skipped.pid != pid) continue;
    is_explained = true;
    checks.fail(name,
                (skipped.path.empty() ? "could not be examined" : printable(skipped.path) + " could not be examined"),
                skipped.why);
  }
  std::set<std::string> seen;
  Mappings(pid).for_each([&](const Mapping& mapping) {
    std::string_view path = mapping.path;
    take_deleted(path);
    if (path.find("libnopspan") == std::string_view::npos || !seen.insert(std::string(path)).second) return true;
    is_explained = true;
    checks.fail(name, "maps " + printable(path) + ", which has no probes", "build the library with NOPSPAN_USDT=ON");
    return seen.size() < 8;
  });
  if (!is_explained)
    checks.fail(
        name, "maps no file with nopspan probes",
        "link it with nopspan, or wait until it loads a plug-in that is linked with nopspan. If it has a static "
        "copy, build that with NOPSPAN_USDT=ON");
}

// The hit of a probe makes no system call, but the library may make some at the first span (docs/developers.md).
void check_sandbox(std::uint32_t pid, const std::string& path, bool is_prepared, Checks& checks) {
  const Seccomp seccomp = seccomp_of(pid, true);
  if (seccomp == Seccomp::none) return;
  if (seccomp == Seccomp::strict) {
    checks.fail("seccomp's strict mode and " + path, "a span would end the process, because it cannot read the clock",
                "start the program with NOPSPAN_DISABLE=1, or use a seccomp filter instead");
    return;
  }
  const std::string name = "seccomp filter and " + path;
  if (is_prepared) {
    checks.ok(name, "the library has made the system calls of a first span");
    return;
  }
  checks.warn(name,
              "the library has not made the system calls of a first span: if the filter kills the process for mmap, "
              "madvise, getrandom or gettid, an attach ends it",
              "let the filter allow these calls, or call nopspan::prepare() before it is installed");
}

void check_view(std::uint32_t pid, const Host::Copy& copy, const Tracers& tracers, Checks& checks) {
  const std::string name = "gate of " + printable(copy.path);
  if (copy.gate_address == 0) {
    checks.warn(name, "is not in the memory of the process",
                "try again: the file may be loading, or the process maps it without running it");
    return;
  }
  const auto view = view_library(pid, copy.gate_address);
  if (!view) {
    checks.fail(name, "cannot be read: " + read_error_text(errno),
                errno == EPERM
                    ? "run nopspan as root, or grant it CAP_SYS_PTRACE, which fetching from idle threads needs"
                    : "");
    return;
  }
  std::string up;
  for (const auto& [part, value] : view->gate.by_name())
    if (value != 0) up += (up.empty() ? "" : ", ") + std::string(part);
  const bool is_traced = view->gate.spans != 0 || view->gate.batch != 0 || view->gate.points != 0;
  if (is_traced && tracers.incomplete.empty() && tracers.of(*copy.file, copy.path).empty()) {
    checks.warn(name, "is raised (" + up + "), but no tracer was found",
                "look for a tracer of another kind, such as SystemTap. A child that was forked while its parent was "
                "traced also has a raised gate");
  } else {
    checks.ok(name, up.empty() ? "is down: no tracer is attached" : "is raised: " + up);
  }
  if (has_marks_of_tracers(pid, copy).value_or(false))
    checks.ok("checkpoint",
              "attached: do not checkpoint now. First end the tracer, or name the process in its file --leave-out");
  if (!view->version.empty()) checks.ok("version of " + printable(copy.path), view->version);
  if (!view->calls_sites) checks.fail("sites of " + printable(copy.path), kCallsNoSites, "run it without Valgrind");
  check_sandbox(pid, printable(copy.path), view->is_prepared, checks);
  for (const std::string& warning : view->warnings)
    checks.warn("warnings of " + printable(copy.path), printable(warning),
                "change the program, or see nopspan/log.h to have such messages in its own log");
}

}  // namespace

void check_process(Host& host, const Tracers& tracers, std::uint32_t pid, KernelPrograms* programs, Checks& checks) {
  const std::string name = "process " + std::to_string(pid);
  const std::uint32_t thread = thread_to_read(pid);
  const ProcessPointer process = host.process(pid);
  checks.ok(name,
            printable(process->comm) +
                (process->container.empty() ? "" : ", in container " + printable(process->container.substr(0, 12))));
  if (is_disabled(pid))
    checks.fail(name, "has NOPSPAN_DISABLE=1 in its environment, so it emits nothing",
                "restart it without NOPSPAN_DISABLE");
  if (thread != pid) checks.ok(name, "its main thread has ended, but others run");
  if (link_of("/proc/" + std::to_string(thread) + "/ns/mnt") != link_of("/proc/self/ns/mnt"))
    checks.ok(name, "is in another mount namespace: its files are opened through its mappings");
  const auto copies = host.copies(pid);
  if (copies.empty()) {
    explain_none(host, pid, name, checks);
    return;
  }
  std::set<const ProbeFile*> files;
  for (const Host::Copy& copy : copies) files.insert(copy.file.get());
  if (files.size() > 1)
    checks.warn(name, "has " + std::to_string(files.size()) + " copies of the library, each with its own gate",
                "link plug-ins with the shared library. nopspan attaches to all copies, bpftrace to one unless you use "
                "attach.sh");
  if (programs != nullptr && !programs->sees_below() && is_in_namespace_below(pid))
    checks.fail(name,
                "is in a pid namespace below this one, where this kernel does not say which process a batch is of",
                "see the check `pid namespaces below`");
  if (!tracers.incomplete.empty()) checks.warn("tracers", tracers.incomplete, "");
  std::set<const ProbeFile*> seen;
  for (const Host::Copy& copy : copies) {
    if (copy.is_deleted)
      checks.warn("file " + printable(copy.path), "was deleted or replaced; the process still uses the old file",
                  "restart the process. Until then nopspan traces it, but bpftrace with this path does not");
    if (!copy.has_text)
      checks.fail("file " + printable(copy.path), "its text is not mapped from the file, so probes cannot work",
                  "start the program so that it does not move its text to other memory, as programs do for huge pages "
                  "(node --use-largepages, BOLT -hugify)");
    if (seen.insert(copy.file.get()).second) check_file(*copy.file, printable(copy.path), programs, checks);
    check_view(pid, copy, tracers, checks);
  }
}

void check_files(Host& host, KernelPrograms* programs, Checks& checks) {
  // Each file with all paths by which processes map it.
  std::map<ProbeFilePointer, std::set<std::string>> files;
  std::size_t disabled = 0;
  std::size_t replaced = 0;
  for (const std::uint32_t pid : host.pids()) {
    for (const Host::Copy& copy : host.copies(pid)) {
      files[copy.file].insert(copy.path);
      if (copy.is_deleted) ++replaced;
    }
    if (is_disabled(pid)) ++disabled;
  }
  const std::size_t processes = host.pids().size();
  if (files.empty()) {
    checks.warn("processes", "no process with nopspan probes was found",
                "start a program that is linked with nopspan, or check a process: nopspan doctor PID");
    return;
  }
  checks.ok("processes", std::to_string(processes) + " with probes, in " + std::to_string(files.size()) + " files");
  if (disabled > 0)
    checks.warn("processes", std::to_string(disabled) + " with NOPSPAN_DISABLE=1, which emit nothing",
                "restart them without NOPSPAN_DISABLE");
  if (replaced > 0)
    checks.warn("processes", std::to_string(replaced) + " with a library or program that was deleted or replaced",
                "restart them. Until then nopspan traces them, but bpftrace with the file's path does not");
  for (const auto& [file, names] : files) {
    check_file(*file, printable(*names.begin()), programs, checks);
    if (names.size() > 1)
      checks.ok("file " + printable(*names.begin()), "has " + std::to_string(names.size()) + " names, another is " +
                                                         printable(*names.rbegin()) + "; nopspan attaches once");
  }
}

void check_obstacles(Host& host, std::uint32_t pid, Checks& checks) {
  for (const Unattached& one : find_obstacles(host)) {
    const std::string name = "process " + std::to_string(one.pid) + " and " + printable(one.path);
    const std::string found = printable(one.comm) + ": " + one.why;
    if (one.pid == pid) {
      checks.fail(name, found, "this process cannot be traced: restart it");
    } else {
      checks.warn(name, found,
                  "end the process. Until then nopspan attaches to each other process alone, but bpftrace and perf may "
                  "fail, or stop all forks on this host");
    }
  }
  for (const Unattached& one : find_twins(host)) {
    if (pid != 0 && pid != one.pid) continue;
    checks.fail("process " + std::to_string(one.pid) + " and " + printable(one.path),
                printable(one.comm) + ": " + one.why,
                "link what is loaded by dlmopen() with the static library, or load it by dlopen(). Link a program that "
                "has nopspan_mini.h with the shared library");
  }
}

void check_left_alone(Checks& checks) {
  for (const LeftAlone& process : processes_left_alone()) {
    if (process.pid == 0) continue;
    checks.warn(
        "process " + std::to_string(process.pid), printable(process.comm) + ": " + process.why,
        "find out what it waits for: a disk or file server that does not answer, or a tracer that must wait for its "
        "ended threads");
  }
}

}  // namespace nopspan::collector
