// SPDX-License-Identifier: Apache-2.0
// Who stalled whom: the time of each request in an engine, by its cause. The steps say which requests they served
// together, and a model of their times says what each of these added.
#pragma once

#include "base/random.h"
#include "base/saturating.h"
#include "blame/step_model.h"
#include "facts/row_key.h"
#include "model/entry.h"
#include "model/steps.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

// Where the time of a request went. All together are its duration.
enum class Cause : std::uint8_t {
  admission,       // until it could enter the queue
  queue,           // until its first step
  own_prefill,     // its own prompt, and the steps that processed it
  own_decode,      // its own tokens: what the steps would take without the causes below
  others_prefill,  // prompts of others in its steps, and steps that served only others
  others_drafts,   // drafts of others
  cells_left,      // what others have in the KV cache that are not in its steps
  preemption,      // steps without it, if it was preempted
  host,            // its steps on the host, and the time between steps
  unexplained,     // the rest; below 0 if its steps were quicker than the model
};
inline constexpr std::size_t kCauses = 10;
inline constexpr std::array<const char*, kCauses> kCauseNames = {
    "admission",     "queue",      "own_prefill", "own_decode", "others_prefill",
    "others_drafts", "cells_left", "preemption",  "host",       "unexplained"};

struct BlameLimits {
  std::size_t steps = 65'536;                  // of an engine in a window, which is fitted by itself
  std::uint64_t window_ns = 300'000'000'000;   // longest time of a window
  std::size_t requests = 100'000;              // that are known at a time
  std::size_t engines = 256;                   // with their instances; of a process a fourth
  std::size_t ended = 16'384;                  // spans that ended before a step named them
  std::size_t culprits = 64;                   // of a request
  static constexpr std::size_t kGaps = 3;      // of a request
  static constexpr std::size_t kNamed = 16;    // members of a step that are named as those who made it long
  static constexpr std::size_t kKept = 4;      // culprits of a request that was delivered
  static constexpr std::size_t kHolders = 64;  // requests that left something in an engine's cache
  // Of the steps that a request was not in, so many stand for all, until there are many of these in a window.
  static constexpr std::size_t kAbsent = 64, kManyAbsent = 1'000'000;
};

class Blame {
 public:
  // A request that took time from another one.
  struct Culprit {
    std::uint64_t key = 0;                  // as the engine's members name it
    std::string request_id, tenant, model;  // "" if no span of it has ended
    double ns = 0;
    double cells_ns = 0;               // part of `ns`: by what it left in the KV cache
    std::uint64_t prefill_tokens = 0;  // that these steps computed
  };
  // A stall of a request: a step, and who made it long.
  struct Gap {
    std::uint64_t step = 0;  // its number
    double ns = 0;           // of the step
    double stall_ns = 0;     // by others
    std::vector<Culprit> culprits;
  };
  struct Request {
    std::string request_id, tenant, model, engine;
    ProcessPointer process = nullptr;  // of the engine
    std::uint64_t start_unix_ns = 0, duration_ns = 0, steps = 0;
    std::uint64_t prefill_tokens = 0, decode_tokens = 0;  // that its steps computed
    bool is_wanted = false;
    bool is_sure = true;  // all its fits are identified and not noisy
    std::array<double, kCauses> ns{};
    std::vector<Culprit> culprits;  // the most guilty first
    std::size_t more_culprits = 0;  // that are not among these
    std::vector<Gap> gaps;          // the worst ones, the longest stall first
    [[nodiscard]] double of(Cause cause) const { return ns[static_cast<std::size_t>(cause)]; }
    [[nodiscard]] double stalled_ns() const {
      return of(Cause::others_prefill) + of(Cause::others_drafts) + of(Cause::cells_left);
    }
  };
  // What the steps of an engine cost in a window.
  struct Fit {
    std::string engine;                                       // with its instance and process
    std::uint64_t begin_unix_ns = 0, steps = 0, missing = 0;  // numbers of steps that did not arrive
    StepModel::Amounts prices{}, errors{};                    // standard errors; infinity: not identifiable
    double residual = 0, condition = 0;
    double steps_ns = 0;                        // all of them
    double charged_ns = 0, standard_error = 0;  // of what prompts and drafts added; infinity: not identifiable
    bool is_device = false;                     // fitted to times of the device
    double members = 0, prefill_tokens = 0;     // of all steps

    // Whether the steps show what prompts and drafts cost.
    [[nodiscard]] bool is_identified() const { return shows_cost(standard_error, charged_ns, steps_ns); }
    // Whether their times scatter so much that charges may be wrong.
    [[nodiscard]] bool is_noisy() const { return residual > StepModel::kMostResidual; }
  };
  // What no request is charged for.
  struct Counts {
    std::uint64_t engines = 0;    // that were forgotten to make room
    std::uint64_t members = 0;    // of requests beyond the limit, and without their step
    std::uint64_t not_ended = 0;  // requests whose span did not arrive, and that are no longer known
  };
  // `wants` is asked for the span that names each request. `take` receives each request that has ended, when its steps
  // are fitted.
  using Wants = std::function<bool(const Entry&)>;
  using Take = std::function<void(const Request&)>;
  Blame(const BlameLimits& limits, Wants wants, Take take);

