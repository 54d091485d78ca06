// SPDX-License-Identifier: Apache-2.0
#include "export/export_encoder.h"

#include "base/saturating.h"
#include "base/text.h"
#include "model/steps.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostLengths = 12;  // tags and lengths of a resource and a scope

// opentelemetry.proto.trace.v1.Status with the code STATUS_CODE_ERROR, and without a message.
constexpr std::string_view kStatusError = "\x18\x02";

std::string_view view_of(const TraceId& id) { return {reinterpret_cast<const char*>(id.bytes), sizeof(id.bytes)}; }

// OTLP writes span ids as bytes, the most significant one first. nopspan has them as numbers.
std::array<char, 8> bytes_of(std::uint64_t id) {
  std::array<char, 8> bytes{};
  for (char& byte : bytes) {
    byte = static_cast<char>(id >> 56U);
    id <<= 8U;
  }
  return bytes;
}

void append_span_id(ByteBuffer& out, unsigned field, std::uint64_t id) {
  if (id == 0) return;
  const auto bytes = bytes_of(id);
  append_bytes(out, field, {bytes.data(), bytes.size()});
}

void append_trace_id(ByteBuffer& out, unsigned field, const TraceId& id) {
  if (!id.empty()) append_bytes(out, field, view_of(id));
}

// Appends a link of a span.
void append_link(ByteBuffer& out, std::string_view trace_id, std::uint64_t span_id, std::string_view tracestate = {},
                 std::uint32_t flags = 0) {
  const auto id = bytes_of(span_id);
  const std::size_t state = tracestate.empty() ? 0 : 1 + varint_bytes(tracestate.size()) + tracestate.size();
  const std::size_t bytes = 2 + trace_id.size() + 2 + id.size() + state + (flags != 0 ? 1 + sizeof(flags) : 0);
  append_part(out, kMostHead + bytes, [&](char* at) {
    at = put_bytes(put_bytes(put_length(at, 13, bytes), 1, trace_id), 2, {id.data(), id.size()});
    if (!tracestate.empty()) at = put_bytes(at, 3, tracestate);
    return flags != 0 ? put_word(put_tag(at, 6, ProtobufType::fixed32), flags) : at;
  });
}

constexpr std::uint32_t kHasIsRemote = 0x100, kIsRemote = 0x200;  // opentelemetry.proto.trace.v1.SpanFlags

