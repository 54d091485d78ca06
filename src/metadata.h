// SPDX-License-Identifier: Apache-2.0
// Metadata as the GenAI mapping reads it: by key, wherever it is kept. There is one mapping for a live span, whose
// fields are flat ("temperature"), and for a Value of the reference's shape ("request_options": {"temperature": …}).
#pragma once

#include "field_buffer.h"

#include <nopspan/value.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// A value of either kind. Absent by default. Valid as long as what it was made of.
class Node {
 public:
  constexpr Node() noexcept = default;
  explicit constexpr Node(const Value* value) noexcept : value_(value) {}
  explicit constexpr Node(const FieldEntry* entry) noexcept : entry_(entry) {}

  [[nodiscard]] bool exists() const noexcept { return value_ != nullptr || entry_ != nullptr; }
  // Of what is absent: null.
  [[nodiscard]] Value::Type type() const noexcept {
    return value_ != nullptr ? value_->type() : entry_ != nullptr ? entry_->type : Value::Type::null;
  }
  [[nodiscard]] bool is_null() const noexcept { return type() == Value::Type::null; }
  [[nodiscard]] bool is_string() const noexcept { return type() == Value::Type::string; }
  [[nodiscard]] bool is_integer() const noexcept { return type() == Value::Type::integer; }
  [[nodiscard]] bool is_number() const noexcept { return is_integer() || type() == Value::Type::real; }
  [[nodiscard]] bool is_list() const noexcept { return type() == Value::Type::list; }
  [[nodiscard]] bool is_map() const noexcept { return type() == Value::Type::map; }
  // Whether it may leave the process only with the switch.
  [[nodiscard]] bool is_content() const noexcept {
    return entry_ != nullptr && (entry_->flags & FieldEntry::kContent) != 0;
  }

  // The value, if it has that type; otherwise what is said here.
  [[nodiscard]] bool as_bool() const noexcept {  // false
    return value_ != nullptr ? value_->as_bool() : type() == Value::Type::boolean && entry_->word() != 0;
  }
  [[nodiscard]] std::int64_t as_int() const noexcept {  // 0
    return value_ != nullptr ? value_->as_int() : is_integer() ? entry_->as_int() : 0;
  }
  [[nodiscard]] double as_double() const noexcept {  // 0; an integer's too
    if (value_ != nullptr) return value_->as_double();
    if (is_integer()) return static_cast<double>(entry_->as_int());
    return type() == Value::Type::real ? entry_->as_double() : 0;
  }
  [[nodiscard]] std::string_view as_string() const noexcept {  // ""
    return value_ != nullptr ? value_->as_string() : is_string() ? entry_->as_string() : std::string_view();
  }
  // Under a key of a map: absent, if it is no map or has no such key.
  [[nodiscard]] Node find(std::string_view key) const noexcept;
  // Calls `each(Node)` for the items of a list, if it is one.
  template <class Each>
  void for_each(const Each& each) const {
    if (!is_list()) return;
    if (value_ != nullptr) {
      for (const Value& item : value_->as_list()) each(Node(&item));
      return;
    }
    for (const unsigned char* at = entry_->payload(); at < entry_->end(); at = FieldEntry::at(at)->end()) {
      each(Node(FieldEntry::at(at)));
    }
  }

  // One of the two, or neither.
  [[nodiscard]] const Value* value() const noexcept { return value_; }
  [[nodiscard]] const FieldEntry* entry() const noexcept { return entry_; }

 private:
  const Value* value_ = nullptr;
  const FieldEntry* entry_ = nullptr;
};

// What the mapping knows. The comment says where it stands in the reference's metadata; a live span has it under
// `flat` of kMetadataKeys.
enum class Key : std::uint8_t {
  request_id,      // request_id
  operation,       // operation
  provider,        // provider
  model,           // model (a map; a live span's is a string, its id)
  model_id,        // model.id
  model_provider,  // model.provider
  mode,            // mode
  temperature,     // request_options.*
  top_p,
  top_k,
  max_tokens,
  frequency_penalty,
  presence_penalty,
  stop_sequences,
  seed,
  n,
  stream,  // request_options.stream?
  encoding_formats,
  conversation_id,
  service_tier,
  requested_effort,  // reasoning.*
  requested_budget_tokens,
  server_address,  // server.*
  server_port,
  server_path,
  usage,         // usage: a map that may have a map `tokens`
  input_tokens,  // usage.* (flat)
  output_tokens,
  cache_read_input_tokens,
  cache_creation_input_tokens,
  reasoning_tokens,
  input_cost,
  output_cost,
  reasoning_cost,
  total_cost,
  finish_reason,        // finish_reason
  http_status,          // http_status
  error,                // error
  response_payload,     // response_payload
  response_id,          // response_payload.id
  response_alias_id,    // response_payload.response_id
  response_model,       // response_payload.model
  provider_meta,        // response_payload.provider_meta
  dimensions,           // response_summary.dimensions
  time_to_first_chunk,  // streaming.time_to_first_chunk, ns
  // What only live spans have: the catalogues' own.
  engine,
  tool_name,
  tool_call_id,
  tool_type,
  tool_description,
  tool_arguments,
  tool_result,
  agent_name,
  trace_id,
};
inline constexpr std::size_t kKeys = static_cast<std::size_t>(Key::trace_id) + 1;

// The nodes of one span or event, by key.
class Metadata {
 public:
  [[nodiscard]] const Node& operator[](Key key) const noexcept { return nodes_[static_cast<std::size_t>(key)]; }
  Node& operator[](Key key) noexcept { return nodes_[static_cast<std::size_t>(key)]; }

 private:
  Node nodes_[kKeys];
};

}  // namespace nopspan::detail
