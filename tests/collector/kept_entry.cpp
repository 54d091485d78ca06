// SPDX-License-Identifier: Apache-2.0
#include "kept_entry.h"

#include "base/text.h"
#include "model/otlp_wire.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <numeric>
#include <sstream>

using namespace nopspan::collector;

namespace {

constexpr std::string_view Entry::*kTexts[] = {&Entry::name,       &Entry::engine,         &Entry::model,
                                               &Entry::tenant,     &Entry::exception_kind, &Entry::error_type,
                                               &Entry::foreign_id, &Entry::tracestate,     &Entry::text,
                                               &Entry::attributes, &Entry::links};
constexpr const char* kTextNames[] = {"name",       "engine",     "model", "tenant",     "exception_kind", "error_type",
                                      "foreign_id", "tracestate", "text",  "attributes", "links"};

std::uint64_t any_number(std::mt19937_64& random) {
  switch (random() % 4) {
    case 0:
      return 0;
    case 1:
      return random() % 8;
    case 2:
      return random() % 1'000'000'000;
    default:
      return random();
  }
}

std::string any_text(std::mt19937_64& random) {
  constexpr const char* kSome[] = {"", "a", "llm.chat", "größe", "gpt-4", "\x1b[31m", "\xf0\x9f\x99\x82"};
  const std::uint64_t which = random() % 10;
  if (which < 7) return kSome[which];
  return std::string(random() % 100, static_cast<char>('a' + random() % 26));
}

std::string any_attributes(std::mt19937_64& random, bool of_event) {
  std::string run;
  std::uint64_t used = 0;  // so that no key occurs twice
  for (std::uint64_t i = random() % 6; i > 0; --i) {
    const std::uint64_t name = random() % 8;
    if ((used >> name & 1U) != 0) continue;
    used |= std::uint64_t{1} << name;
    const std::string key = "k" + std::to_string(name);
    run += random() % 2 == 0 ? text_attribute(key, any_text(random), of_event)
                             : integer_attribute(key, static_cast<std::int64_t>(any_number(random)), of_event);
  }
  return run;
}

}  // namespace

KeptEntry::KeptEntry(const Entry& entry) : span_(entry), process_(entry.process == nullptr ? nullptr : *entry.process) {
  for (const auto text : kTexts) span_.*text = texts_.emplace_back(entry.*text);
  span_.members = texts_.emplace_back(entry.members);
  if (entry.step != nullptr) {
    step_ = *entry.step;
    span_.step = &step_;
  }
  span_.process = &process_;
}

std::string KeptEntry::difference(const Entry& other) const {
  std::ostringstream out;
  const auto compare = [&](const char* field, const auto& mine, const auto& theirs) {
    if (mine != theirs) out << field << ": " << mine << ", not " << theirs << "\n";
  };
  for (std::size_t i = 0; i < std::size(kTexts); ++i) {
    compare(kTextNames[i], hex_text(span_.*kTexts[i]), hex_text(other.*kTexts[i]));
  }
  compare("members", hex_text(span_.members), hex_text(other.members));
  const auto step_text = [](const nopspan_step* step) {
    return step == nullptr ? "none" : hex_text({reinterpret_cast<const char*>(step), sizeof(*step)});
  };
  compare("step", step_text(span_.step), step_text(other.step));
  compare("kind", static_cast<int>(span_.kind), static_cast<int>(other.kind));
  compare("status", static_cast<int>(span_.status), static_cast<int>(other.status));
  compare("flags", span_.flags, other.flags);
  const auto hex = [](const TraceId& id) {
    return hex_text({reinterpret_cast<const char*>(id.bytes), sizeof(id.bytes)});
  };
  compare("trace_id", hex(span_.trace_id), hex(other.trace_id));
  compare("span_id", span_.span_id, other.span_id);
  compare("parent_id", span_.parent_id, other.parent_id);
  compare("root_id", span_.root_id, other.root_id);
  compare("start_unix_ns", span_.start_unix_ns, other.start_unix_ns);
  compare("duration_ns", span_.duration_ns, other.duration_ns);
  compare("has_usage", span_.has_usage, other.has_usage);
  compare("has_first_token", span_.has_first_token, other.has_first_token);
  compare("has_engine_times", span_.has_engine_times, other.has_engine_times);
  compare("counts_tokens", span_.counts_tokens, other.counts_tokens);
  compare("counts_tool", span_.counts_tool, other.counts_tool);
  compare("before_attach", span_.before_attach, other.before_attach);
  compare("first_token_ns", span_.first_token_ns, other.first_token_ns);
  const auto bytes_of = [](const auto& fields) {
    return hex_text({reinterpret_cast<const char*>(&fields), sizeof(fields)});
  };
  compare("usage", bytes_of(span_.usage), bytes_of(other.usage));
  compare("engine_times", bytes_of(span_.engine_times), bytes_of(other.engine_times));
  compare("value", span_.value, other.value);
  compare("number", span_.number, other.number);
  compare("thread_id", span_.thread_id, other.thread_id);
  compare("sequence_id", span_.sequence_id, other.sequence_id);
  compare("sequence", span_.sequence, other.sequence);
  const Process& mine = *process_;
  const Process& theirs = **other.process;
  compare("pid", mine.pid, theirs.pid);
  compare("namespace_pid", mine.namespace_pid, theirs.namespace_pid);
  compare("start_ticks", mine.start_ticks, theirs.start_ticks);
  for (const auto text : kProcessTexts) compare("a text of the process", mine.*text, theirs.*text);
  return out.str();
}

