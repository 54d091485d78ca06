// SPDX-License-Identifier: Apache-2.0
// agent_catalogue.json: the events of the agent catalogue, each emitted with generated values.
#include <nopspan/agent.h>
#include <nopspan/event.h>

#include <string>

#include "recorded_events.h"
#include "runner.h"
#include "values.h"

namespace cases {
namespace {

namespace agent = nopspan::agent;

// nopspan's name for a type of the table.
std::string type_name(const Json& type) {
  if (!type.is_string()) throw Inexpressible("a type is no string: " + type.dump());
  const std::string name = type.get<std::string>();
  const std::string kind = name.substr(0, name.find(':'));
  return kind == "struct" || kind == "record" || kind == "module" ? "record" : name;
}

Json made_value(const std::string& key, const std::string& type) {
  if (type == "symbol" || type == "string" || type == "process_id") return "made " + key;
  if (type == "int" || type == "uint") return 7;
  if (type == "bool") return true;
  if (type == "list") return Json::array({"made", 1});
  if (type == "list<string>" || type == "list<symbol>") return Json::array({"made", key});
  if (type == "map" || type == "record") return {{"made", key}};
  if (type == "any") return {{"any", Json::array({1, 2.5, nullptr})}};
  throw Inexpressible("unknown type \"" + type + "\"");
}

Json made_values(const Json& types) {
  Json values = Json::object();
  for (const auto& [key, type] : types.items()) values[key] = made_value(key, type_name(type));
  return values;
}

Json named_types(const Json& types) {
  Json names = Json::object();
  for (const auto& [key, type] : types.items()) names[key] = type_name(type);
  return names;
}

// The {key: type} of the table.
Json types_of(const agent::Table<agent::FieldDescription>& fields, bool optional_ones) {
  Json types = Json::object();
  for (const agent::FieldDescription& field : fields) {
    if (field.optional == optional_ones) types[std::string(field.key)] = agent::to_string(field.type);
  }
  return types;
}

// The keys of "emitted_also" that are not in the event's own metadata.
Json emitted_also(const Json& one_case) {
  Json types = Json::object();
  const Json also = optional(one_case, "emitted_also");
  for (const auto& [key, type] : also.items()) {
    if (!one_case["metadata"].contains(key)) types[key] = type;
  }
  return types;
}

const agent::EventDescription* find(const std::string& name) {
  for (const agent::EventDescription& event : agent::catalogue()) {
    if (event.name.view() == name) return &event;
  }
  return nullptr;
}

Mismatches compare_table(const Json& one_case, const std::string& name) {
  const agent::EventDescription* event = find(name);
  if (event == nullptr) return {"the catalogue has no " + name};
  Comparison comparison;
  const auto position = static_cast<std::size_t>(event - agent::catalogue().begin());
  comparison.add("position in the catalogue", one_case["position_in_event_names"], position);
  comparison.add("name at that position", name, std::string(agent::event_names()[position]));
  comparison.add("measurements", named_types(one_case["measurements"]), types_of(event->measurements, false));
  comparison.add("metadata", named_types(one_case["metadata"]), types_of(event->metadata, false));
  comparison.add("emitted_also", named_types(emitted_also(one_case)), types_of(event->metadata, true));
  Bindings bindings;
  return comparison.mismatches(bindings);
}

// Emits the event, and checks that a handler receives exactly its keys and values.
Mismatches compare_emitted(const std::string& name, const Json& measurements, const Json& metadata) {
  const RecordedEvents recorded({name});
  const nopspan::Errc error = agent::emit(name, to_value(measurements), to_value(metadata));
  Comparison comparison;
  comparison.add("returns", "ok", nopspan::describe(error));
  const Json event = {{"event", name}, {"measurements", measurements}, {"metadata", metadata}, {"exact", true}};
  recorded.compare({{"events", Json::array({event})}}, comparison);
  Bindings bindings;
  return comparison.mismatches(bindings);
}

}  // namespace

std::vector<Check> run_agent_catalogue(const Json& one_case) {
  only_keys(one_case, "a case",
            {"id", "name", "segments", "measurements", "metadata", "source", "source_line", "note", "emitted_also",
             "position_in_event_names"});
  const std::string name = dotted_name(required(one_case, "a case", "name"));
  if (dotted_name(required(one_case, "a case", "segments")) != name) throw Inexpressible("an event of two names");
  required(one_case, "a case", "position_in_event_names");
  const Json measurements = made_values(required(one_case, "a case", "measurements"));
  const Json metadata = made_values(required(one_case, "a case", "metadata"));
  Json all_metadata = metadata;
  all_metadata.update(made_values(emitted_also(one_case)));
  return {{"catalogue", compare_table(one_case, name)},
          {"emit", compare_emitted(name, measurements, metadata)},
          {"emit", compare_emitted(name, measurements, all_metadata)}};
}

}  // namespace cases
