// SPDX-License-Identifier: Apache-2.0
// The public functions of nopspan::genai: the GenAI mapping for metadata that is a Value of the reference's shape.
#include <nopspan/genai.h>

#include "genai/genai_mapping.h"

#include <nopspan/types.h>

#include <algorithm>
#include <string>
#include <utility>

namespace nopspan::genai {
namespace {

namespace core = nopspan::detail;
using core::FieldBuffer;
using core::Key;
using core::Metadata;
using core::Node;
using core::Scratch;

// Where a key is: the name of a member, and of the map that the member is in, which is the metadata itself if it is "".
struct Place {
  std::string_view map, name;
  Key key;
};
constexpr Place kPlaces[] = {
    {"", "request_id", Key::request_id},
    {"", "operation", Key::operation},
    {"", "provider", Key::provider},
    {"", "mode", Key::mode},
    {"", "usage", Key::usage},
    {"", "http_status", Key::http_status},
    {"", "finish_reason", Key::finish_reason},
    {"", "error", Key::error},
    {"", "response_payload", Key::response_payload},
    {"model", "id", Key::model_id},
    {"model", "provider", Key::model_provider},
    {"request_options", "temperature", Key::temperature},
    {"request_options", "top_p", Key::top_p},
    {"request_options", "top_k", Key::top_k},
    {"request_options", "max_tokens", Key::max_tokens},
    {"request_options", "frequency_penalty", Key::frequency_penalty},
    {"request_options", "presence_penalty", Key::presence_penalty},
    {"request_options", "stop_sequences", Key::stop_sequences},
    {"request_options", "seed", Key::seed},
    {"request_options", "n", Key::n},
    {"request_options", "stream?", Key::stream},
    {"request_options", "encoding_formats", Key::encoding_formats},
    {"request_options", "conversation_id", Key::conversation_id},
    {"request_options", "service_tier", Key::service_tier},
    {"reasoning", "requested_effort", Key::requested_effort},
    {"reasoning", "requested_budget_tokens", Key::requested_budget_tokens},
    {"server", "address", Key::server_address},
    {"server", "port", Key::server_port},
    {"server", "path", Key::server_path},
    {"response_payload", "id", Key::response_id},
    {"response_payload", "response_id", Key::response_alias_id},
    {"response_payload", "model", Key::response_model},
    {"response_payload", "provider_meta", Key::provider_meta},
    {"response_summary", "dimensions", Key::dimensions},
    {"streaming", "time_to_first_chunk", Key::time_to_first_chunk},
};

// False if the value is nested deeper than a field may be (FieldBuffer::kMaxDepth).
bool is_shallow(const Value& value, unsigned depth = 0) noexcept {
  if (depth > FieldBuffer::kMaxDepth) return false;
  return std::all_of(value.as_list().begin(), value.as_list().end(),
                     [&](const Value& item) { return is_shallow(item, depth + 1); }) &&
         std::all_of(value.as_map().begin(), value.as_map().end(),
                     [&](const auto& entry) { return is_shallow(entry.second, depth + 1); });
}

bool is_nested(const Value& value) noexcept {
  return value.type() == Value::Type::list || value.type() == Value::Type::map;
}

Value as_json(const Value& value) { return is_shallow(value) ? Value(value.to_string()) : Value(); }

// Reads a Value of the reference's shape as Metadata. Valid as long as `given`. Cannot be copied, because `metadata`
// may point into this object.
struct ValueMetadata {
  explicit ValueMetadata(const Value& given);
  ValueMetadata(const ValueMetadata&) = delete;
  ValueMetadata& operator=(const ValueMetadata&) = delete;

  Metadata metadata;

