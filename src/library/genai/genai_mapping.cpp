// SPDX-License-Identifier: Apache-2.0
#include "genai/genai_mapping.h"

#include "base/clean_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>
#include <utility>

namespace nopspan::detail {
namespace {

struct Renamed {
  std::string_view from, to;
};
// Names of ReqLLM for which the conventions have other names.
constexpr Renamed kProviders[] = {
    {"amazon_bedrock", semconv::provider::aws_bedrock}, {"azure", semconv::provider::azure_ai_openai},
    {"google", semconv::provider::gcp_gen_ai},          {"google_vertex", semconv::provider::gcp_vertex_ai},
    {"openai_codex", semconv::provider::openai},        {"xai", semconv::provider::x_ai},
};
constexpr Renamed kOperations[] = {
    {"embedding", semconv::operation::embeddings},
    {"image", semconv::operation::generate_content},
    {"object", semconv::operation::chat},
};
constexpr Renamed kOutputTypes[] = {
    {"chat", semconv::output_type::text},          {"object", semconv::output_type::json},
    {"image", semconv::output_type::image},        {"speech", semconv::output_type::speech},
    {"transcription", semconv::output_type::text},
};
constexpr std::string_view kOpenAi[] = {"openai", "openai_codex", "azure"};
constexpr Renamed kApiTypes[] = {
    // by a part of the path; the first match counts
    {"/responses", semconv::api_type::responses},
    {"/chat/completions", semconv::api_type::chat_completions},
    {"/embeddings", semconv::api_type::embeddings},
};

template <std::size_t N>
std::string_view find(const Renamed (&table)[N], std::string_view name, std::string_view otherwise) noexcept {
  for (const Renamed& each : table) {
    if (each.from == name) return each.to;
  }
  return otherwise;
}

// The provider as the application gave it, not renamed.
const Node& own_provider(const Metadata& metadata) noexcept {
  const Node& provider = metadata[Key::provider];
  return provider.is_null() ? metadata[Key::model_provider] : provider;
}

// The members of a usage map. If the map has a map `tokens`, the counts beside that are ignored, except for
// reasoning_tokens, where the count beside it has precedence.
struct UsageName {
  std::string_view name;
  Key key;
  enum class Place : std::uint8_t { tokens_or_flat, outer, tokens } place = Place::tokens_or_flat;
};
constexpr UsageName kUsageNames[] = {
    {"input", Key::input_tokens},
    {"input_tokens", Key::input_tokens},
    {"output", Key::output_tokens},
    {"output_tokens", Key::output_tokens},
    {"cached_input", Key::cache_read_input_tokens},
    {"cache_read_input_tokens", Key::cache_read_input_tokens},
    {"cached_tokens", Key::cache_read_input_tokens},
    {"cache_creation", Key::cache_creation_input_tokens},
    {"cache_creation_input_tokens", Key::cache_creation_input_tokens},
    {"cache_creation_tokens", Key::cache_creation_input_tokens},
    {"reasoning_tokens", Key::reasoning_tokens, UsageName::Place::outer},
    {"reasoning", Key::reasoning_tokens, UsageName::Place::tokens},
    {"input_cost", Key::input_cost, UsageName::Place::outer},
    {"output_cost", Key::output_cost, UsageName::Place::outer},
    {"reasoning_cost", Key::reasoning_cost, UsageName::Place::outer},
    {"total_cost", Key::total_cost, UsageName::Place::outer},
};

// Whether the member is read from this map. `is_nested`: there is a map `tokens`.
bool is_usage_name_in(const UsageName& name, UsageMap map, bool is_nested) noexcept {
  if (name.place == UsageName::Place::tokens_or_flat) return (map == UsageMap::tokens) == is_nested;
  return (map == UsageMap::tokens) == (name.place == UsageName::Place::tokens);
}

// True if all choices ended with an error.
bool is_error(const Node& finish_reason) noexcept {
  if (!finish_reason.is_list()) return finish_reason.as_string() == "error";
  std::size_t size = 0;
  std::size_t errors = 0;
  finish_reason.for_each([&](const Node& reason) {
    ++size;
    if (reason.as_string() == "error") ++errors;
  });
  return size > 0 && errors == size;
}

}  // namespace

std::string_view scalar_text(const Node& node, Scratch& scratch) noexcept {
  if (node.is_string()) return node.as_string();
  if (node.type() == Value::Type::boolean) return node.as_bool() ? "true" : "false";
  if (!node.is_number()) return {};
  char* const begin = scratch.text;
  char* const limit = begin + sizeof(scratch.text);
  char* end = node.is_integer() ? std::to_chars(begin, limit, node.as_int()).ptr
                                : std::to_chars(begin, limit, node.as_double()).ptr;
  const std::string_view digits(begin, static_cast<std::size_t>(end - begin));
  if (!node.is_integer() && std::isfinite(node.as_double()) && digits.find_first_of(".e") == std::string_view::npos) {
    *end++ = '.';  // so that a reader can see that it is a double
    *end++ = '0';
  }
  return {begin, static_cast<std::size_t>(end - begin)};
}

bool is_kept(const Node& node) noexcept {
  if (!node.is_list()) return !node.is_null();
  bool empty = true;
  node.for_each([&](const Node&) { empty = false; });
  return !empty;
}

bool is_present(const Node& node) noexcept {
  return !node.is_null() && !(node.is_string() && node.as_string().empty());
}

bool is_finite_number(const Node& node) noexcept { return node.is_number() && std::isfinite(node.as_double()); }

void spread_usage(Metadata& metadata) noexcept {
  const Node usage = metadata[Key::usage];
  if (!usage.is_map()) return;
  const auto fill = [&](Key key, const Node& node) {
    if (metadata[key].is_null()) metadata[key] = node;
  };
  const Node nested = usage.find("tokens");
  for (const UsageName& each : kUsageNames) {
    if (is_usage_name_in(each, UsageMap::outer, nested.is_map())) {
      fill(each.key, usage.find(each.name));
    } else if (nested.is_map() && is_usage_name_in(each, UsageMap::tokens, true)) {
      fill(each.key, nested.find(each.name));
    }
  }
}

bool is_usage_name(std::string_view name, UsageMap map, bool is_nested) noexcept {
  if (name == "total_tokens" || name == "total") return true;  // the sum of the others
  if (map == UsageMap::outer && is_nested && name == "tokens") return true;
  return std::any_of(std::begin(kUsageNames), std::end(kUsageNames), [&](const UsageName& each) {
    return each.name == name && is_usage_name_in(each, map, is_nested);
  });
}

std::string_view cost_details(const Metadata& metadata, Scratch (&scratch)[8]) noexcept {
  constexpr std::pair<std::string_view, Key> kCosts[] = {{"\"input\":", Key::input_cost},
                                                         {"\"output\":", Key::output_cost},
                                                         {"\"reasoning\":", Key::reasoning_cost},
                                                         {"\"total\":", Key::total_cost}};
  char* const begin = scratch[0].text;
  char* const end = begin + sizeof(scratch);
  char* at = begin;
  for (const auto& [name, key] : kCosts) {
    const Node& cost = metadata[key];
    if (!is_finite_number(cost)) continue;
    const char separator = at == begin ? '{' : ',';
    *at++ = separator;
    at = std::copy(name.begin(), name.end(), at);
    at = (cost.is_integer() ? std::to_chars(at, end, cost.as_int()) : std::to_chars(at, end, cost.as_double())).ptr;
  }
  if (at == begin) return {};
  *at++ = '}';
  return {begin, static_cast<std::size_t>(at - begin)};
}

std::string_view operation_name(std::string_view operation) noexcept {
  return operation.empty() ? semconv::operation::chat : find(kOperations, operation, operation);
}

std::string_view operation_name(const Metadata& metadata, Scratch& scratch) noexcept {
  return operation_name(scalar_text(metadata[Key::operation], scratch));
}

std::string_view output_type(const Metadata& metadata) noexcept {
  return find(kOutputTypes, metadata[Key::operation].as_string(), {});
}

std::string_view provider_name(const Metadata& metadata) noexcept {
  const std::string_view provider = own_provider(metadata).as_string();
  return find(kProviders, provider, provider);
}

bool is_openai(const Metadata& metadata) noexcept {
  const std::string_view provider = own_provider(metadata).as_string();
  return std::find(std::begin(kOpenAi), std::end(kOpenAi), provider) != std::end(kOpenAi);
}

std::string_view openai_api_type(const Metadata& metadata) noexcept {
  const std::string_view said = metadata[Key::provider_meta].find("api_type").as_string();
  if (!said.empty()) return said;
  const std::string_view path = metadata[Key::server_path].as_string();
  for (const Renamed& each : kApiTypes) {
    if (path.find(each.from) != std::string_view::npos) return each.to;
  }
  return {};
}

const Node& request_model(const Metadata& metadata) noexcept {
  return metadata[Key::model].is_string() ? metadata[Key::model] : metadata[Key::model_id];
}

const Node& response_model(const Metadata& metadata) noexcept {
  const Node& model = metadata[Key::response_model];
  return is_present(model) ? model : request_model(metadata);
}

const Node& response_id(const Metadata& metadata) noexcept {
  const Node& id = metadata[Key::response_id];
  return is_present(id) ? id : metadata[Key::response_alias_id];
}

bool has_response(const Metadata& metadata) noexcept {
  constexpr Key kKnown[] = {Key::response_id, Key::response_alias_id, Key::response_model, Key::provider_meta};
  return metadata[Key::response_payload].is_map() ||
         std::any_of(std::begin(kKnown), std::end(kKnown), [&](Key key) { return metadata[key].exists(); });
}

bool has_first_chunk(const Metadata& metadata) noexcept {
  return metadata[Key::mode].as_string() == "stream" && metadata[Key::time_to_first_chunk].is_integer();
}

double seconds_of(std::int64_t ns) noexcept {
  const std::int64_t us = ns / 1000 - (ns % 1000 < 0 ? 1 : 0);
  return static_cast<double>(us) / 1e6;
}

std::string_view failed_status(const Metadata& metadata, Scratch& scratch) noexcept {
  const Node& status = metadata[Key::http_status];
  return status.is_integer() && status.as_int() >= 400 ? scalar_text(status, scratch) : std::string_view();
}

std::string_view failure(const Metadata& metadata, Scratch& scratch, std::int64_t lowest) noexcept {
  const std::string_view status = failed_status(metadata, scratch);
  if (status.data() != nullptr && metadata[Key::http_status].as_int() >= lowest) return status;
  return is_error(metadata[Key::finish_reason]) ? semconv::error_type_other : std::string_view();
}

std::string_view error_type(const Metadata& metadata, Scratch& scratch) noexcept {
  const Node& error = metadata[Key::error];
  std::string_view name = error.is_map() ? error.find("type").as_string() : error.as_string();
  bool is_first = true;  // of a kind with details: ["timeout", …]
  error.for_each([&](const Node& item) { name = std::exchange(is_first, false) ? item.as_string() : name; });
  if (is_type_name(name)) return name;
  const std::string_view failed = failure(metadata, scratch);
  if (failed.data() != nullptr) return failed;
  const Node& status = metadata[Key::http_status];
  return status.is_integer() ? scalar_text(status, scratch) : semconv::error_type_other;
}

bool is_finish_reason(const Node& reason) noexcept { return !reason.is_null() && reason.as_string() != "unknown"; }

FinishReasons::FinishReasons(const Node& list) noexcept {
  list.for_each([this](const Node& reason) {
    if (is_finish_reason(reason)) add(reason);
  });
}

void FinishReasons::add(const Node& reason) noexcept {
  Scratch scratch;
  std::string_view text = scalar_text(reason, scratch);
  const bool rendered = !reason.is_string();
  if (text.data() == nullptr || size_ == kMost || (rendered && text.size() > sizeof(text_) - text_size_)) {
    complete_ = false;
    return;
  }
  if (rendered) {
    std::memcpy(text_ + text_size_, text.data(), text.size());
    text = {text_ + text_size_, text.size()};
    text_size_ += text.size();
  }
  reasons_[size_++] = text;
}

}  // namespace nopspan::detail
