// SPDX-License-Identifier: Apache-2.0
#include "model/filter.h"

#include "base/failure.h"
#include "base/named_time.h"
#include "base/saturating.h"
#include "base/text.h"
#include "model/sampling.h"
#include "model/steps.h"

#include <algorithm>

namespace nopspan::collector {

namespace {

// Turns "/sys/fs/cgroup/system.slice/" and "system.slice" into "/system.slice", the form of /proc/PID/cgroup.
std::string hierarchy_path(std::string_view given) {
  constexpr std::string_view kMount = "/sys/fs/cgroup";
  if (given.starts_with(kMount)) given.remove_prefix(kMount.size());
  while (given.ends_with('/')) given.remove_suffix(1);
  return given.empty() || given.starts_with('/') ? std::string(given) : "/" + std::string(given);
}

bool is_in_cgroup(const Process& process, const std::string& wanted) {
  if (!process.container.empty() && process.container.starts_with(wanted)) return true;
  return is_below_cgroup(process.cgroup, hierarchy_path(wanted));
}

// Empty if it is longer before the end than the clock knows.
NamedTime time_of(const std::string& text, std::uint64_t end_unix_ns) {
  return named_time(text, end_unix_ns).value_or(NamedTime());
}

}  // namespace

std::string as_recorded(std::string text) {
  constexpr std::size_t kMost = 63, kKept = 60;
  if (text.size() <= kMost) return text;
  std::size_t end = kKept;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80) --end;  // a character is not split
  return text.substr(0, end) + "…";
}

bool is_recorded_as(std::string_view text, const std::string& wanted) {
  return text == wanted || (text.ends_with("…") && text == as_recorded(wanted));
}

bool is_below_cgroup(std::string_view cgroup, std::string_view wanted) {
  while (wanted.ends_with('/')) wanted.remove_suffix(1);
  return cgroup.starts_with(wanted) &&
         (cgroup.size() == wanted.size() || wanted.empty() || cgroup[wanted.size()] == '/');
}

bool Filter::empty() const {
  return request.empty() && name.empty() && model.empty() && tenant.empty() && where.empty() && pids.empty() &&
         cgroup.empty() && slower_than_ns == 0 && !wants_errors() && sample_one_in <= 1 && !sampled_only &&
         since.empty() && until.empty();
}

void Filter::set_times(std::uint64_t first_unix_ns, std::uint64_t last_unix_ns) {
  if (!since.empty()) since_unix_ns = time_of(since, last_unix_ns).unix_ns;
  if (until.empty()) return;
  const NamedTime end = time_of(until, last_unix_ns);
  // The last such time of day may be before the recording or before --since: then the next one is meant.
  const bool is_next = end.next_unix_ns != 0 && end.unix_ns <= std::max(since_unix_ns, first_unix_ns);
  until_unix_ns = is_next ? end.next_unix_ns : end.unix_ns;
  if (since.empty() || until_unix_ns > since_unix_ns) return;
  throw Failure("--until " + printable(until, 40) + " is not later than --since " + printable(since, 40),
                Failure::kUsageError);
}

bool Filter::has_idle_times(std::uint64_t first_unix_ns, std::uint64_t last_unix_ns) const {
  const auto is_other = [&](const std::string& text) {
    return !text.empty() && time_of(text, last_unix_ns).next_unix_ns == 0;
  };
  if ((since.empty() && until.empty()) || is_other(since) || is_other(until)) return false;
  Filter known = *this;
  known.set_times(first_unix_ns, last_unix_ns);
  return known.since_unix_ns < first_unix_ns && known.until_unix_ns > last_unix_ns;
}

bool Filter::may_want(const TraceId& id) const {
  return (request.empty() || id == trace_id_of(request)) && may_be_sampled(id, sample_one_in);
}

bool Filter::wants_own_request_of(const Entry& entry) const {
  return (request.empty() || entry.trace_id == trace_id_of(request)) && is_sampled(entry, sample_one_in) &&
         (!sampled_only || is_sampled_by_caller(entry));
}

bool Filter::wants_linked_request_of(const Entry& entry) const {
  // The members of a step name spans, whose requests are not known here.
  if (!entry.members.empty()) return true;
  bool is_wanted = false;
  if (is_linked(entry)) {
    for_each_link(entry.links, [&](const SpanLink& link) { is_wanted |= may_want(link.trace_id); });
  }
  return is_wanted;
}

