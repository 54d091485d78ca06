// SPDX-License-Identifier: Apache-2.0
// Who stalled whom: the time of each request in an engine, by its cause. The steps say which requests they served
// together, and a model of their times says what each of these added.
#pragma once

#include "base/random.h"
#include "blame/step_model.h"
#include "model/entry.h"
#include "model/steps.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
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
  cells_left,      // what others left in the KV cache
  preemption,      // steps without it, if it was preempted
  host,            // its steps on the host, and the time between steps
  unexplained,     // the rest; below 0 if its steps were quicker than the model
};
inline constexpr std::size_t kCauses = 10;
inline constexpr std::array<const char*, kCauses> kCauseNames = {
    "admission",     "queue",      "own_prefill", "own_decode", "others_prefill",
    "others_drafts", "cells_left", "preemption",  "host",       "unexplained"};

struct BlameLimits {
  std::size_t steps = 65'536;  // of an engine in a window, which is fitted by itself
  std::uint64_t window_ns = 300'000'000'000;
  std::size_t requests = 100'000;  // that are known at a time
  std::size_t culprits = 256;      // of a request, and 8 of its worst step
};

class Blame {
 public:
  // A request that took time from another one.
  struct Culprit {
    std::uint64_t key = 0;                  // as the engine's members name it
    std::string request_id, tenant, model;  // "" if its span has not ended
    double ns = 0;
  };
  // The longest stall of a request: a step, and who made it long.
  struct Gap {
    std::uint64_t step = 0;  // its number
    double ns = 0;           // of the step
    double stall_ns = 0;     // by others
    std::vector<Culprit> culprits;
  };
  struct Request {
    std::string request_id, tenant, model;
    std::uint64_t start_unix_ns = 0, duration_ns = 0, steps = 0;
    std::uint64_t prefill_tokens = 0, decode_tokens = 0;  // that its steps computed
    bool is_wanted = false;
    std::array<double, kCauses> ns{};
    std::vector<Culprit> culprits;  // the most guilty first
    Gap worst;
    [[nodiscard]] double of(Cause cause) const { return ns[static_cast<std::size_t>(cause)]; }
  };
  // What the steps of an engine cost in a window.
  struct Fit {
    std::string engine;                                       // with its instance and process
    std::uint64_t begin_unix_ns = 0, steps = 0, missing = 0;  // numbers of steps that did not arrive
    StepModel::Amounts prices{};
    double residual = 0, condition = 0;
    double steps_ns = 0;                        // all of them
    double charged_ns = 0, standard_error = 0;  // of what prompts and drafts added; infinity: not identifiable
    bool is_device = false;                     // fitted to times of the device

    static constexpr double kMostResidual = 0.3, kMostError = 0.3, kMostErrorOfAll = 0.02;
    // Whether the steps show what prompts and drafts cost. It may be nothing, so a small part of all time is enough.
    [[nodiscard]] bool is_identified() const {
      return standard_error <= std::max(kMostError * charged_ns, kMostErrorOfAll * steps_ns);
    }
    // Whether their times scatter so much that charges may be wrong.
    [[nodiscard]] bool is_noisy() const { return residual > kMostResidual; }
  };
  // `wants` is asked for the span that names each request. `take` receives each request that has ended, when its steps
  // are fitted.
  using Wants = std::function<bool(const Entry&)>;
  using Take = std::function<void(const Request&)>;
  Blame(const BlameLimits& limits, Wants wants, Take take);

  void on_entry(const Entry& entry);
  // Fits what has arrived.
  void finish();

  [[nodiscard]] const std::vector<Fit>& fits() const { return fits_; }

 private:
  struct Key {
    std::uint64_t engine = 0, id = 0;  // the number of the engine, and as its members name the request
    NamedBy by = NamedBy::span;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    std::uint64_t seed;
    std::size_t operator()(const Key& key) const {
      return hash_of(key.engine << 2U | static_cast<unsigned>(key.by), key.id, seed);
    }
  };
  // Steps one after the other.
  struct Run {
    std::uint32_t first, end;
  };
  struct State {
    Request request;
    Key key;
    bool has_ended = false;
    std::uint64_t admission_ns = 0, preemptions = 0;
    std::uint64_t begun_ns = 0, until_ns = 0;  // its first step, and the end of the last one that was charged
    std::vector<Run> runs;                     // in the window
  };
  // What a member adds to a step, if it adds more than a decoded token.
  struct Cost {
    std::uint32_t state;
    StepWork work;
    double ns;  // as the model says
  };
  struct Step {
    std::uint64_t start_ns, number;
    double wall_ns, device_ns;
    StepWork all;       // until it is fitted, with the cells of its members only
    double left_cells;  // of others; until it is fitted, all that the engine reported
    std::size_t first_cost, end_cost;
    // As the model says: of all, and of what others add.
    double fitted_ns, prefill_ns, drafts_ns, cells_ns;
  };
  struct Engine {
    std::uint64_t number = 0;
    std::string name;
    std::vector<Step> steps;
    std::vector<Cost> costs;
    std::vector<std::uint32_t> states;  // with runs in the window
    std::uint64_t last_number = 0;      // of the steps before the window
    std::uint64_t step_id = 0;          // of the last step, for its parts
  };

  Engine& engine_of(const Entry& step);
  std::uint32_t state_of(const Key& key);
  void add_step(const Entry& entry);
  void add_members(Engine& engine, std::string_view members);
  void add_request(Engine& engine, std::uint32_t number, const Entry& entry);
  void fit(Engine& engine);
  void end_window(Engine& engine);
  void charge(Engine& engine, State& state);
  void charge_step(const Engine& engine, const Step& step, State& state, bool is_member);
  void release(std::uint32_t number);

  const BlameLimits limits_;
  const Wants wants_;
  const Take take_;
  using EngineKey = std::tuple<std::uint64_t, std::string, std::uint64_t>;  // its process, name and instance
  std::map<EngineKey, Engine> engines_;
  std::map<std::uint64_t, std::vector<Engine*>> of_process_;
  std::vector<State> states_;
  std::vector<std::uint32_t> free_;
  std::unordered_map<Key, std::uint32_t, KeyHash> by_key_;
  std::vector<Fit> fits_;
};

}  // namespace nopspan::collector
