// SPDX-License-Identifier: Apache-2.0
#include "recording/otlp_names.h"

#include <nopspan/probes.h>

namespace nopspan::collector {
namespace {

constexpr std::array<std::string_view, kNames> kTexts = {
    "gen_ai.request.model",
    "gen_ai.tool.name",
    "error.type",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
    "nopspan.engine",
    "nopspan.tenant",
    "nopspan.request_id",
    "nopspan.arrival_ns",
    "nopspan.queue_ns",
    "nopspan.prefill_ns",
    "nopspan.decode_ns",
    "nopspan.prefill_tokens",
    "nopspan.decode_tokens",
    "nopspan.preemptions",
    "nopspan.model",
    "nopspan.text",
    "nopspan.reason",
    "nopspan.flags",
    "nopspan.status",
    "nopspan.outcome",
    "nopspan.exception_kind",
    "nopspan.root_id",
    "nopspan.parent_id",
    "nopspan.span_id",
    "nopspan.trace_id",
    "nopspan.duration_ns",
    "nopspan.tracestate",
    "nopspan.links",
    "nopspan.first_token_ns",
    "nopspan.kind",
    "nopspan.delay_ns",
    "nopspan.attempt",
    "nopspan.maximum",
    "nopspan.sequence",
};
static_assert(!kTexts.back().empty());

constexpr std::size_t kLongest = 36;

// A chain of names for each length. Most keys of other origin have a length that few names have, or none.
struct Chains {
  std::array<std::uint8_t, kLongest + 1> first{};
  std::array<std::uint8_t, kNames> next{};
};
constexpr std::uint8_t kEnd = 0xff;

constexpr Chains make_chains() {
  Chains chains;
  for (std::uint8_t& first : chains.first) first = kEnd;
  for (std::size_t i = kNames; i-- > 0;) {
    chains.next[i] = chains.first.at(kTexts[i].size());
    chains.first.at(kTexts[i].size()) = static_cast<std::uint8_t>(i);
  }
  return chains;
}
constexpr Chains kChains = make_chains();

Name find(std::string_view key) {
  if (key.size() > kLongest) return Name::count;
  for (std::uint8_t i = kChains.first[key.size()]; i != kEnd; i = kChains.next[i]) {
    if (kTexts[i] == key) return static_cast<Name>(i);
  }
  return Name::count;
}

constexpr unsigned kBools = 32;  // position of the six bools in the word

}  // namespace

std::string_view text_of(Name name) { return kTexts.at(static_cast<std::size_t>(name)); }

Name name_of(std::string_view key, bool added) {
  constexpr std::string_view kOurs = "nopspan.";
  if (!added || !key.starts_with(kRecorded)) return find(key);
  const std::string_view rest = key.substr(kRecorded.size());
  for (std::size_t i = 0; i < kNames; ++i) {
    const std::string_view text = kTexts[i];
    if (text == rest || (text.starts_with(kOurs) && text.substr(kOurs.size()) == rest)) return static_cast<Name>(i);
  }
  return Name::count;
}

bool NotedAttributes::note(const Attribute& attribute, bool added) {
  const Name name = name_of(attribute.key, added);
  if (name == Name::count) return false;
  attributes_[static_cast<std::size_t>(name)] = attribute;
  mark(name);
  return true;
}

std::string_view NotedAttributes::text(Name name) const {
  const Attribute& attribute = attributes_[static_cast<std::size_t>(name)];
  const bool is_text = attribute.type == Attribute::Type::text || attribute.type == Attribute::Type::bytes;
  return has(name) && is_text ? attribute.text : std::string_view();
}

std::uint64_t NotedAttributes::number(Name name) const {
  const Attribute& attribute = attributes_[static_cast<std::size_t>(name)];
  return has(name) && attribute.type == Attribute::Type::integer ? static_cast<std::uint64_t>(attribute.integer) : 0;
}

std::uint64_t flag_word(const Entry& entry) {
  const unsigned bools = (entry.has_usage ? 1U : 0U) | (entry.has_first_token ? 2U : 0U) |
                         (entry.has_engine_times ? 4U : 0U) | (entry.counts_tokens ? 8U : 0U) |
                         (entry.counts_tool ? 16U : 0U) | (entry.before_attach ? 32U : 0U);
  return entry.flags | std::uint64_t{bools} << kBools;
}

void set_flag_word(Entry& entry, std::uint64_t word) {
  entry.flags = static_cast<std::uint32_t>(word);
  const std::uint64_t bools = word >> kBools;
  entry.has_usage = (bools & 1U) != 0;
  entry.has_first_token = (bools & 2U) != 0;
  entry.has_engine_times = (bools & 4U) != 0;
  entry.counts_tokens = (bools & 8U) != 0;
  entry.counts_tool = (bools & 16U) != 0;
  entry.before_attach = (bools & 32U) != 0;
}

std::uint64_t implied_flag_word(Kind kind, const OtlpFlags& flags, const NotedAttributes& own,
                                const NotedAttributes& added) {
  const auto any = [&](Name first, Name last) {
    return (kind == Kind::span && own.has_any(first, last)) || added.has_any(first, last);
  };
  Entry entry;
  entry.flags = (flags.kind << NOPSPAN_FLAG_KIND_SHIFT) & NOPSPAN_FLAG_KIND_MASK;
  if (flags.sampled) entry.flags |= NOPSPAN_FLAG_SAMPLED;
  if (flags.remote_parent) entry.flags |= NOPSPAN_FLAG_REMOTE_PARENT;
  if (flags.attributes_dropped) entry.flags |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
  if (flags.links_dropped) entry.flags |= NOPSPAN_FLAG_LINKS_DROPPED;
  if (added.has(Name::request_id)) entry.flags |= NOPSPAN_FLAG_FOREIGN_ID;
  if (any(Name::input_tokens, Name::reasoning_tokens)) {
    entry.has_usage = entry.counts_tokens = true;
    entry.flags |= NOPSPAN_FLAG_HAS_USAGE;
  }
  if (any(Name::first_token_ns, Name::first_token_ns)) {
    entry.has_first_token = true;
    entry.flags |= NOPSPAN_FLAG_HAS_FIRST_TOKEN;
  }
  entry.has_engine_times = any(Name::arrival_ns, Name::preemptions);
  entry.counts_tool = any(Name::tool_name, Name::tool_name);
  return flag_word(entry);
}

std::uint64_t implied_root_id(const Entry& entry) {
  const bool is_root = entry.parent_id == 0 || (entry.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0;
  return is_root ? entry.span_id : entry.parent_id;
}

}  // namespace nopspan::collector
