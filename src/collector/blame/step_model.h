// SPDX-License-Identifier: Apache-2.0
// What the work of an engine's step costs, learned from the times of many steps.
#pragma once

#include <nopspan/probes.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace nopspan::collector {

double median(std::vector<double> values);  // 0 if there are none

// The work of a step, or of some of its members: sums over these.
struct StepWork {
  double members = 0;
  double context = 0;          // tokens that were in the KV cache before
  double prefill = 0;          // tokens
  double prefill_context = 0;  // of each prefill token, the tokens that it attends to
  double drafted = 0;          // tokens
  double tokens = 0;           // that the step computes
  double cells = 0;            // of the KV cache: those of the members, or all that the step attends to

  static StepWork of(const nopspan_member& member);
  // Of a step with these members: what nobody of them has in the cache.
  [[nodiscard]] StepWork left_of(double kv_used) const;
  StepWork& operator+=(const StepWork& other);
  StepWork& operator-=(const StepWork& other);
};

// Whether the standard error of a cost is small enough to blame somebody. The cost may be nothing, so a small part of
// all time is enough too.
inline bool shows_cost(double standard_error, double cost_ns, double all_ns) {
  constexpr double kMostError = 0.3, kMostErrorOfAll = 0.02;
  return standard_error <= std::max(kMostError * cost_ns, kMostErrorOfAll * all_ns);
}

// time = fixed + the sum of price * amount over the terms below, with prices that are not negative.
class StepModel {
 public:
  enum Term : std::size_t { fixed, members, context, prefill, prefill_context, drafted, token_cells };
  static constexpr std::size_t kTerms = 7;
  static constexpr double kMostResidual = 0.3;  // beyond it, the times scatter too much to charge anybody
  using Amounts = std::array<double, kTerms>;
  // Of a step; the difference of two of them is what some members add.
  static Amounts amounts_of(const StepWork& work);

  struct Step {
    Amounts amounts{};
    double ns = 0;
  };
  // Learns from at most 8,192 of them. Long steps that have no cause in their amounts (hiccups) count little. Without
  // steps, all prices are 0.
  explicit StepModel(const std::vector<Step>& all = {});

  [[nodiscard]] double ns(const Amounts& amounts) const;
  [[nodiscard]] double price(Term term) const { return prices_[term]; }
  // The median of how far the steps are from the model, relative to their times.
  [[nodiscard]] double residual() const { return residual_; }
  // How well the steps tell the terms apart that they have: the condition number of their amounts. Infinity if they do
  // not.
  [[nodiscard]] double condition() const { return condition_; }
  // The standard error of ns(difference), without the knowledge that prices are not negative: that hides what the
  // steps do not tell apart. Infinity if it cannot be known from the steps.
  [[nodiscard]] double standard_error(const Amounts& difference) const;

 private:
  Amounts prices_{};
  Amounts scale_{};                           // by which each term was divided; 0: no step has it
  std::array<Amounts, kTerms> directions_{};  // orthogonal ones of the scaled terms
  Amounts variances_{};                       // along these; infinity: no step shows it
  double residual_ = 0, condition_ = 0;
};

}  // namespace nopspan::collector
