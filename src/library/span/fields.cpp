// SPDX-License-Identifier: Apache-2.0
// The setters of Fields. They write the value to the field buffer. For a few keys they also set the fields of the
// probes' record: labels, token counts, engine times, the tool and the retry.
#include <nopspan/fields.h>

#include "base/clean_text.h"
#include "base/counters.h"
#include "fields/attribute_keys.h"
#include "genai/genai_mapping.h"
#include "memory/slabs.h"
#include "span/span.h"
#include "state/context_access.h"
#include "state/field_sink.h"
#include "state/header_store.h"
#include "state/labels.h"
#include "state/step_data.h"

#include <nopspan/detail/bridge.h>
#include <nopspan/event.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string_view>

namespace nopspan::detail {
namespace {

// True for the measurements that nopspan makes for every span. The application cannot set them.
bool is_own_measurement(std::string_view key) noexcept {
  return key == "duration" || key == "monotonic_time" || key == "system_time";
}

// True if the key may be written now. Counts a key that is not allowed.
bool accept(FieldSink* sink, Text key, std::uint8_t flags) noexcept {
  const bool measurement = (flags & FieldEntry::kMeasurement) != 0;
  if (!takes_fields(*sink, counters.fields_dropped)) return false;
  if (key.empty() || (measurement && sink->is_span && is_own_measurement(key.view()))) {
    count(counters.fields_dropped);
    return false;
  }
  if (!measurement && key.view() == "error" && sink->keys != 0) sink->gives_error = sink->gives_result = true;
  if ((flags & FieldEntry::kContent) == 0 || sink->keeps_content) return true;
  // Neither handlers nor probes get this content, so it is not copied. An older value of the key is still removed.
  sink->fields.erase(key.view());
  return false;
}

// The key under which a field of a catalogue's span is kept, if the program sets it by the name of its attribute. So
// there is one field for each fact. Content keeps its name, because it must not become what the record has.
Text key_of(const FieldSink* sink, Text key, bool content) noexcept {
  constexpr std::size_t kShortest = std::string_view("gen_ai.tool.name").size();
  if (key.size() < kShortest || key.data()[6] != '.' || content || sink->keys == 0 || !sink->is_span) return key;
  const CatalogueSpan* const known = static_cast<const SpanState*>(sink)->catalogue;
  return known != nullptr ? Text(key_of_fact(key.view(), !known->operation.empty())) : key;
}

bool is_of_no_catalogue(const FieldSink* sink) noexcept {
  return sink->is_span && static_cast<const SpanState*>(sink)->catalogue == nullptr;
}

// The key by which the record and the status know a field. The fields of the application's own spans keep the names
// that the conventions have for attributes, and set the same facts.
std::string_view fact_of(const FieldSink* sink, Text key) noexcept {
  if (key.view() == semconv::gen_ai_provider_name) return "provider";
  return is_of_no_catalogue(sink) ? key_of_fact(key.view(), true) : key.view();
}

std::uint8_t metadata_flags(const FieldSink* sink, Text key, bool content) noexcept {
  return content || is_content_key(*sink, key.view()) ? FieldEntry::kContent : 0;
}

// Token usage is metadata. A measurement with the same key is the application's own.
struct UsageKey {
  std::string_view key;
  std::uint64_t FieldSink::*field;
  std::uint8_t bit;  // in usage_keys
};
constexpr UsageKey kUsageKeys[] = {{"input_tokens", &FieldSink::input_tokens, 1},
                                   {"output_tokens", &FieldSink::output_tokens, 2},
                                   {"cached_tokens", &FieldSink::cached_tokens, 4},
                                   {"reasoning_tokens", &FieldSink::reasoning_tokens, 8}};

struct EngineKey {
  std::string_view key;
  std::uint64_t EngineTimes::*field;
  bool may_be_real;  // a time may be given as a double
  bool is_duration;  // the engine knows the request's times
};
constexpr EngineKey kEngineKeys[] = {{"arrival_ns", &EngineTimes::arrival_ns, true, false},
                                     {"queue_ns", &EngineTimes::queue_ns, true, true},
                                     {"prefill_ns", &EngineTimes::prefill_ns, true, true},
                                     {"decode_ns", &EngineTimes::decode_ns, true, true},
                                     {"preemptions", &EngineTimes::preemptions, true, false},
                                     {"prefill_tokens", &EngineTimes::prefill_tokens, false, false},
                                     {"decode_tokens", &EngineTimes::decode_tokens, false, false}};

struct RetryKey {
  std::string_view key;
  bool is_delay;  // in ms; otherwise the attempt
};
constexpr RetryKey kRetryKeys[] = {
    {"attempt", false}, {"delay_ms", true}, {"retry.attempt", false}, {"retry.delay_ms", true}};

template <class Known, std::size_t N>
const Known* find_key(const Known (&all)[N], std::string_view key) noexcept {
  for (const Known& known : all) {
    if (known.key == key) return &known;
  }
  return nullptr;
}

constexpr bool is_label_of_record(std::string_view key) noexcept {
  return key == "model" || key == "engine" || key == "tenant";
}

// False if note_number() does not need the key. Of long keys, compares only the last two letters.
constexpr bool may_be_noted_number(std::string_view key) noexcept {
  if (key.size() < 7) return is_label_of_record(key);
  const char last = key[key.size() - 1];
  const char before = key[key.size() - 2];
  return last == 's' ? before == 'n' || before == 'm' : last == 't' && before == 'p';
}

// True if note_text() needs the key.
bool is_noted_text(std::string_view key) noexcept {
  return is_label_of_record(key) || key == "provider" || key == "reason" || key == "trace_id" || key == "tool_name" ||
         key == "request_id";
}

// Does nothing for a key that spans inside do not inherit.
void set_label(FieldSink* sink, std::string_view key, std::string_view text) noexcept {
  if (key == "model") sink->context.labels[ContextAccess::model] = intern_label(text, LabelOf::model);
  if (key == "engine") {
    sink->context.labels[ContextAccess::engine] = intern_label(text, LabelOf::model);
    // The spans inside inherit the provider with the engine. That of the engine around is none of this one.
    const FieldBuffer& own = sink->fields;
    if (own.find("provider", false) == nullptr && own.find(semconv::gen_ai_provider_name, false) == nullptr) {
      sink->context.provider = kNoLabel;
    }
  }
  if (key == "provider") sink->context.provider = intern_label(text, LabelOf::model);
  if (key == "tenant") sink->context.labels[ContextAccess::tenant] = intern_label(text, LabelOf::other);
}

// Clears the record's field of a key, because its new value is invalid or is content.
void forget(FieldSink* sink, std::string_view key) noexcept {
  sink->begin_numbers();
  set_label(sink, key, {});
  if (key == "tool_name") sink->has_tool = false;
  if (const UsageKey* const usage = find_key(kUsageKeys, key); usage != nullptr) {
    sink->*usage->field = 0;
    sink->usage_keys &= static_cast<std::uint8_t>(~usage->bit);
    if (sink->usage_keys == 0) sink->flags &= ~NOPSPAN_FLAG_HAS_USAGE;
  }
  if (const EngineKey* const of_engine = find_key(kEngineKeys, key); of_engine != nullptr) {
    std::uint64_t& field = sink->engine.*of_engine->field;
    field = 0;
    sink->engine.known &= static_cast<std::uint8_t>(~engine_bit(sink->engine, field));
    sink->has_engine_times = std::any_of(std::begin(kEngineKeys), std::end(kEngineKeys), [&](const EngineKey& each) {
      return each.is_duration && is_known(sink->engine, sink->engine.*each.field);
    });
  }
  if (const RetryKey* const retry = find_key(kRetryKeys, key); retry != nullptr) {
    (retry->is_delay ? sink->retry_delay_ns : sink->retry_attempt) = 0;
  }
  if (key == "retry.reason" || key == "reason") sink->retry_reason[0] = '\0';
}

// For a value that has no text or number from which the record, or the status, could be read.
void note_unreadable(FieldSink* sink, std::string_view key) noexcept {
  forget(sink, key);
  const bool is_of_any_span = is_label_of_record(key);
  const bool is_engine_time = (sink->keys & AttributeKey::engine) != 0 && find_key(kEngineKeys, key) != nullptr;
  const bool is_of_catalogue = is_engine_time || find_key(kUsageKeys, key) != nullptr || key == "http_status" ||
                               key == "usage" || key == semconv::http_response_status_code;
  if (is_of_any_span || (is_of_catalogue && sink->keys != 0 && sink->is_span)) count(counters.values_clamped);
}

// Sets the record's fields that are texts.
void note_text(FieldSink* sink, std::string_view key, std::string_view text) noexcept {
  sink->begin_numbers();
  set_label(sink, key, text);
  if ((sink->keys & AttributeKey::retry) != 0 && (key == "retry.reason" || key == "reason")) {
    clean(text, sink->retry_reason);
  }
  if (key == "tool_name") {
    clean(text, sink->tool_name);
    sink->has_tool = true;
  }
  if (key == "trace_id" || key == "request_id") sink->gives_id = true;
  if (key == semconv::gen_ai_operation_name && is_of_no_catalogue(sink)) {
    sink->keys |= AttributeKey::operation;
    sink->gives_result = true;  // what says so may be set already
  }
  if (key == "finish_reason" || key == semconv::rpc_response_status_code || key == semconv::error_type) {
    sink->gives_result = true;
  }
  const bool may_be_number = may_be_noted_number(key) && !is_label_of_record(key);
  if (may_be_number || key == "usage" || key == "http_status" || key == semconv::http_response_status_code) {
    note_unreadable(sink, key);
  }
}

void note_usage(FieldSink* sink, const UsageKey& usage, std::uint64_t number) noexcept {
  sink->begin_numbers();
  sink->*usage.field = number;
  if (usage.field == &FieldSink::output_tokens) sink->tokens_so_far = number;
  sink->usage_keys |= usage.bit;
  sink->flags |= NOPSPAN_FLAG_HAS_USAGE;
}

// Counts the members of a usage map that become no attribute. That of an image is an attribute as a whole.
void count_unknown_usage(const FieldSink* sink, const Node& map) noexcept {
  const CatalogueSpan* const span = sink->is_span ? static_cast<const SpanState*>(sink)->catalogue : nullptr;
  if (span == nullptr || span->name == "llm.image") return;
  const Node nested = map.find("tokens");
  const auto look_at = [&](const Node& members, UsageMap kind) {
    members.for_each_member([&](std::string_view key, const Node& member) {
      if (member.is_null() || is_usage_name(key, kind, nested.is_map())) return;
      const bool may_be_modality = (kind == UsageMap::tokens) == nested.is_map();
      const AttributeKey* const known = find_attribute_key(key, static_cast<AttributeKey::Of>(sink->keys));
      if (!may_be_modality || !is_usage_attribute(known)) count(counters.fields_dropped);
    });
  };
  look_at(map, UsageMap::outer);
  look_at(nested, UsageMap::tokens);
}

// Sets the counts from a map in the shape of the reference's `usage`.
void note_usage_map(FieldSink* sink, const Node& map) noexcept {
  count_unknown_usage(sink, map);
  Metadata metadata;
  metadata[Key::usage] = map;
  spread_usage(metadata);
  constexpr Key kKeys[] = {Key::input_tokens, Key::output_tokens, Key::cache_read_input_tokens, Key::reasoning_tokens};
  for (std::size_t i = 0; i < std::size(kKeys); ++i) {
    const Node& number = metadata[kKeys[i]];
    if (number.is_integer() && number.as_int() >= 0) {
      note_usage(sink, kUsageKeys[i], static_cast<std::uint64_t>(number.as_int()));
    } else if (!number.is_null()) {
      count(counters.values_clamped);
    }
  }
}

// Sets what follows from a list or map.
void note_items(FieldSink* sink, std::string_view key, const Node& items) noexcept {
  if (key == "usage" && items.is_map()) {
    note_usage_map(sink, items);
  } else {
    note_unreadable(sink, key);
  }
  if (key == "finish_reason") sink->gives_result = true;
}

std::uint64_t saturating_ms(std::uint64_t ms) noexcept {
  constexpr std::uint64_t kNsPerMs = 1'000'000;
  if (ms <= static_cast<std::uint64_t>(INT64_MAX) / kNsPerMs) return ms * kNsPerMs;
  count(counters.values_clamped);
  return INT64_MAX;
}

void note_engine(FieldSink* sink, const EngineKey& known, std::uint64_t number) noexcept {
  std::uint64_t& field = sink->engine.*known.field;
  field = number;
  sink->engine.known |= engine_bit(sink->engine, field);
  if (known.is_duration) sink->has_engine_times = true;
}

void note_number(FieldSink* sink, std::string_view key, std::int64_t value, bool measurement) noexcept {
  sink->begin_numbers();
  const EngineKey* const of_engine = find_key(kEngineKeys, key);
  const UsageKey* const usage = measurement ? nullptr : find_key(kUsageKeys, key);
  const bool is_batch_size = key == "batch_size" && is_step(*sink);
  if (value < 0) {
    if (of_engine != nullptr || usage != nullptr || is_batch_size) count(counters.values_clamped);
    if (of_engine != nullptr || !measurement) forget(sink, key);
    return;
  }
  const auto number = static_cast<std::uint64_t>(value);
  if (of_engine != nullptr) {
    note_engine(sink, *of_engine, number);
  } else if (usage != nullptr) {
    note_usage(sink, *usage, number);
  } else if (is_batch_size) {
    set_batch_size(*sink, number);
  } else if (const RetryKey* const retry = find_key(kRetryKeys, key); retry != nullptr) {
    if (retry->is_delay) {
      sink->retry_delay_ns = saturating_ms(number);
    } else {
      sink->retry_attempt = number;
    }
  } else if (key == "http_status" || key == semconv::http_response_status_code) {
    sink->gives_result = true;
  } else if (!measurement && (is_noted_text(key) || key == "retry.reason" || key == "usage")) {
    note_unreadable(sink, key);
  }
}

// The flags of a measurement. Events have the times of the catalogues' documents for handlers: tracers have their own.
// A negative time of an engine is impossible, so it does not become an attribute either.
std::uint8_t measurement_flags(const FieldSink* sink, std::string_view key, bool is_negative) noexcept {
  const bool is_time = !sink->is_span && (key == "system_time" || key == "monotonic_time");
  const bool is_impossible =
      is_negative && (sink->keys & AttributeKey::engine) != 0 && find_key(kEngineKeys, key) != nullptr;
  return is_time || is_impossible ? FieldEntry::kMeasurement | FieldEntry::kAdded : FieldEntry::kMeasurement;
}

// Content never becomes a field of the record, a label or an id, even while content is captured: capture may be off
// when the span ends, and labels and ids reach other spans and processes.
bool is_content(std::uint8_t flags) noexcept { return (flags & FieldEntry::kContent) != 0; }

void put_integer(FieldSink* sink, Text key, std::string_view fact, std::int64_t value, std::uint8_t flags) noexcept {
  if (!accept(sink, key, flags)) return;
  if (is_content(flags)) {
    forget(sink, fact);
  } else {
    note_number(sink, fact, value, (flags & FieldEntry::kMeasurement) != 0);
  }
  count_unless(sink->fields.put_word(key.view(), Value::Type::integer, static_cast<std::uint64_t>(value), flags));
}

void note_real(FieldSink* sink, std::string_view key, double value, bool measurement) noexcept {
  sink->begin_numbers();
  constexpr double kNsPerMs = 1e6;
  if (key == "retry.delay_ms" && value >= 0 && value < 0x1p63 / kNsPerMs) {
    sink->retry_delay_ns = static_cast<std::uint64_t>(value * kNsPerMs);
    return;
  }
  const EngineKey* const of_engine = find_key(kEngineKeys, key);
  if (of_engine == nullptr || !of_engine->may_be_real) {
    if (!measurement && !is_label_of_record(key)) note_unreadable(sink, key);
    return;
  }
  if (value >= 0 && value < 0x1p63) {
    note_engine(sink, *of_engine, static_cast<std::uint64_t>(value));
  } else {
    count(counters.values_clamped);
    forget(sink, key);
  }
}

void put_real(FieldSink* sink, Text key, std::string_view fact, double value, std::uint8_t flags) noexcept {
  if (!accept(sink, key, flags)) return;
  if (is_content(flags)) {
    forget(sink, fact);
  } else {
    note_real(sink, fact, value, (flags & FieldEntry::kMeasurement) != 0);
  }
  count_unless(sink->fields.put_word(key.view(), Value::Type::real, real_word(value), flags));
}

std::int64_t clamp(std::uint64_t value) noexcept {
  if (value <= static_cast<std::uint64_t>(INT64_MAX)) return static_cast<std::int64_t>(value);
  count(counters.values_clamped);
  return INT64_MAX;
}

// Each setter below has a fast path and a careful path. The fast path is for nearly all fields: metadata that is not
// content, under a new key that the record does not need, with room in the buffer. It writes only to the field buffer,
// so a signal handler may interrupt it. The careful path handles all other fields, inside the library (InsideLibrary).

// True if the key is a label, which this value cannot be. Labels are set also if nobody gets the fields.
bool refuses_label(FieldSink* sink, std::string_view key) noexcept {
  if (!is_label_of_record(key)) return false;
  note_unreadable(sink, key);
  return true;
}

// The bits of keys in the filter of a FieldBuffer. A ShortKey comes with its bit.
constexpr std::uint64_t word_of(std::string_view bytes) noexcept {
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) word |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << 8 * i;
  return word;
}
constexpr std::uint64_t bit_of(std::string_view key) noexcept {
  const std::size_t size = key.size() >= 8 ? 8 : 4;
  const KeyEnds ends{word_of(key.substr(0, size)), word_of(key.substr(key.size() - size))};
  return std::uint64_t{1} << key_bit_number(ends);
}
// 0 if may_be_noted_number() rules out one of the keys.
template <class Known, std::size_t N>
constexpr std::uint64_t bits_of(const Known (&all)[N]) noexcept {
  std::uint64_t bits = 0;
  for (const Known& known : all) {
    if (!may_be_noted_number(known.key)) return 0;
    bits |= bit_of(known.key);
  }
  return bits;
}
static_assert(bits_of(kUsageKeys) != 0 && bits_of(kEngineKeys) != 0 && bits_of(kRetryKeys) != 0);
constexpr std::uint64_t kLabelBits = bit_of("model") | bit_of("engine") | bit_of("tenant");
constexpr std::uint64_t kNumberBits = bits_of(kUsageKeys) | bits_of(kEngineKeys) | bits_of(kRetryKeys) | kLabelBits;
constexpr std::uint64_t kTextBits = kLabelBits | bit_of("provider") | bit_of("reason") | bit_of("trace_id") |
                                    bit_of("tool_name") | bit_of("request_id");

bool has_bit(std::uint64_t bits, const KeyWords& key) noexcept { return (bits >> key.bit() & 1U) != 0; }

// True if the key certainly is not content, nor the name of a fact.
bool is_plain(const FieldSink* sink, Text key, bool content) noexcept {
  return !content && sink->keys == 0 && !key.empty() && sink->takes_fields == TakesFields::yes &&
         !(may_have_meaning(key.view()) && has_meaning(key.view()));
}

__attribute__((noinline)) void put_text_carefully(FieldSink* sink, Text key, Text value, bool content) noexcept {
  const InsideLibrary inside;
  key = key_of(sink, key, content);
  const std::uint8_t flags = metadata_flags(sink, key, content);
  const std::string_view fact = fact_of(sink, key);
  if (is_content(flags)) {
    forget(sink, fact);
  } else {
    note_text(sink, fact, value.view());
  }
  if (accept(sink, key, flags)) count_unless(sink->fields.put_string(key.view(), value.view(), flags));
}

// A label is a text. That of a number is its digits.
__attribute__((noinline)) void put_int_carefully(FieldSink* sink, Text key, std::int64_t value, bool content) noexcept {
  const InsideLibrary inside;
  key = key_of(sink, key, content);
  const std::string_view fact = fact_of(sink, key);
  if (is_label_of_record(fact)) {
    char digits[24];
    const char* const end = std::to_chars(digits, std::end(digits), value).ptr;
    put_text_carefully(sink, key, {digits, static_cast<std::size_t>(end - digits)}, content);
    return;
  }
  put_integer(sink, key, fact, value, metadata_flags(sink, key, content));
}

NOPSPAN_HOT void set_int(FieldSink* sink, Text key, std::int64_t value, bool content) noexcept {
  if (is_plain(sink, key, content) && value >= 0 && !may_be_noted_number(key.view()) &&
      sink->fields.put_usual_word(key.view(), Value::Type::integer, static_cast<std::uint64_t>(value))) {
    return;
  }
  put_int_carefully(sink, key, value, content);
}

__attribute__((noinline)) void put_double_carefully(FieldSink* sink, Text key, double value, bool content) noexcept {
  const InsideLibrary inside;
  key = key_of(sink, key, content);
  const std::string_view fact = fact_of(sink, key);
  refuses_label(sink, fact);
  put_real(sink, key, fact, value, metadata_flags(sink, key, content));
}

NOPSPAN_HOT void set_double(FieldSink* sink, Text key, double value, bool content) noexcept {
  if (is_plain(sink, key, content) && !may_be_noted_number(key.view()) &&
      sink->fields.put_usual_real(key.view(), value)) {
    return;
  }
  put_double_carefully(sink, key, value, content);
}

__attribute__((noinline)) void put_bool_carefully(FieldSink* sink, Text key, bool value, bool content) noexcept {
  const InsideLibrary inside;
  key = key_of(sink, key, content);
  const std::uint8_t flags = metadata_flags(sink, key, content);
  const std::string_view fact = fact_of(sink, key);
  const bool is_label = refuses_label(sink, fact);
  if (!accept(sink, key, flags)) return;
  if (is_content(flags)) {
    forget(sink, fact);
  } else if (!is_label) {
    note_unreadable(sink, fact);
  }
  count_unless(sink->fields.put_word(key.view(), Value::Type::boolean, value ? 1 : 0, flags));
}

NOPSPAN_HOT void set_bool(FieldSink* sink, Text key, bool value, bool content) noexcept {
  if (is_plain(sink, key, content) && !may_be_noted_number(key.view()) &&
      sink->fields.put_usual_word(key.view(), Value::Type::boolean, value ? 1 : 0)) {
    return;
  }
  put_bool_carefully(sink, key, value, content);
}

NOPSPAN_HOT void set_text(FieldSink* sink, Text key, Text value, bool content) noexcept {
  if (value.is_null()) {
    put_null(sink, key, content);
    return;
  }
  if (is_plain(sink, key, content) && !is_noted_text(key.view()) &&
      sink->fields.put_usual_string(key.view(), value.view())) {
    return;
  }
  put_text_carefully(sink, key, value, content);
}

// The setters for a ShortKey. Its words are separate arguments, because arguments of a class would be in memory.

// The key as the other setters take it.
struct LongKey {
  explicit LongKey(const KeyWords& key) noexcept : size(key.size()) {
    std::memcpy(bytes, &key.first, sizeof(key.first));
    std::memcpy(bytes + 8, &key.second, sizeof(key.second));
  }
  [[nodiscard]] Text text() const noexcept { return {bytes, size}; }