// The flags of a span: those of W3C, and it is known whether the parent is remote.
std::uint32_t span_flags(std::uint32_t flags) {
  return trace_flags(flags) | kHasIsRemote | ((flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0 ? kIsRemote : 0U);
}

bool has_event(std::span<const HeldEvent> events, std::string_view name) {
  return std::any_of(events.begin(), events.end(), [&](const HeldEvent& event) {
    ProtobufFields fields(event.event);
    while (fields.next()) {
      if (fields.is(2, ProtobufType::delimited)) return fields.bytes() == name;
    }
    return false;
  });
}

unsigned span_kind(const Entry& entry) { return (entry.flags & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT; }

}  // namespace

ExportEncoder::ExportEncoder(Signal signal, const ExportOptions& options)
    : signal_(signal), options_(options), attributes_(options.semconv) {}

std::uint32_t ExportEncoder::share_of(const ProcessPointer& process, const Scope& named) {
  const ShareKey key{process.get(), named};
  if (!runs_.empty() && shares_[runs_.back().share].key == key) return runs_.back().share;
  if (const auto found = share_numbers_.find(key); found != share_numbers_.end()) return found->second;
  const auto number = static_cast<std::uint32_t>(shares_.size());
  Share& share = shares_.emplace_back();
  share.process = process;
  share.names = {std::string(named.name), std::string(named.version), std::string(named.schema_url)};
  share.key = {process.get(), {share.names[0], share.names[1], share.names[2]}};
  share_numbers_.emplace(share.key, number);
  append_bytes(share.resource, 1, exported_resource(*process, options_, repaired_));
  std::string scope;
  const bool is_own = named == Scope();
  const std::string_view version = is_own ? process->library_version : named.version;
  append_text(scope, 1, is_own ? "nopspan" : named.name);
  if (!version.empty()) append_text(scope, 2, version);
  append_bytes(share.scope, 1, scope);
  append_schema_url(share.resource, options_.semconv);
  if (is_own) {
    append_schema_url(share.scope, options_.semconv);
  } else if (!named.schema_url.empty()) {
    append_text(share.scope, 3, named.schema_url);
  }
  head_bytes_ += share.resource.size() + share.scope.size() + kMostLengths;
  return number;
}

std::size_t ExportEncoder::begin_item(const ProcessPointer& process, const Scope& scope) {
  const std::uint32_t share = share_of(process, scope);
  const std::size_t begin = buffer_.size();
  if (runs_.empty() || runs_.back().share != share) runs_.push_back({share, begin, begin});
  return frame_.begin(buffer_);
}

void ExportEncoder::end_item(std::size_t begin) {
  frame_.end(buffer_, begin);
  shares_[runs_.back().share].bytes += buffer_.size() - begin;
  runs_.back().end = buffer_.size();
}

// A receiver may refuse a link without ids, so it is left out and counted.
void ExportEncoder::write_links(const Entry& entry) {
  std::uint32_t dropped = (entry.flags & NOPSPAN_FLAG_LINKS_DROPPED) != 0 ? 1 : 0;
  const auto add = [&](const TraceId& trace_id, std::uint64_t span_id, std::string_view tracestate = {},
                       std::uint32_t flags = 0) {
    if (trace_id.empty() || span_id == 0) {
      ++dropped;
    } else {
      append_link(buffer_, view_of(trace_id), span_id, tracestate, flags);
    }
  };
  std::string_view states = attributes_.link_states();
  const bool has_states = !states.empty();
  for_each_link(entry.links, [&](const SpanLink& link) {
    std::string_view tracestate = take_before(states, '\n');
    const std::string_view digits = take_before(tracestate, ' ');
    // Libraries before 0.3 do not report remote ones, and nearly all are sampled.
    std::uint32_t flags = has_states ? kHasIsRemote | 1U : 1U;
    std::from_chars(digits.data(), digits.data() + digits.size(), flags, 16);
    constexpr std::uint32_t kKnownFlags = kHasIsRemote | kIsRemote | 3U;
    add(link.trace_id, link.span_id, tracestate, flags & kKnownFlags);
  });
  if (entry.step != nullptr && options_.step_links > 0) {
    const std::size_t most = std::min(options_.step_links, members_of(entry));
    for_each_member(entry.members.substr(0, most * sizeof(nopspan_member)),
                    [&](const nopspan_member& member) { add(traces_.trace_of(member), member.request); });
  }
  if (dropped > 0) append_varint(buffer_, 14, dropped);
}

// An event that the program itself reported is not repeated.
void ExportEncoder::write_made_event(std::uint64_t unix_ns, std::string_view name, std::string_view attributes,
                                     std::span<const HeldEvent> events) {
  if (has_event(events, name)) return;
  std::string event;
  append_fixed64(event, 1, unix_ns);
  append_bytes(event, 2, name);
  append_bytes(buffer_, 11, event += attributes);
  ++items_.span_events;
  ++made_events_;
}

// A program that sets the status itself, through OpenTelemetry's API, also reports its exceptions itself.
bool ExportEncoder::has_failure(const Entry& entry) const {
  return entry.failed() && (attributes_.status_code().empty() || entry.status == kException);
}

// Only an error has a description. Backends look for the error in an event.
void ExportEncoder::write_failure(const Entry& entry, const ExportedAttributes::ErrorTexts& error,
                                  std::span<const HeldEvent> events) {
  const auto& [message, stacktrace] = error;
  std::string status, attributes;
  append_text_attribute(attributes, kEventAttributes, semconv::exception_type, attributes_.error_type());
  if (!message.empty()) {
    append_bytes(status, 2, message);
    append_text_attribute(attributes, kEventAttributes, semconv::exception_message, message);
  }
  if (!stacktrace.empty()) {
    append_text_attribute(attributes, kEventAttributes, semconv::exception_stacktrace, stacktrace);
  }
  append_bytes(buffer_, 15, status += kStatusError);
  write_made_event(saturating_sum(entry.start_unix_ns, entry.duration_ns), semconv::event::exception, attributes,
                   events);
}

void ExportEncoder::write_status(const Entry& entry) {
  const std::string_view code = attributes_.status_code();
  if (code.empty() || entry.status == kException) return;
  std::string status;
  const std::string_view description = attributes_.status_description();
  const bool is_error = code == "ERROR";
  if (is_error && !description.empty()) append_bytes(status, 2, attributes_.valid_text(description));
  append_varint(status, 3, is_error ? 2 : 1);
  append_bytes(buffer_, 15, status);
}

void ExportEncoder::write_span(const Entry& entry, std::span<const HeldEvent> events) {
  ByteBuffer& out = buffer_;
  append_trace_id(out, 1, entry.trace_id);
  append_span_id(out, 2, entry.span_id);
  if (!entry.tracestate.empty()) append_bytes(out, 3, attributes_.valid_text(entry.tracestate));
  append_span_id(out, 4, entry.parent_id);
  const std::string_view name = attributes_.span_name();
  append_bytes(out, 5, attributes_.valid_text(name));
  if (const unsigned kind = span_kind(entry); kind != 0) append_varint(out, 6, kind);
  append_fixed64(out, 7, entry.start_unix_ns);
  append_fixed64(out, 8, saturating_sum(entry.start_unix_ns, entry.duration_ns));
  ExportedAttributes::ErrorTexts error;
  if (has_failure(entry)) {
    error = attributes_.error_texts();
    if (!has_event(events, semconv::event::exception)) attributes_.leave_out(error);
  }
  attributes_.write_own(out, kSpanAttributes);
  if (name != entry.name) attributes_.write_name(out, kSpanAttributes);
  attributes_.write_span_facts(out, kSpanAttributes);
  attributes_.write_labels(out, kSpanAttributes);
  const bool lacks_attributes = (entry.flags & NOPSPAN_FLAG_ATTRIBUTES_DROPPED) != 0 || attributes_.dropped() > 0;
  if (lacks_attributes) append_varint(out, 10, std::max(attributes_.dropped(), 1U));
  for (const HeldEvent& event : events) append_bytes(out, 11, event.event);
  if (entry.has_first_token) {
    std::string time;
    append_integer_attribute(time, kEventAttributes, "time_to_first_token",
                             static_cast<std::int64_t>(entry.first_token_ns));
    for_each_key_value(entry.attributes, kSpanAttributes, [&](std::string_view key_value) {
      Attribute attribute;
      if (!read_attribute(key_value, attribute) || attribute.key != semconv::extension::tokens_at_first_token) return;
      append_integer_attribute(time, kEventAttributes, "gen_ai.stream.tokens_so_far", attribute.integer);
    });
    write_made_event(saturating_sum(entry.start_unix_ns, entry.first_token_ns), "gen_ai.stream.first_token", time,
                     events);
  }
  write_links(entry);
  if (has_failure(entry)) {
    write_failure(entry, error, events);
  } else {
    write_status(entry);
  }
  append_fixed32(out, 16, span_flags(entry.flags));
}

void ExportEncoder::write_severity(std::string_view name, bool is_retry) {
  const LogEvent* const event = log_event(name);
  const Severity& severity = event != nullptr ? event->severity : is_retry ? kWarn : kInfo;
  append_varint(buffer_, 2, severity.number);
  append_bytes(buffer_, 3, severity.text);
}

// The source's clock has ticked last before most entries, but nothing is observed before it happens.
void ExportEncoder::write_log_context(const TraceId& trace_id, std::uint64_t span_id, std::uint32_t flags,
                                      std::uint64_t unix_ns) {
  append_fixed64(buffer_, 11, std::max(now_unix_ns_, unix_ns));
  append_trace_id(buffer_, 9, trace_id);
  append_span_id(buffer_, 10, span_id);
  if (flags != 0) append_fixed32(buffer_, 8, flags);
}

void ExportEncoder::write_log(const Entry& entry) {
  append_fixed64(buffer_, 1, entry.start_unix_ns);
  write_severity(entry.name, entry.kind == Kind::retry);
  attributes_.write_own(buffer_, kLogAttributes);
  attributes_.write_event_facts(buffer_, kLogAttributes);
  attributes_.write_labels(buffer_, kLogAttributes);
  if (attributes_.dropped() > 0) append_varint(buffer_, 7, attributes_.dropped());
  write_log_context(entry.trace_id, entry.span_id, trace_flags(entry.flags), entry.start_unix_ns);
  append_bytes(buffer_, 12, attributes_.valid_text(entry.name));
}

void ExportEncoder::add(const Entry& entry, std::span<const HeldEvent> events) {
  attributes_.read(entry);
  const std::size_t begin = begin_item(*entry.process, entry.kind == Kind::span ? attributes_.scope() : Scope());
  if (signal_ == Signal::traces) {
    write_span(entry, events);
    ++items_.spans;
    items_.span_events += events.size();
  } else {
    write_log(entry);
    ++items_.logs;
  }
  end_item(begin);
  dropped_attributes_ += attributes_.dropped();
}

void ExportEncoder::add(const HeldEvent& event) {
  const std::size_t begin = begin_item(event.process, {});
  std::string_view name;
  std::uint64_t unix_ns = 0;
  // The fields of Span.Event, and those of LogRecord that they become.
  ProtobufFields fields(event.event);
  while (fields.next()) {
    if (fields.is(1, ProtobufType::fixed64)) append_fixed64(buffer_, 1, unix_ns = fields.integer());
    if (fields.is(2, ProtobufType::delimited)) name = fields.bytes();
    if (fields.is(kEventAttributes, ProtobufType::delimited)) append_bytes(buffer_, kLogAttributes, fields.bytes());
    if (fields.is(4, ProtobufType::varint)) append_varint(buffer_, 7, fields.integer());
  }
  write_severity(name, event.is_retry);
  buffer_.append(event.labels);
  write_log_context(event.trace_id, event.span_id, event.trace_flags, unix_ns);
  append_bytes(buffer_, 12, name);
  end_item(begin);
  ++items_.logs;
}

ExportBody ExportEncoder::finish() {
  ExportBody body{signal_, {}, std::exchange(items_, {})};
  body.bytes.reserve(bytes());
  std::stable_sort(runs_.begin(), runs_.end(), [](const Run& a, const Run& b) { return a.share < b.share; });
  for (auto run = runs_.cbegin(); run != runs_.cend();) {
    const std::uint32_t number = run->share;
    const Share& share = shares_[number];
    const std::size_t in_scope = share.scope.size() + share.bytes;
    append_length(body.bytes, 1, share.resource.size() + 1 + varint_bytes(in_scope) + in_scope);
    body.bytes += share.resource;
    append_length(body.bytes, 2, in_scope);
    body.bytes += share.scope;
    for (; run != runs_.cend() && run->share == number; ++run) {
      body.bytes += buffer_.view().substr(run->begin, run->end - run->begin);
    }
  }
  buffer_.clear();
  runs_.clear();
  shares_.clear();
  share_numbers_.clear();
  head_bytes_ = 0;
  return body;
}

}  // namespace nopspan::collector