void LedgerSource::count(const ProcessPointer& process) {
  const Counts one{.emitted = 1, .delivered = 1};
  auto row = std::find_if(now.processes.begin(), now.processes.end(),
                          [&](const ProcessLedger& known) { return known.process == process; });
  if (row == now.processes.end()) row = now.processes.insert(row, {process, {}});
  row->counts += one;
  now.total += one;
}

ProcessPointer make_process(std::uint32_t pid, const std::string& comm) {
  Process process;
  process.pid = pid;
  process.namespace_pid = pid % 2 == 0 ? pid : 7;
  process.start_ticks = 1000 + pid;
  process.comm = comm;
  process.executable = "/usr/bin/" + comm;
  process.cgroup = "/system.slice/" + comm + ".service";
  process.container = pid % 3 == 0 ? "4f5e6d" : "";
  process.library = "/usr/lib/libnopspan.so.0.3";
  process.library_version = pid % 5 == 0 ? "" : "1.2.3";
  process.host = "host-1";
  process.boot_id = pid % 3 == 0 ? "6d5f1a3c-8f2e-4b6a-9c1d-0123456789ab" : "";
  process.service_name = pid % 4 == 0 ? "checkout" : "";
  process.resource_attributes = pid % 4 == 0 ? "deployment.environment.name=test,team=a%2Cb" : "";
  return std::make_shared<const Process>(process);
}

std::string text_attribute(std::string_view key, std::string_view value, bool of_event) {
  std::string run;
  append_text_attribute(run, of_event ? kEventAttributes : kSpanAttributes, key, value);
  return run;
}

std::string integer_attribute(std::string_view key, std::int64_t value, bool of_event) {
  std::string run;
  append_integer_attribute(run, of_event ? kEventAttributes : kSpanAttributes, key, value);
  return run;
}

std::string real_attribute(std::string_view key, double value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  std::string any_value, key_value, run;
  append_fixed64(any_value, 4, bits);
  append_text(key_value, 1, key);
  append_bytes(key_value, 2, any_value);
  append_bytes(run, kSpanAttributes, key_value);
  return run;
}

std::string list_attribute(std::string_view key, const std::vector<std::int64_t>& numbers) {
  std::string items, run;
  for (const std::int64_t number : numbers) {
    std::string value;
    append_varint(value, 3, static_cast<std::uint64_t>(number));
    append_bytes(items, 1, value);
  }
  append_delimited_value(run, kSpanAttributes, key, 5, items);
  return run;
}

KeptEntry chat_span(const ProcessPointer& process) {
  const std::string attributes =
      text_attribute("gen_ai.operation.name", "chat") + text_attribute("gen_ai.request.model", "small-1") +
      text_attribute("nopspan.engine", "llama.cpp") + integer_attribute("gen_ai.usage.input_tokens", 12) +
      integer_attribute("gen_ai.usage.output_tokens", 30);
  nopspan_link links[2] = {};
  std::memset(links[0].trace_id, 0x5a, sizeof(links[0].trace_id));
  links[0].span_id = 99;
  links[1].span_id = 0xfedcba9876543210U;
  Entry entry;
  entry.flags =
      NOPSPAN_FLAG_SAMPLED | NOPSPAN_FLAG_HAS_USAGE | NOPSPAN_FLAG_HAS_FIRST_TOKEN | 3U << NOPSPAN_FLAG_KIND_SHIFT;
  std::iota(std::begin(entry.trace_id.bytes), std::end(entry.trace_id.bytes), 0xf0);
  entry.span_id = 0x0123456789abcdefU;
  entry.parent_id = 0x00000000000000ffU;
  entry.root_id = 0x8877665544332211U;
  entry.start_unix_ns = 1'790'000'000'123'456'789U;
  entry.duration_ns = 345'678'901U;
  entry.name = "llm.chat";
  entry.engine = "llama.cpp";
  entry.model = "small-1";
  entry.tenant = "acme";
  entry.tracestate = "vendor=1";
  entry.attributes = attributes;
  entry.links = {reinterpret_cast<const char*>(links), sizeof(links)};
  entry.has_usage = entry.has_first_token = entry.counts_tokens = true;
  entry.usage = {12, 30, 0, 0};
  entry.first_token_ns = 45'000'000;
  entry.thread_id = 4711;
  entry.sequence_id = 0xaabbccddeeff0011U;
  entry.sequence = 5;
  entry.process = &process;
  return KeptEntry(entry);
}

