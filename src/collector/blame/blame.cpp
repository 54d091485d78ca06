// SPDX-License-Identifier: Apache-2.0
#include "blame/blame.h"

#include "facts/row_key.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::uint32_t kNoState = UINT32_MAX;

double& of(Blame::Request& request, Cause cause) { return request.ns[static_cast<std::size_t>(cause)]; }

std::uint64_t number_in(const Entry& entry, std::string_view key) {
  Attribute found;
  const bool is_number = find_attribute(entry, key, found) && found.type == Attribute::Type::integer;
  return is_number && found.integer >= 0 ? static_cast<std::uint64_t>(found.integer) : 0;
}

void sort_by_guilt(std::vector<Blame::Culprit>& culprits) {
  std::sort(culprits.begin(), culprits.end(),
            [](const Blame::Culprit& a, const Blame::Culprit& b) { return a.ns > b.ns; });
}

// The work of the drafts of a member.
StepWork drafts_of(const StepWork& member) {
  StepWork work;
  work.drafted = work.tokens = member.drafted;
  return work;
}

}  // namespace

Blame::Blame(const BlameLimits& limits, Wants wants, Take take)
    : limits_(limits), wants_(std::move(wants)), take_(std::move(take)), by_key_(0, KeyHash{random_seed()}) {}

Blame::Engine& Blame::engine_of(const Entry& step) {
  const Process& process = **step.process;
  const std::uint64_t instance = step.step != nullptr ? step.step->instance : 0;
  const EngineKey key{number_of(process), std::string(step.engine), instance};
  const auto [found, is_new] = engines_.try_emplace(key);
  Engine& engine = found->second;
  if (is_new) {
    engine.number = engines_.size();
    engine.name = std::string(step.engine) + (instance != 0 ? " " + std::to_string(instance) : "") + " of " +
                  process_text(process);
    of_process_[std::get<0>(key)].push_back(&engine);
  }
  return engine;
}

std::uint32_t Blame::state_of(const Key& key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) return found->second;
  if (by_key_.size() >= limits_.requests) return kNoState;
  std::uint32_t number = 0;
  if (free_.empty()) {
    number = static_cast<std::uint32_t>(states_.size());
    states_.emplace_back();
  } else {
    number = free_.back();
    free_.pop_back();
  }
  State& state = states_[number];
  state = {};
  state.key = key;
  by_key_.emplace(key, number);
  return number;
}

void Blame::on_entry(const Entry& entry) {
  if (entry.kind == Kind::part) {
    const auto found = of_process_.find(number_of(**entry.process));
    if (found == of_process_.end()) return;
    for (Engine* engine : found->second) {
      if (engine->step_id == entry.span_id && !engine->steps.empty()) add_members(*engine, entry.members);
    }
  } else if (is_step(entry)) {
    add_step(entry);
  } else if (entry.kind == Kind::span) {
    const auto end = [&](Engine& engine, std::uint64_t id, NamedBy by) {
      const auto found = by_key_.find({engine.number, id, by});
      if (found != by_key_.end()) add_request(engine, found->second, entry);
    };
    const auto found = of_process_.find(number_of(**entry.process));
    if (found != of_process_.end()) {
      for (Engine* engine : found->second) end(*engine, entry.span_id, NamedBy::span);
    }
    if (entry.name == "engine.request" || entry.parent_id == 0) {
      for (auto& [key, engine] : engines_) end(engine, member_key_of(entry.trace_id), NamedBy::trace);
    }
  }
}

void Blame::add_step(const Entry& entry) {
  if (entry.step == nullptr || entry.duration_ns == 0) return;
  Engine& engine = engine_of(entry);
  const bool is_over =
      !engine.steps.empty() && (engine.steps.size() >= limits_.steps || engine.costs.size() >= 4 * limits_.steps ||
                                entry.start_unix_ns >= engine.steps.front().start_ns + limits_.window_ns);
  if (is_over) end_window(engine);
  const nopspan_step& facts = *entry.step;
  Step step{};
  step.start_ns = entry.start_unix_ns;
  step.number = facts.number;
  step.wall_ns = static_cast<double>(entry.duration_ns);
  step.device_ns = static_cast<double>(std::min<std::uint64_t>(facts.device_ns, entry.duration_ns));
  step.left_cells = static_cast<double>(facts.kv_used);
  step.first_cost = step.end_cost = engine.costs.size();
  engine.steps.push_back(step);
  engine.step_id = entry.span_id;
  add_members(engine, entry.members);
}

