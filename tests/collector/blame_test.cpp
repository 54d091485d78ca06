// SPDX-License-Identifier: Apache-2.0
#include "blame/blame.h"

#include "assembled_traces.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::Contains;
using testing::Each;
using testing::Field;
using testing::Gt;
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

  struct Truth {
    double stalled_ns = 0;  // of the steady ones, by the giants
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
      }
      std::vector<nopspan_member> members;
      double ns = fixed;
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
      }
      for (unsigned i = 0; i < steady; ++i) {
        nopspan_member member{};
        member.request = ids[i];
        member.context_tokens = 100 * (i + 1) + step;
        member.decode_tokens = 1;
        members.push_back(member);
        ns += per_member + per_context * member.context_tokens;
      }
      if (std::uniform_real_distribution<double>(0, 1)(random_) < hiccups) ns += 40e6;
      truth.decode_ns += steady * ns;
      add_step(members, static_cast<std::uint64_t>(ns));
      if (giant != 0 && left == 0 && next > 0) {
        end(giant, "giant");
        giant = 0;
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

  [[nodiscard]] double charged_ns() const {
    double sum = 0;
    for (const auto& request : requests) {
      if (request.tenant == "steady") sum += request.of(Cause::others_prefill);
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
  std::uint64_t now_ns_ = kBegin, number_ = 0;
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

// It may take a while to send the last token.
TEST(Blame, DeliversARequestThatEndsAfterTheWindow) {
  std::vector<Blame::Request> requests;
  Blame blame(
      {.steps = 1}, [](const Entry&) { return true; }, [&](const Blame::Request& one) { requests.push_back(one); });
  nopspan_step facts{};
  facts.members = 1;
  for (const std::uint64_t id : {1, 2}) blame.on_entry(step_of(1000 + id, members_for({5}), facts));
  blame.finish();
  blame.on_entry(span_of(5, 0, "engine.request"));
  blame.finish();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].steps, 2);
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
