// SPDX-License-Identifier: Apache-2.0
#include "model/entry_json.h"

#include "base/text.h"
#include "model/otlp_attributes.h"
#include "model/span_links.h"

#include <nopspan/probes.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 4> kTypes = {"span", "event", "retry", "gauge"};
constexpr std::array<const char*, 4> kStatuses = {"ok", "error", "cancelled", "exception"};
constexpr std::array<const char*, 6> kKinds = {"unspecified", "internal", "server", "client", "producer", "consumer"};

template <std::size_t N>
const char* name_in(const std::array<const char*, N>& names, std::size_t index) {
  return index < N ? names[index] : "unknown";
}

// read_attribute() and read_value() reject values that are nested deeper than protobuf's decoders allow. The recursion
// is therefore bounded, and every nested item can be read.
Json value_json(const Attribute& attribute) {
  constexpr unsigned kItems = 1;  // the field of the items in ArrayValue and KeyValueList
  switch (attribute.type) {
    case Attribute::Type::none:
      return nullptr;
    case Attribute::Type::text:
      return std::string(attribute.text);
    case Attribute::Type::boolean:
      return attribute.integer != 0;
    case Attribute::Type::integer:
      return attribute.integer;
    case Attribute::Type::real:
      return real_json(attribute.real);
    case Attribute::Type::bytes:
      return hex_text(attribute.text);
    case Attribute::Type::list: {
      Json list = Json::array();
      for_each_key_value(attribute.text, kItems, [&](std::string_view item, std::string_view) {
        Attribute value;
        if (read_value(item, value)) list.push_back(value_json(value));
      });
      return list;
    }
    case Attribute::Type::map:
      break;
  }
  bool malformed = false;
  return attributes_json(attribute.text, kItems, malformed);
}

Json links_json(std::string_view links) {
  Json list = Json::array();
  for_each_link(links, [&](const SpanLink& link) {
    list.push_back({{"trace_id", id_text(link.trace_id)}, {"span_id", id_text(link.span_id)}});
  });
  return list;
}

void add_flags(Json& object, const Entry& entry) {
  constexpr std::pair<std::uint32_t, const char*> kFlags[] = {
      {NOPSPAN_FLAG_ORPHAN, "orphan"},
      {NOPSPAN_FLAG_REMOTE_PARENT, "remote_parent"},
      {NOPSPAN_FLAG_FOREIGN_ID, "foreign_id"},
      {NOPSPAN_FLAG_ABANDONED, "abandoned"},
      {NOPSPAN_FLAG_ATTRIBUTES_DROPPED, "attributes_dropped"},
      {NOPSPAN_FLAG_LINKS_DROPPED, "links_dropped"},
      {NOPSPAN_FLAG_SAMPLED, "sampled"},
      {NOPSPAN_FLAG_GIVEN_TIMES, "given_times"},
      {NOPSPAN_FLAG_ASYNC, "async"},
  };
  Json names = Json::array();
  for (const auto& [flag, name] : kFlags) {
    if ((entry.flags & flag) != 0) names.push_back(name);
  }
  if (entry.before_attach) names.push_back("before_attach");
  if (!names.empty()) object["flags"] = std::move(names);
}

void add_measures(Json& object, const Entry& entry) {
  if (entry.has_usage) {
    object["usage"] = {{"input", entry.usage.input},
                       {"output", entry.usage.output},
                       {"cached", entry.usage.cached},
                       {"reasoning", entry.usage.reasoning}};
  }
  if (entry.has_first_token) object["first_token_ns"] = entry.first_token_ns;
  if (!entry.has_engine_times) return;
  const EngineTimes& times = entry.engine_times;
  object["engine_times"] = {{"arrival_ns", times.arrival_ns},         {"queue_ns", times.queue_ns},
                            {"prefill_ns", times.prefill_ns},         {"decode_ns", times.decode_ns},
                            {"prefill_tokens", times.prefill_tokens}, {"decode_tokens", times.decode_tokens},
                            {"preemptions", times.preemptions}};
}

