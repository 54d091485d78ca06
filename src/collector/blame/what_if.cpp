// SPDX-License-Identifier: Apache-2.0
#include "blame/what_if.h"

#include "base/failure.h"
#include "base/saturating.h"
#include "base/stopping.h"
#include "facts/engine_facts.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <random>
#include <utility>

namespace nopspan::collector {
namespace {

[[noreturn]] void refuse(const std::string& why) { throw Failure("whatif cannot predict from this: " + why); }

}  // namespace

void WhatIf::on_entry(const Entry& entry) {
  const std::uint64_t process = number_of(**entry.process);
  if (is_step(entry) && entry.step != nullptr && entry.duration_ns > 0) {
    const EngineKey engine_key = engine_key_of(entry);
    const bool is_known = engines_.contains(engine_key);
    if ((!is_known && engines_.size() >= kMostEngines) || steps_ >= kMostSteps || members_ >= kMostMembers) {
      ++over_limit_;
      return;
    }
    ++steps_;
    Engine& engine = engines_[engine_key];
    if (!is_known) engine.text = engine_text(entry);
    const auto wall_ns = static_cast<double>(entry.duration_ns);
    const auto device_ns = static_cast<double>(entry.step->device_ns);
    const std::size_t first = engine.members.size();
    engine.steps.push_back({entry.start_unix_ns,
                            wall_ns,
                            std::min(device_ns, wall_ns),
                            static_cast<double>(entry.step->kv_used),
                            entry.step->budget_tokens,
                            entry.step->number,
                            {},
                            first,
                            first});
    engine.step_id = entry.span_id;
    add_members(engine, entry.members);
    return;
  }
  if (entry.kind == Kind::part) {
    if (members_ >= kMostMembers) {
      ++over_limit_;
      return;
    }
    for (auto& [key, engine] : engines_) {
      const bool is_its = key.process == process && engine.step_id == entry.span_id && !engine.steps.empty();
      if (is_its) add_members(engine, entry.members);
    }
  } else if (entry.kind == Kind::span && arrivals_.size() < kMostSteps) {
    if (!may_be_named(entry)) return;
    const std::uint64_t arrival_ns = saturating_sum(entry.start_unix_ns, admission_ns_of(entry));
    arrivals_[{process, entry.span_id, NamedBy::span}] = arrival_ns;
    // The first request of a trace.
    if (is_whole_request(entry)) arrivals_.try_emplace({0, member_key_of(entry.trace_id), NamedBy::trace}, arrival_ns);
  }
}

void WhatIf::add_members(Engine& engine, std::string_view members) {
  Step& step = engine.steps.back();
  for_each_member(members, [&](const nopspan_member& member) {
    const auto [found, is_new] = engine.numbers.try_emplace({member.request, named_by(member)},
                                                            static_cast<std::uint32_t>(engine.requests.size()));
    if (is_new) engine.requests.emplace_back();
    Request& request = engine.requests[found->second];
    if (request.cached < 0) {
      request.cached = member.context_tokens;
      request.has_beginning = begins_with(member);
    }
    if (request.arrival_ns == 0) request.arrival_ns = step.start_ns;
    request.prompt += member.prefill_tokens;
    request.decode_steps += member.decode_tokens > 0 ? 1 : 0;
    request.decoded += member.decode_tokens;
    request.drafted += member.drafted_tokens;
    step.work += StepWork::of(member);
    ++members_;
    engine.members.push_back({found->second, member.decode_tokens, member.drafted_tokens});
  });
  step.end = engine.members.size();
}

void WhatIf::learn() {
  const auto most = std::max_element(engines_.begin(), engines_.end(), [](const auto& a, const auto& b) {
    return a.second.steps.size() < b.second.steps.size();
  });
  if (most == engines_.end()) refuse("there are no steps of an engine");
  Engine engine = std::move(most->second);
  // If the recording begins in the middle of requests, others may have begun before it too.
  const auto begins = std::min_element(engine.steps.begin(), engine.steps.end(),
                                       [](const Step& a, const Step& b) { return a.start_ns < b.start_ns; });
  bool is_cut = false;
  for (std::size_t k = begins->first; k < begins->end; ++k)
    is_cut = is_cut || !engine.requests[engine.members[k].request].has_beginning;
  const std::uint64_t least_ns = is_cut ? begins->start_ns : 0;
  for (const auto& [key, number] : engine.numbers) {
    const auto known = arrivals_.find({key.second == NamedBy::trace ? 0 : most->first.process, key.first, key.second});
    if (known == arrivals_.end()) continue;
    if (!engine.requests[number].has_beginning || known->second < least_ns) continue;
    engine.requests[number].arrival_ns = known->second;
    engine.requests[number].has_arrival = true;
  }
  other_engines_ = engines_.size() - 1;
  engines_.clear();
  arrivals_.clear();
  engine_ = engine.text;
  steps_ = engine.steps.size();
  members_ = engine.members.size();
  std::sort(engine.steps.begin(), engine.steps.end(),
            [](const Step& a, const Step& b) { return a.start_ns < b.start_ns; });
  const bool is_device =
      std::all_of(engine.steps.begin(), engine.steps.end(), [](const Step& one) { return one.device_ns > 0; });
  std::vector<StepModel::Step> samples;
  std::vector<double> left, between;
  std::uint64_t budget = 0;
  for (std::size_t i = 0; i < engine.steps.size(); ++i) {
    Step& step = engine.steps[i];
    const StepWork beside = step.work.left_of(step.kv_used);
    left.push_back(beside.cells);
    StepWork all = step.work;
    all += beside;
    samples.push_back({StepModel::amounts_of(all), is_device ? step.device_ns : step.wall_ns});
    most_prefill_ = std::max(most_prefill_, step.work.prefill);
    most_members_ = std::max(most_members_, step.work.members);
    budget = std::max(budget, step.budget);
    if (i == 0) continue;
    const Step& before = engine.steps[i - 1];
    if (before.number != 0 && step.number > before.number) missing_ += step.number - before.number - 1;
    const double gap_ns = static_cast<double>(step.start_ns) - static_cast<double>(before.start_ns) - before.wall_ns;
    if (step.end > step.first && before.end > before.first) between.push_back(std::max(0.0, gap_ns));
  }
  model_ = StepModel(samples);
  left_cells_ = median(left);
  between_ns_ = median(between);
  StepModel::Amounts prompts{};
  double all_ns = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const StepModel::Amounts& amounts = samples[i].amounts;
    errors_ns_[amounts[StepModel::prefill] > 0].push_back(engine.steps[i].wall_ns - model_.ns(amounts));
    for (const auto term : {StepModel::prefill, StepModel::prefill_context}) prompts[term] += amounts[term];
    all_ns += samples[i].ns;
  }
  if (!shows_cost(model_.standard_error(prompts), model_.ns(prompts), all_ns))
    refuse("the steps do not show what prompts cost. They carry prompts alike, or are too few");
  if (model_.residual() > StepModel::kMostResidual) refuse("the steps' times scatter too much. Report device_ns()");
  // What the engine reports may be of another kind.
  constexpr std::uint64_t kMostTokens = UINT32_MAX;
  const auto most_seen = std::min(kMostTokens, saturated(most_prefill_));
  const bool is_budget = budget >= most_seen && static_cast<double>(budget) <= 1.5 * most_prefill_;
  settings_.prefill_chunk = std::min(kMostTokens, std::max<std::uint64_t>(1, is_budget ? budget : most_seen));
  learn_waits(engine);
  requests_ = std::move(engine.requests);
  std::sort(requests_.begin(), requests_.end(),
            [](const Request& a, const Request& b) { return a.arrival_ns < b.arrival_ns; });
}

