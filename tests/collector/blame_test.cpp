// SPDX-License-Identifier: Apache-2.0
#include "blame/blame.h"

#include "assembled_traces.h"
#include "blame/blame_print.h"
#include "kept_entry.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::Contains;
using testing::Each;
using testing::Field;
using testing::Gt;
using testing::IsEmpty;
using testing::Le;
using testing::Lt;
using testing::SizeIs;

// An engine whose steps take what a list of prices says, and what Blame makes of them. Requests are of the tenants
// "steady", who decode, and "giant", who bring long prompts.
class PricedEngine {
 public:
  double fixed = 2e6, per_member = 50e3, per_context = 2, per_prefill = 20e3, per_prefill_context = 0.5;  // ns
  double hiccups = 0;  // the part of the steps that takes 40 ms longer
  unsigned chunk = 488;
  bool is_constant = false;  // always the same work
  unsigned skipped = 0;      // steps that do not arrive, of those without prompts
  double per_token_cell = 0;
  bool keeps_giants = false;  // what a giant has in the cache stays there until the next one begins

  struct Truth {
    double stalled_ns = 0;  // of the steady ones, by the giants
    double left_ns = 0;     // by what these left in the cache
    double decode_ns = 0;
  };

  // `giants`: the prompts' tokens, one after the other.
  void run(unsigned steady, unsigned steps, const std::vector<unsigned>& giants) {
    std::vector<std::uint64_t> ids;
    for (unsigned i = 0; i < steady; ++i) ids.push_back(begin(100 + i));
    std::size_t next = 0;
    unsigned left = 0, done = 0;
    std::uint64_t giant = 0;
    for (unsigned step = 0; step < steps; ++step) {
      if (left == 0 && next < giants.size() && (is_constant || step % 60 == 30)) {
        left = giants[next];
        done = 0;
        giant = begin(1000 + next++);
        left_cells_ = 0;
      }
      std::vector<nopspan_member> members;
      double ns = fixed;
      double cells = 0, giant_tokens = 0, giant_cells = 0;
      if (left > 0) {
        nopspan_member prompt{};
        prompt.request = giant;
        prompt.prefill_tokens = std::min(left, chunk);
        prompt.context_tokens = done;
        members.push_back(prompt);
        left -= prompt.prefill_tokens;
        const double prefill = prompt.prefill_tokens;
        const double cost = per_member + per_context * done + per_prefill * prefill +
                            per_prefill_context * prefill * (done + prefill / 2);
        done += prompt.prefill_tokens;
        ns += cost;
        truth.stalled_ns += steady * cost;
        giant_tokens = prefill;
        giant_cells = done;
      }
      for (unsigned i = 0; i < steady; ++i) {
        nopspan_member member{};
        member.request = ids[i];
        member.context_tokens = 100 * (i + 1) + step;
        member.decode_tokens = 1;
        members.push_back(member);
        ns += per_member + per_context * member.context_tokens;
        cells += member.context_tokens;
      }
      const double all = (steady + giant_tokens) * (cells + giant_cells + left_cells_);
      const double without_left = (steady + giant_tokens) * (cells + giant_cells);
      ns += per_token_cell * all;
      truth.left_ns += steady * per_token_cell * (all - without_left);
      truth.stalled_ns += steady * per_token_cell * (without_left - steady * cells);
      kv_used_ = keeps_giants ? static_cast<std::uint64_t>(cells + giant_cells + left_cells_) : 0;
      if (std::uniform_real_distribution<double>(0, 1)(random_) < hiccups) ns += 40e6;
      truth.decode_ns += steady * ns;
      add_step(members, static_cast<std::uint64_t>(ns));
      if (giant != 0 && left == 0 && next > 0) {
        end(giant, "giant");
        giant = 0;
        left_cells_ = keeps_giants ? done : 0;
      }
      // One leaves and another one comes, so that the batch varies.
      if (step % 7 == 6 && steady > 1 && !is_constant) {
        end(ids.back(), "steady");
        ids.pop_back();
        --steady;
        if (steady < 3) {
          for (; steady < 9; ++steady) ids.push_back(begin(10'000 + step * 10 + steady));
        }
      }
    }
    for (const std::uint64_t id : ids) end(id, "steady");
    blame.finish();
  }

  Truth truth;
  std::vector<Blame::Request> requests;
  Blame blame{
      {}, [](const Entry&) { return true; }, [this](const Blame::Request& request) { requests.push_back(request); }};

  [[nodiscard]] double charged_ns(Cause cause = Cause::others_prefill) const {
    double sum = 0;
    for (const auto& request : requests) {
      if (request.tenant == "steady") sum += request.of(cause);
    }
    return sum;
  }

 private:
  std::uint64_t begin(std::uint64_t id) {
    begun_[id] = now_ns_;
    return id;
  }
  void end(std::uint64_t id, const char* tenant) {
    Entry entry = span_of(id, 0, "engine.request");
    entry.start_unix_ns = begun_.at(id);
    entry.duration_ns = now_ns_ - entry.start_unix_ns;
    entry.tenant = tenant;
    blame.on_entry(entry);
  }
  void add_step(const std::vector<nopspan_member>& members, std::uint64_t ns) {
    nopspan_step facts{};
    facts.members = facts.batch_size = static_cast<unsigned>(members.size());
    facts.number = ++number_;
    facts.kv_used = kv_used_;
    Entry entry =
        step_of(1'000'000 + number_,
                {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)}, facts);
    entry.start_unix_ns = now_ns_;
    entry.duration_ns = ns;
    const bool is_skipped = skipped > 0 && number_ % 20 == 5 && members[0].prefill_tokens == 0;
    if (is_skipped)
      --skipped;
    else
      blame.on_entry(entry);
    now_ns_ += ns + 100'000;  // the host
  }

  std::mt19937_64 random_{5};
  std::uint64_t now_ns_ = kBegin, number_ = 0, kv_used_ = 0;
  double left_cells_ = 0;
  std::map<std::uint64_t, std::uint64_t> begun_;
};

TEST(Blame, ChargesWhoStalledOthers) {
  PricedEngine engine;
  engine.run(9, 1500, {2000, 4000, 1500, 3000, 900, 2500, 4000});
  ASSERT_THAT(engine.blame.fits(), SizeIs(1));
  const Blame::Fit& fit = engine.blame.fits()[0];
  EXPECT_EQ(fit.steps, 1500);
  EXPECT_EQ(fit.missing, 0);
  EXPECT_THAT(fit.standard_error / fit.charged_ns, Lt(0.02));
  EXPECT_NEAR(engine.charged_ns() / engine.truth.stalled_ns, 1, 0.02);
  for (const Blame::Request& request : engine.requests) {
    double sum = 0;
    for (const double ns : request.ns) sum += ns;
    EXPECT_NEAR(sum, static_cast<double>(request.duration_ns), 1) << request.tenant;
    EXPECT_THAT(request.culprits, Each(Field(&Blame::Culprit::tenant, "giant")));
    if (request.tenant == "giant") {
      EXPECT_THAT(request.culprits, IsEmpty()) << "there is one at a time";
    }
    EXPECT_THAT(std::abs(request.of(Cause::unexplained)), Lt(0.01 * static_cast<double>(request.duration_ns)));
  }
  EXPECT_THAT(engine.requests, Contains(Field(&Blame::Request::culprits, SizeIs(Gt(0)))));
}

TEST(Blame, LeavesHiccupsUnexplained) {
  PricedEngine engine;
  engine.hiccups = 0.02;
  engine.per_prefill = engine.per_prefill_context = engine.per_context = engine.per_member = 0;
  engine.run(9, 1500, {2000, 4000, 1500, 3000, 900, 2500, 4000});
  EXPECT_THAT(engine.charged_ns(), Lt(0.02 * engine.truth.decode_ns));
}

TEST(Blame, KnowsThatItCannotKnow) {
  PricedEngine engine;
  engine.is_constant = true;
  engine.chunk = 128;
  engine.run(8, 300, {1'000'000});
  EXPECT_FALSE(engine.blame.fits().at(0).is_identified());
}

TEST(Blame, HasNothingToKnowWithoutPrompts) {
  PricedEngine engine;
  engine.run(9, 300, {});
  EXPECT_TRUE(engine.blame.fits().at(0).is_identified());
  EXPECT_EQ(engine.blame.fits().at(0).charged_ns, 0);
}

TEST(Blame, NamesWhoLeftCellsInTheCache) {
  PricedEngine engine;
  engine.per_token_cell = 20;
  engine.keeps_giants = true;
  engine.run(9, 1500, {2000, 4000, 1500, 3000, 900, 2500, 4000});
  EXPECT_NEAR(engine.charged_ns() / engine.truth.stalled_ns, 1, 0.02);
  EXPECT_NEAR(engine.charged_ns(Cause::cells_left) / engine.truth.left_ns, 1, 0.02);
  double named_ns = 0;
  for (const Blame::Request& request : engine.requests) {
    for (const Blame::Culprit& one : request.culprits) named_ns += one.tenant == "giant" ? one.cells_ns : 0;
  }
  EXPECT_NEAR(named_ns / engine.truth.left_ns, 1, 0.05);
}

// Requests whose entries arrive one by one.
class BlameOfEntries : public testing::Test {
 protected:
  void make(const BlameLimits& limits) {
    blame.emplace(
        limits, [](const Entry&) { return true; }, [this](const Blame::Request& one) { requests.push_back(one); });
  }
  // Of 10 ms, with these members.
  void step(const std::vector<std::uint64_t>& ids, std::uint64_t at_ms, std::uint64_t instance = 0) {
    nopspan_step facts{};
    facts.members = static_cast<unsigned>(ids.size());
    facts.number = ++number;
    facts.instance = static_cast<decltype(facts.instance)>(instance);
    const std::string_view members = members_for(ids);
    Entry entry = step_of(1000 + number, members, facts);
    entry.start_unix_ns = kBegin + at_ms * 1'000'000;
    entry.duration_ns = 10'000'000;
    blame->on_entry(entry);
  }
  static Entry request(std::uint64_t id, std::uint64_t end_ms) {
    Entry entry = span_of(id, 0, "engine.request");
    entry.start_unix_ns = kBegin;
    entry.duration_ns = end_ms * 1'000'000;
    entry.tenant = "acme";
    return entry;
  }