 private:
  Value finish_reasons_;  // used if some finish reasons are lists or maps, which become JSON texts here
};

ValueMetadata::ValueMetadata(const Value& given) {
  for (const Place& place : kPlaces) {
    const Value* const map = place.map.empty() ? &given : given.find(place.map);
    if (map != nullptr) metadata[place.key] = Node(map->find(place.name));
  }
  core::spread_usage(metadata);

  const Value* reasons = given.find("finish_reason");
  if (reasons == nullptr) return;
  const Value::List& list = reasons->as_list();
  if (reasons->type() == Value::Type::map) {
    finish_reasons_ = as_json(*reasons);
  } else if (std::any_of(list.begin(), list.end(), is_nested)) {
    Value::List readable;
    for (const Value& reason : list) readable.push_back(is_nested(reason) ? as_json(reason) : reason);
    finish_reasons_ = Value(std::move(readable));
  } else {
    return;
  }
  metadata[Key::finish_reason] = Node(&finish_reasons_);
}

// An output of the mapping that makes a map.
class Attributes {
 public:
  void text(std::string_view key, std::string_view value) { add(key, value); }
  void texts(std::string_view key, const std::string_view* values, std::size_t count) {
    add(key, Value::List(values, values + count));
  }
  void node(std::string_view key, const Node& node) {
    if (node.value() == nullptr) return add(key, node.as_double());  // the mapping makes no other node
    if (is_shallow(*node.value())) add(key, *node.value());
  }
  Value take() { return Value(std::move(map_)); }

 private:
  void add(std::string_view key, Value value) { map_.emplace_back(key, std::move(value)); }

  Value::Map map_;
};

Value mapped(const Value& metadata, void (*map)(const Metadata&, Attributes&)) {
  Attributes out;
  map(ValueMetadata(metadata).metadata, out);
  return out.take();
}

Value or_null(std::string_view text) { return text.data() == nullptr ? Value() : Value(text); }

// The message of an error, which is not null. If it has none of the known shapes, it is the whole error as JSON.
std::string message_of(const Node& error) {
  Scratch scratch;
  const std::string_view known = error.is_map() ? error.find("message").as_string() : core::scalar_text(error, scratch);
  if (known.data() != nullptr) return std::string(known);
  return is_shallow(*error.value()) ? error.value()->to_string() : std::string();
}

// Collects metrics.
class Metrics {
 public:
  explicit Metrics(const Metadata& metadata) : metadata_(metadata) {}

  void add(std::string_view name, Value value, std::string_view attribute = {}, std::string_view text = {}) {
    const bool counts = value.type() == Value::Type::integer;
    Scratch scratch;
    Attributes attributes;
    attributes.text(semconv::gen_ai_operation_name, core::operation_name(metadata_, scratch));
    core::map_text(semconv::gen_ai_provider_name, core::provider_name(metadata_), attributes);
    core::map_node(semconv::gen_ai_request_model, core::request_model(metadata_), attributes);
    core::map_node(semconv::gen_ai_response_model, core::response_model(metadata_), attributes);
    core::map_nodes(core::kServerAttributes, metadata_, attributes);
    core::map_text(attribute, text, attributes);
    const StaticList<double> boundaries = counts ? StaticList<double>(semconv::metric::token_boundaries)
                                                 : StaticList<double>(semconv::metric::duration_boundaries);
    metrics_.push_back({name, counts ? semconv::metric::tokens : semconv::metric::seconds, std::move(value),
                        boundaries.begin(), boundaries.size(), attributes.take()});
  }
  // A negative count adds nothing.
  void add_tokens(Key key, std::string_view type) {
    const Node& count = metadata_[key];
    if (count.is_integer() && count.as_int() >= 0) {
      add(semconv::metric::client_token_usage, count.as_int(), semconv::gen_ai_token_type, type);
    }
  }
  void add_stream(std::int64_t duration_ns) {
    if (!core::has_first_chunk(metadata_)) return;
    const std::int64_t first_ns = metadata_[Key::time_to_first_chunk].as_int();
    if (first_ns < 0) return;
    add(semconv::metric::client_operation_time_to_first_chunk, core::seconds_of(first_ns));
    const std::int64_t tokens = metadata_[Key::output_tokens].as_int();
    if (duration_ns <= first_ns || tokens <= 0) return;
    add(semconv::metric::client_operation_time_per_output_chunk,
        core::seconds_of(duration_ns - first_ns) / static_cast<double>(tokens));
  }
  std::vector<Metric> take() { return std::move(metrics_); }

