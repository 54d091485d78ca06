// SPDX-License-Identifier: Apache-2.0
#include "blame/blame.h"

#include "facts/row_key.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <tuple>
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

// The work of the drafts of a member.
StepWork drafts_of(const StepWork& member) {
  StepWork work;
  work.drafted = work.tokens = member.drafted;
  return work;
}

void sort_by_guilt(std::vector<Blame::Culprit>& culprits) {
  std::sort(culprits.begin(), culprits.end(),
            [](const Blame::Culprit& a, const Blame::Culprit& b) { return a.ns > b.ns; });
}

std::uint64_t end_of(const Blame::Request& request) { return request.start_unix_ns + request.duration_ns; }

// Who has something in the cache of an engine without a part in its steps. If the cache has more cells beside the
// members when a request leaves these, it keeps them. When there are fewer again, it has forgotten the oldest ones.
class Holders {
 public:
  struct Holder {
    std::uint32_t from, until, state;  // steps
    double cells;
    std::uint64_t since;
  };
  explicit Holders(std::vector<Holder> all) : all_(std::move(all)) {
    std::sort(all_.begin(), all_.end(),
              [](const Holder& a, const Holder& b) { return std::tie(a.from, a.since) < std::tie(b.from, b.since); });
  }
  // Call it for each step. `left`: the cells beside its members.
  void move_to(std::size_t step, double left) {
    double more = left - unknown_;
    std::erase_if(now_, [&](const Holder& one) { return one.until <= step; });
    for (const Holder& one : now_) more -= one.cells;
    for (; next_ < all_.size() && all_[next_].from <= step; ++next_) {
      Holder& one = now_.emplace_back(all_[next_]);
      if (step > 0) one.cells = std::clamp(more, 0.0, one.cells);
      more -= one.cells;
      if (one.cells <= 0) now_.pop_back();
    }
    if (now_.size() > BlameLimits::kHolders) {
      const auto end = now_.end() - static_cast<std::ptrdiff_t>(BlameLimits::kHolders);
      std::for_each(now_.begin(), end, [this](const Holder& one) { unknown_ += one.cells; });
      now_.erase(now_.begin(), end);
    }
    unknown_ += more;
    for (auto one = now_.begin(); unknown_ < 0 && one != now_.end(); ++one) {
      const double forgotten = std::min(one->cells, -unknown_);
      one->cells -= forgotten;
      unknown_ += forgotten;
    }
  }
  // Calls on_share(state, part) for those that have a large part of these cells.
  template <class OnShare>
  void share(double cells, const OnShare& on_share) const {
    constexpr double kLeast = 0.05;
    for (const Holder& one : now_) {
      if (one.cells >= kLeast * cells) on_share(one.state, one.cells / cells);
    }
  }

 private:
  std::vector<Holder> all_;
  std::size_t next_ = 0;
  std::vector<Holder> now_;  // the latest one is the last
  double unknown_ = 0;       // of nobody that is known
};

}  // namespace

StepWork Blame::Step::left() const {
  StepWork work;
  work.cells = std::max(0.0, kv_used - members.cells);
  return work;
}

StepWork Blame::Step::all() const {
  StepWork work = members;
  work += left();
  return work;
}

Blame::Blame(const BlameLimits& limits, Wants wants, Take take)
    : limits_(limits), wants_(std::move(wants)), take_(std::move(take)), by_key_(0, KeyHash{random_seed()}) {}

Blame::Engine* Blame::engine_of(const Entry& step) {
  const Process& process = **step.process;
  const std::uint64_t instance = step.step->instance;
  EngineKey key{number_of(process), std::string(step.engine), instance};
  if (const auto found = engines_.find(key); found != engines_.end()) return &found->second;
  if (engines_.size() >= limits_.engines) return nullptr;
  Engine& engine = engines_[key];
  engine.number = engines_.size();
  engine.name = step.engine;
  engine.process = *step.process;
  engine.text = engine.name + (instance != 0 ? " " + std::to_string(instance) : "") + " of " + process_text(process);
  of_process_[std::get<0>(key)].push_back(&engine);
  return &engine;
}

