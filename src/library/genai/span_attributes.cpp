// SPDX-License-Identifier: Apache-2.0
// The attributes of a span are its fields. If it is in a catalogue, the GenAI mapping reads some of the fields and
// makes attributes of them, and the other fields follow under the names of the table in attribute_keys.cpp. Labels come
// last. If the application has set an attribute itself, its value is used.
#include "genai/span_attributes.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "fields/attribute_keys.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <iterator>

namespace nopspan::detail {
namespace {

// An output of the mapping that writes fields, for handlers.
class FieldOutput {
 public:
  explicit FieldOutput(FieldBuffer& fields) noexcept : fields_(fields) {}

  void text(std::string_view key, std::string_view value) noexcept {
    count_unless(fields_.put_string(key, value, kFlags));
  }
  void texts(std::string_view key, const std::string_view* values, std::size_t count) noexcept {
    Text texts[FinishReasons::kMost];
    count = std::min(count, FinishReasons::kMost);
    std::copy(values, values + count, texts);
    count_unless(fields_.put_texts(key, texts, count, kFlags));
  }
  void node(std::string_view key, const Node& value) noexcept {
    if (value.entry() != nullptr) {
      entry(key, *value.entry());
    } else if (value.value() != nullptr) {
      count_unless(fields_.put_value(key, *value.value(), kFlags));
    } else if (value.type() == Value::Type::string) {
      text(key, value.as_string());
    } else {
      count_unless(fields_.put_word(key, value.type(), value.word(), kFlags));
    }
  }
  void entry(std::string_view key, const FieldEntry& value) noexcept {
    count_unless(fields_.put_entry(key, value, kFlags | (value.flags & FieldEntry::kContent)));
  }
  // Takes no fields as they are.
  static const unsigned char* wire_entries(const unsigned char* at, const unsigned char*) noexcept { return at; }

 private:
  static constexpr std::uint8_t kFlags = FieldEntry::kOwn;

  FieldBuffer& fields_;
};

// The metadata that the application set with this key. Null if there is none.
const FieldEntry* find_own(const SpanState& span, std::string_view key) noexcept {
  constexpr std::uint8_t kNot = FieldEntry::kAdded | FieldEntry::kProbesOnly | FieldEntry::kMeasurement;
  const FieldBuffer& fields = span.fields;
  for (const unsigned char* at = fields.begin(); at < fields.end(); at = FieldEntry::at(at)->end()) {
    const FieldEntry* entry = FieldEntry::at(at);
    if ((entry->flags & kNot) == 0 && entry->key() == key) return entry;
  }
  return nullptr;
}

bool has_label(const SpanState& span, std::string_view key) noexcept {
  bool found = false;
  for_each_extra_label(span.context, [&](std::string_view other, std::string_view) { found |= other == key; });
  return found;
}

// An output that skips attributes that the application has set itself.
template <class Out>
class Unless {
 public:
  Unless(Out& out, const SpanState* span) noexcept : out_(out), span_(span) {}

  void text(std::string_view key, std::string_view value) noexcept {
    if (!is_own(key)) out_.text(key, value);
  }
  void texts(std::string_view key, const std::string_view* values, std::size_t count) noexcept {
    if (!is_own(key)) out_.texts(key, values, count);
  }
  void node(std::string_view key, const Node& value) noexcept {
    if (!is_own(key, value.entry())) out_.node(key, value);
  }
  void entry(std::string_view key, const FieldEntry& value) noexcept {
    if (!is_own(key)) out_.entry(key, value);
  }

 private:
  // Content does not count as set, because it is stored only if a handler or a probe may get it. Nor does the field
  // that the mapping makes this attribute of: some keys are the names of their attributes ("server.address").
  [[nodiscard]] bool is_own(std::string_view key, const FieldEntry* made_of = nullptr) const noexcept {
    if (span_ == nullptr) return false;
    const FieldEntry* own = find_own(*span_, key);
    return (own != nullptr && own != made_of && (own->flags & FieldEntry::kContent) == 0) || has_label(*span_, key);
  }

