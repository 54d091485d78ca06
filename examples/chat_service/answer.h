// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_ANSWER_H
#define EXAMPLES_ANSWER_H

#include <httplib.h>

#include <ctime>
#include <memory>
#include <string>
#include <utility>

#include "batch_engine.h"
#include "client_watch.h"
#include "openai_protocol.h"

namespace example {

// What an answer is about, and who waits for it.
struct AnswerHead {
  std::string id;
  std::string model;
  std::string request_id;
  GenerationFacts::Clock::time_point arrival;
  ClientWatch watch;
  Json calls;                  // the tool calls of the answer, in the notation of the protocol
  bool include_usage = false;  // at the end of a stream
  bool cut = false;            // break a stream off in the middle
};

// One answer while it is generated. It ends the request's span and writes the request into the books, either when the
// answer has been written or when nobody waits for it any more.
class Answer {
 public:
  Answer(AnswerHead head, std::shared_ptr<Generation> generation, const Books& books)
      : head_(std::move(head)), generation_(std::move(generation)), books_(books) {}
  ~Answer() { end("client_closed"); }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  // The whole answer as JSON text. Throws ApiError if the client hangs up or the server shuts down.
  std::string whole();

  // Writes the answer as server-sent events. Returns false if the stream breaks off.
  bool stream(httplib::DataSink& sink);

 private:
  // Waits for the next piece of text. Returns false at the end. Throws ApiError as whole() does.
  bool next(std::string& text);
  Json envelope(const char* object, const Json& choice) const;
  std::string event(const Json& delta, const char* finish_reason = nullptr) const;
  const char* finish_reason() const;
  Json usage() const;
  // Ends the request, if it has not ended: as cancelled if there is a reason why.
  void end(const char* cancelled_why);

  const AnswerHead head_;
  const std::time_t created_ = std::time(nullptr);
  const std::shared_ptr<Generation> generation_;
  const Books& books_;
  bool ended_ = false;
};

}  // namespace example

#endif  // EXAMPLES_ANSWER_H