  std::size_t size;
  char bytes[16];
};

__attribute__((noinline)) bool short_has_meaning(const KeyWords& key) noexcept {
  return has_meaning(LongKey(key).text().view());
}
// may_have_meaning() by the key's first word.
bool short_may_have_meaning(const KeyWords& key) noexcept {
  const auto begins = [&key](std::string_view prefix) {
    return key.first << 8 * (8 - prefix.size()) == word_of(prefix) << 8 * (8 - prefix.size());
  };
  return begins("gen_ai.") || begins("nopspan.") || begins("error.") || begins("exceptio") || begins("otel.");
}

bool is_plain(const FieldSink* sink, const KeyWords& key) noexcept {
  return sink->keys == 0 && sink->takes_fields == TakesFields::yes &&
         __builtin_expect(!short_may_have_meaning(key) || !short_has_meaning(key), 1);
}

// True if note_text() or note_number() may need the key.
__attribute__((noinline)) bool is_noted_text(const KeyWords& key) noexcept {
  return is_noted_text(LongKey(key).text().view());
}
__attribute__((noinline)) bool is_noted_number(const KeyWords& key) noexcept {
  return may_be_noted_number(LongKey(key).text().view());
}
bool may_be_noted_number(const KeyWords& key) noexcept { return has_bit(kNumberBits, key) && is_noted_number(key); }

NOPSPAN_HOT void set_short_int(FieldSink* sink, std::uint64_t first, std::uint64_t second, std::uint32_t size_and_bit,
                               std::int64_t value) noexcept {
  const KeyWords key{first, second, size_and_bit};
  if (is_plain(sink, key) && value >= 0 && !may_be_noted_number(key) &&
      sink->fields.put_short_word(key, Value::Type::integer, static_cast<std::uint64_t>(value))) {
    return;
  }
  set_int(sink, LongKey(key).text(), value, false);
}

NOPSPAN_HOT void set_short_double(FieldSink* sink, std::uint64_t first, std::uint64_t second,
                                  std::uint32_t size_and_bit, double value) noexcept {
  const KeyWords key{first, second, size_and_bit};
  if (is_plain(sink, key) && !may_be_noted_number(key) && sink->fields.put_short_real(key, value)) {
    return;
  }
  set_double(sink, LongKey(key).text(), value, false);
}

NOPSPAN_HOT void set_short_bool(FieldSink* sink, std::uint64_t first, std::uint64_t second, std::uint32_t size_and_bit,
                                bool value) noexcept {
  const KeyWords key{first, second, size_and_bit};
  if (is_plain(sink, key) && !may_be_noted_number(key) &&
      sink->fields.put_short_word(key, Value::Type::boolean, value ? 1 : 0)) {
    return;
  }
  set_bool(sink, LongKey(key).text(), value, false);
}

NOPSPAN_HOT void set_short_text(FieldSink* sink, std::uint64_t first, std::uint64_t second, std::uint32_t size_and_bit,
                                const char* text, std::size_t size) noexcept {
  const KeyWords key{first, second, size_and_bit};
  if (is_plain(sink, key) && text != nullptr && !(has_bit(kTextBits, key) && is_noted_text(key)) &&
      sink->fields.put_short_string(key, text, size)) {
    return;
  }
  set_text(sink, LongKey(key).text(), {text, size}, false);
}

}  // namespace

