// SPDX-License-Identifier: Apache-2.0
#include "model/entry_json.h"

#include "base/text.h"
#include "model/steps.h"

#include <nopspan/probes.h>
#include <nlohmann/json.hpp>

#include <array>
#include <charconv>
#include <cmath>
#include <set>
#include <system_error>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::array<const char*, 5> kTypes = {"span", "event", "retry", "gauge", "part"};
constexpr std::array<const char*, 4> kStatuses = {"ok", "error", "cancelled", "exception"};
constexpr std::array<const char*, 6> kKinds = {"unspecified", "internal", "server", "client", "producer", "consumer"};

template <std::size_t N>
const char* name_in(const std::array<const char*, N>& names, std::size_t index) {
  return index < N ? names[index] : "unknown";
}

void write_links(JsonWriter& json, std::string_view links) {
  json.key("links");
  json.begin_array();
  for_each_link(links, [&](const SpanLink& link) {
    json.begin_object();
    write_id(json, link.trace_id);
    json.id("span_id", link.span_id);
    json.end_object();
  });
  json.end_array();
}

void write_step(JsonWriter& json, const nopspan_step& step) {
  json.key("step");
  json.begin_object();
  json.text("kind", step_kind_name(step.kind));
  json.number("instance", std::uint64_t{step.instance});
  json.number("number", std::uint64_t{step.number});
  json.number("batch_size", std::uint64_t{step.batch_size});
  json.number("members", std::uint64_t{step.members});
  json.number("members_with_prefill", std::uint64_t{step.members_with_prefill});
  json.number("members_dropped", std::uint64_t{step.dropped});
  json.number("prefill_tokens", std::uint64_t{step.prefill_tokens});
  json.number("decode_tokens", std::uint64_t{step.decode_tokens});
  json.number("drafted_tokens", std::uint64_t{step.drafted_tokens});
  json.number("accepted_tokens", std::uint64_t{step.accepted_tokens});
  if (step.budget_tokens != 0) json.number("budget_tokens", std::uint64_t{step.budget_tokens});
  if (step.host_ns != 0) json.number("host_ns", std::uint64_t{step.host_ns});
  if (step.device_ns != 0) json.number("device_ns", std::uint64_t{step.device_ns});
  if (step.kv_used != 0) json.number("kv_used", std::uint64_t{step.kv_used});
  json.end_object();
}

void write_members(JsonWriter& json, std::string_view members) {
  json.key("members");
  json.begin_array();
  for_each_member(members, [&](const nopspan_member& member) {
    json.begin_object();
    if (named_by(member) == NamedBy::own_key) {
      json.number("own_key", std::uint64_t{member.request});
    } else if (named_by(member) == NamedBy::trace) {
      json.key("trace_id_begins");
      json.hex({reinterpret_cast<const char*>(&member.request), sizeof(member.request)});
    } else {
      json.id("span_id", member.request);
    }
    json.number("context_tokens", std::uint64_t{member.context_tokens});
    json.number("prefill_tokens", std::uint64_t{member.prefill_tokens});
    json.number("decode_tokens", std::uint64_t{member.decode_tokens});
    json.number("drafted_tokens", std::uint64_t{member.drafted_tokens});
    json.number("accepted_tokens", std::uint64_t{member.accepted_tokens});
    json.end_object();
  });
  json.end_array();
}

void write_flags(JsonWriter& json, const Entry& entry) {
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
      {NOPSPAN_FLAG_STEP, "step"},
      {NOPSPAN_FLAG_COUNTER, "counter"},
      {NOPSPAN_FLAG_RANDOM, "random"},
  };
  bool has_any = false;
  const auto write = [&](const char* name) {
    if (!std::exchange(has_any, true)) {
      json.key("flags");
      json.begin_array();
    }
    json.text(name);
  };
  for (const auto& [flag, name] : kFlags) {
    if ((entry.flags & flag) != 0) write(name);
  }
  if (entry.before_attach) write("before_attach");
  if (has_any) json.end_array();
}

void write_measures(JsonWriter& json, const Entry& entry) {
  if (entry.has_usage) {
    json.key("usage");
    json.begin_object();
    json.number("input", entry.usage.input);
    json.number("output", entry.usage.output);
    json.number("cached", entry.usage.cached);
    json.number("reasoning", entry.usage.reasoning);
    json.end_object();
  }
  if (entry.has_first_token) json.number("first_token_ns", entry.first_token_ns);
  if (!entry.has_engine_times) return;
  const EngineTimes& times = entry.engine_times;
  json.key("engine_times");
  json.begin_object();
  json.number("arrival_ns", times.arrival_ns);
  json.number("queue_ns", times.queue_ns);
  json.number("prefill_ns", times.prefill_ns);
  json.number("decode_ns", times.decode_ns);
  // For these, 0 may also mean that the program did not report them.
  if (times.prefill_tokens != 0) json.number("prefill_tokens", times.prefill_tokens);
  if (times.decode_tokens != 0) json.number("decode_tokens", times.decode_tokens);
  json.number("preemptions", times.preemptions);
  json.end_object();
}