  std::vector<Blame::Request> requests;
  std::optional<Blame> blame;
  std::uint64_t number = 0;
};

// It may take a while to send the last token.
TEST_F(BlameOfEntries, DeliversARequestThatEndsAfterTheWindow) {
  make({.steps = 1});
  step({5}, 0);
  step({5}, 10);
  blame->finish();
  blame->on_entry(request(5, 30));
  blame->finish();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].steps, 2);
}

TEST_F(BlameOfEntries, DeliversOnceWhenAllStepsHaveArrived) {
  make({});
  step({5, 6}, 0);
  blame->on_entry(request(5, 20));
  blame->settle(kBegin + 20'000'000);
  EXPECT_THAT(requests, SizeIs(0));  // its last step may still arrive
  step({5, 6}, 10);
  for (int i = 0; i < 2; ++i) blame->settle(kBegin + 20'000'000);
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].steps, 2);
  blame->on_entry(request(6, 500));
  blame->settle(kBegin + 3'000'000'000);
  EXPECT_THAT(requests, SizeIs(2));
  blame->finish();
  EXPECT_THAT(requests, SizeIs(2));
  EXPECT_EQ(blame->counts().not_ended, 0);
}

TEST_F(BlameOfEntries, FindsARequestThatHasEnded) {
  make({});
  step({5, 6}, 0);
  EXPECT_FALSE(blame->find(request(5, 10)));
  blame->on_entry(request(5, 10));
  const auto found = blame->find(request(5, 10));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->steps, 1);
  EXPECT_EQ(std::accumulate(found->ns.begin(), found->ns.end(), 0.0), 10e6);
  blame->finish();
  EXPECT_TRUE(blame->find(request(5, 10)));
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].ns, found->ns);
}

