// SPDX-License-Identifier: Apache-2.0
#include "export/exported_attributes.h"

#include "base/key_index.h"
#include "base/text.h"
#include "base/utf8.h"
#include "model/sampling.h"
#include "model/steps.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr KeyIndex kKnownIndex(kKnownKeys);
constexpr Known kLinks(NOPSPAN_ATTRIBUTE_LINKS);
constexpr Known kFirstField("otel.scope.name"), kStatusCode("otel.status_code"), kLastField("otel.status_description");

// Whether a known attribute of a span is a field of OTLP.
bool is_field(std::size_t number, const Attribute& attribute) {
  if (number < kFirstField.number || number > kLastField.number || attribute.type != Attribute::Type::text)
    return false;
  return number != kStatusCode.number || attribute.text == "OK" || attribute.text == "ERROR";
}

template <class Group>
struct KnownNumber {
  Known key;
  std::uint64_t Group::*field;
};
constexpr KnownNumber<Usage> kUsageNumbers[] = {
    {semconv::gen_ai_usage_input_tokens, &Usage::input},
    {semconv::gen_ai_usage_output_tokens, &Usage::output},
    {semconv::gen_ai_usage_cache_read_input_tokens, &Usage::cached},
    {semconv::gen_ai_usage_reasoning_output_tokens, &Usage::reasoning},
};
constexpr KnownNumber<EngineTimes> kEngineNumbers[] = {
    {"nopspan.arrival_ns", &EngineTimes::arrival_ns},         {"nopspan.queue_ns", &EngineTimes::queue_ns},
    {"nopspan.prefill_ns", &EngineTimes::prefill_ns},         {"nopspan.decode_ns", &EngineTimes::decode_ns},
    {"nopspan.prefill_tokens", &EngineTimes::prefill_tokens}, {"nopspan.decode_tokens", &EngineTimes::decode_tokens},
    {"nopspan.preemptions", &EngineTimes::preemptions},
};

enum class Message : std::uint8_t { other, text, key_value, value, list, map };

Message message_in(Message message, std::uint64_t field) {
  if (message == Message::key_value) return field == 1 ? Message::text : field == 2 ? Message::value : Message::other;
  if (message == Message::value && field == 1) return Message::text;
  if (message == Message::value && field == 5) return Message::list;
  if (message == Message::value && field == 6) return Message::map;
  if (message == Message::list && field == 1) return Message::value;
  return message == Message::map && field == 1 ? Message::key_value : Message::other;
}