  void on_entry(const Entry& entry);
  // settle(), at most every 10 seconds.
  void on_tick(std::uint64_t now_unix_ns);
  // Fits what has arrived, and delivers the requests that have ended and whose steps have arrived.
  void settle(std::uint64_t now_unix_ns);
  // Delivers all that have ended.
  void finish();
  // The request of this span, with the steps that have arrived. If it was delivered, it has the first culprits and no
  // gaps. Nothing if no step names it, or if it was delivered long ago.
  std::optional<Request> find(const Entry& span);

  // The last one of an engine is of its last window.
  [[nodiscard]] const std::deque<Fit>& fits() const { return fits_; }
  [[nodiscard]] std::uint64_t earlier_fits() const { return earlier_fits_; }  // that are no longer kept
  [[nodiscard]] const Counts& counts() const { return counts_; }
  [[nodiscard]] std::uint64_t open() const;  // requests that are known and have not ended

 private:
  struct Key {
    std::uint64_t of = 0, id = 0;  // the number of the engine, and as its members name the request
    NamedBy by = NamedBy::span;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    std::uint64_t seed;
    std::size_t operator()(const Key& key) const {
      return hash_of(key.of << 2U | static_cast<unsigned>(key.by), key.id, seed);
    }
  };
  // Steps one after the other that have the request, and the cells that it had in the cache after them.
  struct Run {
    std::uint32_t first, end, cells;
    std::uint64_t prefill_tokens, decode_tokens;
  };
  struct Names {
    std::string request_id, tenant, model;
  };
  // As Culprit, but the names may come later.
  struct Charge {
    std::uint64_t key = 0;
    std::shared_ptr<const Names> who;
    double ns = 0, cells_ns = 0;
    double absent_ns = 0;  // in steps without the one that was stalled
    std::uint64_t prefill_tokens = 0;
  };
  struct Stall {
    std::uint64_t step = 0;
    double ns = 0, stall_ns = 0;
    std::vector<Charge> charges;
  };
  // Sums over steps, and the time between them: of all, and of those in which prompts took most of the time.
  struct Sums {
    double wall_ns = 0, prefill_ns = 0, long_wall_ns = 0, long_prefill_ns = 0, host_ns = 0;
    void add(const Sums& before, const Sums& after, double elapsed_ns);
    void operator+=(const Sums& other);
  };
  // A span that may name a request, and what Blame needs of it.
  struct Ended {
    Names names;
    std::uint64_t start_ns = 0, duration_ns = 0, admission_ns = 0, preemptions = 0;
    bool is_wanted = false;
    bool is_request = false;  // engine.request: it is one request, and not several of a trace
    [[nodiscard]] std::uint64_t end_ns() const { return saturating_sum(start_ns, duration_ns); }
  };
  struct State {
    Request request;
    Key key;
    std::shared_ptr<Names> names = std::make_shared<Names>();
    Ended ended;
    std::vector<Ended> next;  // of the next requests of the same trace
    bool has_ended = false, is_delivered = false;
    bool has_beginning = false;                    // it had no step before those that arrived
    std::uint64_t begun_ns = 0, until_ns = 0;      // its first step, and the end of the last one that was charged
    std::uint64_t gap_from_ns = 0, gap_to_ns = 0;  // the last time between its steps
    Sums absent;                                   // of steps without it, between its steps
    // The same after its last step, until this time: if it has another step later.
    Sums tail;
    std::uint64_t tail_ns = 0;
    std::vector<Charge> charges;
    std::vector<Stall> stalls;         // the longest first
    std::uint64_t window = 0;          // the last one in which it had a step
    std::uint32_t cells = 0;           // that it had after its last step before this window
    std::vector<Run> runs;             // in the window
    std::vector<std::uint32_t> costs;  // of it in the window
  };
  // What a member adds to a step, if it adds more than a decoded token.
  struct Cost {
    std::uint32_t state, step;
    StepWork work;
    double ns;  // as the model says
  };
  // Who made a step longer: by its prompt, its drafts, or what it left in the cache.
  struct Named {
    std::uint32_t state;
    Cause cause;
    double ns;
    std::uint32_t prefill_tokens;
  };
  struct Step {
    std::uint64_t start_ns, number;
    double wall_ns, device_ns, kv_used;
    StepWork members;
    std::size_t first_cost, end_cost;
    // As the model says: of all, and of what others add.
    double fitted_ns, prefill_ns, drafts_ns, cells_ns;
    std::size_t first_named, end_named;
    // What nobody in the step has in the cache.
    [[nodiscard]] StepWork left() const { return members.left_of(kv_used); }
    [[nodiscard]] StepWork all() const;
    // Whether it took long because of prompts. These then stall a request that is not in it as a whole.
    [[nodiscard]] bool is_long() const { return prefill_ns >= 0.5 * wall_ns; }
    [[nodiscard]] std::uint64_t end_ns() const { return saturating_sum(start_ns, saturated(wall_ns)); }
  };
  struct Engine {
    EngineKey key;
    std::uint64_t number = 0;
    std::string name, text;  // and with its instance and process
    ProcessPointer process;
    std::vector<Step> steps;
    std::vector<Cost> costs;
    std::vector<Named> named;
    std::vector<Sums> sums;             // of the steps before each, and of all
    std::vector<std::uint32_t> states;  // all of its requests
    std::uint64_t window = 1;
    // Of the window: the steps that the model knows, and those that are charged by it.
    std::size_t modelled_steps = 0, fitted_steps = 0;
    bool has_changed = false;  // since the model was made
    StepModel model;
    Fit fit;
    std::uint64_t last_number = 0;  // of the steps before the window
    std::uint64_t end_ns = 0;       // of its last step
    std::uint64_t step_id = 0;      // of the last step, for its parts
    std::uint64_t arrived = 0;      // the number of its last step, of all engines
    std::uint64_t seen_ns = 0;      // when settle() saw that
    std::uint64_t settled = 0;      // that number then
    bool has_trace_keys = false;
    [[nodiscard]] double ns(const Step& step) const {
      return !fit.is_device       ? step.wall_ns
             : step.device_ns > 0 ? step.device_ns
                                  : std::min(step.wall_ns, step.fitted_ns);
    }
  };