TEST_F(BlameOfEntries, KnowsARequestByASpanInsideIt) {
  make({});
  nopspan_member prompt{};
  prompt.request = 7;
  prompt.prefill_tokens = 500;
  for (unsigned i = 0; i < 40; ++i) {
    std::string members(members_for({5}));
    if (i % 2 == 0) members.append(reinterpret_cast<const char*>(&prompt), sizeof(prompt));
    nopspan_step facts{};
    facts.members = 1 + (i % 2 == 0);
    Entry entry = step_of(1000 + i, members, facts);
    entry.start_unix_ns = kBegin + i * 20'000'000;
    entry.duration_ns = i % 2 == 0 ? 20'000'000 : 2'000'000;
    blame->on_entry(entry);
  }
  Entry prefill = span_of(8, 7, "engine.prefill");
  prefill.tenant = "globex";
  blame->on_entry(prefill);
  blame->on_entry(request(5, 800));
  blame->finish();
  ASSERT_THAT(requests, SizeIs(1));
  ASSERT_THAT(requests[0].culprits, SizeIs(1));
  EXPECT_EQ(requests[0].culprits[0].tenant, "globex");
  EXPECT_EQ(requests[0].culprits[0].prefill_tokens, 20 * 500);
}

TEST_F(BlameOfEntries, IsBounded) {
  make({.requests = 3, .engines = 8});
  for (std::uint64_t instance = 1; instance <= 4; ++instance) step({10 + instance}, 0, instance);
  EXPECT_EQ(blame->counts().engines, 2);  // a process has a fourth
  EXPECT_EQ(blame->counts().not_ended, 2);
  step({20, 21, 22}, 10, 3);
  EXPECT_EQ(blame->counts().members, 2);
  // Those that nobody ends make room again.
  for (int i = 0; i < 3; ++i) blame->finish();
  step({20, 21, 22}, 20, 3);
  EXPECT_EQ(blame->counts().members, 2);
  EXPECT_EQ(blame->counts().not_ended, 5);
  EXPECT_EQ(blame->open(), 3);
}