// Returns nothing if it is malformed.
std::optional<std::string> repaired_message(Message part, std::string_view bytes, unsigned depth) {
  constexpr unsigned kMostNested = 100;
  if (part == Message::text) return replaced_utf8(bytes);
  if (depth > kMostNested) return std::nullopt;
  std::string out;
  ProtobufFields fields(bytes);
  while (fields.next()) {
    const Message kind = fields.type() == ProtobufType::delimited ? message_in(part, fields.number()) : Message::other;
    if (kind == Message::other) {
      out += fields.whole();
      continue;
    }
    const auto repaired = repaired_message(kind, fields.bytes(), depth + 1);
    if (!repaired) return std::nullopt;
    append_bytes(out, static_cast<unsigned>(fields.number()), *repaired);
  }
  return fields.is_valid() ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace

std::string repaired_attribute(std::string_view key_value) {
  Attribute attribute;
  const auto repaired = repaired_message(Message::key_value, key_value, 0);
  return repaired && read_attribute(*repaired, attribute) ? *repaired : "";
}

std::string_view ExportedAttributes::valid_text(std::string_view text) {
  if (is_utf8(text)) return text;
  ++repaired_;
  return kept_.emplace_back(replaced_utf8(text));
}

// Spans of no catalogue have these facts under names that the export does not use.
bool ExportedAttributes::is_repeated(const Attribute& attribute) const {
  const std::string_view key = attribute.key;
  const std::string_view fact = key == "model"                                ? entry_->model
                                : key == "engine"                             ? entry_->engine
                                : key == "tenant"                             ? entry_->tenant
                                : key == "cancel.reason" && !entry_->failed() ? entry_->error_type
                                                                              : std::string_view();
  return !fact.empty() && attribute.text == fact;
}

void ExportedAttributes::note(std::string_view key_value, const Attribute& attribute) {
  // A step's facts are written from the step itself.
  if (entry_->step != nullptr && is_step_fact(attribute.key)) {
    is_unchanged_ = false;
    return;
  }
  const std::size_t number = kKnownIndex.find(attribute.key);
  const bool has_links = number == kLinks.number && !entry_->links.empty();
  if (entry_->kind == Kind::span && (has_links || is_repeated(attribute))) {
    is_unchanged_ = false;  // the same fact is written elsewhere
    if (has_links) link_states_ = attribute.text;
    return;
  }
  if (entry_->kind == Kind::span && is_field(number, attribute)) {
    is_unchanged_ = false;
    present_ |= std::uint64_t{1} << number;
    texts_[number] = attribute.text;
    return;
  }
  const bool is_renamed = semconv_ != Semconv::v1_41 &&
                          semconv::renamed(attribute.key, semconv_, semconv::operation::retrieval) != attribute.key;
  own_.push_back({key_value, is_renamed});
  is_unchanged_ = is_unchanged_ && !is_renamed;
  if (number == kKnownKeys.size()) return;
  present_ |= std::uint64_t{1} << number;
  texts_[number] = attribute.type == Attribute::Type::text ? attribute.text : std::string_view();
}

void ExportedAttributes::read(const Entry& entry) {
  entry_ = &entry;
  present_ = 0;
  dropped_ = 0;
  link_states_ = {};
  is_unchanged_ = true;
  own_.clear();
  if (!kept_.empty()) kept_.clear();
  if (entry.attributes.empty()) return;
  const unsigned field = entry.kind == Kind::span ? kSpanAttributes : kEventAttributes;
  Attribute attribute;
  const bool is_run = for_each_key_value(entry.attributes, field, [&](std::string_view key_value) {
    if (read_attribute(key_value, attribute)) return note(key_value, attribute);
    is_unchanged_ = false;
    std::string repaired = repaired_attribute(key_value);
    if (repaired.empty() || !read_attribute(kept_.emplace_back(std::move(repaired)), attribute)) {
      ++dropped_;
    } else {
      ++repaired_;
      note(kept_.back(), attribute);
    }
  });
  if (is_run) return;
  is_unchanged_ = false;
  ++dropped_;
}

namespace {

// Spans of catalogues have the keys of an error with a prefix.
std::string_view without_prefix(std::string_view key) {
  constexpr std::string_view kPrefix = "nopspan.";
  return key.starts_with(kPrefix) ? key.substr(kPrefix.size()) : key;
}

std::string lines_of(std::string_view list) {
  std::string lines;
  for_each_key_value(list, 1, [&](std::string_view value) {
    Attribute line;
    if (read_value(value, line)) (lines += lines.empty() ? "" : "\n") += line.text;
  });
  return lines;
}

}  // namespace

ExportedAttributes::ErrorTexts ExportedAttributes::error_texts() const {
  ErrorTexts found;
  Attribute attribute;
  for (const Own& own : own_) {
    read_attribute(own.key_value, attribute);
    const std::string_view key = without_prefix(attribute.key);
    if (key == "error.message" && attribute.type == Attribute::Type::text) found.message = attribute.text;
    if (entry_->status != kException) continue;
    if (key == "reason" && attribute.type == Attribute::Type::map) {
      for_each_key_value(attribute.text, 1, [&](std::string_view key_value) {
        Attribute inner;
        if (read_attribute(key_value, inner) && inner.key == "message" && inner.type == Attribute::Type::text) {
          found.message = inner.text;
        }
      });
    } else if (key == "stacktrace" && attribute.type == Attribute::Type::list) {
      found.stacktrace = lines_of(attribute.text);
    }
  }
  return found;
}

// The map of an exception has more than its type and its message if it has a cause.
bool ExportedAttributes::is_in(const ErrorTexts& error, const Own& own) const {
  Attribute attribute;
  read_attribute(own.key_value, attribute);
  const std::string_view key = without_prefix(attribute.key);
  if (key == "error.message") return attribute.type == Attribute::Type::text && attribute.text == error.message;
  if (entry_->status != kException) return false;
  if (key == "stacktrace") {
    return attribute.type == Attribute::Type::list && lines_of(attribute.text) == error.stacktrace;
  }
  bool has_more = key != "reason" || attribute.type != Attribute::Type::map;
  if (has_more) return false;
  for_each_key_value(attribute.text, 1, [&](std::string_view key_value) {
    Attribute inner;
    const bool is_text = read_attribute(key_value, inner) && inner.type == Attribute::Type::text;
    const std::string_view known = inner.key == "message" ? error.message
                                   : inner.key == "type"  ? error_type()
                                                          : std::string_view();
    has_more = has_more || !is_text || known.empty() || inner.text != known;
  });
  return !has_more;
}

void ExportedAttributes::leave_out(const ErrorTexts& error) {
  if (std::erase_if(own_, [&](const Own& own) { return is_in(error, own); }) > 0) is_unchanged_ = false;
}

std::string_view ExportedAttributes::error_type() const {
  if (!entry_->failed()) return {};
  const std::string_view own = text(semconv::error_type);
  if (!own.empty()) return own;
  return entry_->error_type.empty() ? semconv::error_type_other : entry_->error_type;
}

std::string_view ExportedAttributes::span_name() {
  std::string_view name = text(semconv::mcp_method_name), target;
  if (!name.empty()) {
    target = text(semconv::gen_ai_tool_name);
    if (target.empty()) target = text(semconv::gen_ai_prompt_name);
  } else {
    name = text(semconv::gen_ai_operation_name);
    if (name.empty()) return entry_->name;
    const std::string_view key = semconv::target_key(name);
    target = text_of(kKnownIndex.find(key));
    if (target.empty() && key == semconv::gen_ai_request_model) target = entry_->model;
    if (target.empty() && key == semconv::gen_ai_tool_name) target = entry_->text;
  }
  name_ = name;
  if (!target.empty()) (name_ += ' ') += target;
  return name_;
}

// Writes an attribute under the name that the conventions have for it.
void ExportedAttributes::write_renamed(ByteBuffer& out, unsigned field, std::string_view key_value) {
  Attribute attribute;
  read_attribute(key_value, attribute);
  const std::string_view key = semconv::renamed(attribute.key, semconv_, text(semconv::gen_ai_operation_name));
  // It was a double in v1.41, and is an int now.
  if (attribute.key == semconv::gen_ai_request_top_k && attribute.type == Attribute::Type::real &&
      std::trunc(attribute.real) == attribute.real && std::fabs(attribute.real) < 0x1p53) {
    return append_integer_attribute(out, field, key, static_cast<std::int64_t>(attribute.real));
  }
  std::string renamed;
  append_bytes(renamed, 1, key);
  ProtobufFields fields(key_value);
  while (fields.next()) {
    if (fields.number() != 1) renamed += fields.whole();
  }
  append_bytes(out, field, renamed);
}

void ExportedAttributes::write_own(ByteBuffer& out, unsigned field) {
  const unsigned theirs = entry_->kind == Kind::span ? kSpanAttributes : kEventAttributes;
  if (is_unchanged_ && field == theirs) {
    out.append(entry_->attributes);
    return;
  }
  for (const auto& [key_value, is_renamed] : own_) {
    if (is_renamed) {
      write_renamed(out, field, key_value);
    } else {
      append_bytes(out, field, key_value);
    }
  }
}

void ExportedAttributes::add_text(ByteBuffer& out, unsigned field, Known key, std::string_view text) {
  if (!text.empty() && !has(key)) append_text_attribute(out, field, key.text(), valid_text(text));
}

void ExportedAttributes::add_number(ByteBuffer& out, unsigned field, Known key, std::uint64_t value) {
  if (!has(key)) append_integer_attribute(out, field, key.text(), static_cast<std::int64_t>(value));
}

// OTLP's status has neither cancelled nor exception.
void ExportedAttributes::write_outcome(ByteBuffer& out, unsigned field) {
  if (entry_->status == kCancelled) add_text(out, field, "nopspan.outcome", "cancelled");
  if (entry_->status == kException) add_text(out, field, "nopspan.outcome", "exception");
  if (entry_->status > kException) add_number(out, field, "nopspan.status", entry_->status);
  if (!entry_->failed()) {
    add_text(out, field, "nopspan.cancel.reason", entry_->error_type);
  } else if (status_code().empty() || entry_->status == kException) {
    add_text(out, field, semconv::error_type, error_type());
  }
  add_text(out, field, "nopspan.exception.kind", entry_->exception_kind);
}

void ExportedAttributes::write_event_facts(ByteBuffer& out, unsigned field) {
  if (entry_->kind != Kind::retry) return write_outcome(out, field);
  constexpr std::int64_t kNsPerMs = 1'000'000;
  add_number(out, field, "retry.attempt", entry_->number);
  if (entry_->value % kNsPerMs == 0) {
    add_number(out, field, "retry.delay_ms", static_cast<std::uint64_t>(entry_->value / kNsPerMs));
  } else if (!has("retry.delay_ms")) {
    append_real_attribute(out, field, "retry.delay_ms", static_cast<double>(entry_->value) / kNsPerMs);
  }
  add_text(out, field, "retry.reason", entry_->error_type);
}

void ExportedAttributes::write_step(ByteBuffer& out, unsigned field) const {
  const nopspan_step& step = *entry_->step;
  const auto add = [&](std::string_view key, std::uint64_t value) {
    append_integer_attribute(out, field, key, static_cast<std::int64_t>(value));
  };
  append_text_attribute(out, field, "nopspan.step.kind", step_kind_name(step.kind));
  add("nopspan.step.instance", step.instance);
  if (step.number != 0) add("nopspan.step.number", step.number);
  add("nopspan.step.members", step.members);
  add("nopspan.step.members_with_prefill", step.members_with_prefill);
  if (step.dropped != 0) add("nopspan.step.members_dropped", step.dropped);
  for_each_step_fact(step, add);
}

// For these numbers, 0 may mean that the program did not report them. The process's own attributes then do not have
// them either.
void ExportedAttributes::write_span_facts(ByteBuffer& out, unsigned field) {
  write_outcome(out, field);
  if ((entry_->flags & kPartialEntry) != 0 && !has("nopspan.partial")) {
    append_bool_attribute(out, field, "nopspan.partial", true);
  }
  if (entry_->has_usage) {
    for (const auto& [key, number] : kUsageNumbers) {
      if (entry_->usage.*number != 0) add_number(out, field, key, entry_->usage.*number);
    }
  }
  if (entry_->has_engine_times && entry_->step == nullptr) {
    for (const auto& [key, number] : kEngineNumbers) {
      if (entry_->engine_times.*number != 0) add_number(out, field, key, entry_->engine_times.*number);
    }
  }
  if (entry_->has_first_token && !has(semconv::gen_ai_response_time_to_first_chunk) && !has("nopspan.ttft_ns") &&
      !has("nopspan.time_to_first_token_ns")) {
    append_real_attribute(out, field, semconv::gen_ai_response_time_to_first_chunk,
                          static_cast<double>(entry_->first_token_ns) / static_cast<double>(kSecond));
  }
  add_text(out, field, semconv::gen_ai_tool_name, entry_->text);
  if (entry_->step != nullptr) write_step(out, field);
}

void ExportedAttributes::write_labels(ByteBuffer& out, unsigned field) {
  add_text(out, field, semconv::gen_ai_request_model, entry_->model);
  add_text(out, field, "nopspan.engine", entry_->engine);
  add_text(out, field, "nopspan.tenant", entry_->tenant);
  add_text(out, field, semconv::extension::request_id, entry_->foreign_id);
  if (entry_->thread_id != 0 && !has("thread.id")) write_thread(out, field);
}

// Most entries are of the same thread as the one before.
void ExportedAttributes::write_thread(ByteBuffer& out, unsigned field) {
  if (thread_ != entry_->thread_id || thread_field_ != field) {
    thread_ = entry_->thread_id;
    thread_field_ = field;
    thread_attribute_.clear();
    append_integer_attribute(thread_attribute_, field, "thread.id", thread_);
  }
  out.append(thread_attribute_.view());
}

namespace {

constexpr std::size_t kUuidBytes = 36;

// A uid with "-", or with "_", as systemd's names of slices have it. "" if the text is something else.
std::string uid_in(std::string_view text) {
  if (text.size() < kUuidBytes) return "";
  std::string uid(text.substr(0, kUuidBytes));
  for (std::size_t i = 0; i < uid.size(); ++i) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (uid[i] != '-' && uid[i] != '_') return "";
      uid[i] = '-';
    } else if (!is_hex_digit(uid[i])) {
      return "";
    }
  }
  return uid;
}