  Engine& engine_of(const Entry& step);
  void forget(Engine& engine);
  std::uint32_t state_of(Engine& engine, const Key& key);
  // Calls on_state(engine, number, whether the span is the request itself and not inside it).
  template <class OnState>
  void each_state(const Entry& span, const OnState& on_state);
  static Ended ended_of(const Entry& span);
  void keep_ended(const Entry& span);
  void end(State& state, const Ended& ended);
  void end_if_known(const Engine& engine, State& state);
  void add_step(const Entry& entry);
  void add_members(Engine& engine, std::string_view members);
  void fit(Engine& engine);
  void fit_roughly(Engine& engine);
  void fit_step(Engine& engine, Step& step, StepModel::Amounts& charged) const;
  static void add_sums(Engine& engine, const Step& step);
  void deliver(Engine& engine, bool all);
  void end_window(Engine& engine, bool all);
  struct Own {
    double prompt_ns = 0, drafts_ns = 0;
  };
  void charge(const Engine& engine, std::uint32_t number, State& state);
  void charge_step(const Engine& engine, const Step& step, std::uint32_t number, State& state, const Own& own) const;
  // Whether steps between these two did not arrive.
  static bool misses_steps(const Engine& engine, std::size_t from, std::size_t to);
  void charge_absence(const Engine& engine, std::size_t from, std::size_t to, std::uint32_t number, State& state);
  void add_charges(const Engine& engine, const Step& step, std::uint32_t number, double part, bool is_absent,
                   std::vector<Charge>& to, std::size_t most) const;
  void add_stall(const Engine& engine, const Step& step, std::uint32_t number, double stall_ns, bool is_absent,
                 State& state) const;
  // Charges what is left, and names all. Call it once, after the last charge().
  static void conclude(const Engine& engine, State& state);
  void restart(const Engine& engine, State& state);
  void release(std::uint32_t number);

  static constexpr std::size_t kFits = 256;
  const BlameLimits limits_;
  const Wants wants_;
  const Take take_;
  std::map<EngineKey, Engine> engines_;
  std::map<std::uint64_t, std::vector<Engine*>> of_process_;
  std::uint64_t last_engine_ = 0, last_step_ = 0;
  std::size_t steps_ = 0, costs_ = 0, runs_ = 0;  // of all engines
  std::deque<State> states_;
  std::vector<std::uint32_t> free_;
  std::unordered_map<Key, std::uint32_t, KeyHash> by_key_;
  bool has_trace_keys_ = false;
  std::size_t absent_ = 0;  // steps that were charged for absence, in the window of an engine
  // The last spans that ended before a step named them, by their process or, for a trace, 0; and in this order.
  std::unordered_map<Key, Ended, KeyHash> ended_;
  std::deque<Key> ended_keys_;
  std::deque<Fit> fits_;  // of windows that have ended
  std::uint64_t earlier_fits_ = 0, now_ns_ = 0, ticked_ns_ = 0;
  Counts counts_;
};

}  // namespace nopspan::collector