void put_short_bool(FieldSink* sink, std::uint64_t first, std::uint64_t second, std::uint32_t size_and_bit,
                    bool value) noexcept {
  set_short_bool(sink, first, second, size_and_bit, value);
}
void put_short_int(FieldSink* sink, std::uint64_t first, std::uint64_t second, std::uint32_t size_and_bit,
                   std::int64_t value) noexcept {
  set_short_int(sink, first, second, size_and_bit, value);
}
void put_short_double(FieldSink* sink, std::uint64_t first, std::uint64_t second, std::uint32_t size_and_bit,
                      double value) noexcept {
  set_short_double(sink, first, second, size_and_bit, value);
}
void put_short_text(FieldSink* sink, std::uint64_t first, std::uint64_t second, std::uint32_t size_and_bit,
                    const char* text, std::size_t size) noexcept {
  set_short_text(sink, first, second, size_and_bit, text, size);
}

void put_null(FieldSink* sink, Text key, bool content) noexcept {
  const InsideLibrary inside;
  key = key_of(sink, key, content);
  const std::uint8_t flags = metadata_flags(sink, key, content);
  forget(sink, fact_of(sink, key));
  if (accept(sink, key, flags)) count_unless(sink->fields.put_null(key.view(), flags));
  if (key.view() == "error") sink->gives_error = false;
}