TEST_F(BlameOfEntries, ForgetsEnginesThatHaveStopped) {
  make({});
  blame->settle(kBegin);
  step({5, 6}, 0);
  blame->on_entry(request(5, 10));
  blame->settle(kBegin + 1);
  blame->settle(kBegin + 599'000'000'000);
  EXPECT_EQ(blame->open(), 1);
  blame->settle(kBegin + 601'000'000'000);
  EXPECT_EQ(blame->open(), 0);
  EXPECT_EQ(blame->counts().not_ended, 1);
  EXPECT_THAT(requests, SizeIs(1));
}

TEST_F(BlameOfEntries, KnowsARequestWhoseSpanArrivesBeforeItsStep) {
  make({});
  blame->on_entry(request(5, 10));
  step({5}, 0);
  blame->finish();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].tenant, "acme");
  EXPECT_EQ(requests[0].of(Cause::own_decode) + requests[0].of(Cause::unexplained), 10e6);
}

// A recording that was cut, or an engine that got the request from another one.
TEST_F(BlameOfEntries, KnowsNothingOfTheTimeBeforeTheStepsThatArrived) {
  make({});
  nopspan_member member{};
  member.request = 5;
  member.decode_tokens = 1;
  nopspan_step facts{};
  facts.members = 1;
  for (const std::uint64_t number : {50, 51, 60}) {
    facts.number = number;
    Entry entry = step_of(2000 + number, {reinterpret_cast<const char*>(&member), sizeof(member)}, facts);
    entry.start_unix_ns = kBegin + number * 10'000'000;
    entry.duration_ns = 10'000'000;
    blame->on_entry(entry);
  }
  blame->on_entry(request(5, 900));
  blame->finish();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].of(Cause::queue), 0);
  EXPECT_EQ(requests[0].of(Cause::host), 0);
  EXPECT_NEAR(requests[0].of(Cause::unexplained) + requests[0].of(Cause::own_decode), 900e6, 1);
}

