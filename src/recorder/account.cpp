// SPDX-License-Identifier: Apache-2.0
#include "recorder/account.h"

#include "base/utf8.h"
#include "recorder/own_process.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string_view>
#include <utility>

namespace nopspan::recording {
namespace {

constexpr std::pair<const char*, std::uint64_t Counts::*> kFields[] = {
    {"emitted", &Counts::emitted},
    {"delivered", &Counts::delivered},
    {"discarded", &Counts::discarded},
    {"no_memory", &Counts::no_memory},
    {"over_limit", &Counts::over_limit},
    {"reentrant", &Counts::reentrant},
    {"export_dropped", &Counts::export_dropped},
    {"threads_at_attach", &Counts::threads_at_attach},
    {"attributes_dropped", &Counts::attributes_dropped},
    {"links_dropped", &Counts::links_dropped},
    {"members_dropped", &Counts::members_dropped},
};

void append_number(std::string& json, const char* key, std::uint64_t number) {
  json += "\"";
  json += key;
  json += "\":" + std::to_string(number) + ",";
}

void append_counts(std::string& json, const Counts& counts) {
  for (const auto& [name, field] : kFields) append_number(json, name, counts.*field);
  append_number(json, "lost", counts.lost());
  json.back() = '}';
}

}  // namespace

void append_json_text(std::string& json, const char* key, std::string_view text) {
  json += "\"";
  json += key;
  json += "\":\"";
  // Paths are bytes, and JSON is UTF-8.
  for (const char byte : collector::replaced_utf8(text)) {
    const auto code = static_cast<unsigned char>(byte);
    char escaped[8];
    if (code < ' ' || byte == '"' || byte == '\\') {
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", unsigned{code});
      json += escaped;
    } else {
      json += byte;
    }
  }
  json += "\",";
}

std::string ledger_text(const Counts& counts, const Counts& before, const OwnProcess& process) {
  Counts now = counts;
  for (const auto& [name, field] : kFields) now.*field -= before.*field;
  std::string json = "{\"total\":{";
  append_counts(json, now);
  json += ",\"processes\":[{";
  append_number(json, "pid", process.numbers.pid);
  append_number(json, "namespace_pid", process.numbers.namespace_pid);
  append_number(json, "start_ticks", process.numbers.start_ticks);
  append_json_text(json, "comm", process.comm);
  append_json_text(json, "cgroup", process.cgroup);
  append_json_text(json, "library", process.library);
  append_json_text(json, "host", process.host);
  append_counts(json, now);
  return json + "]}";
}

void Account::begin(std::uint64_t threads) {
  before_ = stats();
  threads_at_attach_ = threads;
}

void Account::begin_thread(std::uint64_t sequence_id, std::uint64_t next, std::uint64_t discarded) {
  Thread& thread = threads_[sequence_id];
  thread.base = thread.next = next;
  thread.discarded_base = thread.discarded = discarded;
}

Account::Thread& Account::advance(std::uint64_t sequence_id, Sequences sequences, std::uint64_t discarded) {
  Thread& thread = threads_[sequence_id];
  thread.discarded = std::max(thread.discarded, discarded);
  // What comes later may fill the gap: the ring contains batches from before the entries that were fetched.
  if (sequences.first > thread.next) thread.missing.push_back({thread.next, sequences.first});
  // Most gaps stay, because the ring has refused what is in them.
  constexpr std::size_t kMostGaps = 64;
  if (thread.missing.size() > kMostGaps) thread.missing.erase(thread.missing.begin());
  return thread;
}

const std::vector<Sequences>& Account::arrive(std::uint64_t sequence_id, Sequences sequences, std::uint64_t discarded) {
  Thread& thread = advance(sequence_id, sequences, discarded);
  fresh_.clear();
  std::vector<Sequences> still_missing;
  for (const Sequences& gap : thread.missing) {
    const Sequences found{std::max(gap.first, sequences.first), std::min(gap.next, sequences.next)};
    if (found.first >= found.next) {
      still_missing.push_back(gap);
      continue;
    }
    fresh_.push_back(found);
    if (gap.first < found.first) still_missing.push_back({gap.first, found.first});
    if (found.next < gap.next) still_missing.push_back({found.next, gap.next});
  }
  if (!fresh_.empty()) thread.missing = std::move(still_missing);
  if (sequences.next > thread.next) {
    fresh_.push_back({std::max(thread.next, sequences.first), sequences.next});
    thread.next = sequences.next;
  }
  for (const Sequences& one : fresh_) thread.arrived += one.next - one.first;
  return fresh_;
}

void Account::emitted_until(std::uint64_t sequence_id, std::uint64_t next, std::uint64_t discarded) {
  Thread& thread = advance(sequence_id, {next, next}, discarded);
  thread.next = std::max(thread.next, next);
}

void Account::note_living(const std::unordered_set<std::uint64_t>& living) {
  for (auto one = threads_.begin(); one != threads_.end();) {
    Thread& thread = one->second;
    const bool had_ended = std::exchange(thread.has_ended, living.count(one->first) == 0);
    if (!had_ended || !thread.has_ended) {
      ++one;
      continue;
    }
    add(ended_, thread);
    one = threads_.erase(one);
  }
}

void Account::add(Counts& counts, const Thread& thread) {
  const std::uint64_t emitted = thread.next - thread.base;
  const std::uint64_t missing = emitted - thread.arrived;
  const std::uint64_t discarded = std::min(missing, thread.discarded - thread.discarded_base);
  counts.emitted += emitted;
  counts.delivered += thread.arrived;
  counts.discarded += discarded;
  counts.export_dropped += missing - discarded;  // the ring refused them
}

Counts Account::counts() const {
  Counts counts = ended_;
  for (const auto& one : threads_) add(counts, one.second);
  const Stats now = stats();
  const std::uint64_t spans = now.spans_dropped - before_.spans_dropped;
  counts.over_limit = std::min(spans, now.spans_over_limit - before_.spans_over_limit);
  counts.no_memory = spans - counts.over_limit;
  counts.reentrant = now.reentrant - before_.reentrant;
  counts.emitted += spans + counts.reentrant;
  counts.threads_at_attach = threads_at_attach_;
  counts.attributes_dropped =
      now.fields_dropped - before_.fields_dropped + now.attributes_dropped - before_.attributes_dropped;
  counts.links_dropped = now.links_dropped - before_.links_dropped;
  counts.members_dropped = now.members_dropped - before_.members_dropped;
  return counts;
}

}  // namespace nopspan::recording