void put_bool(FieldSink* sink, Text key, bool value, bool content) noexcept { set_bool(sink, key, value, content); }

void put_int(FieldSink* sink, Text key, std::int64_t value, bool content) noexcept {
  set_int(sink, key, value, content);
}

void put_uint(FieldSink* sink, Text key, std::uint64_t value, bool content) noexcept {
  set_int(sink, key, clamp(value), content);
}

void put_double(FieldSink* sink, Text key, double value, bool content) noexcept {
  set_double(sink, key, value, content);
}

void put_text(FieldSink* sink, Text key, Text value, bool content) noexcept { set_text(sink, key, value, content); }

void put_value(FieldSink* sink, Text key, const Value& value, bool content) noexcept {
  const InsideLibrary inside;
  switch (value.type()) {
    case Value::Type::null:
      put_null(sink, key, content);
      return;
    case Value::Type::string:
      put_text(sink, key, value.as_string(), content);
      return;
    case Value::Type::integer:
      put_int(sink, key, value.as_int(), content);
      return;
    case Value::Type::real:
      put_double(sink, key, value.as_double(), content);
      return;
    default:
      break;
  }
  key = key_of(sink, key, content);
  const std::uint8_t flags = metadata_flags(sink, key, content);
  if (is_content(flags)) {
    forget(sink, fact_of(sink, key));
  } else {
    note_items(sink, fact_of(sink, key), Node(&value));
  }
  if (accept(sink, key, flags)) count_unless(sink->fields.put_value(key.view(), value, flags));
}