std::uint32_t Blame::state_of(Engine& engine, const Key& key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) return found->second;
  if (by_key_.size() >= limits_.requests) return kNoState;
  auto number = static_cast<std::uint32_t>(states_.size());
  if (free_.empty()) {
    states_.emplace_back();
  } else {
    number = free_.back();
    free_.pop_back();
  }
  states_[number].key = key;
  by_key_.emplace(key, number);
  engine.states.push_back(number);
  return number;
}

template <class OnState>
void Blame::each_state(const Entry& span, const OnState& on_state) {
  const auto of_key = [&](Engine& engine, std::uint64_t id, NamedBy by, bool is_it) {
    const auto found = by_key_.find({engine.number, id, by});
    if (found != by_key_.end()) on_state(engine, found->second, is_it);
  };
  const auto found = of_process_.find(number_of(**span.process));
  if (found != of_process_.end()) {
    for (Engine* engine : found->second) {
      of_key(*engine, span.span_id, NamedBy::span, true);
      if (span.parent_id != 0) of_key(*engine, span.parent_id, NamedBy::span, false);
    }
  }
  if (!has_trace_keys_) return;
  const bool is_it = span.name == "engine.request" || span.parent_id == 0;
  for (auto& [key, engine] : engines_) {
    if (engine.has_trace_keys) of_key(engine, member_key_of(span.trace_id), NamedBy::trace, is_it);
  }
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
    each_state(entry, [&](Engine& /*engine*/, std::uint32_t number, bool is_it) {
      State& state = states_[number];
      if (state.has_ended) return;
      Request& request = state.request;
      // A span inside the request ends before it, and names it too.
      if (is_it || request.request_id.empty()) {
        request.request_id = request_id_of(entry);
        request.tenant = entry.tenant;
        request.model = entry.model;
      }
      if (!is_it) return;
      state.has_ended = true;
      request.is_wanted = wants_(entry);
      request.start_unix_ns = entry.start_unix_ns;
      request.duration_ns = entry.duration_ns;
      state.admission_ns = number_in(entry, "nopspan.admission_ns");
      state.preemptions = entry.engine_times.preemptions;
    });
  }
}

void Blame::add_step(const Entry& entry) {
  if (entry.step == nullptr || entry.duration_ns == 0) return;
  Engine* engine = engine_of(entry);
  if (engine == nullptr) {
    ++counts_.steps;
    return;
  }
  // If there are many engines, each has shorter windows.
  constexpr std::size_t kLeast = 256, kSteps = 4;
  const std::size_t steps = engine->steps.size(), costs = engine->costs.size();
  const bool has_no_room =
      steps_ >= kSteps * limits_.steps || costs_ >= 2 * kSteps * limits_.steps || by_key_.size() >= limits_.requests;
  const bool is_over = steps >= limits_.steps || costs >= kSteps * limits_.steps || (has_no_room && steps >= kLeast) ||
                       (steps > 0 && entry.start_unix_ns >= engine->steps.front().start_ns + limits_.window_ns);
  if (is_over) end_window(*engine, false);
  const nopspan_step& facts = *entry.step;
  Step step{};
  step.start_ns = entry.start_unix_ns;
  step.number = facts.number;
  step.wall_ns = static_cast<double>(entry.duration_ns);
  step.device_ns = static_cast<double>(std::min<std::uint64_t>(facts.device_ns, entry.duration_ns));
  step.kv_used = static_cast<double>(facts.kv_used);
  step.first_cost = step.end_cost = engine->costs.size();
  engine->steps.push_back(step);
  engine->step_id = entry.span_id;
  engine->end_ns = std::max(engine->end_ns, step.end_ns());
  now_ns_ = std::max(now_ns_, engine->end_ns);
  ++steps_;
  add_members(*engine, entry.members);
}