void write_times(JsonWriter& json, const Entry& entry) {
  if (entry.kind != Kind::span) {
    json.number("time_unix_ns", entry.start_unix_ns);
    return;
  }
  if (const std::uint32_t kind = (entry.flags & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT; kind != 0) {
    json.text("kind", name_in(kKinds, kind));
  }
  json.number("start_unix_ns", entry.start_unix_ns);
  json.number("duration_ns", entry.duration_ns);
  json.text("status", status_name(entry.status));
}

void write_values(JsonWriter& json, const Entry& entry) {
  if (entry.kind == Kind::retry) {
    json.number("attempt", entry.number);
    json.number("delay_ns", entry.value);
  } else if (entry.kind == Kind::gauge) {
    json.number("value", entry.value);
    if (entry.number != 0) json.number("maximum", entry.number);
  } else if (entry.kind == Kind::part) {
    json.number("members_before", entry.number);
  }
}

// The keys of an object. Nearly all objects have few, but a recording may have a million in one.
class Keys {
 public:
  // Returns false if the key is known.
  bool add(std::string_view key) {
    for (std::size_t i = 0; i < count_; ++i) {
      if (few_[i] == key) return false;
    }
    if (count_ == few_.size()) return many_.insert(key).second;
    few_[count_++] = key;
    return true;
  }

 private:
  std::array<std::string_view, 16> few_;
  std::size_t count_ = 0;
  std::set<std::string_view> many_;
};

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

std::uint64_t id_of(std::string_view text) {
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id, 16);
  return text.size() == 16 && error == std::errc() && end == text.data() + text.size() ? id : 0;
}

std::string id_text(const TraceId& id) { return hex_text({reinterpret_cast<const char*>(id.bytes), sizeof(id.bytes)}); }

void write_id(JsonWriter& json, const TraceId& id) {
  json.key("trace_id");
  json.hex({reinterpret_cast<const char*>(id.bytes), sizeof(id.bytes)});
}

void for_each_attribute(std::string_view bytes, unsigned field, bool& malformed,
                        const std::function<void(const Attribute&)>& each) {
  Keys keys;
  const bool whole = for_each_key_value(bytes, field, [&](std::string_view key_value) {
    Attribute attribute;
    if (!read_attribute(key_value, attribute)) {
      malformed = true;
    } else if (keys.add(attribute.key)) {
      each(attribute);
    }
  });
  malformed = malformed || !whole;
}

// read_attribute() and read_value() reject values that are nested deeper than protobuf's decoders allow. The recursion
// is therefore bounded, and every nested item can be read.
void write_value(JsonWriter& json, const Attribute& attribute) {
  constexpr unsigned kItems = 1;  // the field of the items in ArrayValue and KeyValueList
  switch (attribute.type) {
    case Attribute::Type::none:
      return json.literal("null");
    case Attribute::Type::text:
      return json.text(attribute.text);
    case Attribute::Type::boolean:
      return json.literal(attribute.integer != 0 ? "true" : "false");
    case Attribute::Type::integer:
      return json.number(attribute.integer);
    case Attribute::Type::real:
      return json.literal(real_json(attribute.real).dump());
    case Attribute::Type::bytes:
      return json.hex(attribute.text);
    case Attribute::Type::list: {
      json.begin_array();
      for_each_key_value(attribute.text, kItems, [&](std::string_view item) {
        Attribute value;
        if (read_value(item, value)) write_value(json, value);
      });
      return json.end_array();
    }
    case Attribute::Type::map:
      break;
  }
  bool malformed = false;
  write_attributes(json, attribute.text, kItems, malformed);
}

void write_attributes(JsonWriter& json, std::string_view bytes, unsigned field, bool& malformed) {
  json.begin_object();
  for_each_attribute(bytes, field, malformed, [&json](const Attribute& attribute) {
    json.key_text(attribute.key);
    write_value(json, attribute);
  });
  json.end_object();
}

void write_facts(JsonWriter& json, const Entry& entry) {
  json.text("name", entry.name);
  write_times(json, entry);
  write_values(json, entry);
  if (entry.kind == Kind::retry) {
    json.text_unless_empty("reason", entry.error_type);
  } else {
    json.text_unless_empty("error_type", entry.error_type);
  }
  json.text_unless_empty("exception_kind", entry.exception_kind);
  json.text_unless_empty("engine", entry.engine);
  json.text_unless_empty("model", entry.model);
  json.text_unless_empty("tenant", entry.tenant);
  if (entry.kind == Kind::span) {
    json.text_unless_empty("tool", entry.text);
  } else if (entry.text != entry.name) {  // the library repeats the name of an event that is in no recorded span
    json.text_unless_empty("span", entry.text);
  }
  write_measures(json, entry);
  write_flags(json, entry);
  json.text_unless_empty("tracestate", entry.tracestate);
  if (!entry.attributes.empty()) {
    bool malformed = false;
    json.key("attributes");
    write_attributes(json, entry.attributes, entry.kind == Kind::span ? kSpanAttributes : kEventAttributes, malformed);
    if (malformed) {
      json.key("attributes_malformed");
      json.literal("true");
    }
  }
  if (!entry.links.empty()) write_links(json, entry.links);
  if (entry.step != nullptr) write_step(json, *entry.step);
  if (!entry.members.empty()) write_members(json, entry.members);
}

void write_json(JsonWriter& json, const Entry& entry) {
  json.begin_object();
  json.text("type", name_in(kTypes, static_cast<std::size_t>(entry.kind)));
  if (!entry.trace_id.empty()) {
    json.text("request_id", request_id_of(entry));
    write_id(json, entry.trace_id);
  }
  if (entry.span_id != 0) json.id("span_id", entry.span_id);
  if (entry.parent_id != 0) json.id("parent_id", entry.parent_id);
  if (entry.root_id != 0) json.id("root_id", entry.root_id);
  write_facts(json, entry);
  const Process& process = **entry.process;
  json.number("pid", std::uint64_t{process.pid});
  json.text("comm", process.comm);
  json.text_unless_empty("container", process.container);
  json.text_unless_empty("host", process.host);
  json.number("thread_id", std::uint64_t{entry.thread_id});
  json.id("sequence_id", entry.sequence_id);
  json.number("sequence", entry.sequence);
  json.end_object();
}

}  // namespace nopspan::collector
