// SPDX-License-Identifier: Apache-2.0
#include "blame/step_model.h"

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <limits>

namespace nopspan::collector {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Directions in which the amounts vary less than this, relative to the most varied one, are noise of the numbers.
constexpr double kLeastVariation = 1e-7;
constexpr int kRounds = 30;
constexpr double kSame = 1e-7;  // of the prices of two rounds

double median(const Eigen::VectorXd& values) {
  return collector::median(std::vector<double>(values.begin(), values.end()));
}

// Least squares with coefficients that are not negative: the most negative one is left out until there is none.
Eigen::VectorXd non_negative(const Eigen::MatrixXd& amounts, const Eigen::VectorXd& times) {
  std::vector<Eigen::Index> kept(static_cast<std::size_t>(amounts.cols()));
  for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = static_cast<Eigen::Index>(i);
  Eigen::VectorXd all = Eigen::VectorXd::Zero(amounts.cols());
  while (!kept.empty()) {
    const Eigen::VectorXd found = Eigen::MatrixXd(amounts(Eigen::all, kept)).colPivHouseholderQr().solve(times);
    Eigen::Index least = 0;
    if (found.minCoeff(&least) >= 0) {
      for (std::size_t i = 0; i < kept.size(); ++i) all[kept[i]] = found[static_cast<Eigen::Index>(i)];
      break;
    }
    kept.erase(kept.begin() + least);
  }
  return all;
}

// As many of the steps with prompts or drafts as of the others, if there are many: prompts may be rare.
std::vector<StepModel::Step> some_of(const std::vector<StepModel::Step>& steps) {
  constexpr std::size_t kMost = 4096;
  const auto is_plain = [](const StepModel::Step& step) {
    return step.amounts[StepModel::prefill] <= 0 && step.amounts[StepModel::drafted] <= 0;
  };
  std::size_t all[2] = {}, seen[2] = {};
  for (const auto& step : steps) ++all[is_plain(step)];
  std::vector<StepModel::Step> some;
  for (const auto& step : steps) {
    const bool plain = is_plain(step);
    if (seen[plain]++ % ((all[plain] + kMost - 1) / kMost) == 0) some.push_back(step);
  }
  return some;
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

StepWork StepWork::of(const nopspan_member& member) {
  StepWork work;
  work.members = 1;
  work.context = member.context_tokens;
  work.prefill = member.prefill_tokens;
  work.prefill_context = work.prefill * (work.context + work.prefill / 2);
  work.drafted = member.drafted_tokens;
  work.tokens = work.prefill > 0 ? work.prefill : 1 + work.drafted;
  work.cells = work.context + work.prefill;
  return work;
}

StepWork StepWork::left_of(double kv_used) const {
  StepWork work;
  work.cells = std::max(0.0, kv_used - cells);
  return work;
}

StepWork& StepWork::operator+=(const StepWork& other) {
  members += other.members;
  context += other.context;
  prefill += other.prefill;
  prefill_context += other.prefill_context;
  drafted += other.drafted;
  tokens += other.tokens;
  cells += other.cells;
  return *this;
}

StepWork& StepWork::operator-=(const StepWork& other) {
  members -= other.members;
  context -= other.context;
  prefill -= other.prefill;
  prefill_context -= other.prefill_context;
  drafted -= other.drafted;
  tokens -= other.tokens;
  cells -= other.cells;
  return *this;
}

StepModel::Amounts StepModel::amounts_of(const StepWork& work) {
  return {1, work.members, work.context, work.prefill, work.prefill_context, work.drafted, work.tokens * work.cells};
}

StepModel::StepModel(const std::vector<Step>& all) {
  if (all.empty()) return;
  const std::vector<Step> steps = some_of(all);
  const auto rows = static_cast<Eigen::Index>(steps.size());
  // Errors are relative, so that short steps count as much as long ones.
  Eigen::VectorXd times(rows), relative(rows);
  for (Eigen::Index row = 0; row < rows; ++row) times[row] = steps[static_cast<std::size_t>(row)].ns;
  const double floor = std::max(0.2 * median(times), 1.0);
  relative = times.cwiseMax(floor).cwiseInverse();
  std::vector<std::size_t> terms;
  for (std::size_t term = 0; term < kTerms; ++term) {
    double sum = 0;
    for (Eigen::Index row = 0; row < rows; ++row)
      sum += std::pow(steps[static_cast<std::size_t>(row)].amounts[term] * relative[row], 2);
    scale_[term] = std::sqrt(sum);
    if (sum > 0) terms.push_back(term);
  }
  Eigen::MatrixXd amounts(rows, static_cast<Eigen::Index>(terms.size()));
  for (Eigen::Index row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < terms.size(); ++i) {
      amounts(row, static_cast<Eigen::Index>(i)) =
          steps[static_cast<std::size_t>(row)].amounts[terms[i]] / scale_[terms[i]];
    }
  }
  Eigen::VectorXd weights = relative, prices, far;
  for (int round = 0; round < kRounds; ++round) {
    const Eigen::VectorXd before = prices;
    prices = non_negative(weights.asDiagonal() * amounts, weights.cwiseProduct(times));
    if (round > 0 && (prices - before).norm() <= kSame * prices.norm()) break;
    far = (times - amounts * prices).cwiseProduct(relative);
    const double usual = std::max(1.4826 * median(far.cwiseAbs()), 1e-4);
    for (Eigen::Index row = 0; row < rows; ++row) {
      // A step may well take longer than its work, but hardly be shorter.
      const double off = far[row] > 0 ? far[row] / usual : -far[row] / (3 * usual);
      weights[row] = relative[row] / std::sqrt(std::max(1.0, off));
    }
  }
  for (std::size_t i = 0; i < terms.size(); ++i)
    prices_[terms[i]] = prices[static_cast<Eigen::Index>(i)] / scale_[terms[i]];
  residual_ = median(((times - amounts * prices).cwiseQuotient(times.cwiseMax(1.0))).cwiseAbs());

  const Eigen::MatrixXd weighted = weights.asDiagonal() * amounts;
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(weighted, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const auto& sizes = svd.singularValues();
  const double squares = weights.cwiseProduct(times - amounts * prices).squaredNorm();
  const double variance = squares / std::max<double>(1, static_cast<double>(rows - amounts.cols()));
  for (Eigen::Index i = 0; i < sizes.size(); ++i) {
    const bool varies = sizes[i] > kLeastVariation * sizes[0];
    variances_[static_cast<std::size_t>(i)] = varies ? variance / (sizes[i] * sizes[i]) : kInfinity;
    for (std::size_t k = 0; k < terms.size(); ++k)
      directions_[static_cast<std::size_t>(i)][terms[k]] = svd.matrixV()(static_cast<Eigen::Index>(k), i);
  }
  const double least = sizes[sizes.size() - 1];
  condition_ = rows < amounts.cols() || least <= kLeastVariation * sizes[0] ? kInfinity : sizes[0] / least;
}

double StepModel::ns(const Amounts& amounts) const {
  double sum = 0;
  for (std::size_t term = 0; term < kTerms; ++term) sum += prices_[term] * amounts[term];
  return sum;
}

double StepModel::standard_error(const Amounts& difference) const {
  constexpr double kNothing = 1e-6;  // of a difference
  double variance = 0, squares = 0, known = 0;
  for (std::size_t term = 0; term < kTerms; ++term) {
    if (scale_[term] > 0)
      squares += std::pow(difference[term] / scale_[term], 2);
    else if (difference[term] != 0)
      return kInfinity;
  }
  for (std::size_t i = 0; i < kTerms; ++i) {
    double along = 0;
    for (std::size_t term = 0; term < kTerms; ++term) {
      if (scale_[term] > 0) along += directions_[i][term] * difference[term] / scale_[term];
    }
    if (std::isinf(variances_[i])) continue;
    known += along * along;
    variance += along * along * variances_[i];
  }
  return squares - known > kNothing * kNothing * squares ? kInfinity : std::sqrt(variance);
}

}  // namespace nopspan::collector