KeptEntry any_step(std::mt19937_64& random, const std::vector<ProcessPointer>& processes,
                   std::vector<nopspan_member>& members) {
  const KeptEntry span = any_span(random, processes);
  Entry entry = span.entry();
  entry.links = {};
  entry.kind = random() % 4 == 0 ? Kind::part : Kind::span;
  entry.process = &processes[random() % processes.size()];
  nopspan_step step{};
  if (entry.kind == Kind::span) {
    entry.value = 0;
    entry.number = 0;
    for (nopspan_member& member : members) {
      member.context_tokens += member.prefill_tokens + member.decode_tokens;
      if (random() % 8 == 0) member.prefill_tokens = static_cast<unsigned>(random());
      if (random() % 8 == 0) member.accepted_tokens = static_cast<unsigned short>(random());
    }
    std::erase_if(members, [&](const nopspan_member&) { return random() % 16 == 0; });
    while (random() % 4 != 0) {
      nopspan_member member{};
      member.request = any_number(random);
      member.flags = random() % 2 == 0 ? NOPSPAN_MEMBER_OWN_KEY : 0;
      members.insert(members.begin() + static_cast<std::ptrdiff_t>(random() % (members.size() + 1)), member);
    }
    if (members.size() > 1 && random() % 4 == 0) std::swap(members.front(), members.back());
    step.size = static_cast<unsigned>(random());
    step.kind = static_cast<unsigned>(random() % 4);
    step.number = any_number(random);
    step.members = static_cast<unsigned>(members.size() + random() % 4);
    step.prefill_tokens = any_number(random);
    step.device_ns = any_number(random);
    step.kv_used = any_number(random);
    entry.step = &step;
  }
  entry.members = {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)};
  return KeptEntry(entry);
}

KeptEntry any_span(std::mt19937_64& random, const std::vector<ProcessPointer>& processes) {
  Entry entry;
  entry.kind = static_cast<Kind>(random() % 4);
  std::deque<std::string> texts;
  for (const auto text : kTexts) entry.*text = texts.emplace_back(any_text(random));
  entry.attributes = texts.emplace_back(any_attributes(random, entry.kind != Kind::span));
  entry.links = texts.emplace_back(random() % 4 * sizeof(nopspan_link), 'l');
  if (random() % 3 == 0) entry.model = texts.emplace_back("gpt-4");
  entry.status = static_cast<std::uint8_t>(random() % 4);
  entry.flags = static_cast<std::uint32_t>(random() % 2 == 0 ? random() % 0x8000 : 0x1000);
  if (random() % 8 != 0) std::memset(entry.trace_id.bytes, static_cast<int>(random() % 255 + 1), 16);
  entry.span_id = any_number(random);
  entry.parent_id = any_number(random);
  entry.root_id = random() % 2 == 0 ? entry.parent_id : any_number(random);
  entry.start_unix_ns = any_number(random);
  entry.duration_ns = any_number(random);
  entry.has_usage = random() % 2 == 0;
  entry.has_first_token = random() % 2 == 0;
  entry.has_engine_times = random() % 2 == 0;
  entry.counts_tokens = random() % 2 == 0;
  entry.counts_tool = random() % 2 == 0;
  entry.before_attach = random() % 8 == 0;
  if (entry.has_first_token) entry.first_token_ns = any_number(random);
  if (entry.has_usage) {
    for (std::uint64_t* field :
         {&entry.usage.input, &entry.usage.output, &entry.usage.cached, &entry.usage.reasoning}) {
      *field = any_number(random);
    }
  }
  if (EngineTimes& times = entry.engine_times; entry.has_engine_times) {
    for (std::uint64_t* field : {&times.arrival_ns, &times.queue_ns, &times.prefill_ns, &times.decode_ns,
                                 &times.prefill_tokens, &times.decode_tokens, &times.preemptions}) {
      *field = any_number(random);
    }
  }
  if (entry.kind == Kind::gauge || entry.kind == Kind::retry) {
    entry.value = static_cast<std::int64_t>(any_number(random));
    entry.number = any_number(random);
  }
  entry.thread_id = static_cast<std::uint32_t>(random() % 3);
  entry.sequence_id = random() % 3 == 0 ? random() : random() % 4;
  entry.sequence = any_number(random);
  entry.process = &processes[random() % processes.size()];
  return KeptEntry(entry);
}