// Whether a request waited for a slot: it arrived before a step without it that was as large as any.
bool WhatIf::had_no_slot(const Engine& engine) const {
  std::vector<bool> has_begun(engine.requests.size());
  for (std::size_t i = 0; i < engine.steps.size(); ++i) {
    for (std::size_t k = engine.steps[i].first; k < engine.steps[i].end; ++k) {
      const std::uint32_t number = engine.members[k].request;
      const bool is_first = !has_begun[number];
      has_begun[number] = true;
      if (!is_first || i == 0) continue;
      const Step& before = engine.steps[i - 1];
      const Request& request = engine.requests[number];
      if (request.has_arrival && request.arrival_ns < before.start_ns && before.work.members >= most_members_)
        return true;
    }
  }
  return false;
}

// What requests waited for, and whether all that decode are in each step.
void WhatIf::learn_waits(const Engine& engine) {
  struct Last {
    std::uint64_t end_ns = 0;
    std::size_t step = 0;
  };
  std::vector<Last> last(engine.requests.size());
  std::uint64_t left_out = 0;
  settings_.slots = had_no_slot(engine) ? saturated(most_members_) : 0;
  for (std::size_t i = 0; i < engine.steps.size(); ++i) {
    const Step& step = engine.steps[i];
    const std::uint64_t end_ns = saturating_sum(step.start_ns, saturated(step.wall_ns));
    for (std::size_t k = step.first; k < step.end; ++k) {
      const Member& member = engine.members[k];
      if (member.decoded == 0) continue;
      const Request& request = engine.requests[member.request];
      Last& before = last[member.request];
      if (before.end_ns != 0) {
        recorded_.gap.add(end_ns - std::min(end_ns, before.end_ns));
        left_out += before.step + 1 < i ? 1 : 0;
      } else if (request.has_arrival) {
        recorded_.ttft.add(end_ns - std::min(end_ns, request.arrival_ns));
      }
      before = {end_ns, i};
    }
  }
  recorded_.requests = engine.requests.size();
  if (recorded_.gap.count() == 0 || recorded_.ttft.count() == 0)
    refuse("no request that was recorded as a whole decoded");
  if (left_out * 20 > recorded_.gap.count())
    refuse(
        "requests were left out of steps while they decoded (prompts first, or preemption), which it cannot simulate");
}

