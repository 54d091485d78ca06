// SPDX-License-Identifier: Apache-2.0
// An engine whose requests are members of its steps. Each step decodes one token for all open requests, and has a span
// llama.gpu inside it. Takes commands (commands.h):
//
//   begin N   begins N requests, and answers with their number
//   step N    N steps, and answers with the number of members of all of them
//   end       ends the requests
#include "commands.h"

#include <nopspan/engine.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace {

struct Slot {
  nopspan::AsyncSpan span{nopspan::engine::request};
  nopspan::engine::Member member;
};

std::deque<Slot> slots;
std::uint64_t requests = 0, steps = 0;

std::uint64_t step(int count) {
  std::vector<nopspan::engine::Member> members;
  std::uint64_t all = 0;
  for (; count > 0; --count) {
    members.clear();
    for (Slot& slot : slots) {
      slot.member.decode_tokens = 1;
      members.push_back(slot.member);
      ++slot.member.context_tokens;
    }
    all += members.size();
    nopspan::Span span{nopspan::engine::step};
    { const nopspan::Span gpu{"llama.gpu"}; }
    span.with<nopspan::engine::StepFields>([&](auto& m) { m.number(++steps).members(members.data(), members.size()); });
  }
  return all;
}

}  // namespace

int main() {
  Commands commands;
  const auto number = [](std::istringstream& arguments) { return std::stoi(word(arguments)); };
  commands["gate"] = [](std::istringstream&) { return std::to_string(nopspan::detail::gate()); };
  commands["begin"] = [&](std::istringstream& arguments) {
    for (int i = number(arguments); i > 0; --i) {
      Slot& slot = slots.emplace_back();
      slot.member = nopspan::engine::Member::of(slot.span, ++requests);
    }
    return std::to_string(slots.size());
  };
  commands["step"] = [&](std::istringstream& arguments) { return std::to_string(step(number(arguments))); };
  commands["end"] = [](std::istringstream&) {
    slots.clear();
    return std::to_string(nopspan::stats().members_dropped);
  };
  return serve(commands);
}
