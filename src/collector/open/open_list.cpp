// SPDX-License-Identifier: Apache-2.0
#include "open/open_list.h"

#include "base/cells.h"
#include "base/failure.h"
#include "base/text.h"
#include "host/process_reader.h"
#include "model/entry_json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <utility>

namespace nopspan::collector {

std::string why_no_spans(int error) {
  if (error == EPERM || error == EACCES) return "reading its memory needs CAP_SYS_PTRACE";
  if (error == ENOTSUP) return "its library is too old: open spans can be read since nopspan 0.2";
  if (error == EBADMSG || error == EFAULT) return "its memory is damaged";
  return read_error_text(error);
}

void OpenReading::add(const ProcessPointer& process, std::uint32_t user, const std::string& library, int error,
                      OpenSpans& open, const EarlyRequests& early) {
  if (error == ESRCH) return;
  if (error != 0) {
    now_.skipped.push_back({library, process->pid, process->comm, why_no_spans(error)});
    return;
  }
  OpenProcess copy;
  copy.process = process;
  copy.library = library;
  if (open.is_raised) {  // otherwise what the threads hold is old
    copy.early = early.keys();
    copy.early_unread = early.unread();
  }
  limit_.apply(user, open);
  add_open_spans(open, now_.processes.size(), copy, spans_);
  now_.processes.push_back(std::move(copy));
}

void OpenReading::on_open_read(const OpenSpansRead& read) {
  OpenNow now = std::exchange(now_, {});
  now.time_unix_ns = read.time_unix_ns;
  now.time_ns = read.time_ns;
  now.skipped.insert(now.skipped.end(), read.skipped.begin(), read.skipped.end());
  now.requests = open_requests(std::exchange(spans_, {}), now.processes);
  now.unwanted =
      std::erase_if(now.requests, [&](const OpenRequest& request) { return !filter_.wants(request, now.processes); });
  limit_ = {};
  on_list_(std::move(now));
}

void shorten(OpenNow& now) {
  constexpr std::size_t kMostRequests = 1000, kMostSpans = 20, kMostKeys = 200, kMostSkipped = 100;
  if (now.requests.size() > kMostRequests) now.requests.resize(kMostRequests);  // the oldest ones are first
  for (OpenRequest& request : now.requests) {                                   // parents are before their children
    if (request.spans.size() > kMostSpans) request.spans.resize(kMostSpans);
  }
  std::size_t room = kMostKeys;
  for (OpenProcess& process : now.processes) {
    if (process.early.size() > room) {
      process.early_unread += process.early.size() - room;
      process.early.resize(room);
    }
    room -= process.early.size();
  }
  if (now.skipped.size() > kMostSkipped) now.skipped.resize(kMostSkipped);
}

void OpenReading::on_held(const Held& held) {
  if (held.what == Held::What::fetched) {
    early_.add(held.bytes, held.header.next - held.header.first);
  } else {
    early_.add_unread(held.header.bytes);
  }
}

void OpenReading::on_open(const PackedOpenSpans& open) {
  const EarlyRequests early = std::exchange(early_, {});
  if (process_ == nullptr || process_->pid != open.pid) throw Failure("a message of the tracing process is malformed");
  OpenSpans spans;
  const int error = unpack_open_spans({open.error, std::string(open.bytes), OpenFile()}, spans);
  add(process_, open.user, open.library, error, spans, early);
}

void OpenReading::on_text(std::string_view text) { std::cerr << text << std::flush; }

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostPlaces = 20;  // rows of one request
constexpr std::size_t kMostEarly = 100;  // rows of requests of a process that have a key only
constexpr std::size_t kMostOnPath = 12;  // spans of one row

std::string open_process_text(const OpenProcess& process) {
  const std::string pid = process.process->pid == 0 ? "" : "[" + std::to_string(process.process->pid) + "]";
  return process.process->comm.empty() ? "process" + pid : printable(process.process->comm, 15) + pid;
}

// "chat > step > chat_server[4711]: request": the spans around `place` and itself, and where they change the process.
std::string path_text(const OpenRequest& request, std::size_t place, const std::vector<OpenProcess>& processes) {
  std::vector<std::size_t> path;
  for (std::size_t at = place; at != OpenSpan::kNone && path.size() < kMostOnPath; at = request.spans[at].parent)
    path.push_back(at);
  std::reverse(path.begin(), path.end());
  std::string text;
  if (const std::size_t hidden = request.spans[path.front()].depth; hidden > 0)
    text = "… " + std::to_string(hidden) + " more";
  else if (request.spans[path.front()].is_orphan())
    text = "may be part of an earlier request";
  std::size_t process = request.spans.front().process;
  for (const std::size_t at : path) {
    const OpenSpan& span = request.spans[at];
    if (!text.empty()) text += " > ";
    if (span.process != process) text += open_process_text(processes[span.process]) + ": ";
    process = span.process;
    text += printable(span.name, 64);
  }
  return text;
}

std::string age_text(std::uint64_t ns, bool is_least) { return (is_least ? ">=" : "") + duration_text(ns); }

std::string text_or_dash(const std::string& text) { return text.empty() ? "-" : printable(text, 24); }

}  // namespace

