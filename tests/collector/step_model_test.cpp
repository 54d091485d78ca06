// SPDX-License-Identifier: Apache-2.0
#include "blame/step_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::DoubleNear;
using testing::Lt;

// In nanoseconds, as the terms of StepModel.
constexpr StepModel::Amounts kPrices = {2e6, 50e3, 2.0, 20e3, 3.0, 0, 0.01};

double price_of(const StepModel::Amounts& amounts) {
  double ns = 0;
  for (std::size_t i = 0; i < amounts.size(); ++i) ns += kPrices[i] * amounts[i];
  return ns;
}

// An engine that decodes up to 16 requests, and sometimes processes a prompt in chunks.
struct SimulatedSteps {
  std::mt19937_64 random{7};
  double noise = 0.03, hiccups = 0;
  bool is_constant = false;
  std::function<double(const StepModel::Amounts&)> price = price_of;

  struct Run {
    std::vector<StepModel::Step> steps;
    StepModel::Amounts prompts{};  // what the prompts added
    double prompts_ns = 0;
  };
  Run run(std::size_t count) {
    Run made;
    std::normal_distribution<double> off(1, noise);
    std::uniform_real_distribution<double> chance(0, 1);
    double left = 0, done = 0, context = 0;
    unsigned decoding = 8;
    for (std::size_t i = 0; i < count; ++i) {
      if (!is_constant && i % 16 == 0) decoding = 1 + static_cast<unsigned>(random() % 16);
      if (is_constant || (left <= 0 && chance(random) < 0.05)) {
        if (left <= 0) done = 0;
        left = is_constant ? 1e9 : 200 + static_cast<double>(random() % 4000);
      }
      context = is_constant ? context + 8 : static_cast<double>(random() % 20'000);
      StepWork work;
      work.members = decoding;
      work.tokens = decoding;
      work.context = work.cells = context;
      const StepModel::Amounts without = StepModel::amounts_of(work);
      if (left > 0) {
        nopspan_member prompt{};
        prompt.prefill_tokens = static_cast<unsigned>(std::min(left, 488.0));
        prompt.context_tokens = static_cast<unsigned>(done);
        if (!is_constant) done += prompt.prefill_tokens;
        left -= prompt.prefill_tokens;
        work += StepWork::of(prompt);
      }
      const StepModel::Amounts with = StepModel::amounts_of(work);
      for (std::size_t term = 0; term < with.size(); ++term) made.prompts[term] += with[term] - without[term];
      made.prompts_ns += price(with) - price(without);
      double ns = price(with) * std::max(0.5, off(random));
      if (chance(random) < hiccups) ns += 50e6 * chance(random);
      made.steps.push_back({with, ns});
    }
    return made;
  }
};

TEST(StepModel, FindsWhatThePromptsCost) {
  SimulatedSteps engine;
  const SimulatedSteps::Run run = engine.run(2000);
  const StepModel model(run.steps);
  EXPECT_NEAR(model.ns(run.prompts) / run.prompts_ns, 1, 0.02);
  EXPECT_THAT(model.standard_error(run.prompts) / run.prompts_ns, Lt(0.02));
  EXPECT_THAT(model.residual(), Lt(0.05));
  EXPECT_THAT(model.condition(), Lt(1e3));
}

TEST(StepModel, LearnsLittleFromHiccups) {
  SimulatedSteps engine;
  engine.hiccups = 0.03;
  const SimulatedSteps::Run run = engine.run(2000);
  EXPECT_NEAR(StepModel(run.steps).ns(run.prompts) / run.prompts_ns, 1, 0.03);
}

TEST(StepModel, ChargesNothingForPromptsThatCostNothing) {
  SimulatedSteps engine;
  engine.hiccups = 0.03;
  engine.price = [](const StepModel::Amounts& amounts) { return 2e6 + 5.0 * 0 * amounts[0]; };
  const SimulatedSteps::Run run = engine.run(2000);
  double all_ns = 0;
  for (const StepModel::Step& step : run.steps) all_ns += step.ns;
  EXPECT_THAT(StepModel(run.steps).ns(run.prompts) / all_ns, Lt(0.02));
}

TEST(StepModel, DoesNotKnowTheCostOfWhatIsInEachStep) {
  SimulatedSteps engine;
  engine.is_constant = true;
  const SimulatedSteps::Run run = engine.run(300);
  const StepModel model(run.steps);
  EXPECT_TRUE(std::isinf(model.standard_error(run.prompts)));
  EXPECT_TRUE(std::isinf(model.condition()));
}

TEST(StepModel, KnowsNothingWithoutSteps) {
  const StepModel none;
  EXPECT_EQ(none.ns({1, 1, 1, 1, 1, 1, 1}), 0);
  EXPECT_TRUE(std::isinf(none.standard_error({1, 0, 0, 0, 0, 0, 0})));
  const StepModel one({{{1, 2, 0, 0, 0, 0, 0}, 1e6}});
  EXPECT_TRUE(std::isinf(one.standard_error({0, 1, 0, 0, 0, 0, 0})));
}

}  // namespace
}  // namespace nopspan::collector