struct ItemWriter {
  FieldBuffer& fields;
  unsigned depth;
  bool complete;
};

namespace {
// Writes a list or map. The application's ranges are read outside of the library, because they may run any code.
bool write_items(FieldBuffer& fields, std::string_view key, const Item& items, std::uint8_t flags, unsigned depth) {
  const std::size_t from = fields.size();
  const Value::Type type = items.type == Item::Type::map ? Value::Type::map : Value::Type::list;
  {
    const InsideLibrary inside;
    if (!fields.open_items(key, type, flags, depth)) return false;
  }
  ItemWriter writer{fields, depth + 1, true};
  items.fill(&writer, items.object);
  if (writer.complete) fields.close_items(from);
  return writer.complete;
}
}  // namespace

bool add_item(ItemWriter* writer, Text key, const Item& item) {
  if (item.fill != nullptr) {
    writer->complete = write_items(writer->fields, key.view(), item, 0, writer->depth);
  } else {
    const InsideLibrary inside;
    writer->complete = writer->fields.add_item(key.view(), item, writer->depth);
  }
  return writer->complete;
}

void put_items(FieldSink* sink, Text key, const Item& items, bool content) {
  std::uint8_t flags;
  {
    const InsideLibrary inside;
    key = key_of(sink, key, content);
    flags = metadata_flags(sink, key, content);
    forget(sink, fact_of(sink, key));
    if (!accept(sink, key, flags)) return;
  }
  // Ends the field, also if an exception leaves the application's range.
  struct Ending {
    FieldSink* sink;
    std::size_t from;
    bool complete = false;
    ~Ending() {
      const InsideLibrary inside;
      sink->takes_fields = TakesFields::yes;
      count_unless(sink->fields.put_items(from, complete));
    }
  } ending{sink, sink->fields.size()};
  sink->takes_fields = TakesFields::converting;
  ending.complete = write_items(sink->fields, key.view(), items, flags, 0);
  const FieldEntry* entry = FieldEntry::at(sink->fields.begin() + ending.from);
  if (ending.complete && !is_content(flags)) note_items(sink, fact_of(sink, key), Node(entry));
}

