// SPDX-License-Identifier: Apache-2.0
// The attribute names of a span's fields for which OTLP has no field of its own.
//
// A process wrote some of these attributes itself, under the names of the GenAI conventions or of the library. The
// recorder added the other fields under "nopspan." names, or as "nopspan.recorded.…" if the process used such a name
// for something else. Each field is restored from the added attribute, or else from the process's own.
#pragma once

#include "model/entry.h"
#include "model/otlp_wire.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::collector {

enum class Name : std::uint8_t {
  // Names that processes write, and the recorder if necessary.
  request_model,
  tool_name,
  error_type,
  input_tokens,
  output_tokens,
  cached_tokens,
  reasoning_tokens,
  engine,
  tenant,
  request_id,
  arrival_ns,
  queue_ns,
  prefill_ns,
  decode_ns,
  prefill_tokens,
  decode_tokens,
  preemptions,
  // Names that only the recorder writes.
  model,
  text,
  reason,
  flags,
  status,
  outcome,
  exception_kind,
  root_id,
  parent_id,
  span_id,
  trace_id,
  duration_ns,
  tracestate,
  links,
  first_token_ns,
  kind,
  delay_ns,
  attempt,
  maximum,
  sequence,
  count  // number of names
};
inline constexpr auto kNames = static_cast<std::size_t>(Name::count);

inline constexpr std::string_view kRecorded = "nopspan.recorded.";

std::string_view text_of(Name name);
// Returns Name::count if the key is not in the list. If `added`, the key "nopspan.recorded.x" stands for "nopspan.x".
Name name_of(std::string_view key, bool added);

// The attributes of one span that have a Name, found by it.
class NotedAttributes {
 public:
  void clear() { present_ = 0; }
  // Stores the attribute. Returns false if its key is not in the list.
  bool note(const Attribute& attribute, bool added);
  // Marks the name as present without storing a value.
  void mark(Name name) { present_ |= std::uint64_t{1} << static_cast<unsigned>(name); }
  [[nodiscard]] bool empty() const { return present_ == 0; }
  [[nodiscard]] bool has(Name name) const { return (present_ >> static_cast<unsigned>(name) & 1U) != 0; }
  [[nodiscard]] bool has_any(Name first, Name last) const {
    const std::uint64_t upto = (std::uint64_t{2} << static_cast<unsigned>(last)) - 1;
    return (present_ & upto) >> static_cast<unsigned>(first) != 0;
  }
  // Returns the value if it is a text, otherwise "".
  [[nodiscard]] std::string_view text(Name name) const {
    if (!has(name)) return {};
    const Attribute& attribute = attributes_[static_cast<std::size_t>(name)];
    const bool is_text = attribute.type == Attribute::Type::text || attribute.type == Attribute::Type::bytes;
    return is_text ? attribute.text : std::string_view();
  }
  // Returns the value if it is an integer, otherwise 0.
  [[nodiscard]] std::uint64_t number(Name name) const {
    if (!has(name)) return 0;
    const Attribute& attribute = attributes_[static_cast<std::size_t>(name)];
    return attribute.type == Attribute::Type::integer ? static_cast<std::uint64_t>(attribute.integer) : 0;
  }

 private:
  std::uint64_t present_ = 0;
  std::array<Attribute, kNames> attributes_;
};
static_assert(kNames <= 64);

// Groups of fields, in which each field is an attribute of its own.
template <class Group>
struct NumberField {
  Name name;
  std::uint64_t Group::*field;
};
inline constexpr NumberField<Usage> kUsageFields[] = {
    {Name::input_tokens, &Usage::input},
    {Name::output_tokens, &Usage::output},
    {Name::cached_tokens, &Usage::cached},
    {Name::reasoning_tokens, &Usage::reasoning},
};
inline constexpr NumberField<EngineTimes> kEngineFields[] = {
    {Name::arrival_ns, &EngineTimes::arrival_ns},         {Name::queue_ns, &EngineTimes::queue_ns},
    {Name::prefill_ns, &EngineTimes::prefill_ns},         {Name::decode_ns, &EngineTimes::decode_ns},
    {Name::prefill_tokens, &EngineTimes::prefill_tokens}, {Name::decode_tokens, &EngineTimes::decode_tokens},
    {Name::preemptions, &EngineTimes::preemptions},
};

// Sets a span's flags and its six bools from one word, which is the value of "nopspan.flags".
void set_flag_word(Entry& entry, std::uint64_t word);

// The flags that OTLP's own fields imply.
struct OtlpFlags {
  unsigned kind = 0;
  bool sampled = false, remote_parent = false, attributes_dropped = false, links_dropped = false;
};
// The word to use if there is no "nopspan.flags". It follows from OTLP's fields and from the attributes: the process's
// own (`own`) and the recorder's (`added`). On an event, the process's own attributes about tokens and tools do not
// count, because they describe its span.
std::uint64_t implied_flag_word(Kind kind, const OtlpFlags& flags, const NotedAttributes& own,
                                const NotedAttributes& added);
// The root id to use if none is written.
std::uint64_t implied_root_id(const Entry& entry);

}  // namespace nopspan::collector
