// SPDX-License-Identifier: Apache-2.0
#include "recording/otlp_spans.h"

#include "model/span_links.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <array>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kScopeBytes = 96;  // an estimate, for bytes()

OtlpFlags otlp_flags_of(const Entry& entry) {
  OtlpFlags flags;
  flags.sampled = (entry.flags & NOPSPAN_FLAG_SAMPLED) != 0;
  if (entry.kind != Kind::span) return flags;
  flags.kind = span_kind(entry);
  flags.remote_parent = (entry.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0;
  flags.attributes_dropped = (entry.flags & NOPSPAN_FLAG_ATTRIBUTES_DROPPED) != 0;
  flags.links_dropped = (entry.flags & NOPSPAN_FLAG_LINKS_DROPPED) != 0;
  return flags;
}

void append_links(ByteBuffer& out, std::string_view links) {
  for_each_link(links, [&](const SpanLink& link) { append_link(out, view_of(link.trace_id), link.span_id); });
}

void append_text_unless_empty(std::string& out, std::string_view key, std::string_view text) {
  if (!text.empty()) append_text_attribute(out, kResourceAttributes, key, text);
}

}  // namespace

std::string resource_of(const Process& process) {
  std::string out;
  // OTLP requires a service name. If the comm is empty, "nopspan.comm" preserves that.
  append_text_attribute(out, kResourceAttributes, "service.name",
                        process.comm.empty() ? "unknown_service" : std::string_view(process.comm));
  if (process.comm.empty()) append_text_attribute(out, kResourceAttributes, "nopspan.comm", "");
  append_text_unless_empty(out, "host.name", process.host);
  append_text_unless_empty(out, "nopspan.boot_id", process.boot_id);
  append_integer_attribute(out, kResourceAttributes, "process.pid", process.pid);
  if (process.namespace_pid != process.pid) {
    append_integer_attribute(out, kResourceAttributes, "process.vpid", process.namespace_pid);
  }
  append_text_unless_empty(out, "process.executable.path", process.executable);
  append_text_unless_empty(out, "process.linux.cgroup", process.cgroup);
  append_text_unless_empty(out, "container.id", process.container);
  append_integer_attribute(out, kResourceAttributes, "nopspan.start_ticks",
                           static_cast<std::int64_t>(process.start_ticks));
  append_text_unless_empty(out, "nopspan.library", process.library);
  append_text_unless_empty(out, "nopspan.library_version", process.library_version);
  append_text_unless_empty(out, "nopspan.service_name", process.service_name);
  append_text_unless_empty(out, "nopspan.resource_attributes", process.resource_attributes);
  return out;
}

std::string_view OtlpEncoder::key_of(Name name) {
  const std::string_view text = text_of(name);
  if (!own_.has(name)) return text;
  constexpr std::string_view kOurs = "nopspan.";
  key_ = kRecorded;
  key_ += text.starts_with(kOurs) ? text.substr(kOurs.size()) : text;
  return key_;
}

void OtlpEncoder::add_text(ByteBuffer& out, Name name, std::string_view text) {
  append_text_attribute(out, attributes_, key_of(name), text);
  added_.mark(name);
}

void OtlpEncoder::add_number(ByteBuffer& out, Name name, std::uint64_t value) {
  append_integer_attribute(out, attributes_, key_of(name), static_cast<std::int64_t>(value));
  added_.mark(name);
}

void OtlpEncoder::add_hex(ByteBuffer& out, Name name, std::uint64_t value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::array<char, 16> text{};
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = kDigits[value >> (60 - 4 * i) & 15U];
  add_text(out, name, {text.data(), text.size()});
}