void add_times(Json& json, const Entry& entry) {
  if (entry.kind != Kind::span) {
    json["time_unix_ns"] = entry.start_unix_ns;
    return;
  }
  if (const std::uint32_t kind = (entry.flags & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT; kind != 0) {
    json["kind"] = name_in(kKinds, kind);
  }
  json["start_unix_ns"] = entry.start_unix_ns;
  json["duration_ns"] = entry.duration_ns;
  json["status"] = status_name(entry.status);
}

void add_values(Json& json, const Entry& entry) {
  if (entry.kind == Kind::retry) {
    json["attempt"] = entry.number;
    json["delay_ns"] = entry.value;
  } else if (entry.kind == Kind::gauge) {
    json["value"] = entry.value;
    if (entry.number != 0) json["maximum"] = entry.number;
  }
}

}  // namespace

nlohmann::ordered_json real_json(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

const char* status_name(std::uint8_t status) { return name_in(kStatuses, status); }

void add_text(nlohmann::ordered_json& json, const char* key, std::string_view text) {
  if (!text.empty()) json[key] = text;
}

std::string id_text(std::uint64_t id) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- > 0; id >>= 4U) text[i] = kDigits[id & 15U];
  return text;
}

std::string id_text(const TraceId& id) { return hex_text({reinterpret_cast<const char*>(id.bytes), sizeof(id.bytes)}); }

nlohmann::ordered_json attributes_json(std::string_view bytes, unsigned field, bool& malformed) {
  Json object = Json::object();
  // Json compares a new key with all others, and a recording may have a million of them.
  auto& pairs = object.get_ref<Json::object_t&>();
  std::unordered_set<std::string_view> keys;
  const bool whole = for_each_key_value(bytes, field, [&](std::string_view key_value, std::string_view) {
    Attribute attribute;
    if (!read_attribute(key_value, attribute)) {
      malformed = true;
    } else if (keys.insert(attribute.key).second) {
      pairs.emplace_back(std::string(attribute.key), value_json(attribute));
    }
  });
  malformed = malformed || !whole;
  return object;
}

void add_facts(nlohmann::ordered_json& json, const Entry& entry) {
  json["name"] = entry.name;
  add_times(json, entry);
  add_values(json, entry);
  add_text(json, entry.kind == Kind::retry ? "reason" : "error_type", entry.error_type);
  add_text(json, "exception_kind", entry.exception_kind);
  add_text(json, "engine", entry.engine);
  add_text(json, "model", entry.model);
  add_text(json, "tenant", entry.tenant);
  if (entry.kind == Kind::span) {
    add_text(json, "tool", entry.text);
  } else if (entry.text != entry.name) {  // the library repeats the name of an event that is in no recorded span
    add_text(json, "span", entry.text);
  }
  add_measures(json, entry);
  add_flags(json, entry);
  add_text(json, "tracestate", entry.tracestate);
  if (!entry.attributes.empty()) {
    bool malformed = false;
    json["attributes"] =
        attributes_json(entry.attributes, entry.kind == Kind::span ? kSpanAttributes : kEventAttributes, malformed);
    if (malformed) json["attributes_malformed"] = true;
  }
  if (!entry.links.empty()) json["links"] = links_json(entry.links);
}

nlohmann::ordered_json to_json(const Entry& entry) {
  Json json = {{"type", name_in(kTypes, static_cast<std::size_t>(entry.kind))}};
  if (!entry.trace_id.empty()) {
    json["request_id"] = request_id_of(entry);
    json["trace_id"] = id_text(entry.trace_id);
  }
  if (entry.span_id != 0) json["span_id"] = id_text(entry.span_id);
  if (entry.parent_id != 0) json["parent_id"] = id_text(entry.parent_id);
  if (entry.root_id != 0) json["root_id"] = id_text(entry.root_id);
  add_facts(json, entry);
  const Process& process = **entry.process;
  json["pid"] = process.pid;
  json["comm"] = process.comm;
  add_text(json, "container", process.container);
  add_text(json, "host", process.host);
  json["thread_id"] = entry.thread_id;
  json["sequence_id"] = id_text(entry.sequence_id);
  json["sequence"] = entry.sequence;
  return json;
}

}  // namespace nopspan::collector