void Blame::add_members(Engine& engine, std::string_view members) {
  Step& step = engine.steps.back();
  const auto place = static_cast<std::uint32_t>(engine.steps.size() - 1);
  for_each_member(members, [&](const nopspan_member& member) {
    const StepWork work = StepWork::of(member);
    step.members += work;
    const NamedBy by = named_by(member);
    const std::uint32_t number = state_of(engine, {engine.number, member.request, by});
    engine.has_trace_keys = engine.has_trace_keys || by == NamedBy::trace;
    has_trace_keys_ = has_trace_keys_ || by == NamedBy::trace;
    const bool adds = work.prefill > 0 || work.drafted > 0;
    const bool has_room = engine.costs.size() < 8 * limits_.steps;
    if (number == kNoState || (adds && !has_room)) ++counts_.members;
    if (adds && has_room) {
      if (number != kNoState) states_[number].costs.push_back(static_cast<std::uint32_t>(engine.costs.size()));
      engine.costs.push_back({number, place, work, 0});
      ++costs_;
    }
    if (number == kNoState) return;
    State& state = states_[number];
    const std::uint32_t cells = member.context_tokens + member.prefill_tokens + member.decode_tokens;
    std::vector<Run>& runs = state.runs;
    if (!runs.empty() && runs.back().end >= place) {
      runs.back() = {runs.back().first, place + 1, cells};
    } else {
      runs.push_back({place, place + 1, cells});
    }
    if (state.begun_ns == 0) state.begun_ns = step.start_ns;
    state.window = engine.window;
    ++state.request.steps;
    state.request.prefill_tokens += member.prefill_tokens;
    state.request.decode_tokens += member.decode_tokens;
  });
  step.end_cost = engine.costs.size();
}

// Charges the steps that arrived since the last fit by its prices, if there are few of them.
void Blame::fit_roughly(Engine& engine) {
  std::size_t& fitted = engine.fitted_steps;
  if (engine.steps.size() - engine.modelled_steps > engine.modelled_steps / 10) return fit(engine);
  StepModel::Amounts charged{};
  for (; fitted < engine.steps.size(); ++fitted) {
    fit_step(engine, engine.steps[fitted], charged);
    engine.steps[fitted].end_named = engine.named.size();
  }
}

// Fits the steps of the window so far.
void Blame::fit(Engine& engine) {
  if (engine.modelled_steps == engine.steps.size()) return;
  engine.modelled_steps = engine.fitted_steps = engine.steps.size();
  Fit& made = engine.fit = {};
  made.engine = engine.text;
  made.begin_unix_ns = engine.steps.front().start_ns;
  made.steps = engine.steps.size();
  made.is_device =
      std::all_of(engine.steps.begin(), engine.steps.end(), [](const Step& one) { return one.device_ns > 0; });
  std::vector<StepModel::Step> samples;
  samples.reserve(engine.steps.size());
  for (const Step& step : engine.steps) samples.push_back({StepModel::amounts_of(step.all()), engine.ns(step)});
  engine.model = StepModel(samples);
  const StepModel& model = engine.model;
  StepModel::Amounts charged{};
  engine.named.clear();
  std::vector<Holders::Holder> absent;
  const auto count = static_cast<std::uint32_t>(engine.steps.size());
  const bool has_left =
      std::any_of(engine.steps.begin(), engine.steps.end(), [](const Step& one) { return one.left().cells > 0; });
  for (const std::uint32_t number : engine.states) {
    if (!has_left) break;
    const State& state = states_[number];
    const auto& runs = state.runs;
    const auto add = [&](std::uint32_t from, std::uint32_t until, double cells, std::uint64_t since) {
      if (until > from && cells > 0) absent.push_back({from, until, number, cells, since});
    };
    add(0, runs.empty() ? count : runs.front().first, state.cells, state.until_ns);
    for (std::size_t i = 0; i < runs.size(); ++i)
      add(runs[i].end, i + 1 < runs.size() ? runs[i + 1].first : count, runs[i].cells, 0);
  }
  Holders holders(std::move(absent));
  for (std::size_t i = 0; i < engine.steps.size(); ++i) {
    Step& step = engine.steps[i];
    fit_step(engine, step, charged);
    if (has_left) holders.move_to(i, step.left().cells);
    if (step.cells_ns > 0) {
      holders.share(step.left().cells, [&](std::uint32_t state, double part) {
        engine.named.push_back({state, Cause::cells_left, part * step.cells_ns, 0});
      });
    }
    step.end_named = engine.named.size();
  }
  // Steps may arrive in another order.
  std::uint64_t first = engine.last_number != 0 ? engine.last_number + 1 : UINT64_MAX, last = 0, numbered = 0;
  for (const Step& step : engine.steps) {
    if (step.number == 0) continue;
    first = std::min(first, step.number);
    last = std::max(last, step.number);
    ++numbered;
  }
  if (numbered > 0 && last - first + 1 > numbered) made.missing = last - first + 1 - numbered;
  for (std::size_t term = 0; term < StepModel::kTerms; ++term) {
    made.prices[term] = model.price(static_cast<StepModel::Term>(term));
    StepModel::Amounts one{};
    one[term] = 1;
    made.errors[term] = model.standard_error(one);
  }
  made.residual = model.residual();
  made.condition = model.condition();
  made.standard_error = model.standard_error(charged);
}

