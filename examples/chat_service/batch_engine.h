// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_BATCH_ENGINE_H
#define EXAMPLES_BATCH_ENGINE_H

#include <nopspan/context.h>
#include <nopspan/engine.h>
#include <nopspan/span.h>
#include <nopspan/stream.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "language_model.h"
#include "openai_protocol.h"

namespace example {

// The label `engine` of the spans and gauges.
constexpr const char* kEngineName = "example";

// Receives the server's own account of its work, which does not use nopspan: one object for each request that ended,
// for each step, and for each event of the cache. Null: nobody does.
using Books = std::function<void(const Json&)>;

struct EngineOptions {
  std::string model = "nopspan-ngram";        // the label `model` of the spans
  std::size_t slots = 8;                      // requests in one batch
  std::size_t context_tokens = 8192;          // prompt and answer of one request
  std::size_t prefill_tokens = 512;           // prompt tokens that one step processes, for all requests together
  std::chrono::microseconds step_delay{200};  // how long a large model's step would take
  std::chrono::microseconds prompt_delay{0};  // longer for each prompt token
  bool has_device = false;                    // steps report these times as those of a device
  std::size_t draft_tokens = 0;               // that are guessed for a request and verified in one step. 0: none
  std::size_t kv_tokens = 0;                  // room for the sequences of all slots together. 0: as much as they need
  Books books;
};

struct GenerationRequest {
  std::vector<Token> prompt;
  // The beginning of the answer, which the model does not generate: a tool call, or the words before a tool's result.
  std::vector<Token> given;
  std::size_t max_tokens = 128;
  double temperature = 0.8;
  std::uint64_t seed = 0;
  bool ignore_end = false;  // generate max_tokens tokens, even if the model ends the text
};

enum class Finish { kStop, kLength, kCancelled };

// What the engine did for a request.
struct GenerationFacts {
  using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC
  // When the request entered each phase. For a phase that it never reached: when it ended.
  Clock::time_point submitted, admitted, first_token, ended;
  Clock::time_point first_token_reported;  // when the request's span had recorded it
  std::uint64_t number = 0;                // the engine's own: identifies the request in all steps
  std::size_t cached_tokens = 0, completion_tokens = 0;
  std::size_t prefill_tokens = 0;  // prompt tokens that were processed, without those found in the cache
  std::size_t drafts = 0, drafted_tokens = 0, accepted_tokens = 0;
  std::vector<std::size_t> accepted_by_position;  // empty without drafts
  std::size_t preemptions = 0;
  std::size_t recomputed_tokens = 0;  // that were processed again after a preemption
  std::size_t prompt_chunks = 0;      // steps that processed a part of the prompt
  // The times between tokens, in nanoseconds, and the number of tokens that each of these gaps brought.
  std::vector<std::pair<std::int64_t, std::size_t>> gaps;
};

// Why next() returned.
enum class Piece { kText, kNothingYet, kEnd };

// One request in the engine. The engine's thread writes it. The thread that serves the request reads it.
class Generation {
 public:
  // `context` is that of the request's span. The spans of the engine's phases are inside it. If the span is not
  // recorded, the context is unknown, so that a phase that begins after a tracer has attached is not a request.
  Generation(GenerationRequest request, const nopspan::Context& context);

  // Waits for the next piece of text, at most this long.
  Piece next(std::string& text, std::chrono::milliseconds patience);

  // Cancels the request, and waits until the engine no longer uses it. `reason` must be a string literal.
  void cancel(const char* reason);

  // Valid after next() has returned kEnd.
  Finish finish() const { return finish_; }
  const GenerationFacts& facts() const { return facts_; }
  const GenerationRequest& request() const { return request_; }

  // The request's span. It belongs to the engine until next() has returned kEnd.
  nopspan::StreamMeter& meter() { return meter_; }

 private:
  friend class BatchEngine;

  void deliver(const std::string& text);
  void end(Finish finish);
  // Why it was cancelled. Null if it was not.
  const char* cancelled();

