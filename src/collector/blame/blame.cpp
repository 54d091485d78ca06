// SPDX-License-Identifier: Apache-2.0
#include "blame/blame.h"

#include "facts/engine_facts.h"
#include "facts/row_key.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::uint32_t kNoState = UINT32_MAX;

// The work of the drafts of a member.
StepWork drafts_of(const StepWork& member) {
  StepWork work;
  work.drafted = work.tokens = member.drafted;
  return work;
}

template <class T>
void free_memory_of(std::vector<T>& values) {
  std::vector<T>().swap(values);
}

// Knows who has something in the cache of an engine without a part in its steps. If more cells belong to no member
// after a request has left the steps, it has left these. If there are fewer later, the oldest ones were forgotten.
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
  // Call it for each step. `left`: the cells that no member has.
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

StepWork Blame::Step::all() const {
  StepWork work = members;
  work += left();
  return work;
}

Blame::Blame(const BlameLimits& limits, Wants wants, Take take)
    : limits_(limits), wants_(std::move(wants)), take_(std::move(take)), by_key_(0, KeyHash{random_seed()}) {}

Blame::Engine& Blame::engine_of(const Entry& step) {
  EngineKey key = engine_key_of(step);
  if (const auto found = engines_.find(key); found != engines_.end()) return found->second;
  // The process with the most engines makes room.
  const auto known = of_process_.find(key.process);
  const bool has_many =
      known != of_process_.end() && known->second.size() >= std::max<std::size_t>(1, limits_.engines / 4);
  if (has_many || engines_.size() >= limits_.engines) {
    const auto most =
        has_many ? known : std::max_element(of_process_.begin(), of_process_.end(), [](const auto& a, const auto& b) {
          return a.second.size() < b.second.size();
        });
    Engine& oldest = **std::min_element(most->second.begin(), most->second.end(),
                                        [](const Engine* a, const Engine* b) { return a->arrived < b->arrived; });
    ++counts_.engines;
    forget(oldest);
  }
  Engine& engine = engines_[key];
  engine.key = key;
  engine.number = ++last_engine_;
  engine.name = step.engine;
  engine.process = *step.process;
  engine.text = engine_text(step);
  engine.seen_ns = now_ns_;
  of_process_[key.process].push_back(&engine);
  return engine;
}

void Blame::forget(Engine& engine) {
  end_window(engine, true);
  for (const std::uint32_t number : engine.states) {
    counts_.not_ended += states_[number].is_delivered ? 0 : 1;
    release(number);
  }
  const auto of_process = of_process_.find(engine.key.process);
  std::erase(of_process->second, &engine);
  if (of_process->second.empty()) of_process_.erase(of_process);
  engines_.erase(EngineKey(engine.key));
}

std::uint32_t Blame::state_of(Engine& engine, const Key& key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    State& known = states_[found->second];
    // A trace may have several requests, one after the other.
    if (known.is_delivered && key.by == NamedBy::trace) restart(engine, known);
    return found->second;
  }
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
  end_if_known(engine, states_[number]);
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
  if (!has_trace_keys_ || !may_be_named(span)) return;
  for (auto& [key, engine] : engines_) {
    if (engine.has_trace_keys) of_key(engine, member_key_of(span.trace_id), NamedBy::trace, is_whole_request(span));
  }
}

Blame::Ended Blame::ended_of(const Entry& span) {
  Ended ended;
  ended.names = {request_id_of(span), std::string(span.tenant), std::string(span.model)};
  ended.start_ns = span.start_unix_ns;
  ended.duration_ns = span.duration_ns;
  ended.admission_ns = admission_ns_of(span);
  ended.preemptions = span.engine_times.preemptions;
  ended.is_request = span.name == kRequestName;
  return ended;
}

// A step on another thread may arrive later than the span that it names.
void Blame::keep_ended(const Entry& span) {
  const bool is_engines = span.name.starts_with("engine.");
  if (!is_engines && engines_.empty()) return;  // most programs are no engines
  Ended ended = ended_of(span);
  ended.is_wanted = wants_(span);
  const auto keep = [&](const Key& key) {
    const auto [known, is_new] = ended_.try_emplace(key, ended);
    if (!is_new) {
      if (ended.is_request || !known->second.is_request) known->second = ended;
      return;
    }
    ended_keys_.push_back(key);
    if (ended_keys_.size() <= limits_.ended) return;
    ended_.erase(ended_keys_.front());
    ended_keys_.pop_front();
  };
  const std::uint64_t process = number_of(**span.process);
  if (is_engines || of_process_.contains(process)) keep({process, span.span_id, NamedBy::span});
  if (ended.is_request || (has_trace_keys_ && is_whole_request(span)))
    keep({0, member_key_of(span.trace_id), NamedBy::trace});
}

