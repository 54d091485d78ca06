// SPDX-License-Identifier: Apache-2.0
// What processes may claim about an engine, its requests and their spans, made of a script. There are few ids, so that
// entries refer to each other, and a few bytes of the script are many steps.
#pragma once

#include "script.h"

#include "../collector/kept_entry.h"

#include "model/entry.h"
#include "model/steps.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

class ClaimedEntries {
 public:
  explicit ClaimedEntries(std::string_view script) : script_(script) {}

  // Calls on_entry(const Entry&) for each.
  template <class OnEntry>
  void for_each(const OnEntry& on_entry) {
    while (!script_.is_done() && made_ < kMostEntries) {
      const unsigned what = script_.byte();
      if (what % 8 < 4) {
        add_steps(what, on_entry);
      } else {
        add_other(what, on_entry);
      }
    }
  }
  // The latest time of them.
  [[nodiscard]] std::uint64_t now_ns() const { return now_ns_; }

 private:
  using Entry = nopspan::collector::Entry;
  using Kind = nopspan::collector::Kind;
  static constexpr std::size_t kMostEntries = 200;
  static constexpr std::uint64_t kIds = 16;

  Entry entry_of(unsigned what) {
    static const nopspan::collector::ProcessPointer processes[] = {make_process(1), make_process(2)};
    static constexpr std::string_view kTenants[] = {"", "acme", "globex"};
    Entry entry;
    entry.process = &processes[what >> 7U];
    entry.sequence = ++made_;
    entry.start_unix_ns = now_ns_;
    entry.tenant = kTenants[made_ % std::size(kTenants)];
    entry.engine = "engine";
    return entry;
  }

  // Steps of an engine. Some take as long as their work says, so that a model of it can be learned.
  template <class OnEntry>
  void add_steps(unsigned what, const OnEntry& on_entry) {
    const bool is_honest = (what & 8U) != 0;
    const unsigned shape = script_.byte();
    const std::uint64_t tokens = script_.number(), claim = script_.number();
    std::vector<nopspan_member> members(1 + what % 4);
    for (unsigned times = 1 + shape % 32; times > 0 && made_ < kMostEntries; --times) {
      std::uint64_t wall_ns = 1'000'000;
      for (nopspan_member& member : members) {
        const auto place = static_cast<unsigned>(&member - members.data());
        member.request = (shape / 32 + place + (times % 4 == 0 ? times : 0)) % kIds;
        member.prefill_tokens = times % 3 == place % 3 ? static_cast<unsigned>(tokens * times) : 0;
        member.context_tokens += member.prefill_tokens;
        member.decode_tokens = member.prefill_tokens == 0 ? 1 : 0;
        member.drafted_tokens = is_honest ? 0 : static_cast<unsigned short>(claim);
        member.flags = (what >> 5U) & 3U;
        wall_ns += 50'000 + std::uint64_t{10'000} * member.prefill_tokens;
      }
      nopspan_step facts{};
      facts.members = static_cast<unsigned>(members.size());
      facts.number = ++number_;
      facts.instance = what & 16U;
      facts.device_ns = is_honest ? 0 : claim;
      facts.kv_used = facts.budget_tokens = is_honest ? 0 : claim;
      Entry entry = entry_of(what);
      entry.name = "engine.step";
      entry.span_id = step_id_ = kIds + number_;
      entry.step = &facts;
      entry.members = {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)};
      entry.duration_ns = is_honest ? wall_ns : claim;
      on_entry(entry);
      now_ns_ += entry.duration_ns;
    }
  }

  template <class OnEntry>
  void add_other(unsigned what, const OnEntry& on_entry) {
    static constexpr std::string_view kNames[] = {"engine.request", "chat", "engine.decode", "\xff\n<script>"};
    unsigned ids = script_.byte();
    const std::uint64_t number = script_.number();
    std::vector<nopspan_member> members(3);
    Entry entry = entry_of(what);
    entry.name = kNames[what / 8 % std::size(kNames)];
    entry.trace_id.bytes[0] = static_cast<unsigned char>(ids % kIds);
    entry.span_id = ids % kIds;
    entry.parent_id = what % 8 == 4 ? 0 : ids / kIds;
    switch (what % 8) {
      case 4:
      case 5:
        entry.start_unix_ns = now_ns_ - std::min(now_ns_, number);
        entry.duration_ns = script_.number();
        entry.status = static_cast<std::uint8_t>(ids % 4);
        entry.counts_tokens = true;
        entry.usage.input = entry.usage.output = number;
        break;
      case 6:
        entry.kind = Kind::part;
        entry.span_id = step_id_;
        entry.number = number;
        for (nopspan_member& member : members) {
          member.request = ids++ % kIds;
          member.decode_tokens = 1;
          member.prefill_tokens = member.context_tokens = static_cast<unsigned>(number);
        }
        entry.members = {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)};
        break;
      default:
        entry.kind = ids % 2 == 0 ? Kind::gauge : Kind::event;
        entry.value = static_cast<std::int64_t>(number);
    }
    on_entry(entry);
    if (what >= 128) now_ns_ += number;
  }

  Script script_;
  std::uint64_t now_ns_ = 1'796'089'405'000'000'000, number_ = 0, made_ = 0, step_id_ = 0;
};