// Each step begins when half of the one before is over; and steps that arrive in another order.
TEST_F(BlameOfEntries, ChargesTimeOnce) {
  make({});
  for (std::uint64_t i = 0; i < 40; ++i) step({5}, 5 * i);
  blame->on_entry(request(5, 205));
  for (std::uint64_t i = 0; i < 40; ++i) step({6}, 1000 + 10 * (i ^ 1U));
  Entry swapped = request(6, 400);
  swapped.start_unix_ns += 1'000'000'000;
  blame->on_entry(swapped);
  blame->finish();
  ASSERT_THAT(requests, SizeIs(2));
  for (const Blame::Request& one : requests) {
    EXPECT_NEAR(one.of(Cause::own_decode), static_cast<double>(one.duration_ns), 1e6) << one.duration_ns;
    EXPECT_NEAR(one.of(Cause::host), 0, 1) << one.duration_ns;
  }
}

// The scheduler of another process names requests by their trace. An agent calls twice.
TEST_F(BlameOfEntries, TellsTheRequestsOfATraceApart) {
  make({});
  const TraceId trace = span_of(1, 0, "engine.request").trace_id;
  const auto add = [&](std::uint64_t at_ms, std::uint64_t other) {
    std::string members(members_for({member_key_of(trace), other}));
    nopspan_member first;
    std::memcpy(&first, members.data(), sizeof(first));
    first.flags = NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY;
    std::memcpy(members.data(), &first, sizeof(first));
    nopspan_step facts{};
    facts.members = 2;
    Entry entry = step_of(5000 + at_ms, members, facts);
    entry.start_unix_ns = kBegin + at_ms * 1'000'000;
    entry.duration_ns = 10'000'000;
    blame->on_entry(entry);
  };
  const auto call = [&](std::uint64_t id, std::uint64_t at_ms) {
    Entry entry = request(id, 100);
    entry.trace_id = trace;
    entry.parent_id = 99;
    entry.start_unix_ns += at_ms * 1'000'000;
    return entry;
  };
  for (std::uint64_t i = 0; i < 10; ++i) add(10 * i, 70);
  blame->on_entry(call(1, 0));
  for (std::uint64_t i = 0; i < 100; ++i) step({70}, 100 + 10 * i);
  for (std::uint64_t i = 0; i < 10; ++i) add(1100 + 10 * i, 70);
  blame->on_entry(call(2, 1100));
  blame->finish();
  ASSERT_THAT(requests, SizeIs(2));
  for (const Blame::Request& one : requests) {
    EXPECT_EQ(one.steps, 10);
    EXPECT_NEAR(one.of(Cause::own_decode) + one.of(Cause::unexplained), 100e6, 1);
  }
}

// Its window ends while its last step may still arrive.
TEST_F(BlameOfEntries, ConcludesARequestOnce) {
  make({.steps = 3});
  step({5, 6}, 0);
  step({6}, 10);
  step({5, 6}, 20);
  Entry entry = request(5, 35);
  entry.engine_times.preemptions = 1;
  blame->on_entry(entry);
  step({6}, 30);  // of the next window
  blame->finish();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_NEAR(requests[0].of(Cause::preemption), 10e6, 1);
  EXPECT_NEAR(requests[0].of(Cause::host), 5e6, 1);
}