  const GenerationRequest request_;
  const nopspan::Context context_;
  nopspan::StreamMeter meter_;
  nopspan::AsyncSpan phase_;  // engine.queue, then engine.prefill, then engine.decode
  LanguageModel::Random random_;
  std::size_t unreported_ = 0;                      // tokens of the current step that the meter does not have yet
  GenerationFacts::Clock::time_point reported_at_;  // the last time when it got tokens
  std::vector<Token> text_;                         // the prompt and the answer so far
  std::size_t computed_ = 0;                        // how many of these tokens were in a sequence at some time
  GenerationFacts facts_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string ready_;
  Finish finish_ = Finish::kStop;
  bool ended_ = false;
  const char* cancelled_ = nullptr;
};

// Generates for many requests at the same time, as inference servers do. In each step every request in a slot gets one
// token, and a limited number of prompt tokens is processed, so a long prompt takes several steps. A slot keeps its
// sequence, so a prompt with the same beginning continues there.
//
// With draft_tokens, the likeliest next tokens of a request are guessed first. A step gives the request the guessed
// tokens up to the first wrong one, and one token more. The text is the same as without drafts.
//
// With kv_tokens, there may be no room for the next step. Then the sequences of free slots are forgotten, and after
// that the latest requests lose their slots (preemption). They wait in front of the queue, and their tokens are
// processed again.
class BatchEngine {
 public:
  BatchEngine(const LanguageModel& model, const EngineOptions& options);
  ~BatchEngine() { stop(); }
  BatchEngine(const BatchEngine&) = delete;
  BatchEngine& operator=(const BatchEngine&) = delete;

  // Queues a request and takes its span. The prompt must be shorter than context_tokens. If too many requests wait, or
  // after stop(), returns false and does not take the span.
  bool submit(const std::shared_ptr<Generation>& generation, nopspan::AsyncSpan& span);

  // Cancels all requests and stops the engine's thread.
  void stop();

  const EngineOptions& options() const { return options_; }

 private:
  struct Slot {
    std::vector<Token> sequence;             // the tokens in the KV cache. Kept while the slot is free
    std::shared_ptr<Generation> generation;  // null if the slot is free
    std::size_t prompt_done = 0;             // how many tokens of the request's text are in `sequence`
    bool decodes = false;                    // the text is in `sequence`, and the phase is engine.decode
    std::size_t cached = 0, processed = 0, again = 0, decoded = 0;  // tokens of this phase
    std::size_t member = 0;                                         // index in the members of the current step
    std::uint64_t order = 0;                                        // counts the requests that got a slot
    GenerationFacts::Clock::time_point occupied, released;
  };

  void run();
  bool admit();
  void let_go_of_cancelled();
  static void drop(Generation& generation, const char* why);
  void occupy(Slot& slot, std::shared_ptr<Generation> generation);
  Slot& best_free_slot(const std::vector<Token>& prompt);
  bool fits(const Generation& generation) const;
  void make_room();
  bool forget_idle_sequence();
  void preempt_latest();
  void step();
  static std::size_t prefill(Slot& slot, std::size_t budget);
  std::vector<Token> draft(const Slot& slot) const;
  void decode(Slot& slot, nopspan::engine::Member& member);
  static void report_tokens(Generation& generation);
  bool generate(Slot& slot, const Token& token, bool may_be_more);
  static void end_phase(Slot& slot, const char* cancelled_why);
  void release(Slot& slot, Finish finish, const char* cancelled_why = nullptr);
  std::size_t cached_tokens() const;
  void report();
  void note_step(const std::vector<std::uint64_t>& numbers, const std::vector<nopspan::engine::Member>& members) const;

  const LanguageModel& model_;
  const EngineOptions options_;
  const nopspan::Context labels_;
  std::vector<Slot> slots_;   // used by the engine's thread only
  std::size_t occupied_ = 0;  // used by the engine's thread only
  std::uint64_t orders_ = 0;  // used by the engine's thread only
  std::uint64_t steps_ = 0;   // used by the engine's thread only
  GenerationFacts::Clock::time_point reported_;

  std::mutex mutex_;
  std::condition_variable submitted_;
  std::uint64_t requests_ = 0;
  std::deque<std::shared_ptr<Generation>> waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace example

#endif  // EXAMPLES_BATCH_ENGINE_H
