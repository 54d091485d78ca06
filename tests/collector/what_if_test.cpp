// SPDX-License-Identifier: Apache-2.0
#include "blame/what_if.h"

#include "assembled_traces.h"
#include "base/failure.h"
#include "base/stopping.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

// An engine that admits requests as they arrive, and whose steps take what a list of prices says.
class ScheduledEngine {
 public:
  unsigned chunk = 512, slots = 64;
  bool puts_prompts_first = false;  // steps with prompts serve nobody else

  // Emits the steps and requests, and returns what the requests waited for.
  WhatIf::Waits run(WhatIf* to) {
    std::mt19937_64 random(3);
    std::vector<Request> requests(200);
    std::uint64_t at_ns = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      at_ns += 10'000'000 + random() % 50'000'000;
      requests[i] = {i + 1, at_ns, i % 12 == 11 ? unsigned(3000 + random() % 2000) : unsigned(20 + random() % 200),
                     unsigned(10 + random() % 60)};
    }
    WhatIf::Waits waits;
    std::vector<Request*> running;
    std::size_t next = 0;
    std::uint64_t now_ns = 0, number = 0;
    while (next < requests.size() || !running.empty()) {
      if (running.empty()) now_ns = std::max(now_ns, requests[next].arrival_ns);
      while (next < requests.size() && running.size() < slots && requests[next].arrival_ns <= now_ns)
        running.push_back(&requests[next++]);
      std::vector<nopspan_member> members;
      std::vector<Request*> emits;
      unsigned budget = chunk;
      const bool has_prompt = std::any_of(running.begin(), running.end(), [](Request* one) { return one->prompt > 0; });
      double ns = 2e6;
      for (Request* one : running) {
        nopspan_member member{};
        member.request = one->id;
        member.context_tokens = one->context;
        member.prefill_tokens = std::min(budget, one->prompt);
        if (puts_prompts_first && has_prompt && member.prefill_tokens == 0) continue;
        budget -= member.prefill_tokens;
        one->prompt -= member.prefill_tokens;
        one->context += member.prefill_tokens;
        if (one->prompt == 0) {
          member.decode_tokens = 1;
          emits.push_back(one);
        }
        members.push_back(member);
        ns += 30e3 + 2.0 * member.context_tokens + 20e3 * member.prefill_tokens;
      }
      ns *= 0.97 + 0.06 * std::uniform_real_distribution<double>(0, 1)(random);
      nopspan_step facts{};
      facts.members = static_cast<unsigned>(members.size());
      facts.number = ++number;
      facts.budget_tokens = chunk;
      Entry step =
          step_of(1'000'000 + number,
                  {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)}, facts);
      step.start_unix_ns = kBegin + now_ns;
      step.duration_ns = static_cast<std::uint64_t>(ns);
      if (to != nullptr) to->on_entry(step);
      now_ns += step.duration_ns;
      for (Request* one : emits) {
        (one->last_ns == 0 ? waits.ttft : waits.gap).add(now_ns - (one->last_ns == 0 ? one->arrival_ns : one->last_ns));
        one->last_ns = now_ns;
        ++one->context;
        --one->tokens;
        if (one->tokens > 0) continue;
        running.erase(std::find(running.begin(), running.end(), one));
        Entry span = span_of(one->id, 0, "engine.request");
        span.start_unix_ns = kBegin + one->arrival_ns;
        span.duration_ns = now_ns - one->arrival_ns;
        if (to != nullptr) to->on_entry(span);
      }
      now_ns += 50'000;
    }
    waits.requests = requests.size();
    return waits;
  }

 private:
  struct Request {
    std::uint64_t id, arrival_ns;
    unsigned prompt, tokens, context = 0;
    std::uint64_t last_ns = 0;
  };
};

