// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_program.h"

#include "base/failure.h"
#include "base/text.h"
#include "hist/hist_source.h"
#include "host/cgroup_folder.h"
#include "host/pid_namespace.h"

// Before the skeleton, which has its structs.
#include <hist_events.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <hist.skel.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr std::uint32_t kOtherRow = 0;
constexpr std::size_t kGreatestLog = 64U << 10U;

// What libbpf had to say since it was last asked: the verifier's words among it.
std::string& libbpf_log() {
  static std::string log;
  return log;
}

int keep_log(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN || libbpf_log().size() > kGreatestLog) return 0;
  char line[1024];
  std::vsnprintf(line, sizeof(line), format, arguments);
  libbpf_log() += line;
  return 0;
}

template <std::size_t size>
void set_text(char (&to)[size], const std::string& text, const char* option) {
  if (text.size() >= size) {
    throw Failure(std::string(option) + ": \"" + printable(text, 80) + "\" is longer than " + std::to_string(size - 1) +
                      " bytes, which no process tells",
                  Failure::kMisused);
  }
  std::memcpy(to, text.data(), text.size());
}

nopspan_hist_options knobs_of(const HistOptions& options) {
  nopspan_hist_options knobs = {};
  for (std::size_t i = 0; i < options.by.size(); ++i) knobs.part[i] = options.by[i]->number;
  knobs.value_offset = options.of->value_offset;
  knobs.status_from = options.of->status_from;
  knobs.check_sequences = options.check_sequences ? 1 : 0;
  const Filter& filter = options.filter;
  knobs.errors = filter.errors ? 1 : 0;
  knobs.cgroup = filter.cgroup.empty() ? 0 : 1;
  knobs.sample_one_in = filter.sample_one_in;
  knobs.slower_than_ns = filter.slower_than_ns;
  const PidNamespace numbers = pid_namespace();
  knobs.namespace_device = numbers.device;
  knobs.namespace_inode = numbers.inode;
  set_text(knobs.name, filter.name, "--name");
  set_text(knobs.model, filter.model, "--model");
  if (!filter.request.empty()) {
    Span span;
    span.trace_id = trace_id_of(filter.request);
    set_text(knobs.request_id, request_id_of(span), "--request");
  }
  return knobs;
}

template <std::size_t size>
std::string text_in(const char (&part)[size]) {
  return {part, strnlen(part, size)};
}

// What a thread may have left by half, if the row was copied meanwhile (or on kernels without cmpxchg), is put right as
// far as the buckets tell.
HistRow row_of(const nopspan_hist_row& raw) {
  HistRow row;
  std::size_t first = LogLinear::kBuckets, last = 0;
  long double about = 0;
  for (std::size_t bucket = 0; bucket < LogLinear::kBuckets; ++bucket) {
    const std::uint64_t count = raw.buckets[bucket];
    if (count == 0) continue;
    row.times.add_bucket(bucket, count);
    about += static_cast<long double>(count) * static_cast<long double>(LogLinear::middle_of(bucket));
    first = std::min(first, bucket);
    last = bucket;
  }
  if (row.times.count() == 0) return row;
  const auto upper_bound_of = [](std::size_t bucket) {
    return bucket + 1 == LogLinear::kBuckets ? UINT64_MAX : LogLinear::lower_bound_of(bucket + 1) - 1;
  };
  const std::uint64_t minimum =
      std::clamp<std::uint64_t>(~raw.inverted_minimum, LogLinear::lower_bound_of(first), upper_bound_of(first));
  const std::uint64_t maximum =
      std::clamp<std::uint64_t>(raw.maximum, LogLinear::lower_bound_of(last), upper_bound_of(last));
  // The kernel's sum is modulo 2^64, and the buckets tell its size within 1.6 %.
  constexpr long double kNearlyTooMuch = 0x1p64L * 0.98L;
  row.times.add_totals(about > kNearlyTooMuch ? UINT64_MAX : raw.sum, minimum, std::max(minimum, maximum));
  row.errors = std::min<std::uint64_t>(raw.errors, row.times.count());
  row.cancelled = std::min<std::uint64_t>(raw.cancelled, row.times.count() - row.errors);
  return row;
}

}  // namespace

static_assert(NOPSPAN_HIST_BUCKETS == LogLinear::kBuckets && NOPSPAN_HIST_SUB_BITS == LogLinear::kSubBits);

void HistProgram::Destroy::operator()(hist* object) const { hist__destroy(object); }

HistProgram::Object HistProgram::load(const HistOptions& options, bool has_cmpxchg) {
  Object object(hist__open());
  if (!object) return nullptr;
  object->rodata->options = knobs_of(options);
  bpf_program__set_autoload(object->progs.hist, has_cmpxchg);
  bpf_program__set_autoload(object->progs.hist_without_cmpxchg, !has_cmpxchg);
  bpf_map__set_max_entries(object->maps.rows, static_cast<std::uint32_t>(options.most_rows));
  if (options.by.size() == 1) bpf_map__set_key_size(object->maps.rows, NOPSPAN_HIST_TEXT);
  prepare_for_probes(object->obj);
  if (const int error = hist__load(object.get()); error != 0) {
    object.reset();
    errno = -error;
  }
  return object;
}