  Out& out_;
  const SpanState* span_;  // null if the application has set no attribute with a name of ours
};

// An output that only records whether the mapping makes an attribute with this key.
class Finder {
 public:
  explicit Finder(std::string_view key) noexcept : key_(key) {}
  void text(std::string_view key, std::string_view) noexcept { look_at(key); }
  void texts(std::string_view key, const std::string_view*, std::size_t) noexcept { look_at(key); }
  void node(std::string_view key, const Node&) noexcept { look_at(key); }
  [[nodiscard]] bool found() const noexcept { return found_; }

 private:
  void look_at(std::string_view key) noexcept { found_ = found_ || key == key_; }
  std::string_view key_;
  bool found_ = false;
};

// True if the mapping, or the table of keys, may make an attribute with this name.
bool is_our_name(std::string_view key) noexcept {
  for (const std::string_view prefix :
       {"gen_ai.", "openai.", "nopspan.", "error.type", "server.", "langfuse.", "http.", "retry."}) {
    if (key.substr(0, prefix.size()) == prefix) return true;
  }
  return false;
}

// The only inputs that the mapping reads from a span that is not an operation of the conventions.
bool is_of_the_response(Key key) noexcept {
  return (key >= Key::usage && key <= Key::total_cost) || key == Key::finish_reason || key == Key::model ||
         key == Key::engine || key == Key::request_id;
}

// Events are not mapped, but their model and request id have the conventions' names.
std::string_view name_in_event(const SpanState& state, Key input, std::string_view key) noexcept {
  if (state.is_span) return key;
  if (input == Key::model) return semconv::gen_ai_request_model;
  return input == Key::request_id ? semconv::extension::request_id : key;
}

// How a field is used.
struct Use {
  bool is_read = false;  // the mapping reads it as `input`
  Key input{};
  std::string_view attribute;  // the attribute that it becomes; "" if none
};

Use use_of(const SpanState& span, AttributeKey::Of keys, bool is_operation, const FieldEntry& entry) noexcept {
  Use use;
  const AttributeKey* known = find_attribute_key(entry.key(), keys);
  if (known == nullptr) {
    use.attribute = entry.key();
    return use;
  }
  // The attributes of the mapping leave the process, so it must not read content.
  const bool readable = (entry.flags & (FieldEntry::kMeasurement | FieldEntry::kContent)) == 0;
  use.input = known->input;
  use.is_read = span.is_span && known->input != AttributeKey::kNoKey && readable &&
                (is_operation || is_of_the_response(known->input));
  if (!known->unless.empty() && find_own(span, known->unless) != nullptr) return use;
  use.attribute = known->attribute;
  if (known->input == Key::operation && span.catalogue != nullptr && span.catalogue->name == "llm.image") {
    use.is_read = false;  // its values (generate, edit, variation) are not names of the conventions
    use.attribute = "nopspan.image.operation";
  }
  if (known->input == Key::usage && span.catalogue != nullptr && span.catalogue->name == "llm.image") {
    use.attribute = "nopspan.usage";  // it has more than tokens, for example images
  }
  if (use.attribute.empty() && !use.is_read) use.attribute = name_in_event(span, known->input, entry.key());
  return use;
}

Node label_of(const SpanState& span, ContextAccess::Label which) noexcept {
  const Interned text = label(span.context.labels[which]);
  return text.size == 0 ? Node() : Node(std::string_view(text.text, text.size));
}

// Completes the metadata with what a live span has elsewhere: in its labels, its catalogue, its context and its record.
void complete(const SpanState& span, const CatalogueSpan& known, Metadata& m) noexcept {
  const bool is_inference = known.operation == "chat" || known.operation == "image";
  if (!m[Key::operation].exists() && !known.operation.empty()) m[Key::operation] = Node(known.operation);
  if (is_inference && !m[Key::model].exists()) m[Key::model] = label_of(span, ContextAccess::model);
  if (is_inference && !m[Key::engine].exists()) m[Key::engine] = label_of(span, ContextAccess::engine);
  if (m[Key::model].is_map()) {
    m[Key::model_id] = m[Key::model].find("id");
    m[Key::model_provider] = m[Key::model].find("provider");
  } else {
    m[Key::model_id] = m[Key::model];
  }
  if (!m[Key::provider].exists() && !m[Key::model_provider].exists()) {
    const Interned inherited = label(span.context.provider);
    m[Key::provider] = inherited.size != 0 ? Node(inherited.view()) : m[Key::engine];
  }
  if (!m[Key::request_id].exists()) {
    const std::string_view id = visible_id(span);
    if (!id.empty()) m[Key::request_id] = Node(id);
  }
  if (known.name == "llm.stream" && !m[Key::stream].exists()) m[Key::stream] = Node(true);
  if ((span.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) != 0) {
    m[Key::mode] = Node(std::string_view("stream"));
    m[Key::time_to_first_chunk] = Node(static_cast<std::int64_t>(span.first_token_ns));
  }
  spread_usage(m);
}

template <class Each>
void for_each_field(const SpanState& span, const Each& each) noexcept {
  const FieldBuffer& fields = span.fields;
  for (const unsigned char* at = fields.begin(); at < fields.end(); at = FieldEntry::at(at)->end()) {
    const FieldEntry& entry = *FieldEntry::at(at);
    if ((entry.flags & FieldEntry::kAdded) == 0) each(entry);
  }
}

// Writes the times of an engine.request under the names that vLLM gives them, in seconds. Impossible times are skipped.
template <class Out>
void map_latencies(const SpanState& span, Out& out) noexcept {
  namespace names = semconv::extension;
  const EngineTimes& times = span.engine;
  const auto seconds = [](std::uint64_t ns) { return static_cast<double>(ns) / 1e9; };
  const auto put = [&](std::string_view name, double value) { out.node(name, Node(value)); };
  if (is_known(times, times.queue_ns)) put(names::gen_ai_latency_time_in_queue, seconds(times.queue_ns));
  if (is_known(times, times.prefill_ns)) put(names::gen_ai_latency_time_in_model_prefill, seconds(times.prefill_ns));
  if (is_known(times, times.decode_ns)) put(names::gen_ai_latency_time_in_model_decode, seconds(times.decode_ns));
  if (is_known(times, times.prefill_ns) && is_known(times, times.decode_ns)) {
    put(names::gen_ai_latency_time_in_model_inference, seconds(times.prefill_ns) + seconds(times.decode_ns));
  }
  const FieldEntry* const first = span.fields.find("ttft_ns", true);
  if (first != nullptr && first->type == Value::Type::integer && first->as_int() >= 0) {
    put(names::gen_ai_latency_time_to_first_token, seconds(static_cast<std::uint64_t>(first->as_int())));
  }
  if (!span.has_engine_times) return;
  const std::uint64_t end_ns = span.start_ns + span.duration_ns;
  const std::uint64_t arrival_ns = times.arrival_ns != 0 ? times.arrival_ns : span.start_ns;
  if (end_ns >= arrival_ns) put(names::gen_ai_latency_e2e, seconds(end_ns - arrival_ns));
}

// Writes the tokens by modality that a usage map has. A field of the same key outside the map takes precedence.
template <class Out>
void write_modalities(const SpanState& span, AttributeKey::Of keys, const FieldEntry& usage, Out& out) noexcept {
  const Node nested = Node(&usage).find("tokens");
  (nested.is_map() ? nested : Node(&usage)).for_each_member([&](std::string_view key, const Node& count) {
    const AttributeKey* const known = find_attribute_key(key, keys);
    if (!is_usage_attribute(known) || count.is_null() || find_own(span, key) != nullptr) return;
    out.node(known->attribute, count);
  });
}

// Writes the attributes that the mapping makes of a span.
template <class Out>
void write_mapped(const SpanState& span, bool at_end, bool is_operation, Metadata& metadata, Out& out) noexcept {
  if (is_operation) {
    map_start(metadata, out);
  } else {
    map_node(semconv::gen_ai_request_model, metadata[Key::model_id], out);
    out.node(semconv::extension::request_id, metadata[Key::request_id]);
  }
  if (!at_end) return;
  metadata[Key::http_status] = Node();  // if it is a failure, it is the span's status, and error.type follows from that
  add_costs(metadata);
  map_terminal(metadata, out);
  Scratch scratch[8];
  map_text(semconv::extension::langfuse_cost_details, cost_details(metadata, scratch), out);
  if (span.catalogue->name == "engine.request") map_latencies(span, out);
  if (has_failed(span)) {
    out.text(semconv::error_type, span.error_type[0] != '\0' ? span.error_type : semconv::error_type_other);
  }
}

// The type of the error that the application has set as the attribute error.type. Empty if it is not a text.
std::string_view error_type_in(const FieldEntry& own) noexcept {
  if (own.type != Value::Type::string || own.as_string().empty()) return {};
  if (is_type_name(own.as_string())) return own.as_string();
  count(counters.names_invalid);
  return semconv::error_type_other;
}

// The code of a JSON-RPC error, if it makes the span of an MCP message an error. Otherwise data() is null.
std::string_view rpc_failure(const SpanState& span) noexcept {
  const std::string_view text = span.fields.find_text(semconv::rpc_response_status_code);
  if (text.data() == nullptr || span.catalogue->name != "mcp.server") return text;
  long code = 0;
  std::from_chars(text.data(), text.data() + text.size(), code);
  // Parse error, invalid request, unknown method, invalid params, resource not found.
  constexpr std::array kOfClient = {-32700L, -32600L, -32601L, -32602L, -32002L};
  return std::find(kOfClient.begin(), kOfClient.end(), code) == kOfClient.end() ? text : std::string_view();
}

// Writes the extra labels in the span's context, except those that the span has as a field.
template <class Out>
void write_labels(const SpanState& span, Out& out) noexcept {
  for_each_extra_label(span.context, [&](std::string_view key, std::string_view value) {
    if (find_own(span, key) == nullptr) out.text(key, value);
  });
}

// True if the attribute is made from metadata with the same key instead.
bool is_second(const SpanState& span, const FieldEntry& entry) noexcept {
  return (entry.flags & (FieldEntry::kMeasurement | FieldEntry::kProbesOnly)) != 0 &&
         find_own(span, entry.key()) != nullptr;
}

// True for null and for an empty list.
bool is_nothing(const FieldEntry& entry) noexcept {
  return entry.type == Value::Type::null || (entry.type == Value::Type::list && entry.payload() == entry.end());
}

template <class Out>
void write_plain(const SpanState& span, Out& out) noexcept {
  const unsigned char* at = span.fields.begin();
  const unsigned char* const end = span.fields.end();
  while ((at = out.wire_entries(at, end)) < end) {
    const FieldEntry& entry = *FieldEntry::at(at);
    if ((entry.flags & FieldEntry::kAdded) == 0 && !is_second(span, entry)) out.entry(entry.key(), entry);
    at = entry.end();
  }
}

// Writes the provider of the engine around an inference that is a span of the application's own.
template <class Out>
void write_inherited_provider(const SpanState& span, Out& out) noexcept {
  constexpr std::string_view kInferences[] = {semconv::operation::chat, semconv::operation::generate_content,
                                              semconv::operation::embeddings, "text_completion"};
  const std::string_view operation = span.fields.find_text(semconv::gen_ai_operation_name);
  if (std::find(std::begin(kInferences), std::end(kInferences), operation) == std::end(kInferences)) return;
  const Interned provider = label(span.context.provider);
  if (provider.size == 0 || find_own(span, semconv::gen_ai_provider_name) != nullptr) return;
  out.text(semconv::gen_ai_provider_name, provider.view());
}

// Writes the costs of an operation that is a span of the application's own.
template <class Out>
void write_costs(const SpanState& span, Out& out) noexcept {
  if (find_own(span, semconv::extension::gen_ai_usage_cost) != nullptr) return;
  Metadata metadata;
  const auto read = [&](std::string_view key, Key input) {
    const FieldEntry* const entry = find_own(span, key);
    if (entry != nullptr && (entry->flags & FieldEntry::kContent) == 0) metadata[input] = Node(entry);
  };
  for (const AttributeOf& usage : kUsageAttributes) read(usage.attribute, usage.key);
  read("gen_ai.usage.cache_write.input_tokens", Key::cache_creation_input_tokens);
  read(semconv::gen_ai_response_model, Key::response_model);
  metadata[Key::model_id] = label_of(span, ContextAccess::model);
  add_costs(metadata);
  if (!is_finite_number(metadata[Key::total_cost])) return;
  Scratch scratch[8];
  out.node(semconv::extension::gen_ai_usage_cost, metadata[Key::total_cost]);
  map_text(semconv::extension::langfuse_cost_details, cost_details(metadata, scratch), out);
}

template <class Out>
void write_catalogued(const SpanState& span, AttributeKey::Of keys, bool at_end, Out& all) noexcept {
  // Null for an event, for an operation that is a span of the application's own, and for a span that was renamed.
  const CatalogueSpan* const known = span.catalogue;
  const bool is_operation = known != nullptr && !known->operation.empty();
  Metadata metadata;
  bool has_own_names = false;  // the application has set an attribute with a name of ours, for example "gen_ai.…"
  for_each_field(span, [&](const FieldEntry& entry) {
    const Use use = use_of(span, keys, is_operation, entry);
    if (use.is_read) metadata[use.input] = Node(&entry);
    has_own_names = has_own_names || (use.attribute == entry.key() && is_our_name(use.attribute));
  });
  for_each_extra_label(span.context,
                       [&](std::string_view key, std::string_view) { has_own_names |= is_our_name(key); });
  Unless<Out> out(all, has_own_names ? &span : nullptr);
  if (known != nullptr) {
    complete(span, *known, metadata);
    write_mapped(span, at_end, is_operation, metadata, out);
    const Node engine = label_of(span, ContextAccess::engine);
    if (engine.exists() && known->catalogue != Catalogue::engine && find_own(span, "engine") == nullptr) {
      out.node("nopspan.engine", engine);
    }
  }
  for_each_field(span, [&](const FieldEntry& entry) {
    const Use use = use_of(span, keys, is_operation, entry);
    if (use.is_read && use.input == Key::usage) write_modalities(span, keys, entry, out);
    if (use.attribute.empty() || is_nothing(entry) || is_second(span, entry)) return;
    if (use.attribute != entry.key()) {
      out.entry(use.attribute, entry);
      return;
    }
    if ((entry.flags & FieldEntry::kContent) != 0 && known != nullptr && is_our_name(use.attribute)) {
      Finder mapped(use.attribute);
      write_mapped(span, at_end, is_operation, metadata, mapped);
      if (mapped.found()) return;
    }
    all.entry(use.attribute, entry);
  });
  if ((keys & AttributeKey::operation) != 0) {
    write_inherited_provider(span, all);
    if (at_end) write_costs(span, all);
  }
}

template <class Out>
void write_attributes(const SpanState& span, bool at_end, Out& out) noexcept {
  const auto keys = static_cast<AttributeKey::Of>(span.keys);
  if (keys == AttributeKey::Of{}) {
    write_plain(span, out);
  } else {
    write_catalogued(span, keys, at_end, out);
  }
  write_labels(span, out);
}

AttributeEncoder encoder_of(const SpanState& span, bool with_content, unsigned char* out) noexcept {
  return {span.is_span ? wire::kSpanAttributes : wire::kEventAttributes, with_content, out};
}

__attribute__((noinline)) EncodedAttributes encode_all_attributes(const SpanState& span, bool at_end, bool with_content,
                                                                  unsigned char* out) noexcept {
  AttributeEncoder encoder = encoder_of(span, with_content, out);
  write_attributes(span, at_end, encoder);
  return encoder.finish();
}

}  // namespace

EncodedAttributes encode_attributes(const SpanState& span, bool at_end, bool with_content,
                                    unsigned char* out) noexcept {
  if (span.keys == 0 && !has_extra_labels(span.context)) {
    AttributeEncoder usual = encoder_of(span, with_content, out);
    if (usual.wire_entries(span.fields.begin(), span.fields.end()) == span.fields.end()) return usual.finish();
  }
  return encode_all_attributes(span, at_end, with_content, out);
}

namespace {

// Calls `each` for the fields of a gauge that are labels.
template <class Each>
void for_each_gauge_label(const SpanState& gauge, const GaugeLabel& label, const Each& each) noexcept {
  constexpr std::string_view kElsewhere[] = {"engine", "model", "tenant", "maximum", "request_id"};
  for_each_field(gauge, [&](const FieldEntry& entry) {
    constexpr std::uint8_t kNoLabel = FieldEntry::kMeasurement | FieldEntry::kContent;
    if ((entry.flags & kNoLabel) != 0 || is_nothing(entry) || entry.key() == label.key) return;
    const auto* const end = std::end(kElsewhere);
    if (std::find(std::begin(kElsewhere), end, entry.key()) == end) each(entry);
  });
}

}  // namespace

EncodedAttributes encode_gauge_labels(const SpanState& gauge, const GaugeLabel& label, unsigned char* out) noexcept {
  AttributeEncoder encoder = encoder_of(gauge, false, out);
  for_each_gauge_label(gauge, label, [&](const FieldEntry& entry) { encoder.entry(entry.key(), entry); });
  if (!label.key.empty()) encoder.text(label.key, label.value);
  write_labels(gauge, encoder);
  return encoder.finish();
}

std::size_t write_labelled_name(const SpanState& gauge, std::string_view name, const GaugeLabel& label, char* out,
                                std::size_t room) noexcept {
  std::size_t size = 0;
  const auto write = [&](std::string_view text) { size += text.copy(out + size, room - size); };
  const char* separator = "{";
  const auto write_label = [&](std::string_view key, std::string_view value) {
    write(separator);
    write(key);
    write("=");
    write(value);
    separator = ",";
  };
  write(name);
  for_each_gauge_label(gauge, label, [&](const FieldEntry& entry) {
    char number[24];
    if (entry.type == Value::Type::string) {
      write_label(entry.key(), entry.as_string());
    } else if (entry.type == Value::Type::integer) {
      const char* const end = std::to_chars(number, std::end(number), entry.as_int()).ptr;
      write_label(entry.key(), {number, static_cast<std::size_t>(end - number)});
    }
  });
  if (!label.key.empty()) write_label(label.key, label.value);
  if (separator[0] == ',') write("}");
  return size;
}

namespace {

// A program with OpenTelemetry's API has said that the span did not fail.
bool is_declared_ok(const SpanState& span) noexcept { return span.fields.find_text("otel.status_code") == "OK"; }

}  // namespace

std::string_view failure_in_metadata(const SpanState& span, Scratch& scratch) noexcept {
  const bool is_of_catalogue = span.catalogue != nullptr;
  if (!is_of_catalogue && ((span.keys & AttributeKey::operation) == 0 || is_declared_ok(span))) return {};
  const bool is_operation = !is_of_catalogue || !span.catalogue->operation.empty();
  Metadata metadata;
  std::string_view own_type;
  for_each_field(span, [&](const FieldEntry& entry) {
    const std::string_view key = entry.key();
    const bool is_status_code = key == semconv::http_response_status_code;
    if (is_status_code || key == semconv::error_type) {
      if ((entry.flags & (FieldEntry::kMeasurement | FieldEntry::kContent)) != 0) return;
      if (!is_status_code) own_type = error_type_in(entry);
      if (is_status_code && is_operation) metadata[Key::http_status] = Node(&entry);
    } else if (!is_of_catalogue) {
      if (key == semconv::gen_ai_response_finish_reasons) metadata[Key::finish_reason] = Node(&entry);
    } else if (key == "http_status" || key == "finish_reason") {
      const Use use = use_of(span, static_cast<AttributeKey::Of>(span.keys), is_operation, entry);
      if (use.is_read) metadata[use.input] = Node(&entry);
    }
  });
  if (!own_type.empty()) return own_type;
  if (is_of_catalogue && span.catalogue->catalogue == Catalogue::mcp) return rpc_failure(span);
  constexpr std::uint32_t kServer = static_cast<std::uint32_t>(SpanKind::server) << NOPSPAN_FLAG_KIND_SHIFT;
  const bool is_server = (span.flags & NOPSPAN_FLAG_KIND_MASK) == kServer;
  const std::string_view type = failure(metadata, scratch, is_server ? 500 : 400);
  return type.data() == nullptr && span.gives_error ? semconv::error_type_other : type;
}

void collect_attributes(const SpanState& span, bool at_end, FieldBuffer& out) noexcept {
  FieldOutput output(out);
  write_attributes(span, at_end, output);
  // Tracers read this in the record of a span that is in no catalogue.
  if (at_end && span.catalogue == nullptr && has_failed(span) && span.error_type[0] != '\0') {
    out.reserve(128);  // if the fields take all the room that they may have
    Unless<FieldOutput>(output, &span).text(semconv::error_type, span.error_type);
  }
}

}  // namespace nopspan::detail
