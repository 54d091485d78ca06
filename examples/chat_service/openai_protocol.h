// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_OPENAI_PROTOCOL_H
#define EXAMPLES_OPENAI_PROTOCOL_H

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace example {

using Json = nlohmann::ordered_json;

// An error in the notation of the protocol: an HTTP status, and a JSON object with a message, a type and a code.
class ApiError : public std::runtime_error {
 public:
  ApiError(int status, std::string type, std::string code, const std::string& message)
      : std::runtime_error(message), status_(status), type_(std::move(type)), code_(std::move(code)) {}

  int status() const { return status_; }
  const std::string& type() const { return type_; }
  const std::string& code() const { return code_; }
  std::string body() const;

 private:
  int status_;
  std::string type_;
  std::string code_;
};

// A 400: the client must change the request.
ApiError bad_request(const std::string& message);

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // a JSON object as text, as in the protocol
};

struct Message {
  std::string role;
  std::string content;
  std::vector<ToolCall> tool_calls;  // in a message of the assistant
  std::string tool_call_id;          // in a message of a tool
};

struct ToolDefinition {
  std::string name;
  std::string description;
  std::string argument;  // the name of its first parameter
};

struct ChatRequest {
  std::string model;
  std::vector<Message> messages;
  std::vector<ToolDefinition> tools;
  std::string tool_choice = "auto";  // none, auto, required, or the name of a tool
  std::size_t max_tokens = 128;
  double temperature = 0.8;
  std::uint64_t seed = 0;
  bool has_seed = false;
  bool stream = false;
  bool include_usage = false;
  bool ignore_eos = false;  // an extension of vLLM and llama.cpp: answers have exactly max_tokens tokens
};

// Throws ApiError.
ChatRequest parse_chat_request(const std::string& body);

struct Usage {
  std::size_t prompt_tokens = 0;
  std::size_t completion_tokens = 0;
  std::size_t cached_tokens = 0;  // prompt tokens found in the cache

  Usage& operator+=(const Usage& other) {
    prompt_tokens += other.prompt_tokens;
    completion_tokens += other.completion_tokens;
    cached_tokens += other.cached_tokens;
    return *this;
  }
};

// The fields that all chunks of an answer share.
struct AnswerHead {
  std::string id;
  std::string model;
  std::time_t created;
};

std::string chat_completion(const AnswerHead& head, const Message& message, const std::string& finish_reason,
                            const Usage& usage);

// Formats server-sent events. `delta` is the protocol's: {"role": …}, {"content": …}, {"tool_calls": …} or empty.
std::string delta_event(const AnswerHead& head, const Json& delta, const char* finish_reason = nullptr);
std::string usage_event(const AnswerHead& head, const Usage& usage);
std::string error_event(const ApiError& error);
constexpr const char* kDoneEvent = "data: [DONE]\n\n";

Json tool_call_json(const ToolCall& call);
std::string model_list(const std::string& model, std::time_t created);

// JSON text. Bytes that are not UTF-8 become U+FFFD.
std::string to_text(const Json& json);

}  // namespace example

#endif  // EXAMPLES_OPENAI_PROTOCOL_H
