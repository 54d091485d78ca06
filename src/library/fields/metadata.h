// SPDX-License-Identifier: Apache-2.0
// Metadata as the GenAI mapping reads it: nodes by key. A node hides where the value is stored, so that one mapping
// serves a live span, whose fields are flat ("temperature"), and a Value of the reference's shape
// ("request_options": {"temperature": …}).
#pragma once

#include "fields/field_buffer.h"

#include <nopspan/event.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// A view of a value: of a Value, of a field's entry, or of a constant. Absent by default. It is valid as long as the
// object that it was made from.
class Node {
 public:
  constexpr Node() noexcept = default;
  explicit Node(const Value* value) noexcept : kind_(value != nullptr ? Kind::value : Kind::absent), at_(value) {}
  explicit Node(const FieldEntry* entry) noexcept : kind_(entry != nullptr ? Kind::entry : Kind::absent), at_(entry) {}
  explicit Node(std::string_view text) noexcept
      : kind_(Kind::text), size_(static_cast<std::uint32_t>(text.size())), at_(text.data()) {}
  explicit Node(bool flag) noexcept : kind_(Kind::boolean), number_(flag ? 1 : 0) {}
  explicit Node(std::int64_t number) noexcept : kind_(Kind::integer), number_(number) {}
  explicit Node(double number) noexcept : kind_(Kind::real), real_(number) {}

  [[nodiscard]] bool exists() const noexcept { return kind_ != Kind::absent; }
  // Null if the node is absent.
  [[nodiscard]] Value::Type type() const noexcept {
    switch (kind_) {
      case Kind::absent:
        break;
      case Kind::value:
        return value()->type();
      case Kind::entry:
        return entry()->type;
      case Kind::text:
        return Value::Type::string;
      case Kind::boolean:
        return Value::Type::boolean;
      case Kind::integer:
        return Value::Type::integer;
      case Kind::real:
        return Value::Type::real;
    }
    return Value::Type::null;
  }
  [[nodiscard]] bool is_null() const noexcept { return type() == Value::Type::null; }
  [[nodiscard]] bool is_string() const noexcept { return type() == Value::Type::string; }
  [[nodiscard]] bool is_integer() const noexcept { return type() == Value::Type::integer; }
  [[nodiscard]] bool is_number() const noexcept { return is_integer() || type() == Value::Type::real; }
  [[nodiscard]] bool is_list() const noexcept { return type() == Value::Type::list; }
  [[nodiscard]] bool is_map() const noexcept { return type() == Value::Type::map; }

  // The value, if it has that type. Otherwise false, 0 or "". as_double() accepts an integer too.
  [[nodiscard]] bool as_bool() const noexcept {
    if (type() != Value::Type::boolean) return false;
    return kind_ == Kind::value ? value()->as_bool() : kind_ == Kind::entry ? entry()->word() != 0 : number_ != 0;
  }
  [[nodiscard]] std::int64_t as_int() const noexcept {
    if (!is_integer()) return 0;
    return kind_ == Kind::value ? value()->as_int() : kind_ == Kind::entry ? entry()->as_int() : number_;
  }
  [[nodiscard]] double as_double() const noexcept {
    if (is_integer()) return static_cast<double>(as_int());
    if (type() != Value::Type::real) return 0;
    return kind_ == Kind::value ? value()->as_double() : kind_ == Kind::entry ? entry()->as_double() : real_;
  }
  // A flag or number as FieldEntry::word() has it; 0 for any other type.
  [[nodiscard]] std::uint64_t word() const noexcept {
    if (type() == Value::Type::real) return real_word(as_double());
    return static_cast<std::uint64_t>(type() == Value::Type::boolean ? std::int64_t{as_bool()} : as_int());
  }
  [[nodiscard]] std::string_view as_string() const noexcept {
    if (kind_ == Kind::text) return {static_cast<const char*>(at_), size_};
    if (!is_string()) return {};
    return kind_ == Kind::value ? value()->as_string() : entry()->as_string();
  }
  // The value of a key of a map. Absent if the node is not a map or has no such key. If a key occurs twice, the first
  // one is found.
  [[nodiscard]] Node find(std::string_view key) const noexcept {
    if (kind_ == Kind::value) return Node(value()->find(key));
    if (kind_ != Kind::entry || !is_map()) return {};
    for (const unsigned char* at = entry()->payload(); at < entry()->end(); at = FieldEntry::at(at)->end()) {
      if (FieldEntry::at(at)->key() == key) return Node(FieldEntry::at(at));
    }
    return {};
  }
  // Calls `each(key, Node)` for each member if the node is a map.
  template <class Each>
  void for_each_member(const Each& each) const {
    if (!is_map()) return;
    if (kind_ == Kind::value) {
      for (const auto& [key, member] : value()->as_map()) each(std::string_view(key), Node(&member));
      return;
    }
    for (const unsigned char* at = entry()->payload(); at < entry()->end(); at = FieldEntry::at(at)->end()) {
      each(FieldEntry::at(at)->key(), Node(FieldEntry::at(at)));
    }
  }
  // Calls `each(Node)` for each item if the node is a list.
  template <class Each>
  void for_each(const Each& each) const {
    if (!is_list()) return;
    if (kind_ == Kind::value) {
      for (const Value& item : value()->as_list()) each(Node(&item));
      return;
    }
    for (const unsigned char* at = entry()->payload(); at < entry()->end(); at = FieldEntry::at(at)->end()) {
      each(Node(FieldEntry::at(at)));
    }
  }

  // The object that the node was made from. Null if that was something else.
  [[nodiscard]] const Value* value() const noexcept {
    return kind_ == Kind::value ? static_cast<const Value*>(at_) : nullptr;
  }
  [[nodiscard]] const FieldEntry* entry() const noexcept {
    return kind_ == Kind::entry ? static_cast<const FieldEntry*>(at_) : nullptr;
  }

 private:
  enum class Kind : std::uint8_t { absent, value, entry, text, boolean, integer, real };

  Kind kind_ = Kind::absent;
  std::uint32_t size_ = 0;
  union {
    const void* at_ = nullptr;
    std::int64_t number_;
    double real_;
  };
};
static_assert(sizeof(Node) == 16);

// The inputs of the mapping. The comments give the path of each one in the reference's metadata. On a live span it is
// the field whose AttributeKey::input is this key.
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
  engine,               // only a live span has it
};
inline constexpr std::size_t kKeys = static_cast<std::size_t>(Key::engine) + 1;

// The nodes of one span or event, by key.
class Metadata {
 public:
  [[nodiscard]] const Node& operator[](Key key) const noexcept { return nodes_[static_cast<std::size_t>(key)]; }
  Node& operator[](Key key) noexcept { return nodes_[static_cast<std::size_t>(key)]; }

 private:
  Node nodes_[kKeys];
};

}  // namespace nopspan::detail
