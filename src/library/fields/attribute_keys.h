// SPDX-License-Identifier: Apache-2.0
// The table of known field keys: the keys that the catalogues' builders set, and the attribute that each one becomes.
// docs/genai.md has the same table.
#pragma once

#include "fields/metadata.h"

#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// The sets of names that nopspan gives a meaning to.
enum class Catalogue : std::uint8_t { llm, agent, engine, genai, mcp };

struct AttributeKey {
  // The catalogues, the events of a retry, the run of a tool, or the event agent.coordinator.loop_stopped, that the key
  // belongs to. `named` stands for a span's present name, if it is not that of its catalogue: it begins like those of a
  // catalogue, or was given later (span_rename()). It decides only what is content. `operation` says that a span of no
  // catalogue is an operation of the conventions (gen_ai.operation.name).
  enum Of : std::uint8_t {
    llm = 1,
    agent = 2,
    engine = 4,
    retry = 8,
    tool = 16,
    named = 32,
    operation = 64,
    loop_stopped = 128,
    all = llm | agent | engine
  };

  std::string_view key;          // the key of a field of a span or event
  Key input = kNoKey;            // if set: an input of the mapping, which decides which attributes it becomes
  std::string_view attribute;    // otherwise: the attribute's name; "" if the field does not become an attribute
  Of of = all;                   // where the key has this meaning
  bool is_content = false;       // content, however it is set: it leaves the process only under capture_content(true)
  std::string_view unless = {};  // if a field with this key is set, that one becomes the attribute instead

  static constexpr Key kNoKey = static_cast<Key>(0xff);
};

// The keys that have a meaning on a catalogue's span or event of this name. 0 if the name is the application's own.
AttributeKey::Of attribute_keys_of(std::string_view name) noexcept;

// Null if the key is the application's own. Such a field becomes an attribute under its own key.
const AttributeKey* find_attribute_key(std::string_view key, AttributeKey::Of of) noexcept;

// True for a name that is content on every span and event, whatever their name and whichever API sets it: those of the
// attributes that the table marks as content, and OpenTelemetry's names of an exception's message and stack trace, of a
// status' description, and of prompts and completions before there were messages.
bool is_content_name(std::string_view key) noexcept;
// False for nearly all other names, by their first bytes. Also for names of which has_meaning() is false.
constexpr bool may_have_meaning(std::string_view key) noexcept {
  const auto begins = [key](std::string_view prefix) { return key.substr(0, prefix.size()) == prefix; };
  return begins("gen_ai.") || begins("nopspan.") || begins("error.") || begins("exception.") || begins("otel.");
}

// The key of the table that is the same fact as this attribute of the conventions ("model" for "gen_ai.request.model"),
// for those facts that more than the attribute is made of. Any other key is returned as it is. `is_operation`: of a
// span that is an operation of the conventions.
std::string_view key_of_fact(std::string_view attribute, bool is_operation) noexcept;

// True for a name that may mean more than an attribute, whatever the span's name is: content, or a fact.
bool has_meaning(std::string_view key) noexcept;

// True for an attribute of tokens by modality.
inline bool is_usage_attribute(const AttributeKey* known) noexcept {
  return known != nullptr && known->attribute.substr(0, 13) == "gen_ai.usage.";
}

}  // namespace nopspan::detail
