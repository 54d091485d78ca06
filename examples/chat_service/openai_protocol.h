// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_OPENAI_PROTOCOL_H
#define EXAMPLES_OPENAI_PROTOCOL_H

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace example {

using Json = nlohmann::json;

// An error in the notation of the protocol: an HTTP status, and a JSON object with a message and a type.
class ApiError : public std::runtime_error {
 public:
  ApiError(int status, std::string type, const std::string& message)
      : std::runtime_error(message), status_(status), type_(std::move(type)) {}

  int status() const { return status_; }
  const std::string& type() const { return type_; }
  std::string body() const;

 private:
  int status_;
  std::string type_;
};

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // a JSON object as text, as in the protocol
};

Json tool_call_json(const ToolCall& call);

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

struct ChatRequest {
  std::string model;
  Json messages;  // a list of objects, each with a role
  Json tools;     // a list of objects, each with the name of a function
  std::size_t max_tokens = 128;
  double temperature = 0.8;
  std::optional<std::uint64_t> seed;
  bool stream = false;
  bool include_usage = false;
  bool ignore_eos = false;  // an extension of vLLM and llama.cpp: answers have exactly max_tokens tokens
};

// Throws ApiError.
ChatRequest parse_chat_request(const std::string& body);

// The member of an object, or null if there is none.
const Json& member(const Json& object, const char* key);

// The same as a text. "" if it is none.
std::string text_of(const Json& object, const char* key);

// JSON text. Bytes that are not UTF-8 become U+FFFD.
std::string to_text(const Json& json);

}  // namespace example

#endif  // EXAMPLES_OPENAI_PROTOCOL_H