std::string open_text(const std::vector<OpenRequest>& requests, const std::vector<OpenProcess>& processes) {
  TextTable table({{"AGE", Align::right},
                   {"REQUEST"},
                   {"TENANT"},
                   {"MODEL"},
                   {"TOKENS", Align::right},
                   {"PROCESS"},
                   {"IN LAST", Align::right},
                   {"OPEN SPANS"}});
  for (const OpenRequest& request : requests) {
    std::size_t places = 0;
    for (std::size_t i = 0; i < request.spans.size(); ++i) {
      const OpenSpan& span = request.spans[i];
      if (span.has_children || ++places > kMostPlaces) continue;
      std::vector<std::string> row(6);
      if (places == 1) {
        row = {age_text(request.age_ns, request.age_is_least),
               printable(request.request_id, 64),
               text_or_dash(request.tenant),
               text_or_dash(request.model),
               request.output_tokens == 0 ? "-" : std::to_string(request.output_tokens),
               open_process_text(processes[request.spans.front().process])};
      }
      row.push_back(age_text(span.age_ns, processes[span.process].age_is_least));
      row.push_back(path_text(request, i, processes));
      table.add(std::move(row));
    }
    if (places > kMostPlaces)
      table.add({"", "", "", "", "", "", "", "and " + std::to_string(places - kMostPlaces) + " more places"});
  }
  bool has_early = false;
  for (const OpenProcess& process : processes) {
    std::size_t shown = 0;
    for (const std::uint64_t key : process.early) {
      has_early = true;
      const bool is_rest = ++shown > kMostEarly;
      table.add({"-",
                 is_rest ? "and " + std::to_string(process.early.size() - kMostEarly) + " more"
                         : "key " + std::to_string(key),
                 "-", "-", "-", open_process_text(process), "-", "known from the engine's steps only"});
      if (is_rest) break;
    }
  }
  return requests.empty() && !has_early ? "" : table.text();
}

std::string in_flight_text(const OpenNow& now) {
  std::size_t early = 0;
  for (const OpenProcess& process : now.processes) early += process.early.size();
  const std::string text = counted(now.requests.size(), "request") + " in flight";
  return early == 0 ? text : text + ", " + std::to_string(early) + " more known from steps only";
}

std::string known_text(const std::vector<OpenProcess>& processes) {
  std::string text;
  for (const OpenProcess& process : processes) {
    const std::string name = "nopspan: " + open_process_text(process);
    switch (process.known) {
      case OpenProcess::Known::always:
        break;
      case OpenProcess::Known::since:
        text += name +
                (process.since_ns == 0 ? ": it is not known since when its requests are recorded"
                 : process.since_ns == OpenProcess::kFromNowOn
                     ? ": its requests are known from now on"
                     : ": only its requests that began in the last " + duration_text(process.since_ns) + " are known") +
                ". Older ones may be missing\n";
        break;
      case OpenProcess::Known::not_now:
        text += name +
                ": its requests are not recorded. Start it with NOPSPAN_KEEP_OPEN=1, or attach to it with nopspan open "
                "--watch\n";
        break;
    }
    if (process.unread > 0) text += name + ": up to " + counted(process.unread, "open span") + " were not read\n";
    if (process.early_unread > 0) {
      text += name + ": up to " + counted(process.early_unread, "request") + " known from steps only were not read\n";
    }
  }
  return text;
}

Json to_json(const OpenNow& now) {
  Json json;
  if (now.time_unix_ns != 0) json["time_unix_ns"] = now.time_unix_ns;
  for (const char* key : {"requests", "processes"}) json[key] = Json::array();
  for (const OpenRequest& request : now.requests) json["requests"].push_back(to_json(request, now.processes));
  for (const OpenProcess& process : now.processes) json["processes"].push_back(to_json(process));
  json["skipped"] = to_json(now.skipped);
  return json;
}

Json to_json(const OpenRequest& request, const std::vector<OpenProcess>& processes) {
  Json json = {{"request_id", request.request_id},
               {"trace_id", id_text(request.trace_id)},
               {"age_ns", request.age_ns},
               {"age_is_least", request.age_is_least}};
  add_text(json, "tenant", request.tenant);
  add_text(json, "model", request.model);
  add_text(json, "engine", request.engine);
  json["output_tokens"] = request.output_tokens;
  json["spans"] = Json::array();
  for (const OpenSpan& span : request.spans) {
    Json each = {{"span_id", id_text(span.span_id)}};
    if (span.parent_id != 0) each["parent_id"] = id_text(span.parent_id);
    each["name"] = span.name;
    each["age_ns"] = span.age_ns;
    each["is_innermost"] = !span.has_children;
    if (span.is_orphan()) each["root"] = "orphan";
    add_text(each, "engine", span.engine);
    add_text(each, "model", span.model);
    add_text(each, "tenant", span.tenant);
    for (const auto& [key, value] : span.labels) each["labels"][key] = value;
    if (span.first_token_ns != 0) each["first_token_ns"] = span.first_token_ns;
    each["output_tokens"] = span.output_tokens;
    each["pid"] = processes[span.process].process->pid;
    each["thread_id"] = span.thread_id;
    json["spans"].push_back(std::move(each));
  }
  return json;
}

Json to_json(const OpenProcess& process) {
  static constexpr const char* kKnown[] = {"always", "since", "not_now"};
  Json json = {{"pid", process.process->pid}, {"comm", process.process->comm}};
  add_text(json, "container", process.process->container);
  add_text(json, "library", process.library);
  json["known"] = kKnown[static_cast<std::size_t>(process.known)];
  if (process.known == OpenProcess::Known::since) json["known_for_ns"] = process.since_ns;
  json["age_is_least"] = process.age_is_least;
  json["unread"] = process.unread;
  if (!process.early.empty()) json["early_request_keys"] = process.early;
  if (process.early_unread > 0) json["early_requests_unread"] = process.early_unread;
  return json;
}

}  // namespace nopspan::collector