void Blame::end(State& state, const Ended& ended) {
  constexpr std::size_t kMostNext = 64;
  if (state.has_ended && state.ended.is_request && ended.is_request && state.key.by == NamedBy::trace) {
    if (state.next.size() < kMostNext) state.next.push_back(ended);
    return;
  }
  // engine.request is more than the root of its trace.
  if (state.has_ended && (state.ended.is_request || !ended.is_request)) return;
  state.has_ended = true;
  state.ended = ended;
  *state.names = ended.names;
}

void Blame::end_if_known(const Engine& engine, State& state) {
  const bool is_trace = state.key.by == NamedBy::trace;
  const auto found = ended_.find({is_trace ? 0 : engine.key.process, state.key.id, state.key.by});
  if (found != ended_.end()) end(state, found->second);
}

void Blame::on_entry(const Entry& entry) {
  if (entry.kind == Kind::part) {
    const auto found = of_process_.find(number_of(**entry.process));
    bool is_known = false;
    if (found != of_process_.end()) {
      for (Engine* engine : found->second) {
        if (engine->step_id != entry.span_id || engine->steps.empty()) continue;
        is_known = true;
        add_members(*engine, entry.members);
      }
    }
    if (!is_known) counts_.members += members_of(entry);
  } else if (is_step(entry)) {
    add_step(entry);
  } else if (entry.kind == Kind::span) {
    bool is_named = false;
    each_state(entry, [&](Engine& /*engine*/, std::uint32_t number, bool is_it) {
      State& state = states_[number];
      if (is_it) {
        is_named = is_named || state.key.by == NamedBy::span;
        Ended ended = ended_of(entry);
        ended.is_wanted = wants_(entry);
        if (!state.is_delivered) end(state, ended);
      } else if (!state.has_ended && state.names->request_id.empty()) {
        // A span inside the request ends before it, and names it too.
        *state.names = ended_of(entry).names;
      }
    });
    if (!is_named && may_be_named(entry)) keep_ended(entry);
  }
}

void Blame::add_step(const Entry& entry) {
  if (entry.step == nullptr || entry.duration_ns == 0) return;
  Engine& engine = engine_of(entry);
  // If there are many engines, each has shorter windows.
  constexpr std::size_t kLeast = 256, kSteps = 4;
  const std::size_t steps = engine.steps.size(), costs = engine.costs.size();
  const std::size_t share = std::max(kLeast, kSteps * limits_.steps / engines_.size());
  const bool has_no_room = steps_ >= kSteps * limits_.steps || costs_ >= 2 * kSteps * limits_.steps ||
                           runs_ >= 8 * kSteps * limits_.steps || by_key_.size() >= limits_.requests;
  const std::uint64_t first_ns = steps > 0 ? engine.steps.front().start_ns : 0;
  const bool is_over =
      steps >= limits_.steps || costs >= kSteps * limits_.steps || (has_no_room && steps >= share) ||
      (steps > 0 && entry.start_unix_ns > first_ns && entry.start_unix_ns - first_ns >= limits_.window_ns);
  if (is_over) end_window(engine, false);
  const nopspan_step& facts = *entry.step;
  Step step{};
  step.start_ns = entry.start_unix_ns;
  step.number = facts.number;
  step.wall_ns = static_cast<double>(entry.duration_ns);
  step.device_ns = static_cast<double>(std::min<std::uint64_t>(facts.device_ns, entry.duration_ns));
  step.kv_used = static_cast<double>(facts.kv_used);
  step.first_cost = step.end_cost = engine.costs.size();
  engine.steps.push_back(step);
  engine.step_id = entry.span_id;
  engine.end_ns = std::max(engine.end_ns, step.end_ns());
  engine.arrived = ++last_step_;
  ++steps_;
  add_members(engine, entry.members);
}

