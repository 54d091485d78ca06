// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_ANSWER_H
#define EXAMPLES_ANSWER_H

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "batch_engine.h"
#include "openai_protocol.h"

namespace example {

// One answer while it is generated: its head, the tool calls that it consists of (or none), and the engine's
// generation. It ends the request's span: when the answer has been read to its end, or when it is abandoned before.
class Answer {
 public:
  Answer(AnswerHead head, std::vector<ToolCall> calls, std::size_t prompt_tokens,
         std::shared_ptr<Generation> generation)
      : head_(std::move(head)),
        calls_(std::move(calls)),
        prompt_tokens_(prompt_tokens),
        generation_(std::move(generation)) {}
  ~Answer() { abandon("closed"); }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  // The whole answer as a JSON text. Throws ApiError if the server is shutting down.
  std::string whole();

  // The next events of the answer as a stream; empty after the last.
  std::string next_events(bool include_usage);

  // The client is gone, or the server breaks off: the generation is cancelled.
  void abandon(const char* reason);

 private:
  enum class State { kNew, kRunning, kAllSaid, kDone };

  std::string last_events(bool include_usage) const;
  std::string tool_call_events(std::string_view text);
  bool cancelled() const { return generation_->finish() == Finish::kCancelled; }
  const char* finish_reason() const;
  Usage usage() const;
  void end_span(const char* cancelled_why);

  const AnswerHead head_;
  const std::vector<ToolCall> calls_;
  const std::size_t prompt_tokens_;
  const std::shared_ptr<Generation> generation_;
  State state_ = State::kNew;
  std::size_t call_ = 0;        // the call whose arguments come next
  std::size_t call_bytes_ = 0;  // how many bytes of them have come
};

}  // namespace example

#endif  // EXAMPLES_ANSWER_H
