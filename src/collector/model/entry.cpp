// SPDX-License-Identifier: Apache-2.0
#include "model/entry.h"

#include "model/entry_json.h"
#include "model/service.h"

#include <nopspan/probes.h>

#include <nlohmann/json.hpp>

#include <charconv>
#include <system_error>
#include <utility>

namespace nopspan::collector {

namespace {

bool read_hex(std::string_view text, TraceId& id) {
  if (text.size() != 2 * sizeof(id.bytes)) return false;
  for (std::size_t i = 0; i < sizeof(id.bytes); ++i) {
    const char* const digits = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(digits, digits + 2, id.bytes[i], 16);
    if (error != std::errc() || end != digits + 2) return false;
  }
  return !id.empty();
}

}  // namespace

bool is_same_process(const Process& a, const Process& b) {
  return &a == &b || (key_of(a) == key_of(b) && a.host == b.host);
}

ProcessPointer with_short_texts(const ProcessPointer& process) {
  constexpr std::size_t kMost = 1024, kMostOfText = 100;
  std::size_t bytes = process->declared.size();
  for (const auto text : kProcessTexts) bytes += ((*process).*text).size();
  if (bytes <= kMost) return process;
  Process kept = *process;
  kept.declared = {};
  for (const auto text : kProcessTexts) {
    kept.*text = (kept.*text).substr(0, kMostOfText);
    (kept.*text).shrink_to_fit();
  }
  return std::make_shared<const Process>(std::move(kept));
}

ProcessPointer with_comm(const ProcessPointer& process, std::string_view comm) {
  auto named = std::make_shared<Process>(*process);
  named->comm = comm;
  return named;
}

TraceId trace_id_of(std::string_view request) {
  TraceId id;
  if (request.empty()) return id;
  // A traceparent: 00-<trace id>-<span id>-<flags>.
  if (request.size() >= 55 && request[2] == '-' && request[35] == '-' && read_hex(request.substr(3, 32), id)) return id;
  if (nopspan_trace_id(request.data(), request.size(), id.bytes) != 0 || read_hex(request, id)) return id;
  nopspan_hashed_trace_id(request.data(), request.size(), id.bytes);
  return id;
}

std::string request_id_of(const Entry& entry) {
  if (!entry.foreign_id.empty()) return std::string(entry.foreign_id);
  if (entry.trace_id.empty()) return "";
  std::string text(22, ' ');
  nopspan_request_id(entry.trace_id.bytes, text.data());
  return text;
}

namespace {

std::string_view written(std::int64_t value, NumberText& number) {
  const char* const end = std::to_chars(number.data(), number.data() + number.size(), value).ptr;
  return {number.data(), static_cast<std::size_t>(end - number.data())};
}

// As it is printed.
std::string_view written(double value, NumberText& number) {
  const nlohmann::ordered_json json = real_json(value);
  const std::string text = json.is_string() ? json.get<std::string>() : json.dump();
  return {number.data(), text.copy(number.data(), number.size())};
}

}  // namespace

std::string_view scalar_text(const Attribute& attribute, NumberText& number) {
  switch (attribute.type) {
    case Attribute::Type::text:
      return attribute.text;
    case Attribute::Type::boolean:
      return attribute.integer != 0 ? "true" : "false";
    case Attribute::Type::integer:
      return written(attribute.integer, number);
    case Attribute::Type::real:
      return written(attribute.real, number);
    default:
      return {};
  }
}

bool find_attribute(const Entry& entry, std::string_view key, Attribute& found) {
  bool is_found = false;
  for_each_key_value(entry.attributes, entry.kind == Kind::span ? kSpanAttributes : kEventAttributes,
                     [&](std::string_view key_value) {
                       // A search for the key is much faster than reading the attribute.
                       if (is_found || key_value.find(key) == std::string_view::npos) return;
                       is_found = read_attribute(key_value, found) && found.key == key;
                     });
  return is_found;
}

std::string_view label_or_attribute(const Entry& entry, std::string_view key, NumberText& number) {
  if (key == "model" && !entry.model.empty()) return entry.model;
  if (key == "tenant" && !entry.tenant.empty()) return entry.tenant;
  if (key == "engine" && !entry.engine.empty()) return entry.engine;
  Attribute attribute;
  if (find_attribute(entry, key, attribute)) return scalar_text(attribute, number);
  return entry.process == nullptr || *entry.process == nullptr ? std::string_view()
                                                               : resource_value(**entry.process, key);
}

}  // namespace nopspan::collector