// The keys have no meaning for the record, so the fast path of a text needs none of its tests.
void put_scope(FieldSink* sink, Text name, Text version, Text schema_url) noexcept {
  const auto part = [sink](std::string_view key, Text text) {
    if (text.empty()) return;
    if (sink->takes_fields != TakesFields::yes || !sink->fields.put_usual_string(key, text.view())) {
      put_text(sink, key, text, false);
    }
  };
  part("otel.scope.name", name);
  part("otel.scope.version", version);
  part("otel.scope.schema_url", schema_url);
}

void measure_int(FieldSink* sink, Text key, std::int64_t value) noexcept {
  const InsideLibrary inside;
  put_integer(sink, key, key.view(), value, measurement_flags(sink, key.view(), value < 0));
}

void measure_uint(FieldSink* sink, Text key, std::uint64_t value) noexcept { measure_int(sink, key, clamp(value)); }

void measure_double(FieldSink* sink, Text key, double value) noexcept {
  const InsideLibrary inside;
  put_real(sink, key, key.view(), value, measurement_flags(sink, key.view(), !(value >= 0)));
}

void measure_counter(FieldSink* sink, Text name, std::int64_t total) noexcept {
  const InsideLibrary inside;
  put_integer(sink, name, name.view(), total, FieldEntry::kMeasurement | FieldEntry::kCounter);
}