double ratio(std::uint64_t a, std::uint64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

TEST(WhatIf, PredictsWhatOtherSettingsGive) {
  WhatIf what_if;
  const WhatIf::Waits recorded = ScheduledEngine().run(&what_if);
  what_if.learn();
  EXPECT_EQ(what_if.settings().prefill_chunk, 512);
  EXPECT_EQ(what_if.settings().slots, 0);
  EXPECT_EQ(what_if.recorded().requests, 200);
  EXPECT_EQ(what_if.recorded().gap.quantile(99), recorded.gap.quantile(99));
  EXPECT_EQ(what_if.recorded().ttft.quantile(99), recorded.ttft.quantile(99));
  for (const unsigned chunk : {512, 384, 256, 128, 64}) {
    ScheduledEngine other;
    other.chunk = chunk;
    const WhatIf::Waits truth = other.run(nullptr), predicted = what_if.simulate({chunk, 0});
    EXPECT_EQ(predicted.requests, 200);
    for (const unsigned percent : {50U, 99U}) {
      EXPECT_NEAR(ratio(predicted.gap.quantile(percent), truth.gap.quantile(percent)), 1, 0.1) << chunk;
      EXPECT_NEAR(ratio(predicted.ttft.quantile(percent), truth.ttft.quantile(percent)), 1, 0.15) << chunk;
    }
  }
}

TEST(WhatIf, KnowsThatRequestsWaitedForSlots) {
  WhatIf what_if;
  ScheduledEngine engine;
  engine.slots = 6;
  engine.run(&what_if);
  what_if.learn();
  EXPECT_EQ(what_if.settings().slots, 6);
  for (const unsigned slots : {6, 5, 4}) {
    engine.slots = slots;
    const WhatIf::Waits truth = engine.run(nullptr), predicted = what_if.simulate({512, slots});
    EXPECT_NEAR(ratio(predicted.ttft.quantile(50), truth.ttft.quantile(50)), 1, 0.15) << slots;
  }
  EXPECT_THROW((void)what_if.simulate({512, 7}), Failure);
}

TEST(WhatIf, RefusesWhatWasNotSeen) {
  WhatIf what_if;
  ScheduledEngine().run(&what_if);
  what_if.learn();
  EXPECT_THROW((void)what_if.simulate({513, 0}), Failure);
  EXPECT_THROW((void)what_if.simulate({1, 0}), Failure);  // far more requests would run at a time
}

TEST(WhatIf, RefusesAnEngineThatPutsPromptsFirst) {
  WhatIf what_if;
  ScheduledEngine engine;
  engine.puts_prompts_first = true;
  engine.run(&what_if);
  EXPECT_THROW(what_if.learn(), Failure);
}

// A budget and prompts as a hostile program reports them.
TEST(WhatIf, EndsWhateverProgramsReport) {
  for (const std::uint64_t budget : {std::uint64_t{16}, std::uint64_t{1} << 32U, UINT64_MAX}) {
    WhatIf what_if;
    nopspan_step facts{};
    facts.members = 2;
    facts.budget_tokens = budget;
    for (std::uint64_t number = 1; number <= 200; ++number) {
      nopspan_member members[2]{};
      members[0].request = 1;
      members[0].decode_tokens = 1;
      members[1].request = 100 + number;
      members[1].prefill_tokens = number % 3 == 0 ? UINT32_MAX : 0;
      members[1].decode_tokens = 1;
      Entry step = step_of(1000 + number, {reinterpret_cast<const char*>(members), sizeof(members)}, facts);
      step.start_unix_ns = kBegin + number * 20'000'000;
      step.duration_ns = number % 3 == 0 ? 15'000'000 : 5'000'000;
      what_if.on_entry(step);
      what_if.on_entry(span_of(100 + number, 0, "engine.request"));
    }
    try {
      what_if.learn();
      (void)what_if.simulate(what_if.settings());
    } catch (const Failure&) {
    }
  }
}

// Many requests that arrive at once, in a step that had all of them, and one step for each.
TEST(WhatIf, RefusesWhatWouldTakeTooLong) {
  constexpr std::uint64_t kRequests = 8000, kLongRunning = 1;
  std::mt19937_64 random(5);
  WhatIf what_if;
  for (std::uint64_t id = 1; id <= 1 + kRequests; ++id) {
    Entry request = span_of(id, 0, "engine.request");
    request.duration_ns = 1000 * kSecond;
    what_if.on_entry(request);
  }
  std::vector<nopspan_member> all(kRequests);
  for (std::uint64_t i = 0; i < kRequests; ++i) {
    all[i].request = 2 + i;
    all[i].prefill_tokens = 1;
  }
  nopspan_step facts{};
  std::uint64_t start_ns = kBegin + 1000;
  const auto add = [&](const std::vector<nopspan_member>& members, std::uint64_t ns) {
    facts.members = static_cast<unsigned>(members.size());
    ++facts.number;
    Entry step =
        step_of(1'000'000 + facts.number,
                {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)}, facts);
    step.start_unix_ns = start_ns;
    step.duration_ns = ns;
    what_if.on_entry(step);
    start_ns += kMillisecond;
  };
  add(all, kMillisecond);
  for (std::uint64_t i = 0; i < kRequests; ++i) {
    std::vector<nopspan_member> members(2);
    members[0].request = 2 + i;
    members[0].prefill_tokens = 32U << random() % 3;
    members[0].context_tokens = static_cast<unsigned>(i % 700);
    members[1].request = kLongRunning;
    members[1].context_tokens = static_cast<unsigned>(10 + i);
    members[0].decode_tokens = members[1].decode_tokens = 1;
    add(members, 100'000 + 1000 * std::uint64_t{members[0].prefill_tokens} + random() % 1000);
  }
  what_if.learn();
  try {
    (void)what_if.simulate({4, 0});
    ADD_FAILURE() << "it should be refused";
  } catch (const Failure& failure) {
    EXPECT_NE(std::string(failure.what()).find("would take too long"), std::string::npos) << failure.what();
  }
}

TEST(WhatIf, EndsWhenTheUserStopsIt) {
  WhatIf what_if;
  ScheduledEngine().run(&what_if);
  what_if.learn();
  stopping = true;
  EXPECT_THROW((void)what_if.simulate(what_if.settings()), Failure);
  stopping = false;
  EXPECT_EQ(what_if.simulate(what_if.settings()).requests, 200);
}

// The longest times and the largest numbers that a process can report. A sanitizer would report an overflow.
TEST(WhatIf, HasNoNumberThatIsTooLarge) {
  for (const std::uint64_t wall_ns : {std::uint64_t{1} << 63U, UINT64_MAX - 1000, UINT64_MAX}) {
    WhatIf what_if;
    for (std::uint64_t number = 1; number <= 30; ++number) {
      nopspan_member member{};
      member.request = 1 + number % 3;
      member.prefill_tokens = number % 4 == 0 ? UINT32_MAX : 0;
      member.context_tokens = UINT32_MAX;
      member.decode_tokens = member.drafted_tokens = UINT16_MAX;
      nopspan_step facts{};
      facts.members = 1;
      facts.budget_tokens = facts.kv_used = facts.device_ns = UINT64_MAX;
      Entry step = step_of(1000 + number, {reinterpret_cast<const char*>(&member), sizeof(member)}, facts);
      step.start_unix_ns = kBegin + number;
      step.duration_ns = wall_ns - number;
      what_if.on_entry(step);
      what_if.on_entry(span_of(1 + number % 3, 0, "engine.request"));
    }
    try {
      what_if.learn();
      (void)what_if.simulate(what_if.settings());
    } catch (const Failure&) {
    }
  }
}

TEST(WhatIf, RefusesWithoutSteps) {
  WhatIf what_if;
  EXPECT_THROW(what_if.learn(), Failure);
  what_if.on_entry(span_of(1, 0, "chat"));
  EXPECT_THROW(what_if.learn(), Failure);
}

}  // namespace
}  // namespace nopspan::collector