// Charges what the step has, by leaving it out. `charged` is the work that was charged so far.
void Blame::fit_step(Engine& engine, Step& step, StepModel::Amounts& charged) const {
  const StepModel& model = engine.model;
  const StepWork work = step.all();
  const StepModel::Amounts all = StepModel::amounts_of(work);
  const auto without = [&](const StepWork& part) {
    StepWork rest = work;
    rest -= part;
    return StepModel::amounts_of(rest);
  };
  step.fitted_ns = model.ns(all);
  step.prefill_ns = step.drafts_ns = 0;
  StepWork left = step.left();
  step.cells_ns = step.fitted_ns - model.ns(without(left));
  double sum = 0;
  for (std::size_t i = step.first_cost; i < step.end_cost; ++i) {
    Cost& cost = engine.costs[i];
    const StepWork part = cost.work.prefill > 0 ? cost.work : drafts_of(cost.work);
    left += part;
    cost.ns = step.fitted_ns - model.ns(without(part));
    sum += cost.ns;
  }
  const StepModel::Amounts alone = without(left);
  // What prompts and drafts add together is shared as they add alone.
  const double together = std::max(0.0, step.fitted_ns - step.cells_ns - model.ns(alone));
  std::vector<Named> named;
  for (std::size_t i = step.first_cost; i < step.end_cost; ++i) {
    Cost& cost = engine.costs[i];
    cost.ns = sum > 0 ? together * cost.ns / sum : 0;
    const bool is_prompt = cost.work.prefill > 0;
    (is_prompt ? step.prefill_ns : step.drafts_ns) += cost.ns;
    if (cost.ns > 0 && cost.state != kNoState) {
      named.push_back({cost.state, is_prompt ? Cause::others_prefill : Cause::others_drafts, cost.ns,
                       static_cast<std::uint32_t>(cost.work.prefill)});
    }
  }
  const auto is_before = [](const Named& a, const Named& b) { return a.ns > b.ns; };
  const auto end = named.begin() + static_cast<std::ptrdiff_t>(std::min(named.size(), BlameLimits::kNamed));
  std::partial_sort(named.begin(), end, named.end(), is_before);
  step.first_named = engine.named.size();
  engine.named.insert(engine.named.end(), named.begin(), end);
  engine.fit.steps_ns += engine.ns(step);
  engine.fit.charged_ns += together + step.cells_ns;
  for (std::size_t term = 0; term < all.size(); ++term) charged[term] += all[term] - alone[term];
}

void Blame::charge(const Engine& engine, std::uint32_t number, State& state) const {
  Request& request = state.request;
  request.engine = engine.name;
  request.process = engine.process;
  std::size_t next = state.until_ns == 0 && !state.runs.empty() ? state.runs.front().first : 0, cost = 0;
  for (const Run& run : state.runs) {
    for (; next < run.first; ++next) charge_step(engine, engine.steps[next], number, state, nullptr);
    for (; next < run.end; ++next) {
      Own own;
      for (; cost < state.costs.size() && engine.costs[state.costs[cost]].step <= next; ++cost) {
        const Cost& one = engine.costs[state.costs[cost]];
        (one.work.prefill > 0 ? own.prompt_ns : own.drafts_ns) += one.ns;
      }
      charge_step(engine, engine.steps[next], number, state, &own);
    }
  }
  if (!state.runs.empty()) request.is_sure = request.is_sure && engine.fit.is_identified() && !engine.fit.is_noisy();
  if (!state.has_ended) return;
  if (state.begun_ns > request.start_unix_ns) {
    const auto before = static_cast<double>(state.begun_ns - request.start_unix_ns);
    of(request, Cause::admission) = std::min(before, static_cast<double>(state.admission_ns));
    of(request, Cause::queue) = before - of(request, Cause::admission);
  }
  const std::uint64_t end_ns = end_of(request);
  if (end_ns > state.until_ns) of(request, Cause::host) += static_cast<double>(end_ns - state.until_ns);
  // A step that is longer than the request: it ended within it.
  if (end_ns < state.until_ns) of(request, Cause::unexplained) -= static_cast<double>(state.until_ns - end_ns);
  const double sum = std::accumulate(request.ns.begin(), request.ns.end(), 0.0);
  of(request, Cause::unexplained) += static_cast<double>(request.duration_ns) - sum;
  sort_by_guilt(request.culprits);
}