void Blame::add_members(Engine& engine, std::string_view members) {
  Step& step = engine.steps.back();
  const auto place = static_cast<std::uint32_t>(engine.steps.size() - 1);
  for_each_member(members, [&](const nopspan_member& member) {
    const StepWork work = StepWork::of(member);
    step.all += work;
    const std::uint32_t number = state_of({engine.number, member.request, named_by(member)});
    if (work.prefill > 0 || work.drafted > 0) engine.costs.push_back({number, work, 0});
    if (number == kNoState) return;
    State& state = states_[number];
    if (state.runs.empty()) engine.states.push_back(number);
    if (!state.runs.empty() && state.runs.back().end == place) {
      ++state.runs.back().end;
    } else if (state.runs.empty() || state.runs.back().end < place) {
      state.runs.push_back({place, place + 1});
    }
    if (state.begun_ns == 0) state.begun_ns = step.start_ns;
    ++state.request.steps;
    state.request.prefill_tokens += member.prefill_tokens;
    state.request.decode_tokens += member.decode_tokens;
  });
  step.end_cost = engine.costs.size();
}

void Blame::add_request(Engine& engine, std::uint32_t number, const Entry& entry) {
  State& state = states_[number];
  if (state.has_ended) return;
  if (state.runs.empty()) engine.states.push_back(number);  // its last step was in an earlier window
  state.has_ended = true;
  Request& request = state.request;
  request.request_id = request_id_of(entry);
  request.tenant = entry.tenant;
  request.model = entry.model;
  request.is_wanted = wants_(entry);
  request.start_unix_ns = entry.start_unix_ns;
  request.duration_ns = entry.duration_ns;
  state.admission_ns = number_in(entry, "nopspan.admission_ns");
  state.preemptions = entry.engine_times.preemptions;
}

void Blame::fit(Engine& engine) {
  const bool is_device =
      std::all_of(engine.steps.begin(), engine.steps.end(), [](const Step& one) { return one.device_ns > 0; });
  std::vector<StepModel::Step> samples;
  samples.reserve(engine.steps.size());
  for (Step& step : engine.steps) {
    if (!is_device) step.device_ns = step.wall_ns;
    step.left_cells = std::max(0.0, step.left_cells - step.all.cells);
    step.all.cells += step.left_cells;
    samples.push_back({StepModel::amounts_of(step.all), step.device_ns});
  }
  const StepModel model(samples);
  Fit made;
  StepModel::Amounts charged{};
  for (Step& step : engine.steps) {
    const StepModel::Amounts all = StepModel::amounts_of(step.all);
    step.fitted_ns = model.ns(all);
    made.steps_ns += step.device_ns;
    const auto without = [&](const StepWork& work) {
      StepWork rest = step.all;
      rest -= work;
      return StepModel::amounts_of(rest);
    };
    StepWork prompts, drafts;
    for (std::size_t i = step.first_cost; i < step.end_cost; ++i) {
      Cost& cost = engine.costs[i];
      const StepWork work = cost.work.prefill > 0 ? cost.work : drafts_of(cost.work);
      (cost.work.prefill > 0 ? prompts : drafts) += work;
      cost.ns = step.fitted_ns - model.ns(without(work));
    }
    StepWork left;
    left.cells = step.left_cells;
    step.cells_ns = step.fitted_ns - model.ns(without(left));
    StepWork both = prompts;
    both += drafts;
    both += left;
    const StepModel::Amounts alone = without(both);
    // What prompts and drafts add together is shared as they add alone.
    const double together = std::max(0.0, step.fitted_ns - step.cells_ns - model.ns(alone));
    double sum = 0;
    for (std::size_t i = step.first_cost; i < step.end_cost; ++i) sum += engine.costs[i].ns;
    step.prefill_ns = step.drafts_ns = 0;
    for (std::size_t i = step.first_cost; i < step.end_cost; ++i) {
      Cost& cost = engine.costs[i];
      cost.ns = sum > 0 ? together * cost.ns / sum : 0;
      (cost.work.prefill > 0 ? step.prefill_ns : step.drafts_ns) += cost.ns;
    }
    made.charged_ns += together + step.cells_ns;
    for (std::size_t term = 0; term < all.size(); ++term) charged[term] += all[term] - alone[term];
  }
  made.engine = engine.name;
  made.begin_unix_ns = engine.steps.front().start_ns;
  made.steps = engine.steps.size();
  // Steps may arrive in another order.
  std::uint64_t first = engine.last_number != 0 ? engine.last_number + 1 : UINT64_MAX, numbered = 0;
  for (const Step& step : engine.steps) {
    if (step.number == 0) continue;
    first = std::min(first, step.number);
    engine.last_number = std::max(engine.last_number, step.number);
    ++numbered;
  }
  if (numbered > 0 && engine.last_number - first + 1 > numbered)
    made.missing = engine.last_number - first + 1 - numbered;
  for (std::size_t term = 0; term < StepModel::kTerms; ++term)
    made.prices[term] = model.price(static_cast<StepModel::Term>(term));
  made.residual = model.residual();
  made.condition = model.condition();
  made.standard_error = model.standard_error(charged);
  made.is_device = is_device;
  fits_.push_back(std::move(made));
}

