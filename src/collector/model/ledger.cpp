// SPDX-License-Identifier: Apache-2.0
#include "model/ledger.h"
#include "model/entry_json.h"

#include "base/saturating.h"
#include "base/text.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace nopspan::collector {
namespace {

constexpr std::pair<const char*, std::string Process::*> kLedgerTexts[] = {{"comm", &Process::comm},
                                                                           {"cgroup", &Process::cgroup},
                                                                           {"container", &Process::container},
                                                                           {"library", &Process::library},
                                                                           {"host", &Process::host}};
constexpr std::size_t kMostProcesses = 5;  // in worst_text()

std::uint64_t number_of(const nlohmann::ordered_json& json, const char* name) {
  const auto found = json.is_object() ? json.find(name) : json.end();
  // A recording may claim any number. Sums of these must not wrap around.
  constexpr std::uint64_t kMost = std::uint64_t{1} << 53U;
  return found != json.end() && found->is_number_unsigned() ? std::min(found->get<std::uint64_t>(), kMost) : 0;
}

std::string string_of(const nlohmann::ordered_json& json, const char* name) {
  const auto found = json.find(name);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

Counts counts_of(const nlohmann::ordered_json& json) {
  Counts counts;
  for (const CountField& field : kCountFields) counts.*field.count = number_of(json, field.name);
  return counts;
}

ProcessPointer process_of(const nlohmann::ordered_json& json) {
  Process process;
  process.pid = static_cast<std::uint32_t>(number_of(json, "pid"));
  process.namespace_pid = static_cast<std::uint32_t>(number_of(json, "namespace_pid"));
  process.start_ticks = number_of(json, "start_ticks");
  process.instance = id_of(string_of(json, "instance"));
  for (const auto& [name, text] : kLedgerTexts) process.*text = string_of(json, name);
  return std::make_shared<const Process>(std::move(process));
}

std::vector<Unattached> unattached_of(const nlohmann::ordered_json& json) {
  std::vector<Unattached> all;
  if (!json.is_array()) return all;
  for (const auto& one : json) {
    if (!one.is_object()) continue;
    Unattached& read = all.emplace_back();
    read.pid = static_cast<std::uint32_t>(number_of(one, "pid"));
    for (const auto& [name, text] : kUnattachedTexts) read.*text = string_of(one, name);
  }
  return all;
}

// A line with the processes that lost most; "" if none lost entries, or if there is only one process.
std::string worst_text(const Ledger& ledger) {
  std::vector<const ProcessLedger*> worst;
  for (const ProcessLedger& one : ledger.processes) {
    if (one.counts.lost() > 0 && one.process != nullptr) worst.push_back(&one);
  }
  if (worst.empty() || ledger.processes.size() + ledger.others_processes < 2) return "";
  std::stable_sort(worst.begin(), worst.end(),
                   [](const ProcessLedger* a, const ProcessLedger* b) { return a->counts.lost() > b->counts.lost(); });
  std::string text = "  lost by process:";
  for (std::size_t i = 0; i < std::min(worst.size(), kMostProcesses); ++i) {
    const std::string& comm = worst[i]->process->comm;  // empty if the process had exited before it was read
    text += (i == 0 ? " " : ", ") + std::to_string(worst[i]->process->pid) + " " +
            (comm.empty() ? "(unknown)" : printable(comm, 32)) + " " + std::to_string(worst[i]->counts.lost());
  }
  text += worst.size() > kMostProcesses ? ", …\n" : "\n";
  // One process can claim to have emitted any number of entries, so the total alone says little about the others.
  const ProcessLedger& first = *worst.front();
  const auto without_first = [&](std::uint64_t all, std::uint64_t of_first) { return all - std::min(all, of_first); };
  return text + "  without process " + std::to_string(first.process->pid) + ": " +
         std::to_string(without_first(ledger.total.lost(), first.counts.lost())) + " of " +
         counted(without_first(ledger.total.emitted, first.counts.emitted), "entry", "entries") + " lost\n";
}

// A line about the parts of entries that the library dropped; "" if there are none.
std::string dropped_parts_text(const Counts& total) {
  std::string text;
  for (const CountField& field : kCountFields) {
    const std::uint64_t count = total.*field.count;
    if (field.part != nullptr && count > 0) text += (text.empty() ? "  " : ", ") + counted(count, field.part);
  }
  return text.empty() ? "" : text + " of entries dropped by the library: see nopspan ps\n";
}

nlohmann::ordered_json row_json(const ProcessLedger& row) {
  nlohmann::ordered_json json;
  if (row.process != nullptr) {
    const Process& process = *row.process;
    json = {{"pid", process.pid}, {"namespace_pid", process.namespace_pid}, {"start_ticks", process.start_ticks}};
    if (process.instance != 0) json["instance"] = id_text(process.instance);
    for (const auto& [name, text] : kLedgerTexts) json[name] = process.*text;
  }
  json.update(to_json(row.counts));
  return json;
}

// Whether the start of one of the processes is not known, and all else is equal.
bool may_be_same(const Process& a, const Process& b) {
  return (a.start_ticks == 0 || b.start_ticks == 0) && a.pid == b.pid && a.host == b.host;
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

void Ledger::move_delivered(const Ledger& moved, std::uint64_t Counts::*to) {
  for (const ProcessLedger& one : moved.processes) move_delivered(one.process, to, one.counts.*to);
  move_delivered(nullptr, to, moved.others.*to);
}

ProcessLedger* LedgerSum::find_or_add(const ProcessPointer& process, std::uint64_t number) {
  if (process == nullptr) return nullptr;
  const Key key(process->host, key_of(*process), number);
  const auto found = processes_.find(key);
  if (found != processes_.end()) return &found->second;
  if (processes_.size() >= most_processes_) return nullptr;
  return &processes_.emplace(key, ProcessLedger{process, {}}).first->second;
}

Counts& LedgerSum::of(const ProcessPointer& process) {
  ProcessLedger* const known = find_or_add(process, 0);
  return known == nullptr ? others_ : known->counts;
}

void LedgerSum::add(const Ledger& ledger) {
  for (const ProcessLedger& one : ledger.processes) {
    const bool is_known = one.process != nullptr && one.process->start_ticks != 0;
    ProcessLedger* const known = find_or_add(one.process, is_known ? 0 : ++without_start_);
    if (known == nullptr) ++others_processes_;
    (known == nullptr ? others_ : known->counts) += one.counts;
  }
  others_ += ledger.others;
  others_processes_ += ledger.others_processes;
  rest_.damage += ledger.damage;
  rest_.add_unattached(ledger);
}

void LedgerSum::keep_listed(const Ledger& ledger) {
  std::set<Key> listed;
  for (const ProcessLedger& one : ledger.processes) {
    if (one.process != nullptr) listed.emplace(one.process->host, key_of(*one.process), 0);
  }
  std::erase_if(processes_, [&](const auto& each) {
    if (listed.contains(each.first)) return false;
    others_ += each.second.counts;
    ++others_processes_;
    return true;
  });
}

Counts LedgerSum::total() const {
  Counts total = others_;
  for (const auto& each : processes_) total += each.second.counts;
  return total;
}

Ledger LedgerSum::ledger() const {
  Ledger ledger = rest_;
  for (const auto& each : processes_) {
    if (each.second.counts != Counts()) ledger.processes.push_back(each.second);
  }
  ledger.others = others_;
  ledger.others_processes = others_processes_;
  ledger.total = total();
  return ledger;
}

nlohmann::ordered_json to_json(const Counts& counts) {
  nlohmann::ordered_json json;
  for (const CountField& field : kCountFields) json[field.name] = counts.*field.count;
  json["lost"] = counts.lost();
  json["balanced"] = counts.is_balanced();
  return json;
}

nlohmann::ordered_json to_json(const Damage& damage) {
  nlohmann::ordered_json json;
  for (const auto& [name, count] : kDamages) json[name] = damage.*count;
  return json;
}

nlohmann::ordered_json to_json(const std::vector<Unattached>& unattached) {
  auto json = nlohmann::ordered_json::array();
  for (const Unattached& one : unattached) {
    auto& added = json.emplace_back(nlohmann::ordered_json{{"pid", one.pid}});
    for (const auto& [name, text] : kUnattachedTexts) added[name] = one.*text;
  }
  return json;
}

nlohmann::ordered_json to_json(const Ledger& ledger) {
  nlohmann::ordered_json json = {{"total", to_json(ledger.total)}, {"processes", nlohmann::ordered_json::array()}};
  for (const ProcessLedger& one : ledger.processes) json["processes"].push_back(row_json(one));
  json["others"]["processes"] = ledger.others_processes;
  json["others"].update(to_json(ledger.others));
  if (!ledger.damage.empty()) json["damage"] = to_json(ledger.damage);
  if (!ledger.unattached.empty()) json["unattached"] = to_json(ledger.unattached);
  if (ledger.unattached_others > 0) json["unattached_others"] = ledger.unattached_others;
  return json;
}

void add_clock(nlohmann::ordered_json& json, const std::optional<ClockState>& clock) {
  if (clock) json["clock"] = {{"error_ns", clock->error_ns}, {"changes", clock->changes}};
}

std::optional<ClockState> clock_of(const nlohmann::ordered_json& json) {
  const auto found = json.find("clock");
  if (found == json.end() || !found->is_object()) return {};
  return ClockState{number_of(*found, "error_ns"), number_of(*found, "changes")};
}

std::string json_text(const Ledger& ledger, const std::optional<ClockState>& clock) {
  nlohmann::ordered_json json = to_json(ledger);
  add_clock(json, clock);
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Ledger ledger_of(const nlohmann::ordered_json& json) {
  const auto part = [&](const char* name) {
    const auto found = json.is_object() ? json.find(name) : json.end();
    return found == json.end() ? nlohmann::ordered_json() : *found;
  };
  Ledger ledger;
  ledger.total = counts_of(part("total"));
  const nlohmann::ordered_json others = part("others"), processes = part("processes");
  ledger.others = counts_of(others);
  ledger.others_processes = number_of(others, "processes");
  const nlohmann::ordered_json damage = part("damage");
  for (const auto& [name, count] : kDamages) ledger.damage.*count = number_of(damage, name);
  Ledger unattached;
  unattached.unattached = unattached_of(part("unattached"));
  unattached.unattached_others = number_of(json, "unattached_others");
  ledger.add_unattached(unattached);
  if (!processes.is_array()) return ledger;
  for (const auto& one : processes) {
    if (one.is_object()) ledger.processes.push_back({process_of(one), counts_of(one)});
  }
  return ledger;
}

// One per line.
static std::string unattached_text(const Ledger& ledger) {
  const std::vector<Unattached>& unattached = ledger.unattached;
  std::string text;
  for (std::size_t i = 0; i < std::min(unattached.size(), kMostProcesses); ++i) {
    const Unattached& one = unattached[i];
    text += "  not attached to " + printable(one.path) +
            (one.pid == 0 ? "" : " in process " + std::to_string(one.pid) + " (" + printable(one.comm) + ")") + ": " +
            printable(one.why) + "\n";
  }
  const std::uint64_t others =
      unattached.size() + ledger.unattached_others - std::min(unattached.size(), kMostProcesses);
  if (others > 0) {
    text += std::string("  not attached to in ") + (ledger.unattached_others > 0 ? "at least " : "") +
            std::to_string(others) + (others == 1 ? " other\n" : " others\n");
  }
  return text;
}

std::string to_text(const Ledger& ledger) {
  const Counts& total = ledger.total;
  std::string text = counted(total.emitted, "entry", "entries") + " from " +
                     counted(ledger.processes.size() + ledger.others_processes, "process", "processes") + ": " +
                     std::to_string(total.delivered) + " delivered";
  if (total.filtered > 0) text += ", " + std::to_string(total.filtered) + " filtered out";
  if (total.lost() > 0) text += ", " + std::to_string(total.lost()) + " lost";
  if (total.lost() == 0 && ledger.damage.empty()) text += ", none lost";
  Damage only_ends;
  only_ends.missing_ends = ledger.damage.missing_ends;
  if (!ledger.damage.empty() && ledger.damage == only_ends) {
    text += ", more may be missing: there is no end, or it was not read to its end";
  } else if (!ledger.damage.empty()) {
    text += ", more may be missing: the recording is damaged, has no end, was not read to its end or repeats a part";
  }
  text += "\n";
  for (const CountField& field : kCountFields) {
    if (field.why == nullptr || total.*field.count == 0) continue;
    text += "  " + std::to_string(total.*field.count) + " " + field.why + "\n";
  }
  text += worst_text(ledger);
  text += unattached_text(ledger);
  if (total.held_by_killed > 0) {
    text += "  at most " + std::to_string(total.held_by_killed) +
            " more were in the buffers of killed processes or of unloaded libraries\n";
  }
  if (total.threads_at_attach > 0) {
    const bool is_one = total.threads_at_attach == 1;
    text += "  " + counted(total.threads_at_attach, "thread") + (is_one ? " was" : " were") +
            " running at the attach: spans that had begun by then may be missing, and are not counted\n";
  }
  text += dropped_parts_text(total);
  if (!total.is_balanced()) {
    const std::uint64_t accounted = total.delivered + total.filtered + total.lost();
    text += "  the counts do not balance: " + std::to_string(total.emitted) + " emitted, but " +
            std::to_string(accounted) + " delivered, filtered out or lost\n";
  }
  return text;
}

}  // namespace nopspan::collector