// Charges the time from the end of the last step to the end of this one. `own`: what the request itself adds to the
// step; null: it is not a member.
void Blame::charge_step(const Engine& engine, const Step& step, std::uint32_t number, State& state,
                        const Own* own) const {
  Request& request = state.request;
  if (state.until_ns != 0 && step.start_ns > state.until_ns)
    of(request, Cause::host) += static_cast<double>(step.start_ns - state.until_ns);
  state.until_ns = std::max(state.until_ns, step.end_ns());
  if (own == nullptr && step.prefill_ns <= 0) {
    of(request, state.preemptions > 0 ? Cause::preemption : Cause::unexplained) += step.wall_ns;
    return;
  }
  double stall_ns = step.wall_ns, scale = 1;
  if (own == nullptr) {
    // A step without it, which processed prompts, stalls it as a whole.
    scale = step.wall_ns / step.prefill_ns;
    of(request, Cause::others_prefill) += stall_ns;
  } else {
    const double device_ns = engine.ns(step);
    const double base = step.fitted_ns - step.prefill_ns - step.drafts_ns - step.cells_ns;
    const double prefill_ns = std::max(0.0, step.prefill_ns - own->prompt_ns),
                 drafts_ns = std::max(0.0, step.drafts_ns - own->drafts_ns);
    of(request, own->prompt_ns > 0 ? Cause::own_prefill : Cause::own_decode) += base + own->prompt_ns + own->drafts_ns;
    of(request, Cause::others_prefill) += prefill_ns;
    of(request, Cause::others_drafts) += drafts_ns;
    of(request, Cause::cells_left) += step.cells_ns;
    of(request, Cause::host) += step.wall_ns - device_ns;
    of(request, Cause::unexplained) += device_ns - step.fitted_ns;
    stall_ns = prefill_ns + drafts_ns + step.cells_ns;
  }
  const auto is_charged = [&](const Named& one) {
    return one.state != number && (own != nullptr || one.cause == Cause::others_prefill);
  };
  const auto add = [&](std::vector<Culprit>& to, std::size_t most) {
    for (std::size_t i = step.first_named; i < step.end_named; ++i) {
      const Named& one = engine.named[i];
      if (!is_charged(one)) continue;
      const State& other = states_[one.state];
      auto known = std::find_if(to.begin(), to.end(), [&](const Culprit& c) { return c.key == other.key.id; });
      if (known == to.end()) {
        if (to.size() >= most) continue;
        to.push_back({other.key.id, {}, {}, {}});
        known = std::prev(to.end());
      } else if (known != to.begin()) {
        std::iter_swap(known, to.begin());  // the next step has it as a rule
        known = to.begin();
      }
      if (known->request_id.empty()) {
        known->request_id = other.request.request_id;
        known->tenant = other.request.tenant;
        known->model = other.request.model;
      }
      const double ns = one.ns * scale;
      known->ns += ns;
      if (one.cause == Cause::cells_left) known->cells_ns += ns;
      known->prefill_tokens += one.prefill_tokens;
    }
  };
  add(request.culprits, limits_.culprits);
  std::vector<Gap>& gaps = request.gaps;
  if (stall_ns <= 0 || (gaps.size() >= BlameLimits::kGaps && stall_ns <= gaps.back().stall_ns)) return;
  if (gaps.size() >= BlameLimits::kGaps) gaps.pop_back();
  Gap gap{step.number, step.wall_ns, stall_ns, {}};
  add(gap.culprits, BlameLimits::kNamed);
  sort_by_guilt(gap.culprits);
  gaps.insert(std::upper_bound(gaps.begin(), gaps.end(), gap,
                               [](const Gap& a, const Gap& b) { return a.stall_ns > b.stall_ns; }),
              std::move(gap));
}