void measure_labelled(FieldSink* sink, Text name, Text key, Text value, std::int64_t number) noexcept {
  char label[kMaxNameBytes + 1];
  clean(value.view(), label);
  char text[FieldBuffer::kMaxKeyBytes];
  std::size_t size = 0;
  for (const std::string_view part : {name.view(), std::string_view("{"), key.view(), std::string_view("="),
                                      std::string_view(label), std::string_view("}")}) {
    size += part.copy(text + size, sizeof(text) - size);
  }
  measure_int(sink, {text, size}, number);
}

namespace {

LinkState* states_of_links(const FieldSink& sink) noexcept {
  return reinterpret_cast<LinkState*>(sink.links + kMaxLinks);
}

}  // namespace

void put_link(FieldSink* sink, ContextRef linked) noexcept {
  // The context of a span that is not recorded is the thread's. For a step that is its own, and not that of a request.
  if (is_step(*sink) && ContextAccess::is_current(linked)) {
    count(counters.links_dropped);
    return;
  }
  const Context context = linked.context();
  const InsideLibrary inside;
  if (context.empty() || !takes_fields(*sink, counters.links_dropped)) return;
  if (is_step(*sink)) {
    const nopspan_member member = member_of(context);
    add_members(*sink, &member, 1);
    return;
  }
  if (sink->links == nullptr) {
    sink->links =
        reinterpret_cast<nopspan_link*>(take_block(kMaxLinks * (sizeof(nopspan_link) + sizeof(LinkState))).bytes);
  }
  if (sink->links == nullptr || sink->link_count == kMaxLinks) {
    sink->flags |= NOPSPAN_FLAG_LINKS_DROPPED;
    count(counters.links_dropped);
    return;
  }
  const ContextHead& head = ContextAccess::head(context);
  const bool is_remote = (head.bits & ContextAccess::kRemote) != 0;
  states_of_links(*sink)[sink->link_count] = {
      head.headers, ((is_remote ? LinkState::kRemote : LinkState::kLocal) & ~3U) | (head.trace_flags & 3U)};
  nopspan_link& link = sink->links[sink->link_count++];
  std::memcpy(link.trace_id, head.trace_id, sizeof(link.trace_id));
  link.span_id = context.span_id();
}

