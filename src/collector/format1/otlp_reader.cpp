// SPDX-License-Identifier: Apache-2.0
#include "format1/otlp_reader.h"

#include "model/service.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

namespace nopspan::collector {
namespace {

using Wire = protozero::pbf_wire_type;
using protozero::tag_and_type;

constexpr std::size_t kBytesOfResource = 2048;  // on average of all processes that are remembered
// Recorders write at most that much of a path or of a variable of the environment.
constexpr std::size_t kMostProcessText = 4096;
// Limits in bytes that exceed what a batch can hold.
constexpr std::size_t kMostText = 65535, kMostAttributes = 1U << 17U, kMostLinks = 1U << 17U;

std::string_view text_of(protozero::pbf_reader& reader) { return view_of(reader).substr(0, kMostText); }

template <class Each>
void for_each_message(std::string_view message, unsigned field, const Each& each) {
  protozero::pbf_reader reader(message.data(), message.size());
  while (reader.next(field, Wire::length_delimited)) each(view_of(reader));
}

// OTLP writes an id with the most significant byte first.
std::uint64_t id_of(std::string_view bytes) {
  if (bytes.size() != sizeof(std::uint64_t)) return 0;
  std::uint64_t id = 0;
  for (const char byte : bytes) id = id << 8U | static_cast<unsigned char>(byte);
  return id;
}

std::uint64_t hex_id(std::string_view text) {
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id, 16);
  return error == std::errc() && end == text.data() + text.size() ? id : 0;
}

TraceId trace_id(std::string_view bytes) {
  TraceId id;
  if (bytes.size() == sizeof(id.bytes)) std::memcpy(id.bytes, bytes.data(), sizeof(id.bytes));
  return id;
}

struct ProcessText {
  std::string_view key;
  std::string Process::*text;
};
constexpr ProcessText kResourceTexts[] = {
    {"service.name", &Process::comm},
    {"nopspan.comm", &Process::comm},
    {"process.executable.path", &Process::executable},
    {"process.linux.cgroup", &Process::cgroup},
    {"container.id", &Process::container},
    {"nopspan.library", &Process::library},
    {"nopspan.library_version", &Process::library_version},
    {"host.name", &Process::host},
    {"nopspan.boot_id", &Process::boot_id},
    {"nopspan.service_name", &Process::service_name},
    {"nopspan.resource_attributes", &Process::resource_attributes},
};

}  // namespace

bool OtlpReader::read(Signal signal, std::string_view message, const Each& each) {
  signal_ = signal;
  try {
    for_each_message(message, 1, [&](std::string_view resource_spans) { read_resource_spans(resource_spans, each); });
  } catch (const protozero::exception&) {
    return false;
  }
  return true;
}

void OtlpReader::read_resource_spans(std::string_view message, const Each& each) {
  process_ = nullptr;
  for_each_message(message, 1, [&](std::string_view resource) { read_resource(resource); });
  if (process_ == nullptr) process_ = std::make_shared<const Process>();
  for_each_message(message, 2, [&](std::string_view scope_spans) { read_scope_spans(scope_spans, each); });
}

void OtlpReader::read_resource(std::string_view message) {
  std::string bytes(message);
  const auto known = processes_.find(bytes);
  if (known != processes_.end()) {
    process_ = known->second;
    return;
  }
  Process process;
  Attribute attribute;
  bool has_namespace_pid = false;
  for_each_message(message, kResourceAttributes, [&](std::string_view key_value) {
    if (!read_attribute(key_value, attribute)) return;
    if (attribute.type == Attribute::Type::text) {
      for (const auto& [key, text] : kResourceTexts) {
        if (attribute.key == key) process.*text = attribute.text.substr(0, kMostProcessText);
      }
    }
    if (attribute.type != Attribute::Type::integer) return;
    const auto number = static_cast<std::uint64_t>(attribute.integer);
    if (attribute.key == "process.pid") process.pid = static_cast<std::uint32_t>(number);
    if (attribute.key == "nopspan.start_ticks") process.start_ticks = number;
    if (attribute.key == "process.vpid") {
      process.namespace_pid = static_cast<std::uint32_t>(number);
      has_namespace_pid = true;
    }
  });
  if (!has_namespace_pid) process.namespace_pid = process.pid;
  set_service(process, std::move(process.service_name), std::move(process.resource_attributes));
  process.claimed_by = claimed_by_;
  process_ = std::make_shared<const Process>(std::move(process));
  const std::size_t most_bytes = most_processes_ * kBytesOfResource;
  if (processes_.size() >= most_processes_ || resource_bytes_ + bytes.size() > most_bytes) {
    processes_.clear();
    resource_bytes_ = 0;
  }
  if (bytes.size() > most_bytes) return;
  resource_bytes_ += bytes.size();
  processes_.emplace(std::move(bytes), process_);
}

