// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_ANSWER_H
#define EXAMPLES_ANSWER_H

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "batch_engine.h"
#include "client_watch.h"
#include "openai_protocol.h"

namespace example {

// The client that an answer is for.
struct Caller {
  std::string request_id;
  GenerationFacts::Clock::time_point arrival;
  ClientWatch watch;
};

// One answer while it is generated: its head, its tool calls (if any), and the engine's generation. It ends the
// request's span and writes the request into the books, either when the answer has been read to its end or when it is
// abandoned before.
class Answer {
 public:
  Answer(AnswerHead head, std::vector<ToolCall> calls, std::size_t prompt_tokens,
         std::shared_ptr<Generation> generation, Caller caller, const Books& books)
      : head_(std::move(head)),
        calls_(std::move(calls)),
        prompt_tokens_(prompt_tokens),
        generation_(std::move(generation)),
        caller_(std::move(caller)),
        books_(books) {}
  ~Answer() { abandon("closed"); }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  // The whole answer as JSON text. Throws ApiError if the client hung up or the server is shutting down.
  std::string whole();

  // The next events of the streamed answer. Empty after the last event, or if the client hung up.
  std::string next_events(bool include_usage);

  // Cancels the generation, because the client is gone or the server ends the stream early.
  void abandon(const char* reason);

  // Whether the answer was abandoned before its end.
  bool abandoned() const { return abandoned_; }

 private:
  enum class State { kNew, kRunning, kAllSaid, kDone };

  bool next_piece(std::string& text);
  std::string last_events(bool include_usage) const;
  std::string tool_call_events(std::string_view text);
  bool cancelled() const { return generation_->finish() == Finish::kCancelled; }
  const char* finish_reason() const;
  Usage usage() const;
  void finish(const char* cancelled_why);

  const AnswerHead head_;
  const std::vector<ToolCall> calls_;
  const std::size_t prompt_tokens_;
  const std::shared_ptr<Generation> generation_;
  const Caller caller_;
  const Books& books_;
  State state_ = State::kNew;
  bool abandoned_ = false;
  std::size_t call_ = 0;        // the call whose arguments are generated next
  std::size_t call_bytes_ = 0;  // how many bytes of them have been generated
};

}  // namespace example

#endif  // EXAMPLES_ANSWER_H