// The engine with other settings, step by step.
class WhatIf::Simulation {
 public:
  Simulation(const WhatIf& recorded, const EngineSettings& settings)
      : recorded_(recorded),
        chunk_(static_cast<double>(settings.prefill_chunk)),
        slots_(settings.slots > 0 ? settings.slots : SIZE_MAX) {}

  Waits run() {
    for (std::size_t made = 0; next_ < recorded_.requests_.size() || !running_.empty(); ++made) {
      if (stopping) throw Failure("stopped before the prediction was complete");
      admit();
      refuse_too_much(made);
      const StepWork work = begin_step();
      const auto& errors = recorded_.errors_ns_[work.prefill > 0];
      now_ns_ += recorded_.model_.ns(StepModel::amounts_of(work));
      if (!errors.empty()) now_ns_ += errors[random_() % errors.size()];
      end_step();
      now_ns_ += recorded_.between_ns_;
    }
    return std::move(waits_);
  }

 private:
  struct Running {
    const Request* request;
    double left, context, drafts;  // tokens: of the prompt; in the cache; a step
    std::uint64_t steps;           // with tokens that are left
    double last_ns = 0;            // 0: no token yet
  };

  [[nodiscard]] double arrival_of(const Request& one) const {
    return static_cast<double>(one.arrival_ns - recorded_.requests_.front().arrival_ns);
  }
  void admit() {
    const auto& requests = recorded_.requests_;
    if (running_.empty()) now_ns_ = std::max(now_ns_, arrival_of(requests[next_]));
    for (; next_ < requests.size() && running_.size() < slots_ && arrival_of(requests[next_]) <= now_ns_; ++next_) {
      const Request& one = requests[next_];
      const double steps = std::max<double>(1, static_cast<double>(one.decode_steps));
      running_.push_back(
          {&one, one.prompt, std::max(0.0, one.cached), static_cast<double>(one.drafted) / steps, one.decode_steps});
    }
  }
  void refuse_too_much(std::size_t made) {
    constexpr std::size_t kMostTimes = 20, kFew = 10'000;
    if (made >= kMostTimes * recorded_.steps_ + kFew) refuse("there would be more than twenty times as many steps");
    if (static_cast<double>(running_.size()) > 2 * recorded_.most_members_) {
      throw Failure("With these settings " + std::to_string(running_.size()) +
                        " requests would run at a time, but at most " +
                        std::to_string(saturated(recorded_.most_members_)) + " did",
                    Failure::kUsageError);
    }
    members_ += running_.size();
    if (members_ > kMostTimes * (recorded_.members_ + kFew))
      refuse("steps would serve more than twenty times as many requests, and to simulate that would take too long");
  }
  StepWork begin_step() {
    StepWork work;
    double budget = chunk_;
    for (Running& one : running_) {
      nopspan_member member{};
      member.context_tokens = saturated<unsigned>(one.context);
      member.prefill_tokens = saturated<unsigned>(std::min(budget, one.left));
      if (one.left <= 0) member.drafted_tokens = saturated<unsigned short>(one.drafts + 0.5);
      work += StepWork::of(member);
      budget -= member.prefill_tokens;
      one.left -= member.prefill_tokens;
      one.context += member.prefill_tokens;
    }
    work.cells += recorded_.left_cells_;
    return work;
  }
  // Those that have their whole prompt get a token.
  void end_step() {
    for (Running& one : running_) {
      if (one.left > 0 || one.steps == 0) continue;
      if (one.last_ns > 0) {
        waits_.gap.add(saturated(now_ns_ - one.last_ns));
      } else if (one.request->has_arrival) {
        waits_.ttft.add(saturated(now_ns_ - arrival_of(*one.request)));
      }
      one.last_ns = now_ns_;
      one.context += static_cast<double>(one.request->decoded) / static_cast<double>(one.request->decode_steps);
      --one.steps;
    }
    waits_.requests += std::erase_if(running_, [](const Running& one) { return one.left <= 0 && one.steps == 0; });
  }

  const WhatIf& recorded_;
  const double chunk_;  // prompt tokens of a step
  const std::size_t slots_;
  Waits waits_;
  std::vector<Running> running_;
  std::mt19937_64 random_{1};  // so that it gives the same each time
  std::size_t next_ = 0;       // the next request to arrive
  std::size_t members_ = 0;    // of all steps
  double now_ns_ = 0;
};

WhatIf::Waits WhatIf::simulate(const EngineSettings& settings) const {
  const auto check = [](const char* name, std::uint64_t wanted, double most) {
    if (static_cast<double>(wanted) > most) {
      throw Failure(std::string(name) + "=" + std::to_string(wanted) +
                        " is outside what was seen, so that nobody knows what it would cost: steps had at most " +
                        std::to_string(saturated(most)),
                    Failure::kUsageError);
    }
  };
  check("prefill-chunk", settings.prefill_chunk, std::max(most_prefill_, static_cast<double>(settings_.prefill_chunk)));
  check("slots", settings.slots, most_members_);
  return Simulation(*this, settings).run();
}

}  // namespace nopspan::collector