 private:
  const Metadata& metadata_;
  std::vector<Metric> metrics_;
};

}  // namespace

Value start(const Value& metadata) { return mapped(metadata, core::map_start); }

Value terminal(const Value& metadata) { return mapped(metadata, core::map_terminal); }

Value exception(const Value& metadata) {
  const ValueMetadata given(metadata);
  Scratch scratch;
  Attributes out;
  out.text(semconv::error_type, core::error_type(given.metadata, scratch));
  core::map_node(semconv::extension::request_id, given.metadata[Key::request_id], out);
  return out.take();
}

Value exception_event(const Value& metadata) {
  const ValueMetadata given(metadata);
  Scratch scratch;
  Value event;
  event.set(semconv::exception_type, core::error_type(given.metadata, scratch));
  const Node& error = given.metadata[Key::error];
  if (!error.is_null()) event.set(semconv::exception_message, message_of(error));
  return event;
}

std::string error_type(const Value& metadata) {
  Scratch scratch;
  return std::string(core::error_type(ValueMetadata(metadata).metadata, scratch));
}

Value error_status(const Value& metadata) {
  Scratch scratch;
  const std::string_view status = core::failed_status(ValueMetadata(metadata).metadata, scratch);
  if (status.data() == nullptr) return {};
  return Value::list({status, "HTTP " + std::string(status)});
}

Value provider_name(const Value& metadata) { return or_null(core::provider_name(ValueMetadata(metadata).metadata)); }

Value request_model(const Value& metadata) {
  const ValueMetadata given(metadata);
  const Node& model = core::request_model(given.metadata);
  return model.is_string() ? Value(model.as_string()) : Value();
}

Value streaming_ttfc_seconds(const Value& metadata) {
  const ValueMetadata given(metadata);
  if (!core::has_first_chunk(given.metadata)) return {};
  return core::seconds_of(given.metadata[Key::time_to_first_chunk].as_int());
}

Value cost_breakdown(const Value& metadata) {
  const ValueMetadata given(metadata);
  Value costs;
  for (const auto& [name, key] : {std::pair("input", Key::input_cost), std::pair("output", Key::output_cost),
                                  std::pair("reasoning", Key::reasoning_cost), std::pair("total", Key::total_cost)}) {
    if (core::is_finite_number(given.metadata[key])) costs.set(name, *given.metadata[key].value());
  }
  return costs;
}

const Value* present(const Value& value) noexcept { return core::is_present(Node(&value)) ? &value : nullptr; }

std::string operation_name(const Value& metadata) {
  Scratch scratch;
  return std::string(core::operation_name(ValueMetadata(metadata).metadata, scratch));
}

Value output_type(const Value& metadata) { return or_null(core::output_type(ValueMetadata(metadata).metadata)); }

std::string span_name(Text operation, Text model) {
  std::string name(core::operation_name(operation.view()));
  if (!model.empty()) (name += ' ') += model.view();
  return name;
}

Value span_status(const Value& metadata) {
  const ValueMetadata given(metadata);
  const Node& error = given.metadata[Key::error];
  if (!error.is_null()) return Value::list({"error", message_of(error)});
  Scratch scratch;
  const std::string_view failure = core::failure(given.metadata, scratch);
  if (failure.data() == nullptr) return Value::list({"ok"});
  return Value::list(
      {"error", failure == semconv::error_type_other ? "request failed" : "HTTP " + std::string(failure)});
}

std::vector<Metric> metrics_stop(const Value& metadata, std::int64_t duration_ns) {
  if (duration_ns < 0) return {};
  const ValueMetadata given(metadata);
  Scratch scratch;
  Metrics metrics(given.metadata);
  metrics.add(semconv::metric::client_operation_duration, core::seconds_of(duration_ns), semconv::error_type,
              core::failed_status(given.metadata, scratch));
  metrics.add_tokens(Key::input_tokens, semconv::token_type::input);
  metrics.add_tokens(Key::output_tokens, semconv::token_type::output);
  metrics.add_stream(duration_ns);
  return metrics.take();
}

std::vector<Metric> metrics_exception(const Value& metadata, std::int64_t duration_ns) {
  if (duration_ns < 0) return {};
  const ValueMetadata given(metadata);
  Scratch scratch;
  Metrics metrics(given.metadata);
  metrics.add(semconv::metric::client_operation_duration, core::seconds_of(duration_ns), semconv::error_type,
              core::error_type(given.metadata, scratch));
  return metrics.take();
}

}  // namespace nopspan::genai