// Copies the process's own attributes, unchanged if possible. Malformed ones are dropped and counted in `dropped_`.
void OtlpEncoder::write_own_attributes(const Entry& entry, ByteBuffer& out) {
  own_.clear();
  added_.clear();
  dropped_ = 0;
  if (entry.attributes.empty()) return;
  const unsigned theirs = entry.kind == Kind::span ? kSpanAttributes : kEventAttributes;
  Attribute attribute;
  const bool is_run = for_each_key_value(entry.attributes, theirs, [&](std::string_view key_value, std::string_view) {
    if (read_attribute(key_value, attribute)) {
      own_.note(attribute, false);
    } else {
      ++dropped_;
    }
  });
  if (!is_run) ++dropped_;
  if (dropped_ == 0 && theirs == attributes_) {
    out.append(entry.attributes);
    return;
  }
  for_each_key_value(entry.attributes, theirs, [&](std::string_view key_value, std::string_view) {
    if (dropped_ == 0 || read_attribute(key_value, attribute)) append_bytes(out, attributes_, key_value);
  });
}

// Adds the fields that the process's own attributes lack or contradict.
void OtlpEncoder::write_missing_fields(const Entry& entry, ByteBuffer& out) {
  const auto text = [&](Name theirs, Name ours, std::string_view value) {
    if (value != own_.text(theirs)) add_text(out, ours, value);
  };
  text(Name::request_model, Name::model, entry.model);
  text(Name::engine, Name::engine, entry.engine);
  text(Name::tenant, Name::tenant, entry.tenant);
  if (entry.kind == Kind::span) {
    text(Name::tool_name, Name::text, entry.text);
  } else if (!entry.text.empty()) {
    add_text(out, Name::text, entry.text);
  }
  text(Name::error_type, entry.failed() ? Name::error_type : Name::reason, entry.error_type);
  const bool is_foreign = (entry.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0;
  if (entry.foreign_id != (is_foreign ? own_.text(Name::request_id) : std::string_view())) {
    add_text(out, Name::request_id, entry.foreign_id);
  }
  // If has_usage or has_engine_times is false, the numbers have no meaning and are not written.
  for (const auto& [name, field] : kUsageFields) {
    if (entry.has_usage && entry.usage.*field != own_.number(name)) add_number(out, name, entry.usage.*field);
  }
  for (const auto& [name, field] : kEngineFields) {
    const std::uint64_t value = entry.engine_times.*field;
    if (entry.has_engine_times && value != own_.number(name)) add_number(out, name, value);
  }
  if (entry.has_first_token) add_number(out, Name::first_token_ns, entry.first_token_ns);
  if (!entry.exception_kind.empty()) add_text(out, Name::exception_kind, entry.exception_kind);
  if (entry.root_id != implied_root_id(entry)) add_hex(out, Name::root_id, entry.root_id);
}

// Adds the fields that OTLP has for spans, but not for logs and gauges.
void OtlpEncoder::write_event_fields(const Entry& entry, ByteBuffer& out) {
  if (entry.parent_id != 0) add_hex(out, Name::parent_id, entry.parent_id);
  if (entry.duration_ns != 0) add_number(out, Name::duration_ns, entry.duration_ns);
  if (entry.status != kOk) add_number(out, Name::status, entry.status);
  if (!entry.tracestate.empty()) add_text(out, Name::tracestate, entry.tracestate);
  if (!entry.links.empty()) {
    append_bytes_attribute(out, attributes_, key_of(Name::links), entry.links);
  }
}

void OtlpEncoder::write_flag_word(const Entry& entry, OtlpFlags flags, ByteBuffer& out) {
  std::uint64_t word = flag_word(entry);
  if (dropped_ > 0) {
    word |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
    flags.attributes_dropped = signal_ != Signal::metrics;  // OTLP has no number of them for gauges
  }
  if (word != implied_flag_word(entry.kind, flags, own_, added_)) add_number(out, Name::flags, word);
}

// The process's own attributes come first, then a fixed field, then the added attributes, so that a reader can
// distinguish them.
void OtlpEncoder::write_span(const Entry& entry, bool in_sequence) {
  const OtlpFlags flags = otlp_flags_of(entry);
  ByteBuffer& out = buffer_;
  append_trace_id(out, 1, entry.trace_id);
  append_span_id(out, 2, entry.span_id);
  if (!entry.tracestate.empty()) append_text(out, 3, entry.tracestate);
  append_span_id(out, 4, entry.parent_id);
  append_text(out, 5, entry.name);
  if (flags.kind != 0) append_varint(out, 6, flags.kind);
  write_own_attributes(entry, out);
  append_fixed64(out, 7, entry.start_unix_ns);
  append_fixed64(out, 8, entry.start_unix_ns + entry.duration_ns);
  write_missing_fields(entry, out);
  if (entry.status == kCancelled) add_text(out, Name::outcome, "cancelled");
  if (entry.status == kException) add_text(out, Name::outcome, "exception");
  if (entry.status > kException) add_number(out, Name::status, entry.status);
  if (!in_sequence) add_number(out, Name::sequence, entry.sequence);
  write_flag_word(entry, flags, out);
  if (flags.attributes_dropped || dropped_ > 0) append_varint(out, 10, std::max(dropped_, 1U));
  append_links(out, entry.links);
  if (flags.links_dropped) append_varint(out, 14, 1);
  if (entry.failed()) append_bytes(out, 15, kStatusError);
  append_fixed32(out, 16, span_flags(flags.sampled, flags.remote_parent));
}

void OtlpEncoder::write_log(const Entry& entry, bool in_sequence) {
  const OtlpFlags flags = otlp_flags_of(entry);
  ByteBuffer& out = buffer_;
  append_text(out, 12, entry.name);
  append_trace_id(out, 9, entry.trace_id);
  append_span_id(out, 10, entry.span_id);
  write_own_attributes(entry, out);
  append_fixed64(out, 1, entry.start_unix_ns);
  write_missing_fields(entry, out);
  write_event_fields(entry, out);
  if (entry.kind == Kind::retry) {
    add_text(out, Name::kind, "retry");
    add_number(out, Name::delay_ns, static_cast<std::uint64_t>(entry.value));
    add_number(out, Name::attempt, entry.number);
  }
  if (!in_sequence) add_number(out, Name::sequence, entry.sequence);
  write_flag_word(entry, flags, out);
  if (dropped_ > 0) append_varint(out, 7, dropped_);
  append_fixed32(out, 8, flags.sampled ? 1 : 0);
}

void OtlpEncoder::write_gauge(const Entry& entry, bool in_sequence) {
  ByteBuffer& out = point_;
  out.clear();
  write_own_attributes(entry, out);
  append_fixed64(out, 3, entry.start_unix_ns);
  append_fixed64(out, 6, static_cast<std::uint64_t>(entry.value));
  write_missing_fields(entry, out);
  write_event_fields(entry, out);
  if (!entry.trace_id.empty()) {
    append_bytes_attribute(out, attributes_, key_of(Name::trace_id), view_of(entry.trace_id));
  }
  if (entry.span_id != 0) add_hex(out, Name::span_id, entry.span_id);
  if (entry.number != 0) add_number(out, Name::maximum, entry.number);
  if (!in_sequence) add_number(out, Name::sequence, entry.sequence);
  write_flag_word(entry, {}, out);
  append_text(buffer_, 1, entry.name);
  append_length(buffer_, 5, 1 + varint_bytes(out.size()) + out.size());
  append_bytes(buffer_, 1, out.view());
}

std::uint32_t OtlpEncoder::share_of(const ProcessPointer& process) {
  const auto [found, is_new] = share_numbers_.try_emplace(process.get(), static_cast<std::uint32_t>(shares_.size()));
  if (is_new) {
    shares_.push_back({process, 0, resource_of(*process)});
    head_bytes_ += shares_.back().resource.size();
  }
  return found->second;
}

OtlpEncoder::Group& OtlpEncoder::group_of(const Entry& entry) {
  const auto is_it = [&](const Group& group) {
    return group.sequence_id == entry.sequence_id && group.thread_id == entry.thread_id &&
           shares_[group.share].process == *entry.process;
  };
  if (!runs_.empty() && is_it(groups_[runs_.back().group])) return groups_[runs_.back().group];
  auto number = static_cast<std::uint32_t>(groups_.size());
  const auto [begin, end] = group_numbers_.equal_range(entry.sequence_id);
  const auto found = std::find_if(begin, end, [&](const auto& each) { return is_it(groups_[each.second]); });
  if (found != end) {
    number = found->second;
  } else {
    group_numbers_.emplace(entry.sequence_id, number);
    groups_.push_back({share_of(*entry.process), entry.sequence_id, entry.sequence, entry.sequence, entry.thread_id});
    head_bytes_ += kScopeBytes;
  }
  runs_.push_back({groups_[number].share, number, buffer_.size(), buffer_.size()});
  return groups_[number];
}

void OtlpEncoder::add(const Entry& entry) {
  Group& group = group_of(entry);
  const bool in_sequence = entry.sequence == group.next_sequence;
  const std::size_t begin = frame_.begin(buffer_);
  if (signal_ == Signal::traces) {
    attributes_ = kSpanAttributes;
    write_span(entry, in_sequence);
  } else if (signal_ == Signal::logs) {
    attributes_ = kLogAttributes;
    write_log(entry, in_sequence);
  } else {
    attributes_ = kPointAttributes;
    write_gauge(entry, in_sequence);
  }
  frame_.end(buffer_, begin);
  group.next_sequence = entry.sequence + 1;
  group.bytes += buffer_.size() - begin;
  runs_.back().end = buffer_.size();
  ++shares_[group.share].entries;
  ++entries_;
}

// Encodes an InstrumentationScope. It has the sequence of its first entry. The others follow in sequence, unless they
// have one of their own.
std::string OtlpEncoder::scope_of(const Group& group) const {
  std::string scope;
  append_text(scope, 1, "nopspan");
  const std::string& version = shares_[group.share].process->library_version;
  if (!version.empty()) append_text(scope, 2, version);
  append_integer_attribute(scope, kScopeAttributes, "thread.id", group.thread_id);
  append_integer_attribute(scope, kScopeAttributes, "nopspan.sequence_id",
                           static_cast<std::int64_t>(group.sequence_id));
  append_integer_attribute(scope, kScopeAttributes, "nopspan.sequence",
                           static_cast<std::int64_t>(group.first_sequence));
  return scope;
}

std::vector<OtlpEncoder::Share> OtlpEncoder::finish(std::string& out) {
  out.clear();
  out.reserve(bytes());
  std::stable_sort(runs_.begin(), runs_.end(), [](const Run& a, const Run& b) {
    return a.share != b.share ? a.share < b.share : a.group < b.group;
  });
  std::string head, scope;
  for (auto run = runs_.cbegin(); run != runs_.cend();) {
    // The size of a resource is computed before it is written, because its length precedes it.
    std::vector<std::pair<const Run*, std::string>> scopes;  // the first run of each scope, and its encoded head
    const std::uint32_t share = run->share;
    head.clear();
    append_bytes(head, 1, shares_[share].resource);
    std::size_t bytes = head.size();
    for (; run != runs_.cend() && run->share == share; ++run) {
      if (!scopes.empty() && scopes.back().first->group == run->group) continue;
      const Group& group = groups_[run->group];
      scope.clear();
      append_bytes(scope, 1, scope_of(group));
      std::string begin;
      append_length(begin, 2, scope.size() + group.bytes);
      begin += scope;
      bytes += begin.size() + group.bytes;
      scopes.emplace_back(&*run, std::move(begin));
    }
    append_length(out, 1, bytes);
    out += head;
    for (const auto& [first, begin] : scopes) {
      out += begin;
      for (const Run* each = first; each != &*runs_.cend() && each->group == first->group; ++each) {
        out += buffer_.view().substr(each->begin, each->end - each->begin);
      }
    }
  }
  buffer_.clear();
  runs_.clear();
  groups_.clear();
  group_numbers_.clear();
  share_numbers_.clear();
  entries_ = head_bytes_ = 0;
  return std::exchange(shares_, {});
}

}  // namespace nopspan::collector
