// SPDX-License-Identifier: Apache-2.0
// What requests of an engine would have waited for with other settings: a simulation of its scheduler, with the prices
// of its own steps and the requests that it had.
#pragma once

#include "base/log_linear.h"
#include "blame/step_model.h"
#include "facts/row_key.h"
#include "model/entry.h"
#include "model/steps.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace nopspan::collector {

// Of a scheduler that admits requests in the order of their arrival, and gives each request a token in each step.
struct EngineSettings {
  std::uint64_t prefill_chunk = 0;  // prompt tokens of a step, for all requests together
  std::uint64_t slots = 0;          // requests of a step; 0: more than ever ran at a time
};

class WhatIf {
 public:
  // Of all engines.
  static constexpr std::size_t kMostEngines = 256, kMostSteps = 1'000'000, kMostMembers = 16'000'000;

  void on_entry(const Entry& entry);
  // Learns the prices of the engine with the most steps. Throws Failure if they, or how it schedules, cannot be known.
  void learn();

  struct Waits {
    LogLinear ttft, gap;  // ns: until the first token, and between two steps with tokens of a request
    std::uint64_t requests = 0;
  };
  [[nodiscard]] const Waits& recorded() const { return recorded_; }
  // Throws Failure if a setting is, or many more requests would run at a time, than what was recorded, if it would take
  // far longer than the recorded steps, or if `stopping` (base/stopping.h) is set.
  [[nodiscard]] Waits simulate(const EngineSettings& settings) const;

  [[nodiscard]] const std::string& engine() const { return engine_; }
  [[nodiscard]] std::uint64_t missing() const { return missing_; }  // numbers of steps that are not in the recording
  [[nodiscard]] std::size_t other_engines() const { return other_engines_; }
  [[nodiscard]] std::size_t steps() const { return steps_; }
  // Of the recording: what the engine reported or, if it did not, the most that was seen. No slots if no request waited
  // for one.
  [[nodiscard]] const EngineSettings& settings() const { return settings_; }
  [[nodiscard]] std::uint64_t over_limit() const { return over_limit_; }  // steps and parts of steps that were not used

 private:
  struct Member {
    std::uint32_t request;
    std::uint16_t decoded, drafted;
  };
  struct Step {
    std::uint64_t start_ns;
    double wall_ns, device_ns, kv_used;
    std::uint64_t budget, number;
    StepWork work;
    std::size_t first, end;  // members
  };
  struct Request {
    std::uint64_t arrival_ns = 0;    // when it could enter the queue
    bool has_beginning = false;      // it had no step before those that arrived
    bool has_arrival = false;        // it began while steps were recorded
    double cached = -1, prompt = 0;  // tokens that it found in the cache; that were computed
    std::uint64_t decode_steps = 0, decoded = 0, drafted = 0;
  };
  struct Engine {
    std::string text;
    std::vector<Step> steps;
    std::vector<Member> members;
    std::map<std::pair<std::uint64_t, NamedBy>, std::uint32_t> numbers;
    std::vector<Request> requests;
    std::uint64_t step_id = 0;  // of the last step, for its parts
  };

  class Simulation;
  void add_members(Engine& engine, std::string_view members);
  [[nodiscard]] bool had_no_slot(const Engine& engine) const;
  void learn_waits(const Engine& engine);

  std::map<EngineKey, Engine> engines_;
  std::map<std::tuple<std::uint64_t, std::uint64_t, NamedBy>, std::uint64_t>
      arrivals_;  // by process, or 0, and span or trace
  std::size_t other_engines_ = 0;
  std::uint64_t missing_ = 0;
  std::string engine_;
  std::size_t steps_ = 0, members_ = 0;  // until learn(), of all engines
  std::vector<Request> requests_;        // in the order of their arrival
  Waits recorded_;
  StepModel model_;
  EngineSettings settings_;
  double most_prefill_ = 0, most_members_ = 0, left_cells_ = 0;
  double between_ns_ = 0;             // two steps
  std::vector<double> errors_ns_[2];  // of the model, with the host's part: of steps without and with prompts
  std::uint64_t over_limit_ = 0;
};

}  // namespace nopspan::collector
