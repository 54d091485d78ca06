// SPDX-License-Identifier: Apache-2.0
// Fields whose key the compiler knows (nopspan/detail/short_key.h) are the same as those whose key it does not know.
// This file is compiled with optimization, because otherwise the compiler knows no key.
#include "plain_span.h"

#include "genai/span_attributes.h"

#include <nopspan/fields.h>
#include <nopspan/stats.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

namespace {

using nopspan::detail::FieldSink;

std::string attributes_of(const PlainSpan& span) {
  unsigned char out[nopspan::detail::kMaxAttributesBytes];
  const auto encoded = nopspan::detail::encode_attributes(span, true, true, out);
  return {reinterpret_cast<const char*>(out), encoded.size};
}

// The parts of the record that some keys set.
std::vector<std::uint64_t> facts_of(const FieldSink& sink) {
  const nopspan::detail::EngineTimes& times = sink.engine;
  std::vector<std::uint64_t> facts{sink.input_tokens,
                                   sink.output_tokens,
                                   sink.cached_tokens,
                                   sink.reasoning_tokens,
                                   sink.usage_keys,
                                   sink.flags,
                                   sink.retry_attempt,
                                   sink.retry_delay_ns,
                                   times.arrival_ns,
                                   times.queue_ns,
                                   times.prefill_ns,
                                   times.decode_ns,
                                   times.prefill_tokens,
                                   times.decode_tokens,
                                   times.preemptions,
                                   times.known,
                                   static_cast<std::uint64_t>(sink.has_tool),
                                   static_cast<std::uint64_t>(sink.has_engine_times),
                                   static_cast<std::uint64_t>(sink.gives_id)};
  std::copy(std::begin(sink.context.labels), std::end(sink.context.labels), std::back_inserter(facts));
  return facts;
}

std::uint64_t counted() {
  const nopspan::Stats stats = nopspan::stats();
  return stats.values_clamped + stats.fields_dropped;
}

enum class Value : std::uint8_t {
  small,
  middle,
  large,
  negative,
  natural,
  yes,
  half,
  big,
  text,
  long_text,
  other,
  null
};
constexpr Value kValues[] = {Value::small, Value::middle, Value::large, Value::negative,  Value::natural, Value::yes,
                             Value::half,  Value::big,    Value::text,  Value::long_text, Value::other,   Value::null};

// Always inline, so that the compiler knows the key if the caller knows it.
[[gnu::always_inline]] inline void set(FieldSink& sink, nopspan::Text key, Value value) {
  nopspan::Fields fields(&sink);
  if (value == Value::small) fields.set(key, 127);
  if (value == Value::middle) fields.set(key, 128);
  if (value == Value::large) fields.set(key, INT64_MAX);
  if (value == Value::negative) fields.set(key, -1);
  if (value == Value::natural) fields.set(key, UINT64_MAX);
  if (value == Value::yes) fields.set(key, true);
  if (value == Value::half) fields.set(key, 0.5);
  if (value == Value::big) fields.set(key, 1e300);
  if (value == Value::text) fields.set(key, "add");
  if (value == Value::long_text) fields.set(key, std::string(65, 'x'));
  if (value == Value::other) fields.set(key, std::string("\u00e9\0\xff", 4));
  if (value == Value::null) fields.set(key, static_cast<const char*>(nullptr));
}

struct Event : PlainSpan {
  Event() { is_span = false; }
};

// Sets fields with one key twice: by `set_known`, which has the key as a literal, and under a key that the compiler
// does not know. Both must be the same, and the same as if the first value had not been set.
template <class SetKnown>
void compare(nopspan::Text key, const SetKnown& set_known) {
  const volatile std::size_t size = key.size();  // the compiler does not know what it reads
  const nopspan::Text unknown(key.data(), size);
  for (const Value first : kValues) {
    for (const Value second : kValues) {  // replaces the first
      Event of_known;
      Event of_unknown;
      const std::uint64_t before = counted();
      set_known(of_known, first);
      set_known(of_known, second);
      const std::uint64_t between = counted();
      set(of_unknown, unknown, first);
      set(of_unknown, unknown, second);
      EXPECT_EQ(between - before, counted() - between);
      EXPECT_EQ(attributes_of(of_known), attributes_of(of_unknown));
      EXPECT_EQ(facts_of(of_known), facts_of(of_unknown));
      EXPECT_STREQ(of_known.tool_name, of_unknown.tool_name);
      EXPECT_STREQ(of_known.retry_reason, of_unknown.retry_reason);
      Event last;
      set_known(last, second);
      last.gives_id = of_known.gives_id;  // says only that the fields may have an id
      EXPECT_EQ(facts_of(last), facts_of(of_known));
      EXPECT_STREQ(last.retry_reason, of_known.retry_reason);
    }
  }
}

#define COMPARE(key)                                                       \
  do {                                                                     \
    SCOPED_TRACE(key);                                                     \
    compare(key, [](Event& sink, Value value) { set(sink, key, value); }); \
  } while (false)

TEST(ShortKey, IsKnown) {
  EXPECT_EQ(nopspan::detail::short_key("rows").size_and_bit & 0xffU, 4U);
  EXPECT_EQ(nopspan::detail::short_key("1234567890123456").size_and_bit & 0xffU, 16U);
  EXPECT_EQ(nopspan::detail::short_key("12345678901234567").size_and_bit, 0U);
  EXPECT_EQ(nopspan::detail::short_key("").size_and_bit, 0U);
  EXPECT_EQ(nopspan::detail::short_key("\u00e9").size_and_bit, 0U);
}

TEST(ShortKey, OfEachLengthIsTheSame) {
  COMPARE("1");
  COMPARE("12");
  COMPARE("123");
  COMPARE("1234");
  COMPARE("12345");
  COMPARE("1234567");
  COMPARE("12345678");
  COMPARE("123456789");
  COMPARE("123456789012345");
  COMPARE("1234567890123456");
  COMPARE("12345678901234567");
  COMPARE("\x01\n\x7f");
  COMPARE("\u00e9");
  COMPARE("");
}

TEST(ShortKey, WithAMeaningIsTheSame) {
  COMPARE("model");
  COMPARE("engine");
  COMPARE("tenant");
  COMPARE("reason");
  COMPARE("error");
  COMPARE("trace_id");
  COMPARE("request_id");
  COMPARE("tool_name");
  COMPARE("attempt");
  COMPARE("delay_ms");
  COMPARE("retry.attempt");
  COMPARE("retry.delay_ms");
  COMPARE("retry.reason");
  COMPARE("input_tokens");
  COMPARE("output_tokens");
  COMPARE("cached_tokens");
  COMPARE("reasoning_tokens");
  COMPARE("arrival_ns");
  COMPARE("queue_ns");
  COMPARE("prefill_ns");
  COMPARE("decode_ns");
  COMPARE("preemptions");
  COMPARE("prefill_tokens");
  COMPARE("decode_tokens");
}

TEST(ShortKey, OfContentIsTheSame) {
  COMPARE("gen_ai.prompt");
  COMPARE("gen_ai.prompt.0");
  COMPARE("gen_ai.prompts");
  COMPARE("error.message");
  COMPARE("nopspan.code");
  COMPARE("nopspan.response");
  Event event;
  set(event, "gen_ai.prompt", Value::text);
  set(event, "nopspan.response", Value::small);
  EXPECT_EQ(attributes_of(event), "") << "nobody may get it";
}

}  // namespace
