// SPDX-License-Identifier: Apache-2.0
#include "format1/otlp_names.h"

#include "base/key_index.h"

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

constexpr KeyIndex kIndex(kTexts);

Name find(std::string_view key) { return static_cast<Name>(kIndex.find(key)); }

constexpr unsigned kBools = 32;  // position of the six bools in the word
constexpr unsigned kHasUsage = 1, kHasFirstToken = 2, kHasEngineTimes = 4, kCountsTokens = 8, kCountsTool = 16,
                   kBeforeAttach = 32;

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

void set_flag_word(Entry& entry, std::uint64_t word) {
  entry.flags = static_cast<std::uint32_t>(word);
  const std::uint64_t bools = word >> kBools;
  entry.has_usage = (bools & kHasUsage) != 0;
  entry.has_first_token = (bools & kHasFirstToken) != 0;
  entry.has_engine_times = (bools & kHasEngineTimes) != 0;
  entry.counts_tokens = (bools & kCountsTokens) != 0;
  entry.counts_tool = (bools & kCountsTool) != 0;
  entry.before_attach = (bools & kBeforeAttach) != 0;
}

std::uint64_t implied_flag_word(Kind kind, const OtlpFlags& flags, const NotedAttributes& own,
                                const NotedAttributes& added) {
  const auto any = [&](Name first, Name last) {
    return (kind == Kind::span && own.has_any(first, last)) || added.has_any(first, last);
  };
  std::uint32_t word = (flags.kind << NOPSPAN_FLAG_KIND_SHIFT) & NOPSPAN_FLAG_KIND_MASK;
  std::uint64_t bools = 0;
  if (flags.sampled) word |= NOPSPAN_FLAG_SAMPLED;
  if (flags.remote_parent) word |= NOPSPAN_FLAG_REMOTE_PARENT;
  if (flags.attributes_dropped) word |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
  if (flags.links_dropped) word |= NOPSPAN_FLAG_LINKS_DROPPED;
  if (added.has(Name::request_id)) word |= NOPSPAN_FLAG_FOREIGN_ID;
  if (any(Name::input_tokens, Name::reasoning_tokens)) {
    word |= NOPSPAN_FLAG_HAS_USAGE;
    bools |= kHasUsage | kCountsTokens;
  }
  if (any(Name::first_token_ns, Name::first_token_ns)) {
    word |= NOPSPAN_FLAG_HAS_FIRST_TOKEN;
    bools |= kHasFirstToken;
  }
  if (any(Name::arrival_ns, Name::preemptions)) bools |= kHasEngineTimes;
  if (any(Name::tool_name, Name::tool_name)) bools |= kCountsTool;
  return word | bools << kBools;
}

std::uint64_t implied_root_id(const Entry& entry) {
  const bool is_root = entry.parent_id == 0 || (entry.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0;
  return is_root ? entry.span_id : entry.parent_id;
}

}  // namespace nopspan::collector
