// SPDX-License-Identifier: Apache-2.0
// What the engine reports to tracers. There are two implementations: telemetry_nopspan.cpp calls the library, and
// telemetry_mini.cpp needs only the header nopspan_mini.h. Both report the same numbers.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

using Count = std::int64_t;

enum Phase { kQueue, kPrefill, kDecode };

// The work for a request, in tokens; chunks and drafts are numbers of them.
struct Work {
  Count cached = 0, prefilled = 0, recomputed = 0, chunks = 0, decoded = 0, drafts = 0, drafted = 0, accepted = 0;
};

namespace telemetry {

// The engine's name, and the file name of its model.
struct Labels {
  std::string engine, model;
};

// A request from its arrival to its end, and the phase in which it is.
class Request {
 public:
  // `number` identifies the request in steps, if it is not recorded. `tenant` may be empty.
  Request(const Labels& labels, Count number, const std::string& tenant);

  void begin_phase(Phase phase, const char* reason);
  // `work` is that of this phase. `cancelled` is the reason why the client is gone, or null.
  void end_phase(Phase phase, const Work& work, const char* cancelled);
  void token();
  void prefix_cache(Count queried, Count hit);
  void preempted(Count tokens);

  struct Numbers {
    Count input, output, cached, preemptions, max_tokens;
    Work work;
    std::array<Count, 3> spent_ns;  // by Phase
    const std::vector<Count>& accepted_at;
    const char* finish_reason;
  };
  void end(const Numbers& numbers, const char* cancelled);

 private:
  friend class Step;
  struct Spans;
  std::shared_ptr<Spans> spans_;
};

// What a step did for one request.
struct Member {
  std::uint32_t prefill_tokens = 0, context_tokens = 0;
  std::uint16_t decode_tokens = 0, drafted_tokens = 0, accepted_tokens = 0;
};

// One forward pass.
class Step {
 public:
  explicit Step(const Labels& labels);

  void add(const Request& request, const Member& member);
  struct Numbers {
    Count number, size, prefilled, decoded, budget, cells;
    std::chrono::nanoseconds device;
  };
  void end(const Numbers& numbers);

 private:
  struct Spans;
  std::shared_ptr<Spans> spans_;
};

// The loading of the model.
class Load {
 public:
  explicit Load(const Labels& labels);
  void end(Count bytes);

 private:
  struct Spans;
  std::shared_ptr<Spans> spans_;
};

void evicted(const Labels& labels, Count tokens, std::chrono::nanoseconds lifetime, std::chrono::nanoseconds idle);

struct Stats {
  Count running, waiting, cells_used, cells, ended, generated;
};
void report(const Labels& labels, const Stats& stats);

}  // namespace telemetry