void Blame::deliver(const Engine& engine, bool all) {
  constexpr std::uint64_t kLate = 2'000'000'000;  // for the last steps to arrive
  for (const std::uint32_t number : engine.states) {
    State& state = states_[number];
    if (!state.has_ended || state.is_delivered) continue;
    const std::uint64_t end_ns = end_of(state.request);
    if (!all && end_ns > engine.end_ns && end_ns + kLate > now_ns_) continue;
    charge(engine, number, state);
    state.is_delivered = true;
    take_(state.request);
    // There may be many of them. find() returns what a line has room for.
    Request& request = state.request;
    request.gaps = {};
    if (request.culprits.size() > BlameLimits::kKept) request.culprits.resize(BlameLimits::kKept);
    request.culprits.shrink_to_fit();
    state.costs = {};
  }
}

// Charges the steps of the window to those too that have not ended.
void Blame::end_window(Engine& engine, bool all) {
  if (!engine.steps.empty()) {
    fit(engine);
    fits_.push_back(engine.fit);
    for (const Step& step : engine.steps) engine.last_number = std::max(engine.last_number, step.number);
    if (fits_.size() > kFits) {
      fits_.pop_front();
      ++earlier_fits_;
    }
  }
  deliver(engine, all);
  for (const std::uint32_t number : engine.states) {
    State& state = states_[number];
    if (!state.is_delivered) charge(engine, number, state);
    if (!state.runs.empty()) state.cells = state.runs.back().cells;
    state.runs.clear();
    state.costs.clear();
  }
  // Those that were delivered in this window may still be asked for, and the latest ones have their cells in the cache.
  std::vector<std::uint32_t>& states = engine.states;
  std::sort(states.begin(), states.end(),
            [this](std::uint32_t a, std::uint32_t b) { return states_[a].until_ns > states_[b].until_ns; });
  std::size_t holders = 0;
  const bool has_no_room = by_key_.size() >= limits_.requests;
  std::erase_if(states, [&](std::uint32_t number) {
    const State& state = states_[number];
    const bool is_recent = state.window + (state.is_delivered ? 0 : 1) >= engine.window;
    const bool is_kept = (is_recent && !(has_no_room && state.is_delivered)) ||
                         (state.is_delivered && ++holders <= BlameLimits::kHolders);
    if (is_kept) return false;
    if (!state.is_delivered) ++counts_.not_ended;
    release(number);
    return true;
  });
  steps_ -= engine.steps.size();
  costs_ -= engine.costs.size();
  engine.steps.clear();
  engine.costs.clear();
  engine.named.clear();
  engine.modelled_steps = engine.fitted_steps = 0;
  ++engine.window;
}

void Blame::release(std::uint32_t number) {
  by_key_.erase(states_[number].key);
  states_[number] = {};
  free_.push_back(number);
}

void Blame::settle(std::uint64_t now_unix_ns) {
  now_ns_ = std::max(now_ns_, now_unix_ns);
  for (auto& [key, engine] : engines_) {
    if (!engine.steps.empty() && engine.steps.front().start_ns + limits_.window_ns <= now_unix_ns) {
      end_window(engine, false);
    } else {
      if (!engine.steps.empty()) fit(engine);
      deliver(engine, false);
    }
  }
}

std::optional<Blame::Request> Blame::find(const Entry& span) {
  std::optional<Request> found;
  each_state(span, [&](Engine& engine, std::uint32_t number, bool is_it) {
    State state = states_[number];
    if (!is_it || !state.has_ended || found) return;
    if (!state.is_delivered) {
      fit_roughly(engine);
      charge(engine, number, state);
    }
    found = std::move(state.request);
  });
  return found;
}

void Blame::finish() {
  for (auto& [key, engine] : engines_) end_window(engine, true);
}

}  // namespace nopspan::collector