TEST_F(BlameOfEntries, TellsAdmissionFromTheQueue) {
  make({});
  nopspan_member prompt{};
  prompt.request = 5;
  prompt.prefill_tokens = 100;
  nopspan_step facts{};
  facts.members = facts.number = 1;
  Entry first = step_of(1001, {reinterpret_cast<const char*>(&prompt), sizeof(prompt)}, facts);
  first.start_unix_ns = kBegin + 30'000'000;
  first.duration_ns = 10'000'000;
  blame->on_entry(first);
  const std::string attributes = integer_attribute("nopspan.admission_ns", 20'000'000);
  Entry ended = request(5, 40);
  ended.attributes = attributes;
  blame->on_entry(ended);
  blame->finish();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].of(Cause::admission), 20e6);
  EXPECT_EQ(requests[0].of(Cause::queue), 10e6);
}

// The host may have done nothing, or what is missing.
TEST_F(BlameOfEntries, DoesNotTakeStepsThatAreMissingForTheHost) {
  for (const bool misses : {false, true}) {
    make({});
    requests.clear();
    step({5}, 0);
    step({6}, 10);
    if (misses) ++number;
    step({6}, 30);
    step({5}, 40);
    blame->on_entry(request(5, 50));
    blame->finish();
    ASSERT_THAT(requests, SizeIs(1));
    EXPECT_EQ(requests[0].of(Cause::host), misses ? 0 : 10e6);
    EXPECT_NEAR(std::accumulate(requests[0].ns.begin(), requests[0].ns.end(), 0.0), 50e6, 1);
  }
}

TEST_F(BlameOfEntries, KnowsPreemptionThatBeganInAnEarlierWindow) {
  make({.steps = 30});
  for (std::uint64_t i = 0; i < 10; ++i) step({5, 6}, 10 * i);
  for (std::uint64_t i = 10; i < 60; ++i) step({6}, 10 * i);
  for (std::uint64_t i = 60; i < 70; ++i) step({5, 6}, 10 * i);
  Entry entry = request(5, 700);
  entry.engine_times.preemptions = 1;
  blame->on_entry(entry);
  blame->finish();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_NEAR(requests[0].of(Cause::preemption) + requests[0].of(Cause::host), 500e6, 1);
  EXPECT_GT(requests[0].of(Cause::preemption), 250e6);
}

TEST(BlameTable, IsBounded) {
  BlameTable table(BlameBy::tenant, 4, 2);
  double lost_ns = 0;
  for (int i = 0; i < 1000; ++i) {
    Blame::Request request;
    request.tenant = "tenant " + std::to_string(i % 10);
    request.duration_ns = 100;
    request.ns[static_cast<std::size_t>(Cause::others_prefill)] = i + 2;
    request.culprits = {{1, "id", "tenant " + std::to_string((i + 3) % 10), "", i + 1.0}};  // the rest is unknown
    lost_ns += i + 2;
    table.add(request);
  }
  EXPECT_THAT(table.victims(), SizeIs(Le(8)));
  EXPECT_THAT(table.stalls(), SizeIs(Le(8)));
  std::uint64_t count = 0;
  for (const auto& [name, one] : table.victims()) count += one.requests;
  EXPECT_EQ(count, 1000);
  double stalled_ns = 0, sum_ns = 0;
  for (const auto& [name, one] : table.victims()) stalled_ns += one.stalled_ns;
  for (const auto& [who, one] : table.stalls()) sum_ns += one.ns;
  EXPECT_EQ(stalled_ns, lost_ns);
  EXPECT_EQ(sum_ns, lost_ns);
  ASSERT_THAT(table.requests(), SizeIs(2));
  EXPECT_EQ(table.requests()[0].stalled_ns(), 1001);
}

TEST(Blame, CountsStepsThatDidNotArrive) {
  PricedEngine engine;
  engine.skipped = 7;
  engine.run(9, 1500, {2000, 4000, 1500, 3000, 900, 2500, 4000});
  EXPECT_EQ(engine.blame.fits().at(0).missing, 7);
  EXPECT_NEAR(engine.charged_ns() / engine.truth.stalled_ns, 1, 0.02);
}

}  // namespace
}  // namespace nopspan::collector
