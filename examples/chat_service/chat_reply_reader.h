// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CHAT_REPLY_READER_H
#define EXAMPLES_CHAT_REPLY_READER_H

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "chat_client.h"
#include "openai_protocol.h"
#include "sse_reader.h"

namespace example {

// A server's answer violates the protocol, or reports an error in the middle of a stream.
class BadReply : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Parses a complete chat completion. Throws BadReply.
ChatReply read_reply(const std::string& body);

// The message in the body of an error, or the body itself.
std::string read_error_message(const std::string& body);

// Assembles a reply from the chunks of a stream.
class StreamedReply {
 public:
  explicit StreamedReply(std::function<void()> on_first_token);

  // Throws BadReply.
  void feed(std::string_view bytes) { sse_.feed(bytes); }

  // The reply. Throws BadReply if the stream was not complete.
  ChatReply finish();

 private:
  void read_chunk(const std::string& data);
  void read_delta(const Json& delta);
  void read_tool_call(const Json& delta);
  void token_came();

  SseReader sse_;
  std::function<void()> on_first_token_;
  bool first_token_ = false;
  bool done_ = false;
  ChatReply reply_;
};

}  // namespace example

#endif  // EXAMPLES_CHAT_REPLY_READER_H