void OtlpReader::read_scope(std::string_view message) {
  Attribute attribute;
  for_each_message(message, kScopeAttributes, [&](std::string_view key_value) {
    if (!read_attribute(key_value, attribute) || attribute.type != Attribute::Type::integer) return;
    const auto number = static_cast<std::uint64_t>(attribute.integer);
    if (attribute.key == "thread.id") thread_id_ = static_cast<std::uint32_t>(number);
    if (attribute.key == "nopspan.sequence_id") sequence_id_ = number;
    if (attribute.key == "nopspan.sequence") sequence_ = number;
  });
}

void OtlpReader::read_scope_spans(std::string_view message, const Each& each) {
  thread_id_ = 0;
  sequence_id_ = sequence_ = 0;
  for_each_message(message, 1, [&](std::string_view scope) { read_scope(scope); });
  for_each_message(message, 2, [&](std::string_view entry) {
    if (signal_ == Signal::metrics) {
      read_metric(entry, each);
      return;
    }
    begin();
    if (signal_ == Signal::traces) {
      read_span(entry);
      finish(Kind::span, each);
    } else {
      read_log(entry);
      finish(added_.text(Name::kind) == "retry" ? Kind::retry : Kind::event, each);
    }
  });
}

void OtlpReader::begin() {
  span_ = {};
  is_theirs_ = true;
  end_ = 0;
  code_ = 0;
  flags_ = {};
  own_.clear();
  added_.clear();
  run_ = {};
  attributes_.clear();
  links_.clear();
  lacks_attributes_ = false;
}

void OtlpReader::read_either(std::string_view key_value, std::string_view whole) {
  if (is_theirs_) {
    read_own(key_value, whole);
  } else {
    read_added(key_value);
  }
}

void OtlpReader::read_own(std::string_view key_value, std::string_view whole) {
  if (attributes_.size() + run_.size() + whole.size() > kMostAttributes) {
    lacks_attributes_ = true;
    return;
  }
  Attribute attribute;
  if (read_attribute(key_value, attribute)) own_.note(attribute, false);
  const bool is_minimal = whole.size() == 1 + varint_bytes(key_value.size()) + key_value.size();
  if (signal_ != Signal::traces) {
    append_bytes(attributes_, kEventAttributes, key_value);
  } else if (!is_minimal) {
    attributes_ += run_;
    run_ = {};
    append_bytes(attributes_, kSpanAttributes, key_value);
  } else if (run_.empty() && attributes_.empty()) {
    run_ = whole;
  } else if (attributes_.empty() && run_.data() + run_.size() == whole.data()) {
    run_ = {run_.data(), run_.size() + whole.size()};
  } else {
    attributes_ += run_;
    attributes_ += whole;
    run_ = {};
  }
}

void OtlpReader::read_added(std::string_view key_value) {
  Attribute attribute;
  if (!read_attribute(key_value, attribute)) return;
  attribute.text = attribute.text.substr(0, kMostLinks);
  added_.note(attribute, true);
}

void OtlpReader::read_link(std::string_view message) {
  nopspan_link link = {};
  protozero::pbf_reader reader(message.data(), message.size());
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case tag_and_type(1, Wire::length_delimited): {
        const TraceId id = trace_id(view_of(reader));
        std::memcpy(link.trace_id, id.bytes, sizeof(link.trace_id));
        break;
      }
      case tag_and_type(2, Wire::length_delimited):
        link.span_id = id_of(view_of(reader));
        break;
      default:
        reader.skip();
    }
  }
  if (links_.size() + sizeof(link) <= kMostLinks) links_.append(reinterpret_cast<const char*>(&link), sizeof(link));
}