void Blame::add_members(Engine& engine, std::string_view members) {
  Step& step = engine.steps.back();
  engine.has_changed = true;
  const auto place = static_cast<std::uint32_t>(engine.steps.size() - 1);
  for_each_member(members, [&](const nopspan_member& member) {
    const StepWork work = StepWork::of(member);
    step.members += work;
    const NamedBy by = named_by(member);
    engine.has_trace_keys = engine.has_trace_keys || by == NamedBy::trace;
    has_trace_keys_ = has_trace_keys_ || by == NamedBy::trace;
    const std::uint32_t number = state_of(engine, {engine.number, member.request, by});
    const bool adds = work.prefill > 0 || work.drafted > 0;
    const bool has_room = engine.costs.size() < 8 * limits_.steps && costs_ < 16 * limits_.steps;
    if (adds && has_room) {
      if (number != kNoState) states_[number].costs.push_back(static_cast<std::uint32_t>(engine.costs.size()));
      engine.costs.push_back({number, place, work, 0});
      ++costs_;
    }
    if (number == kNoState || (adds && !has_room)) ++counts_.members;
    if (number == kNoState) return;
    State& state = states_[number];
    const auto cells = static_cast<std::uint32_t>(std::min<std::uint64_t>(
        UINT32_MAX, std::uint64_t{member.context_tokens} + member.prefill_tokens + member.decode_tokens));
    std::vector<Run>& runs = state.runs;
    if (!runs.empty() && runs.back().end >= place) {
      Run& run = runs.back();
      const bool is_again = run.end > place;  // it may be in a step several times
      run.cells = is_again ? std::max(run.cells, cells) : cells;
      run.end = place + 1;
    } else if (runs_ < 64 * limits_.steps) {
      runs.push_back({place, place + 1, cells, 0, 0});
      ++runs_;
    } else {
      ++counts_.members;
      return;
    }
    runs.back().prefill_tokens += member.prefill_tokens;
    runs.back().decode_tokens += member.decode_tokens;
    if (state.begun_ns == 0) {
      state.begun_ns = step.start_ns;
      state.has_beginning = begins_with(member);
    }
    state.window = engine.window;
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
    add_sums(engine, engine.steps[fitted]);
  }
}

void Blame::add_sums(Engine& engine, const Step& step) {
  Sums sums = engine.sums.empty() ? Sums{} : engine.sums.back();
  if (engine.sums.empty()) engine.sums.push_back(sums);
  const bool is_long = step.is_long();
  sums.wall_ns += step.wall_ns;
  sums.prefill_ns += step.prefill_ns;
  sums.long_wall_ns += is_long ? step.wall_ns : 0;
  sums.long_prefill_ns += is_long ? step.prefill_ns : 0;
  engine.sums.push_back(sums);
}

// Fits the steps of the window so far.
void Blame::fit(Engine& engine) {
  if (!std::exchange(engine.has_changed, false)) return;
  engine.modelled_steps = engine.fitted_steps = engine.steps.size();
  Fit& made = engine.fit = {};
  made.engine = engine.text;
  made.begin_unix_ns = engine.steps.front().start_ns;
  made.steps = engine.steps.size();
  constexpr double kMost = 0.95;
  const auto timed =
      std::count_if(engine.steps.begin(), engine.steps.end(), [](const Step& one) { return one.device_ns > 0; });
  made.is_device = static_cast<double>(timed) >= kMost * static_cast<double>(made.steps);
  std::vector<StepModel::Step> samples;
  samples.reserve(engine.steps.size());
  for (const Step& step : engine.steps) {
    made.members += step.members.members;
    made.prefill_tokens += step.members.prefill;
    if (made.is_device && step.device_ns <= 0) continue;
    samples.push_back({StepModel::amounts_of(step.all()), engine.ns(step)});
  }
  engine.model = StepModel(samples);
  const StepModel& model = engine.model;
  StepModel::Amounts charged{};
  engine.named.clear();
  engine.sums.clear();
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
    add_sums(engine, step);
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

// Delivers those that have ended, with all their steps.
void Blame::deliver(Engine& engine, bool all) {
  constexpr std::uint64_t kLate = 2'000'000'000;  // for the last steps to arrive
  for (std::size_t i = 0; i < engine.states.size(); ++i) {
    const std::uint32_t number = engine.states[i];
    State& state = states_[number];
    if (!state.has_ended || state.is_delivered) continue;
    const std::uint64_t end_ns = state.ended.end_ns();
    if (!all && end_ns > engine.end_ns && end_ns + kLate > now_ns_) continue;
    charge(engine, number, state);
    conclude(engine, state);
    state.is_delivered = true;
    // The root of a trace may have no steps but those of the requests inside it.
    if (state.request.steps > 0) take_(state.request);
    // There may be many of them. find() returns what a line has room for.
    Request& request = state.request;
    free_memory_of(request.gaps);
    if (request.culprits.size() > BlameLimits::kKept) {
      request.more_culprits += request.culprits.size() - BlameLimits::kKept;
      request.culprits.resize(BlameLimits::kKept);
    }
    request.culprits.shrink_to_fit();
    free_memory_of(state.charges);
    free_memory_of(state.stalls);
    if (state.key.by != NamedBy::trace) {
      free_memory_of(state.costs);
    } else if (!state.next.empty() ||
               (!state.runs.empty() && engine.steps[state.runs.back().end - 1].start_ns >= end_ns)) {
      restart(engine, state);
      --i;  // it may have ended too
    }
  }
}

// The next request of the same trace: it has the steps that begin after the end of the last one.
void Blame::restart(const Engine& engine, State& state) {
  State next;
  next.key = state.key;
  next.window = state.window;
  next.has_beginning = true;
  const std::uint64_t end_ns = state.ended.end_ns();
  const auto is_before = [&](std::uint32_t step) { return engine.steps[step].start_ns < end_ns; };
  for (Run run : state.runs) {
    while (run.first < run.end && is_before(run.first)) ++run.first;
    if (run.first < run.end) next.runs.push_back(run);
  }
  runs_ -= state.runs.size() - next.runs.size();
  for (const std::uint32_t cost : state.costs) {
    if (!is_before(engine.costs[cost].step)) next.costs.push_back(cost);
  }
  std::vector<Ended> ended = std::move(state.next);
  state = std::move(next);
  if (!ended.empty()) {
    end(state, ended.front());
    ended.erase(ended.begin());
    state.next = std::move(ended);
    return;
  }
  end_if_known(engine, state);
  // It must not be the one that was delivered.
  if (state.has_ended && state.ended.end_ns() <= end_ns) state.has_ended = false;
}

// Charges the steps of the window to those too that have not ended.
void Blame::end_window(Engine& engine, bool all) {
  absent_ = 0;
  if (!engine.steps.empty()) {
    fit(engine);
    fits_.push_back(engine.fit);
    for (const Step& step : engine.steps) engine.last_number = std::max(engine.last_number, step.number);
    if (fits_.size() > kFits) {
      fits_.erase(
          std::min_element(fits_.begin(), fits_.end(), [](const Fit& a, const Fit& b) { return a.steps < b.steps; }));
      ++earlier_fits_;
    }
  }
  deliver(engine, all);
  for (const std::uint32_t number : engine.states) {
    State& state = states_[number];
    if (!state.is_delivered) {
      charge(engine, number, state);
      const std::uint64_t until_ns = std::max(state.until_ns, state.tail_ns);
      if (!engine.steps.empty() && state.until_ns != 0 && engine.end_ns > until_ns) {
        const std::size_t from = state.runs.empty() ? 0 : state.runs.back().end;
        state.tail.add(engine.sums[from], engine.sums.back(), static_cast<double>(engine.end_ns - until_ns));
        state.tail_ns = engine.end_ns;
      }
    }
    if (!state.runs.empty()) state.cells = state.runs.back().cells;
    runs_ -= state.runs.size();
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
  engine.sums.clear();
  engine.modelled_steps = engine.fitted_steps = 0;
  ++engine.window;
}

void Blame::release(std::uint32_t number) {
  by_key_.erase(states_[number].key);
  states_[number] = {};
  free_.push_back(number);
}

void Blame::on_tick(std::uint64_t now_unix_ns) {
  constexpr std::uint64_t kInterval = 10 * kSecond;
  if (now_unix_ns >= ticked_ns_ && now_unix_ns - ticked_ns_ < kInterval) return;
  ticked_ns_ = now_unix_ns;
  settle(now_unix_ns);
}

void Blame::settle(std::uint64_t now_unix_ns) {
  now_ns_ = now_unix_ns;
  std::vector<Engine*> idle;
  for (auto& [key, engine] : engines_) {
    if (engine.settled != engine.arrived || engine.seen_ns > now_ns_) {
      engine.settled = engine.arrived;
      engine.seen_ns = now_ns_;
    }
    if (now_ns_ - engine.seen_ns >= 2 * limits_.window_ns) {
      idle.push_back(&engine);
    } else {
      fit(engine);
      deliver(engine, false);
    }
  }
  for (Engine* engine : idle) forget(*engine);
}

std::optional<Blame::Request> Blame::find(const Entry& span) {
  std::optional<Request> found;
  each_state(span, [&](Engine& engine, std::uint32_t number, bool is_it) {
    if (!is_it || !states_[number].has_ended || found) return;
    State state = states_[number];
    if (!state.is_delivered) {
      fit_roughly(engine);
      charge(engine, number, state);
      conclude(engine, state);
    }
    if (state.request.steps > 0) found = std::move(state.request);
  });
  return found;
}

void Blame::finish() {
  for (auto& [key, engine] : engines_) end_window(engine, true);
}

std::uint64_t Blame::open() const {
  return static_cast<std::uint64_t>(std::count_if(
      by_key_.begin(), by_key_.end(), [this](const auto& one) { return !states_[one.second].is_delivered; }));
}

}  // namespace nopspan::collector