// The attributes of one Resource. The first value of a key counts, unless it is empty.
class ResourceWriter {
 public:
  explicit ResourceWriter(std::uint64_t& repaired) : repaired_(repaired) {}

  void text(std::string_view key, std::string_view value) {
    if (value.empty() || !is_new(key)) return;
    if (!is_utf8(key)) ++repaired_;
    if (!is_utf8(value)) ++repaired_;
    append_text_attribute(out_, kResourceAttributes, replaced_utf8(key), replaced_utf8(value));
  }
  void integer(std::string_view key, std::int64_t value) {
    if (is_new(key)) append_integer_attribute(out_, kResourceAttributes, key, value);
  }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  bool is_new(std::string_view key) {
    if (std::find(keys_.begin(), keys_.end(), key) != keys_.end()) return false;
    keys_.push_back(key);
    return true;
  }

  std::uint64_t& repaired_;
  std::string out_;
  std::vector<std::string_view> keys_;  // they refer to what the caller owns
};

}  // namespace

std::string pod_uid(std::string_view cgroup) {
  // "/kubepods/burstable/pod<uid>/…" or "/kubepods.slice/…/kubepods-burstable-pod<uid>.slice/…"
  if (cgroup.find("kubepods") == std::string_view::npos) return "";
  constexpr std::string_view kPod = "pod";
  for (std::size_t at = cgroup.find(kPod); at != std::string_view::npos; at = cgroup.find(kPod, at + 1)) {
    std::string uid = uid_in(cgroup.substr(at + kPod.size()));
    if (!uid.empty()) return uid;
  }
  return "";
}