void OtlpReader::read_span(std::string_view message) {
  protozero::pbf_reader reader(message.data(), message.size());
  for (const char* at = message.data(); reader.next(); at = reader.data().data()) {
    switch (reader.tag_and_type()) {
      case tag_and_type(1, Wire::length_delimited):
        span_.trace_id = trace_id(view_of(reader));
        break;
      case tag_and_type(2, Wire::length_delimited):
        span_.span_id = id_of(view_of(reader));
        break;
      case tag_and_type(3, Wire::length_delimited):
        span_.tracestate = text_of(reader);
        break;
      case tag_and_type(4, Wire::length_delimited):
        span_.parent_id = id_of(view_of(reader));
        break;
      case tag_and_type(5, Wire::length_delimited):
        span_.name = text_of(reader);
        break;
      case tag_and_type(6, Wire::varint):
        flags_.kind = reader.get_uint32();
        break;
      case tag_and_type(7, Wire::fixed64):
        span_.start_unix_ns = reader.get_fixed64();
        is_theirs_ = false;
        break;
      case tag_and_type(8, Wire::fixed64):
        end_ = reader.get_fixed64();
        break;
      case tag_and_type(kSpanAttributes, Wire::length_delimited): {
        const std::string_view key_value = view_of(reader);
        read_either(key_value, {at, static_cast<std::size_t>(key_value.data() + key_value.size() - at)});
        break;
      }
      case tag_and_type(10, Wire::varint):
        flags_.attributes_dropped = reader.get_uint32() > 0;
        break;
      case tag_and_type(13, Wire::length_delimited):
        read_link(view_of(reader));
        break;
      case tag_and_type(14, Wire::varint):
        flags_.links_dropped = reader.get_uint32() > 0;
        break;
      case tag_and_type(15, Wire::length_delimited): {
        protozero::pbf_reader status(reader.get_view());
        while (status.next(3, Wire::varint)) code_ = status.get_uint32();
        break;
      }
      case tag_and_type(16, Wire::fixed32): {
        const std::uint32_t flags = reader.get_fixed32();
        flags_.sampled = (flags & 1U) != 0;
        flags_.remote_parent = (flags & 0x200U) != 0;
        break;
      }
      default:
        reader.skip();
    }
  }
  span_.duration_ns = end_ - span_.start_unix_ns;
}

void OtlpReader::read_log(std::string_view message) {
  protozero::pbf_reader reader(message.data(), message.size());
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case tag_and_type(1, Wire::fixed64):
        span_.start_unix_ns = reader.get_fixed64();
        is_theirs_ = false;
        break;
      case tag_and_type(kLogAttributes, Wire::length_delimited): {
        const std::string_view key_value = view_of(reader);
        read_either(key_value, key_value);
        break;
      }
      case tag_and_type(7, Wire::varint):
        flags_.attributes_dropped = reader.get_uint32() > 0;
        break;
      case tag_and_type(8, Wire::fixed32):
        flags_.sampled = (reader.get_fixed32() & 1U) != 0;
        break;
      case tag_and_type(9, Wire::length_delimited):
        span_.trace_id = trace_id(view_of(reader));
        break;
      case tag_and_type(10, Wire::length_delimited):
        span_.span_id = id_of(view_of(reader));
        break;
      case tag_and_type(12, Wire::length_delimited):
        span_.name = text_of(reader);
        break;
      default:
        reader.skip();
    }
  }
}

void OtlpReader::read_metric(std::string_view message, const Each& each) {
  std::string_view name;
  for_each_message(message, 1, [&](std::string_view text) { name = text.substr(0, kMostText); });
  for_each_message(message, 5, [&](std::string_view gauge) {
    for_each_message(gauge, 1, [&](std::string_view point) {
      begin();
      span_.name = name;
      read_point(point);
      finish(Kind::gauge, each);
    });
  });
}

void OtlpReader::read_point(std::string_view message) {
  protozero::pbf_reader reader(message.data(), message.size());
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case tag_and_type(3, Wire::fixed64):
        span_.start_unix_ns = reader.get_fixed64();
        is_theirs_ = false;
        break;
      case tag_and_type(6, Wire::fixed64):
        span_.value = reader.get_sfixed64();
        break;
      case tag_and_type(kPointAttributes, Wire::length_delimited): {
        const std::string_view key_value = view_of(reader);
        read_either(key_value, key_value);
        break;
      }
      default:
        reader.skip();
    }
  }
}

