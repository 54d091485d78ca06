// SPDX-License-Identifier: Apache-2.0
// Writes a recording of the entries that a test describes: record_lines FILE <LINES. Each line is a JSON object with
// fields of Entry, whose defaults are 0 and "", or {"tick": the time of Sink::on_tick()}. A member of a step is the id
// of its request, or a list: the id, prompt tokens, tokens in the cache, decoded tokens.
#include "kept_entry.h"

#include "base/clocks.h"
#include "model/service.h"
#include "recording/recorder.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace nopspan::collector;
using nlohmann::json;

namespace {

class Line {
 public:
  explicit Line(json line) : line_(std::move(line)) {}
  [[nodiscard]] std::uint64_t number(const char* key, std::uint64_t otherwise = 0) const {
    return line_.value(key, otherwise);
  }
  [[nodiscard]] std::string text(const char* key, const char* otherwise = "") const {
    return line_.value(key, otherwise);
  }
  [[nodiscard]] json value(const char* key) const { return line_.value(key, json()); }

 private:
  json line_;
};

TraceId trace_id(std::uint64_t number) {
  TraceId id{};
  if (number != 0) std::memset(id.bytes, 0x11, sizeof(id.bytes));
  std::memcpy(id.bytes, &number, sizeof(number));
  return id;
}

std::string attributes_of(const json& object, bool of_event) {
  std::string run;
  for (const auto& [key, value] : object.items()) {
    if (value.is_string()) run += text_attribute(key, value.get<std::string>(), of_event);
    if (value.is_number_integer()) run += integer_attribute(key, value.get<std::int64_t>(), of_event);
    if (value.is_number_float()) run += real_attribute(key, value.get<double>());
    if (value.is_array()) run += list_attribute(key, value.get<std::vector<std::int64_t>>());
  }
  return run;
}

Kind kind_of(const std::string& name) {
  const std::map<std::string, Kind> kinds = {
      {"event", Kind::event}, {"retry", Kind::retry}, {"gauge", Kind::gauge}, {"part", Kind::part}};
  const auto found = kinds.find(name);
  return found != kinds.end() ? found->second : Kind::span;  // a step is a span too
}

class Processes {
 public:
  const ProcessPointer* of(const Line& line) {
    const auto pid = static_cast<std::uint32_t>(line.number("pid", 12));
    const std::string host = line.text("host", "host-1"), boot = line.text("boot", "boot-1");
    ProcessPointer& process = known_[{pid, host, boot}];
    if (!process) {
      Process made = *make_process(pid);
      made.host = host;
      made.boot_id = boot;
      set_service(made, "", line.text("resource"));
      process = std::make_shared<const Process>(made);
    }
    return &process;
  }

 private:
  std::map<std::tuple<std::uint32_t, std::string, std::string>, ProcessPointer> known_;
};

void pass(const Line& line, const ProcessPointer* process, std::uint64_t sequence, Sink& sink) {
  Entry entry;
  entry.kind = kind_of(line.text("kind"));
  entry.process = process;
  entry.trace_id = trace_id(line.number("trace"));
  entry.span_id = line.number("id");
  entry.parent_id = line.number("parent");
  entry.root_id = line.number("root", entry.span_id);
  entry.start_unix_ns = line.number("start");
  entry.duration_ns = line.number("duration");
  entry.flags = static_cast<std::uint32_t>(line.number("flags"));
  entry.value = static_cast<std::int64_t>(line.number("value"));
  entry.status = static_cast<std::uint8_t>(line.number("status"));
  entry.before_attach = line.number("before_attach") != 0;
  entry.thread_id = 77;
  entry.sequence_id = 1077;
  entry.sequence = sequence;
  if (const json usage = line.value("usage"); usage.is_array()) {  // tokens of the prompt, and of the answer
    entry.has_usage = entry.counts_tokens = true;
    entry.usage.input = usage.at(0).get<std::uint64_t>();
    entry.usage.output = usage.at(1).get<std::uint64_t>();
  }
  const std::string name = line.text("name"), engine = line.text("engine"), tenant = line.text("tenant"),
                    model = line.text("model"), error_type = line.text("error_type");
  const std::string attributes = attributes_of(line.value("attributes"), entry.kind != Kind::span);
  entry.name = name;
  entry.engine = engine;
  entry.tenant = tenant;
  entry.model = model;
  entry.error_type = error_type;
  entry.attributes = attributes;
  std::vector<nopspan_member> members;
  for (const json& one : line.value("members")) {
    const auto facts = (one.is_array() ? one : json{one, 0, 0, 0}).get<std::vector<std::uint64_t>>();
    members.push_back({.request = facts.at(0),
                       .prefill_tokens = static_cast<unsigned>(facts.at(1)),
                       .context_tokens = static_cast<unsigned>(facts.at(2)),
                       .decode_tokens = static_cast<unsigned short>(facts.at(3))});
  }
  entry.members = {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)};
  nopspan_step step{};
  if (line.text("kind") == "step") {
    step.members = static_cast<std::uint32_t>(line.number("announced", members.size()));
    step.number = line.number("number");
    step.prefill_tokens = line.number("prefill");
    step.batch_size = step.members;
    step.instance = line.number("instance");
    entry.step = &step;
    entry.flags |= NOPSPAN_FLAG_STEP;
  }
  sink.on_entry(entry);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::cerr << "usage: record_lines FILE <LINES\n", 2;
  LedgerSource source;
  RecorderOptions options;
  options.path = argv[1];
  Recorder recorder(options, source);
  Processes processes;
  std::uint64_t sequence = 0, last_ns = 0;
  for (std::string text; std::getline(std::cin, text);) {
    const Line line(json::parse(text));
    if (const std::uint64_t tick = line.number("tick"); tick != 0) {
      recorder.on_tick(tick);
      continue;
    }
    const ProcessPointer* const process = processes.of(line);
    source.count(*process);
    pass(line, process, sequence++, recorder);
    last_ns = std::max(last_ns, line.number("start") + line.number("duration"));
  }
  recorder.on_tick(last_ns + 100 * kSecond);
  return recorder.finish() ? 0 : 1;
}
