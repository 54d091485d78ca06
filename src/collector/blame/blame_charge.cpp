// SPDX-License-Identifier: Apache-2.0
// How Blame charges a request for the steps that it had, and for those between them that it did not have.
#include "blame/blame.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

namespace nopspan::collector {
namespace {

double& of(Blame::Request& request, Cause cause) { return request.ns[static_cast<std::size_t>(cause)]; }

}  // namespace

// Of the sums up to two steps. Steps that overlap take no more than has elapsed.
void Blame::Sums::add(const Sums& before, const Sums& after, double elapsed_ns) {
  const double all_ns = after.wall_ns - before.wall_ns;
  const double part = all_ns > elapsed_ns ? elapsed_ns / all_ns : 1;
  wall_ns += part * all_ns;
  prefill_ns += part * (after.prefill_ns - before.prefill_ns);
  long_wall_ns += part * (after.long_wall_ns - before.long_wall_ns);
  long_prefill_ns += part * (after.long_prefill_ns - before.long_prefill_ns);
  host_ns += elapsed_ns - part * all_ns;
}

void Blame::Sums::operator+=(const Sums& other) {
  wall_ns += other.wall_ns;
  prefill_ns += other.prefill_ns;
  long_wall_ns += other.long_wall_ns;
  long_prefill_ns += other.long_prefill_ns;
  host_ns += other.host_ns;
}

// Charges the steps of the window. Before the span of the request has arrived, nobody knows whether it was preempted.
void Blame::charge(const Engine& engine, std::uint32_t number, State& state) {
  Request& request = state.request;
  const bool is_bound = state.has_ended && state.key.by == NamedBy::trace;
  const std::uint64_t begin_ns = state.ended.start_ns, end_ns = state.ended.end_ns();
  std::size_t next = 0, cost = 0;
  bool has_steps = false;
  for (const Run& run : state.runs) {
    bool is_charged = false;
    for (std::size_t i = run.first; i < run.end; ++i) {
      const Step& step = engine.steps[i];
      // Others have the same trace id.
      if (is_bound && (step.start_ns >= end_ns || step.end_ns() <= begin_ns)) continue;
      if (state.until_ns == 0) state.begun_ns = step.start_ns;
      if (state.tail_ns > state.until_ns && step.start_ns >= state.tail_ns) {
        state.absent += state.tail;
        state.until_ns = state.tail_ns;
      }
      state.tail = {};
      state.tail_ns = 0;
      if (state.until_ns != 0 && next < i) charge_absence(engine, next, i, number, state);
      Own own;
      for (; cost < state.costs.size() && engine.costs[state.costs[cost]].step <= i; ++cost) {
        const Cost& one = engine.costs[state.costs[cost]];
        if (one.step == i) (one.work.prefill > 0 ? own.prompt_ns : own.drafts_ns) += one.ns;
      }
      charge_step(engine, step, number, state, own);
      has_steps = is_charged = true;
      next = i + 1;
    }
    request.prefill_tokens += is_charged ? run.prefill_tokens : 0;
    request.decode_tokens += is_charged ? run.decode_tokens : 0;
  }
  if (has_steps) request.is_sure = request.is_sure && engine.fit.is_identified() && !engine.fit.is_noisy();
}

bool Blame::misses_steps(const Engine& engine, std::size_t from, std::size_t to) {
  const std::uint64_t first = engine.steps[from].number, last = engine.steps[to].number;
  return first != 0 && last > first && last - first > to - from;
}

// Charges a step to a member, from the end of the last step that it was charged.
void Blame::charge_step(const Engine& engine, const Step& step, std::uint32_t number, State& state,
                        const Own& own) const {
  Request& request = state.request;
  ++request.steps;
  const std::uint64_t end_ns = step.end_ns();
  double covered_ns = step.wall_ns;
  if (state.until_ns != 0 && step.start_ns >= state.until_ns) {
    const auto place = static_cast<std::size_t>(&step - engine.steps.data());
    const bool misses = place > 0 && misses_steps(engine, place - 1, place);
    if (!misses) of(request, Cause::host) += static_cast<double>(step.start_ns - state.until_ns);
    state.gap_from_ns = state.until_ns;
    state.gap_to_ns = step.start_ns;
  } else if (state.until_ns != 0) {
    // Steps may overlap, and one may arrive after a later one.
    const std::uint64_t from = std::max(step.start_ns, state.gap_from_ns), to = std::min(end_ns, state.gap_to_ns);
    covered_ns = end_ns > state.until_ns ? static_cast<double>(end_ns - state.until_ns) : 0;
    if (to > from) {
      covered_ns += static_cast<double>(to - from);
      of(request, Cause::host) -= static_cast<double>(to - from);
      state.gap_from_ns = state.gap_to_ns = 0;
    }
    if (step.start_ns < state.begun_ns) {
      covered_ns += static_cast<double>(std::min(end_ns, state.begun_ns) - step.start_ns);
      state.begun_ns = step.start_ns;
    }
  }
  state.until_ns = std::max(state.until_ns, end_ns);
  const double part = covered_ns / step.wall_ns;
  if (part <= 0) return;
  const double device_ns = engine.ns(step);
  const double base_ns = step.fitted_ns - step.prefill_ns - step.drafts_ns - step.cells_ns;
  const double prefill_ns = std::max(0.0, step.prefill_ns - own.prompt_ns);
  const double drafts_ns = std::max(0.0, step.drafts_ns - own.drafts_ns);
  const auto add = [&](Cause cause, double ns) { of(request, cause) += part * ns; };
  add(own.prompt_ns > 0 ? Cause::own_prefill : Cause::own_decode, base_ns + own.prompt_ns + own.drafts_ns);
  add(Cause::others_prefill, prefill_ns);
  add(Cause::others_drafts, drafts_ns);
  add(Cause::cells_left, step.cells_ns);
  add(Cause::host, step.wall_ns - device_ns);
  add_charges(engine, step, number, part, false, state.charges, limits_.culprits);
  add_stall(engine, step, number, part * (prefill_ns + drafts_ns + step.cells_ns), false, state);
}

// Charges the steps of this range, which do not have the request, although it has some before and after them.
void Blame::charge_absence(const Engine& engine, std::size_t from, std::size_t to, std::uint32_t number, State& state) {
  const std::uint64_t start_ns = engine.steps[to].start_ns;
  if (start_ns <= state.until_ns) return;
  const auto elapsed_ns = static_cast<double>(start_ns - state.until_ns);
  state.until_ns = start_ns;
  Sums absent;
  absent.add(engine.sums[from], engine.sums[to], elapsed_ns);
  if (misses_steps(engine, from > 0 ? from - 1 : from, to)) absent.host_ns = 0;
  state.absent += absent;
  const double wall_ns = engine.sums[to].wall_ns - engine.sums[from].wall_ns;
  const double part = wall_ns > elapsed_ns ? elapsed_ns / wall_ns : 1;
  const std::size_t most = absent_ < BlameLimits::kManyAbsent ? BlameLimits::kAbsent : 1;
  const std::size_t stride = (to - from + most - 1) / most;
  absent_ += (to - from + stride - 1) / stride;
  for (std::size_t i = from; i < to; i += stride) {
    const Step& step = engine.steps[i];
    if (step.prefill_ns <= 0) continue;
    add_charges(engine, step, number, part * static_cast<double>(std::min(stride, to - i)), true, state.charges,
                limits_.culprits);
    add_stall(engine, step, number, part * (step.is_long() ? step.wall_ns : step.prefill_ns), true, state);
  }
}

void Blame::add_charges(const Engine& engine, const Step& step, std::uint32_t number, double part, bool is_absent,
                        std::vector<Charge>& to, std::size_t most) const {
  for (std::size_t i = step.first_named; i < step.end_named; ++i) {
    const Named& one = engine.named[i];
    if (one.state == number || (is_absent && one.cause != Cause::others_prefill)) continue;
    const State& other = states_[one.state];
    auto known = std::find_if(to.begin(), to.end(), [&](const Charge& c) { return c.who == other.names; });
    if (known == to.end()) {
      if (to.size() >= most) continue;
      to.push_back({other.key.id, other.names});
      known = std::prev(to.end());
    } else if (known != to.begin()) {
      std::iter_swap(known, to.begin());  // the next step has it as a rule
      known = to.begin();
    }
    const double ns = part * one.ns;
    (is_absent ? known->absent_ns : known->ns) += ns;
    if (one.cause == Cause::cells_left) known->cells_ns += ns;
    known->prefill_tokens += one.prefill_tokens;
  }
}

void Blame::add_stall(const Engine& engine, const Step& step, std::uint32_t number, double stall_ns, bool is_absent,
                      State& state) const {
  std::vector<Stall>& stalls = state.stalls;
  if (stall_ns <= 0 || (stalls.size() >= BlameLimits::kGaps && stall_ns <= stalls.back().stall_ns)) return;
  if (stalls.size() >= BlameLimits::kGaps) stalls.pop_back();
  Stall stall{step.number, step.wall_ns, stall_ns, {}};
  add_charges(engine, step, number, 1, is_absent, stall.charges, BlameLimits::kNamed);
  stalls.insert(std::upper_bound(stalls.begin(), stalls.end(), stall,
                                 [](const Stall& a, const Stall& b) { return a.stall_ns > b.stall_ns; }),
                std::move(stall));
}

// The request as a whole.
void Blame::conclude(const Engine& engine, State& state) {
  Request& request = state.request;
  const Ended& ended = state.ended;
  request.request_id = ended.names.request_id;
  request.tenant = ended.names.tenant;
  request.model = ended.names.model;
  request.engine = engine.name;
  request.process = engine.process;
  request.start_unix_ns = ended.start_ns;
  request.duration_ns = ended.duration_ns;
  request.is_wanted = ended.is_wanted;
  // Otherwise it may have had steps before that did not arrive, or that another engine made.
  if (state.begun_ns > ended.start_ns && state.has_beginning) {
    const auto before = static_cast<double>(state.begun_ns - ended.start_ns);
    of(request, Cause::admission) = std::min(before, static_cast<double>(ended.admission_ns));
    of(request, Cause::queue) = before - of(request, Cause::admission);
  }
  // If only the root of a trace is known, the program may have done other things between steps.
  const bool may_do_others = state.key.by == NamedBy::trace && !ended.is_request;
  const Sums& absent = state.absent;
  double others_ns =
      ended.preemptions > 0 ? absent.prefill_ns : absent.prefill_ns + absent.long_wall_ns - absent.long_prefill_ns;
  if (may_do_others) others_ns = 0;
  of(request, Cause::others_prefill) += others_ns;
  of(request, Cause::host) += absent.host_ns;
  if (ended.preemptions > 0) of(request, Cause::preemption) = absent.wall_ns - others_ns;
  const std::uint64_t end_ns = ended.end_ns();
  // After the last step of the engine that has arrived, nobody knows.
  const std::uint64_t known_ns = std::min(end_ns, std::max(engine.end_ns, state.until_ns));
  if (known_ns > state.until_ns) of(request, Cause::host) += static_cast<double>(known_ns - state.until_ns);
  const double sum = std::accumulate(request.ns.begin(), request.ns.end(), 0.0);
  of(request, Cause::unexplained) = static_cast<double>(request.duration_ns) - sum;
  const double scale = absent.prefill_ns > 0 ? others_ns / absent.prefill_ns : 0;
  const auto culprits_of = [](const std::vector<Charge>& charges, double of_absent) {
    std::vector<Culprit> culprits;
    for (const Charge& one : charges) {
      const double ns = one.ns + of_absent * one.absent_ns;
      if (ns > 0)
        culprits.push_back(
            {one.key, one.who->request_id, one.who->tenant, one.who->model, ns, one.cells_ns, one.prefill_tokens});
    }
    std::sort(culprits.begin(), culprits.end(), [](const Culprit& a, const Culprit& b) { return a.ns > b.ns; });
    return culprits;
  };
  request.culprits = culprits_of(state.charges, scale);
  for (const Stall& stall : state.stalls)
    request.gaps.push_back({stall.step, stall.ns, stall.stall_ns, culprits_of(stall.charges, 1)});
}

}  // namespace nopspan::collector