void OtlpReader::restore_fields() {
  if (own_.empty() && added_.empty()) {
    span_.root_id = implied_root_id(span_);
    return;
  }
  const auto text = [&](Name ours, Name theirs) {
    return (added_.has(ours) ? added_.text(ours) : own_.text(theirs)).substr(0, kMostText);
  };
  span_.model = text(Name::model, Name::request_model);
  span_.engine = text(Name::engine, Name::engine);
  span_.tenant = text(Name::tenant, Name::tenant);
  const bool has_own = added_.has(Name::text) || span_.kind != Kind::span;
  span_.text = (has_own ? added_.text(Name::text) : own_.text(Name::tool_name)).substr(0, kMostText);
  span_.error_type = text(added_.has(Name::reason) ? Name::reason : Name::error_type, Name::error_type);
  span_.exception_kind = added_.text(Name::exception_kind).substr(0, kMostText);
  if (added_.has(Name::request_id) || (span_.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0) {
    span_.foreign_id = text(Name::request_id, Name::request_id);
  }
  const auto number = [&](Name name) { return added_.has(name) ? added_.number(name) : own_.number(name); };
  if (span_.has_usage) {
    for (const auto& [name, field] : kUsageFields) span_.usage.*field = number(name);
  }
  if (span_.has_engine_times) {
    for (const auto& [name, field] : kEngineFields) span_.engine_times.*field = number(name);
  }
  if (span_.has_first_token) span_.first_token_ns = added_.number(Name::first_token_ns);
  if (span_.kind == Kind::retry) {
    span_.value = static_cast<std::int64_t>(added_.number(Name::delay_ns));
    span_.number = added_.number(Name::attempt);
  } else if (span_.kind == Kind::gauge) {
    span_.number = added_.number(Name::maximum);
  }
  if (added_.has(Name::duration_ns)) span_.duration_ns = added_.number(Name::duration_ns);
  if (added_.has(Name::tracestate)) span_.tracestate = added_.text(Name::tracestate).substr(0, kMostText);
  if (added_.has(Name::parent_id)) span_.parent_id = hex_id(added_.text(Name::parent_id));
  if (added_.has(Name::span_id)) span_.span_id = hex_id(added_.text(Name::span_id));
  if (added_.has(Name::trace_id)) span_.trace_id = trace_id(added_.text(Name::trace_id));
  span_.root_id = added_.has(Name::root_id) ? hex_id(added_.text(Name::root_id)) : implied_root_id(span_);
}

void OtlpReader::restore_outcome() {
  const std::string_view outcome = added_.text(Name::outcome);
  if (added_.has(Name::status)) {
    span_.status = static_cast<std::uint8_t>(std::min<std::uint64_t>(added_.number(Name::status), UINT8_MAX));
  } else if (outcome == "exception") {
    span_.status = kException;
  } else if (outcome == "cancelled") {
    span_.status = kCancelled;
  } else {
    span_.status = code_ == 2 ? kError : kOk;
  }
}

void OtlpReader::finish(Kind kind, const Each& each) {
  span_.kind = kind;
  set_flag_word(span_,
                added_.has(Name::flags) ? added_.number(Name::flags) : implied_flag_word(kind, flags_, own_, added_));
  restore_outcome();
  restore_fields();
  span_.attributes = attributes_.empty() ? run_ : std::string_view(attributes_);
  if (lacks_attributes_) span_.flags |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
  span_.links = links_;
  if (added_.has(Name::links)) {
    // Copied, because readers may need the links aligned.
    links_ = added_.text(Name::links);
    span_.links = std::string_view(links_).substr(0, links_.size() / sizeof(nopspan_link) * sizeof(nopspan_link));
  }
  span_.thread_id = thread_id_;
  span_.sequence_id = sequence_id_;
  span_.sequence = added_.has(Name::sequence) ? added_.number(Name::sequence) : sequence_;
  sequence_ = span_.sequence + 1;
  span_.process = &process_;
  each(span_);
}

}  // namespace nopspan::collector