// States that have no room are left out, and counted.
void add_link_states(FieldSink& sink) noexcept {
  char text[2048];
  std::size_t size = 0;
  bool has_any = false;
  for (std::uint32_t i = 0; i < sink.link_count; ++i) {
    const LinkState& state = states_of_links(sink)[i];
    char tracestate[kMaxTracestateBytes + 1];
    const std::size_t bytes = has_tracestate(state.headers) ? load_tracestate(state.headers, tracestate) : 0;
    constexpr std::size_t kDigits = 3;
    if (i > 0) text[size++] = '\n';
    if (bytes == 0 && state.flags == LinkState::kLocal) continue;
    if (size + kDigits + 1 + bytes + sink.link_count > sizeof(text)) {  // one byte more for each other link
      count(counters.fields_dropped);
      continue;
    }
    has_any = true;
    encode_hex(state.flags, kDigits, text + size);
    size += kDigits;
    text[size++] = ' ';
    std::memcpy(text + size, tracestate, bytes);
    size += bytes;
  }
  constexpr std::uint8_t kFlags = FieldEntry::kOwn | FieldEntry::kProbesOnly;
  if (has_any) count_unless(sink.fields.put_string(NOPSPAN_ATTRIBUTE_LINKS, {text, size}, kFlags));
}

void put_step(FieldSink* sink, StepFact fact, std::uint64_t value) noexcept {
  const InsideLibrary inside;
  if (!takes_fields(*sink, counters.fields_dropped)) return;
  const bool is_amount = fact >= StepFact::drafted;
  if (is_amount && value > static_cast<std::uint64_t>(INT64_MAX)) {
    count(counters.values_clamped);
  } else {
    count_unless(is_step(*sink) && set_step_fact(*sink, fact, value));
  }
}

void put_members(FieldSink* sink, const engine::Member* members, std::size_t number) noexcept {
  const InsideLibrary inside;
  if (number == 0 || !takes_fields(*sink, counters.members_dropped, number)) return;
  if (is_step(*sink)) {
    add_members(*sink, reinterpret_cast<const nopspan_member*>(members), number);
  } else {
    count(counters.members_dropped, number);
  }
}

}  // namespace nopspan::detail
