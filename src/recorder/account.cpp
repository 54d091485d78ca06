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
  thread.ledger = collector::ThreadLedger(next);
  thread.discarded_base = thread.discarded = discarded;
}

Account::Thread& Account::find(std::uint64_t sequence_id, std::uint64_t discarded) {
  Thread& thread = threads_[sequence_id];
  thread.discarded = std::max(thread.discarded, discarded);
  return thread;
}

const std::vector<collector::Sequences>& Account::arrive(std::uint64_t sequence_id, collector::Sequences sequences,
                                                         std::uint64_t discarded) {
  return find(sequence_id, discarded).ledger.arrive(sequences);
}

void Account::emitted_until(std::uint64_t sequence_id, std::uint64_t next, std::uint64_t discarded) {
  find(sequence_id, discarded).ledger.emitted_until(next);
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
  const std::uint64_t emitted = thread.ledger.next() - thread.ledger.base(), missing = thread.ledger.missing();
  const std::uint64_t discarded = std::min(missing, thread.discarded - thread.discarded_base);
  counts.emitted += emitted;
  counts.delivered += emitted - missing;
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