// Charges the steps of the window. A request may have ended after its last step, so that there is none.
void Blame::end_window(Engine& engine) {
  if (!engine.steps.empty()) fit(engine);
  for (const std::uint32_t number : std::exchange(engine.states, {})) {
    charge(engine, states_[number]);
    if (states_[number].has_ended) release(number);
  }
  engine.steps.clear();
  engine.costs.clear();
}

void Blame::charge(Engine& engine, State& state) {
  Request& request = state.request;
  if (state.until_ns == 0 && state.has_ended && state.begun_ns > request.start_unix_ns) {
    const double before = static_cast<double>(state.begun_ns - request.start_unix_ns);
    of(request, Cause::admission) = std::min(before, static_cast<double>(state.admission_ns));
    of(request, Cause::queue) = before - of(request, Cause::admission);
  }
  std::size_t next = state.until_ns == 0 && !state.runs.empty() ? state.runs.front().first : 0;
  for (const Run& run : std::exchange(state.runs, {})) {
    for (; next < run.first; ++next) charge_step(engine, engine.steps[next], state, false);
    for (; next < run.end; ++next) charge_step(engine, engine.steps[next], state, true);
  }
  if (!state.has_ended) return;
  const std::uint64_t end_ns = request.start_unix_ns + request.duration_ns;
  if (end_ns > state.until_ns) of(request, Cause::host) += static_cast<double>(end_ns - state.until_ns);
  // A step that is longer than the request: it ended within it.
  if (end_ns < state.until_ns) of(request, Cause::unexplained) -= static_cast<double>(state.until_ns - end_ns);
  double sum = 0;
  for (const double ns : request.ns) sum += ns;
  of(request, Cause::unexplained) += static_cast<double>(request.duration_ns) - sum;
  sort_by_guilt(request.culprits);
}

// Charges the time from the end of the last step to the end of this one.
void Blame::charge_step(const Engine& engine, const Step& step, State& state, bool is_member) {
  Request& request = state.request;
  const std::uint64_t end_ns = step.start_ns + static_cast<std::uint64_t>(step.wall_ns);
  if (state.until_ns != 0 && step.start_ns > state.until_ns)
    of(request, Cause::host) += static_cast<double>(step.start_ns - state.until_ns);
  state.until_ns = std::max(state.until_ns, end_ns);
  const auto number = static_cast<std::uint32_t>(&state - states_.data());
  Gap gap{step.number, step.wall_ns, 0, {}};
  double own_prompt = 0, own_drafts = 0, prompts = 0;
  for (std::size_t i = step.first_cost; i < step.end_cost; ++i)
    prompts += engine.costs[i].work.prefill > 0 ? engine.costs[i].ns : 0;
  // A step without it, which processed prompts, stalls it as a whole.
  const double scale = is_member || prompts <= 0 ? 1 : step.wall_ns / prompts;
  for (std::size_t i = step.first_cost; i < step.end_cost; ++i) {
    const Cost& cost = engine.costs[i];
    const bool is_prompt = cost.work.prefill > 0;
    if (cost.state == number) {
      (is_prompt ? own_prompt : own_drafts) += cost.ns;
      continue;
    }
    if (!is_member && !is_prompt) continue;
    const double ns = cost.ns * scale;
    of(request, is_prompt ? Cause::others_prefill : Cause::others_drafts) += ns;
    gap.stall_ns += ns;
    if (ns <= 0 || cost.state == kNoState) continue;
    const State& other = states_[cost.state];
    const auto add = [&](std::vector<Culprit>& to, std::size_t most) {
      const auto known =
          std::find_if(to.begin(), to.end(), [&](const Culprit& one) { return one.key == other.key.id; });
      if (known != to.end())
        known->ns += ns;
      else if (to.size() < most)
        to.push_back({other.key.id, other.request.request_id, other.request.tenant, other.request.model, ns});
    };
    add(request.culprits, limits_.culprits);
    add(gap.culprits, 8);
  }
  if (is_member) {
    const bool prefills = own_prompt > 0;
    const double base = step.fitted_ns - step.prefill_ns - step.drafts_ns - step.cells_ns;
    of(request, prefills ? Cause::own_prefill : Cause::own_decode) += base + own_prompt + own_drafts;
    of(request, Cause::cells_left) += step.cells_ns;
    of(request, Cause::host) += step.wall_ns - step.device_ns;
    of(request, Cause::unexplained) += step.device_ns - step.fitted_ns;
    gap.stall_ns += step.cells_ns;
  } else if (prompts <= 0) {
    of(request, state.preemptions > 0 ? Cause::preemption : Cause::unexplained) += step.wall_ns;
  }
  if (gap.stall_ns <= request.worst.stall_ns) return;
  sort_by_guilt(gap.culprits);
  request.worst = std::move(gap);
}

void Blame::release(std::uint32_t number) {
  State& state = states_[number];
  take_(state.request);
  by_key_.erase(state.key);
  free_.push_back(number);
}

void Blame::finish() {
  for (auto& [key, engine] : engines_) end_window(engine);
}

}  // namespace nopspan::collector