bool Filter::has_value(const Entry& entry, const Condition& condition) {
  NumberText number;
  return is_recorded_as(label_or_attribute(entry, condition.key, number), condition.value);
}

bool Filter::has_values(const Entry& entry) const {
  return std::all_of(where.begin(), where.end(), [&](const Condition& one) { return has_value(entry, one); });
}

bool Filter::selects(const Entry& entry) const {
  if (entry.kind != Kind::span && (wants_errors() || slower_than_ns > 0)) return false;
  return (name.empty() || entry.span_name() == name) && has_model(entry) && has_tenant(entry) &&
         entry.duration_ns >= slower_than_ns && (!errors || entry.failed()) && has_error_type(entry) &&
         has_values(entry);
}

bool Filter::may_want(const Entry& entry) const { return may_want_own_request_of(entry) && is_in_scope(entry); }

bool Filter::is_in_scope(const Entry& entry) const {
  if (entry.start_unix_ns >= until_unix_ns) return false;
  if (since_unix_ns > 0 && saturating_sum(entry.start_unix_ns, entry.duration_ns) < since_unix_ns) return false;
  if (pids.empty() && cgroup.empty()) return true;
  if (entry.process == nullptr || *entry.process == nullptr) return false;
  const Process& process = **entry.process;
  if (!pids.empty() && std::find(pids.begin(), pids.end(), process.pid) == pids.end()) return false;
  return cgroup.empty() || is_in_cgroup(process, cgroup);
}

std::string to_text(const Filter& filter) {
  std::string text;
  const auto add = [&text](const char* option, const std::string& value) {
    if (!value.empty()) text += (text.empty() ? "" : " ") + std::string(option) + " " + printable(value, 80);
  };
  add("--request", filter.request);
  add("--name", filter.name);
  add("--model", filter.model);
  add("--tenant", filter.tenant);
  for (const Filter::Condition& one : filter.where) add("--where", one.key + "=" + one.value);
  for (const std::uint32_t pid : filter.pids) add("--pid", std::to_string(pid));
  add("--cgroup", filter.cgroup);
  if (filter.slower_than_ns > 0) {
    std::string time = duration_text(filter.slower_than_ns);
    std::erase(time, ' ');
    add("--slower-than", time);
  }
  if (filter.errors) text += text.empty() ? "--errors" : " --errors";
  add("--error", filter.error_type);
  if (filter.sample_one_in > 1) add("--sample", std::to_string(filter.sample_one_in));
  if (filter.sampled_only) text += text.empty() ? "--sampled-only" : " --sampled-only";
  add("--since", filter.since);
  add("--until", filter.until);
  return text;
}

// Entries arrive in batches of one process, so the counts of the last process are looked up once.
void FilteredCounts::add(const ProcessPointer& process) {
  if (last_ == nullptr || process != last_process_) {
    last_process_ = process;
    last_ = &filtered_.of(process);
  }
  ++last_->filtered;
}

void FilteredCounts::forget_ended(const Source& source) {
  if (filtered_.processes() <= LedgerSum::kMostProcesses / 2) return;
  filtered_.keep_listed(source.ledger());
  last_ = nullptr;
}

Ledger FilteredCounts::ledger(const Source& source) const {
  Ledger ledger = source.ledger();
  const Ledger filtered = filtered_.ledger();
  if (filtered.total.filtered == 0) return ledger;
  ledger.others = ledger.rest();
  ledger.move_delivered(filtered, &Counts::filtered);
  return ledger;
}

void FilteredSource::run(Sink& sink, Deadline& until) {
  sink_ = &sink;
  source_->run(*this, until);
}

void FilteredSource::on_entry(const Entry& entry) {
  if (filter_.selects(entry)) {
    sink_->on_entry(entry);
  } else {
    filtered_.add(*entry.process);
    sink_->on_removed(entry);
  }
}

void FilteredSource::on_tick(std::uint64_t now_unix_ns) {
  filtered_.forget_ended(*source_);
  sink_->on_tick(now_unix_ns);
}

}  // namespace nopspan::collector
