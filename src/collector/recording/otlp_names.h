// SPDX-License-Identifier: Apache-2.0
// Under which names a span's fields are attributes, where OTLP has no place for them.
//
// A process tells some of them itself, under the names of the GenAI conventions or the library's own. What it does not
// tell is added under a name of ours; where it uses that name for something else, under "nopspan.recorded.…". So no
// name is there twice, and whoever reads both finds each field as it was: the added one, else the process's own.
#pragma once

#include "model/otlp_attributes.h"
#include "model/span.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::collector {

enum class Name : std::uint8_t {
  // Told by processes.
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
  // Ours alone.
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
  count  // of names
};
inline constexpr auto kNames = static_cast<std::size_t>(Name::count);

inline constexpr std::string_view kRecorded = "nopspan.recorded.";

std::string_view text_of(Name name);
// Name::count if it is none of these. "nopspan.recorded.x" is "nopspan.x" where `added`.
Name name_of(std::string_view key, bool added);

// The attributes of these names that a span has, by name.
class Told {
 public:
  void clear() { present_ = 0; }
  // False if the key is none of these.
  bool note(const Attribute& attribute, bool added);
  // Only that it is there.
  void mark(Name name) { present_ |= std::uint64_t{1} << static_cast<unsigned>(name); }
  [[nodiscard]] bool has(Name name) const { return (present_ >> static_cast<unsigned>(name) & 1U) != 0; }
  [[nodiscard]] bool has_any(Name first, Name last) const {
    const std::uint64_t upto = (std::uint64_t{2} << static_cast<unsigned>(last)) - 1;
    return (present_ & upto) >> static_cast<unsigned>(first) != 0;
  }
  // As a text; "" if it is none.
  [[nodiscard]] std::string_view text(Name name) const;
  // As a number; 0 if it is none.
  [[nodiscard]] std::uint64_t number(Name name) const;

 private:
  std::uint64_t present_ = 0;
  std::array<Attribute, kNames> attributes_;
};
static_assert(kNames <= 64);

// Fields that are attributes of their own.
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

// A span's flags and its five bools as one word: the value of "nopspan.flags".
std::uint64_t flag_word(const Span& span);
void set_flag_word(Span& span, std::uint64_t word);

// What OTLP's own fields say of flags.
struct OtlpFlags {
  unsigned kind = 0;
  bool sampled = false, remote_parent = false, attributes_dropped = false, links_dropped = false;
};
// The word that holds where there is no "nopspan.flags": from OTLP's fields and the attributes, told and added. What an
// event tells of tokens or tools is not its own.
std::uint64_t implied_flag_word(Kind kind, const OtlpFlags& flags, const Told& told, const Told& added);
// The root id that holds where none is written.
std::uint64_t implied_root_id(const Span& span);

}  // namespace nopspan::collector