// The first value of an attribute counts: what the process declares, then what is known of it. The exporter may declare
// the host, and what nobody else knows.
std::string exported_resource(const Process& process, const ExportOptions& options, std::uint64_t& repaired) {
  const auto items = parse_list(process.resource_attributes);
  const NamesAndValues own = items.value_or(NamesAndValues());
  ResourceWriter out(repaired);
  const std::string instance = service_instance_id(process), pod = pod_uid(process.cgroup);
  const std::string& path = process.executable;
  out.text("service.name", service_of(process));
  for (const auto& [key, value] : own) out.text(key, value);
  for (const auto& [key, value] : options.resource_attributes) {
    if (key.starts_with("host.")) out.text(key, value);
  }
  out.text("service.instance.id", instance);
  out.text("host.name", process.host);
  if (process.pid != 0) out.integer("process.pid", process.pid);
  if (process.namespace_pid != 0 && process.namespace_pid != process.pid)
    out.integer("process.vpid", process.namespace_pid);
  out.text("process.executable.path", path);
  out.text("process.executable.name", std::string_view(path).substr(path.rfind('/') + 1));
  out.text("process.linux.cgroup", process.cgroup);
  out.text("container.id", process.container);
  out.text("k8s.pod.uid", pod);
  out.text("telemetry.sdk.name", "nopspan");
  out.text("telemetry.sdk.language", "cpp");
  out.text("telemetry.sdk.version", process.library_version);
  for (const auto& [key, value] : options.resource_attributes) out.text(key, value);
  std::string resource = out.take();
  if (!items) append_varint(resource, 2, 1);  // dropped_attributes_count
  return resource;
}

}  // namespace nopspan::collector
