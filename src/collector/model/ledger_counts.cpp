// SPDX-License-Identifier: Apache-2.0
#include "model/ledger_counts.h"

#include "base/saturating.h"

#include <algorithm>

namespace nopspan::collector {
namespace {

// Whether the start of one of the processes is not known, and all else is equal.
bool may_be_same(const Process& a, const Process& b) {
  return (a.start_ticks == 0 || b.start_ticks == 0) && a.pid == b.pid && a.host == b.host;
}

void write_object(JsonWriter& json, const Counts& counts) {
  json.begin_object();
  write_members(json, counts);
  json.end_object();
}

void write_row(JsonWriter& json, const ProcessLedger& row) {
  json.begin_object();
  if (row.process != nullptr) {
    const Process& process = *row.process;
    json.number("pid", std::uint64_t{process.pid});
    json.number("namespace_pid", std::uint64_t{process.namespace_pid});
    json.number("start_ticks", process.start_ticks);
    for (const LedgerText& text : kLedgerTexts) {
      json.key_text(text.name);
      json.text(process.*text.text);
    }
  }
  write_members(json, row.counts);
  json.end_object();
}

}  // namespace

Counts& Counts::operator+=(const Counts& other) {
  for (const CountField& field : kCountFields)
    this->*field.count = saturating_sum(this->*field.count, other.*field.count);
  return *this;
}

Counts& Counts::operator-=(const Counts& part) {
  for (const CountField& field : kCountFields) this->*field.count -= part.*field.count;
  return *this;
}

std::uint64_t Counts::lost() const {
  std::uint64_t sum = 0;
  for (const CountField& field : kCountFields) {
    if (field.loss != nullptr) sum = saturating_sum(sum, this->*field.count);
  }
  return sum;
}

bool Counts::empty() const {
  Counts entries = *this;
  entries.threads_at_attach = 0;
  return entries == Counts();
}

Damage& Damage::operator+=(const Damage& other) {
  for (const auto& [name, count] : kDamages) this->*count = saturating_sum(this->*count, other.*count);
  return *this;
}

void Ledger::add_unattached(const Ledger& other) {
  std::uint64_t without_room = 0;
  for (const Unattached& one : other.unattached) {
    if (std::find(unattached.begin(), unattached.end(), one) != unattached.end()) continue;
    if (unattached.size() < kMostUnattached) {
      unattached.push_back(one);
    } else {
      ++without_room;
    }
  }
  unattached_others = std::max({unattached_others, other.unattached_others, without_room});
}

Counts Ledger::rest() const {
  Counts listed;
  for (const ProcessLedger& one : processes) listed += one.counts;
  Counts rest;
  for (const CountField& field : kCountFields) {
    rest.*field.count = total.*field.count - std::min(total.*field.count, listed.*field.count);
  }
  return rest;
}

void Ledger::move_delivered(const ProcessPointer& process, std::uint64_t Counts::*to, std::uint64_t entries) {
  const auto move = [&](Counts& counts) {
    const std::uint64_t moved = std::min({entries, counts.delivered, total.delivered});
    for (Counts* const each : {&counts, &total}) {
      each->delivered -= moved;
      each->*to += moved;
    }
    entries -= moved;
  };
  // What arrived before its process was examined has no start.
  for (const auto matches : {is_same_process, may_be_same}) {
    for (ProcessLedger& one : processes) {
      if (one.process != nullptr && process != nullptr && matches(*one.process, *process)) move(one.counts);
    }
  }
  move(others);
}

void write_members(JsonWriter& json, const Counts& counts) {
  for (const CountField& field : kCountFields) {
    json.key_text(field.name);
    json.number(counts.*field.count);
  }
  json.number("lost", counts.lost());
  json.key("balanced");
  json.literal(counts.is_balanced() ? "true" : "false");
}

std::string json_text(const Ledger& ledger) {
  JsonWriter json;
  json.begin_object();
  json.key("total");
  write_object(json, ledger.total);
  json.key("processes");
  json.begin_array();
  for (const ProcessLedger& one : ledger.processes) write_row(json, one);
  json.end_array();
  json.key("others");
  json.begin_object();
  json.number("processes", ledger.others_processes);
  write_members(json, ledger.others);
  json.end_object();
  if (!ledger.damage.empty()) {
    json.key("damage");
    json.begin_object();
    for (const auto& [name, count] : kDamages) {
      json.key_text(name);
      json.number(ledger.damage.*count);
    }
    json.end_object();
  }
  if (!ledger.unattached.empty()) {
    json.key("unattached");
    json.begin_array();
    for (const Unattached& one : ledger.unattached) {
      json.begin_object();
      json.number("pid", std::uint64_t{one.pid});
      for (const auto& [name, text] : kUnattachedTexts) {
        json.key_text(name);
        json.text(one.*text);
      }
      json.end_object();
    }
    json.end_array();
  }
  if (ledger.unattached_others > 0) json.number("unattached_others", ledger.unattached_others);
  json.end_object();
  return std::string(json.text());
}

}  // namespace nopspan::collector