HistProgram::HistProgram(const HistOptions& options) : checks_sequences_(options.check_sequences) {
  libbpf_set_print(keep_log);
  OpenFile folder;
  if (!options.filter.cgroup.empty()) folder = open_cgroup(options.filter.cgroup);
  object_ = load(options, true);
  // Before Linux 5.12 the verifier does not know the instruction.
  if (!object_ && errno == EINVAL) {
    has_cmpxchg_ = false;
    object_ = load(options, false);
  }
  if (!object_) {
    const int error = errno;
    std::string why = std::string("the kernel does not load the program for histograms: ") + std::strerror(error);
    if (error == EPERM || error == EACCES) {
      why += ". It needs CAP_BPF and CAP_PERFMON (before Linux 5.8 CAP_SYS_ADMIN): run it as root; see nopspan doctor";
    } else if (error == ENOMEM || error == E2BIG) {
      why += ". A smaller --rows-max takes less memory";
    } else {
      why += "\n" + libbpf_log();
    }
    throw Failure(why);
  }
  program_ = bpf_program__fd(has_cmpxchg_ ? object_->progs.hist : object_->progs.hist_without_cmpxchg);
  if (folder) {
    const std::uint32_t zero = 0, fd = static_cast<std::uint32_t>(folder.get());
    if (bpf_map_update_elem(bpf_map__fd(object_->maps.cgroup), &zero, &fd, BPF_ANY) != 0) {
      throw Failure(std::string("the kernel does not take the cgroup: ") + std::strerror(errno));
    }
  }
}

ProbeLink HistProgram::attach(const ProbeFile& file, const Probe& probe, std::uint32_t pid) {
  const bpf_program* program = has_cmpxchg_ ? object_->progs.hist : object_->progs.hist_without_cmpxchg;
  return attach_to_probe(program, file.attach_path(), probe.offset, probe.semaphore_offset,
                         pid == 0 ? -1 : static_cast<int>(pid));
}

std::string HistProgram::attach_failure(const std::string& path, int error) {
  return "cannot attach to " + path + ": " + why_not_attached(error);
}

void HistProgram::read_rows_into(HistTable& table) const {
  const int rows = bpf_map__fd(object_->maps.rows);
  nopspan_hist_key key = {}, next = {};
  nopspan_hist_row raw;
  for (const void* from = nullptr; bpf_map_get_next_key(rows, from, &next) == 0; from = &key) {
    key = next;
    if (bpf_map_lookup_elem(rows, &key, &raw) != 0) continue;
    HistRow row = row_of(raw);
    if (row.times.count() == 0) continue;  // made, and not yet filled
    HistTable::Key texts;
    for (std::size_t i = 0; i < table.by.size(); ++i) texts.push_back(text_in(key.part[i]));
    table.rows[texts].merge(row);
  }
  if (bpf_map_lookup_elem(bpf_map__fd(object_->maps.fixed_rows), &kOtherRow, &raw) == 0) {
    table.other.merge(row_of(raw));
  }
}

HistHits HistProgram::hits(bool is_final) const {
  std::vector<nopspan_hist_process> of_cpus(static_cast<std::size_t>(std::max(1, libbpf_num_possible_cpus())));
  HistHits hits;
  std::uint64_t gaps = 0;
  const auto read = [&](const bpf_map* map, std::uint32_t key) {
    HistHits::OfProcess process;
    process.tgid = key;
    if (bpf_map_lookup_elem(bpf_map__fd(map), &key, of_cpus.data()) != 0) return process;
    Counts& counts = process.counts;
    for (const nopspan_hist_process& one : of_cpus) {
      counts.delivered += one.taken;
      counts.filtered += one.filtered;
      counts.unreadable += one.unreadable;
      counts.missed += one.missed;
      if (one.pid != 0) process.pid = one.pid;
      if (one.command[0] != '\0') process.command = text_in(one.command);
    }
    counts.emitted = counts.delivered + counts.filtered + counts.lost();
    gaps += counts.missed;
    return process;
  };
  std::uint32_t tgid = 0;
  const int processes = bpf_map__fd(object_->maps.processes);
  for (const void* from = nullptr; bpf_map_get_next_key(processes, from, &tgid) == 0; from = &tgid) {
    hits.processes.push_back(read(object_->maps.processes, tgid));
  }
  hits.others = read(object_->maps.other_processes, 0).counts;
  // The kernel's own count has those before a stream's first hit too, but only some kernels count. Whose they were is
  // known when the stream's next hit shows the gap, if it does.
  const std::uint64_t missed = recursion_misses();
  if (missed > gaps && (is_final || !checks_sequences_)) {
    hits.others.missed += missed - gaps;
    hits.others.emitted += missed - gaps;
  }
  return hits;
}

std::uint64_t HistProgram::recursion_misses() const {
  bpf_prog_info info = {};
  std::uint32_t size = sizeof(info);
  return bpf_obj_get_info_by_fd(program_, &info, &size) == 0 ? info.recursion_misses : 0;
}

}  // namespace nopspan::collector
