// SPDX-License-Identifier: Apache-2.0
// The data that all commands work on: one span, point event, retry, gauge, or part of a step, from a process
// or from a recording.
#pragma once

#include "base/clocks.h"
#include "model/otlp_wire.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>

struct nopspan_step;

namespace nopspan::collector {

// A process that has spans. This object exists as long as other objects refer to it, even if the process has ended.
struct Process {
  std::uint32_t pid = 0;            // in the collector's pid namespace
  std::uint32_t namespace_pid = 0;  // in its own pid namespace
  std::uint64_t start_ticks = 0;    // /proc/PID/stat's starttime; together with the pid it is unique on a host
  std::uint64_t instance = 0;       // a random number that its Writer has chosen; 0: it has none
  std::string comm;
  std::string executable;       // "" if it cannot be read
  std::string cgroup;           // path in cgroup v2
  std::string container;        // id from the cgroup's path; "" outside containers
  std::string library;          // the process's name for the file with the probes
  std::string library_version;  // "" if the library does not report it
  std::string host;
  std::string boot_id;              // that the kernel of its host chose when it started; "" if unknown
  std::string service_name;         // that its environment gives it (service.h), unchecked; "" if there is none
  std::string resource_attributes;  // OTEL_RESOURCE_ATTRIBUTES of its environment, unchecked; "" if it is not set
  std::string declared;             // the attributes in it, for each_declared() in service.h
  // Its CLOCK_MONOTONIC minus that of this program (time namespaces). Entries have times without it.
  std::int64_t clock_offset_ns = 0;
  // The user who claims that this process exists, if it is a stranger (recording_listener.h); 0: nobody. In
  // metrics, all that a stranger claims has the share of one process.
  std::uint64_t claimed_by = 0;
};
using ProcessPointer = std::shared_ptr<const Process>;

// In the order in which messages and recordings have them.
inline constexpr std::string Process::*kProcessTexts[] = {
    &Process::comm,         &Process::executable,         &Process::cgroup, &Process::container,
    &Process::library,      &Process::library_version,    &Process::host,   &Process::boot_id,
    &Process::service_name, &Process::resource_attributes};

// Distinguishes the processes of one host: pid, start and instance. Copies of a process may have the same pid and
// start.
using ProcessKey = std::tuple<std::uint32_t, std::uint64_t, std::uint64_t>;
inline ProcessKey key_of(const Process& process) { return {process.pid, process.start_ticks, process.instance}; }

// Whether both are the same process: same key and host.
bool is_same_process(const Process& a, const Process& b);
// A copy with another comm. For a process that ended before it was examined, the kernel programs report the thread's
// name, which usually is the comm.
ProcessPointer with_comm(const ProcessPointer& process, std::string_view comm);

// The process, or a copy with shortened texts if they are long. For what is kept of many processes.
ProcessPointer with_short_texts(const ProcessPointer& process);

// A part continues the members of a step that was too large for one entry (steps.h). Its ids and times are the
// step's.
enum class Kind : std::uint8_t { span, event, retry, gauge, part };

// Values of Entry::status, as in <nopspan/probes.h>.
inline constexpr std::uint8_t kOk = 0, kError = 1, kCancelled = 2, kException = 3;

struct TraceId {
  unsigned char bytes[16] = {};
  [[nodiscard]] bool empty() const { return *this == TraceId(); }
  friend bool operator==(const TraceId& a, const TraceId& b) {
    return std::memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
  }
};

struct Usage {
  std::uint64_t input = 0, output = 0, cached = 0, reasoning = 0;
};

struct EngineTimes {
  std::uint64_t arrival_ns = 0, queue_ns = 0, prefill_ns = 0, decode_ns = 0;
  std::uint64_t prefill_tokens = 0, decode_tokens = 0, preemptions = 0;
};

inline constexpr std::size_t kMostTracestate = 2048;  // bytes

// What is kept of each entry as it is.
struct EntryHead {
  std::uint64_t span_id = 0, parent_id = 0;
  std::uint64_t root_id = 0;        // the root span: the request's first span in that process
  std::uint64_t start_unix_ns = 0;  // for an event, retry or gauge its time
  std::uint64_t duration_ns = 0;
  std::uint32_t flags = 0;  // NOPSPAN_FLAG_*
  std::uint32_t thread_id = 0;
  Kind kind = Kind::span;
  std::uint8_t status = kOk;
};

// A view: its texts and bytes are valid only during the call that receives it. Texts are as the process wrote them, at
// most a few KiB. Pass a text through printable() (text.h) before printing it.
struct Entry : EntryHead {
  TraceId trace_id;  // empty if it is in no request
  std::string_view name, engine, model, tenant;
  std::string_view exception_kind, error_type;  // for a retry its reason
  std::string_view foreign_id;                  // the request's id from the application, else ""
  std::string_view tracestate;
  std::string_view text;               // a tool's name; for an event or retry the name of the span that it is in
  std::string_view attributes;         // OTLP KeyValues: field 9 of a Span; for events and retries field 3 of an Event
  std::string_view links;              // struct nopspan_link[]
  const nopspan_step* step = nullptr;  // the facts of an engine's step (steps.h); null for other entries
  std::string_view members;            // struct nopspan_member[], of a step or of a part of its members
  bool has_usage = false, has_first_token = false, has_engine_times = false;
  // The collector was still attaching to a file when this began, or attached to one later while it ran. So other parts
  // of the request may not have been received.
  bool before_attach = false;
  // Tokens and tools are counted only where these are set, so that each fact counts once.
  bool counts_tokens = false, counts_tool = false;
  Usage usage;
  std::uint64_t first_token_ns = 0;  // from the span's start
  EngineTimes engine_times;
  std::int64_t value = 0;  // for a gauge its value; for a retry the delay in ns
  // For a gauge its maximum (0: none); for a retry the attempt; for a part how many members come before these.
  std::uint64_t number = 0;
  std::uint64_t sequence_id = 0, sequence = 0;
  const ProcessPointer* process = nullptr;  // never null when a sink receives the entry

  [[nodiscard]] bool failed() const { return status == kError || status == kException; }
  // A retry has the name of the span that it is in.
  [[nodiscard]] std::string_view span_name() const { return kind == Kind::retry && !text.empty() ? text : name; }
};

// The request id as users see it: the application's id, otherwise 22 characters of URL-safe Base64; "" if the entry is
// in no request.
std::string request_id_of(const Entry& entry);
// Converts a request id in any of its forms to a trace id: 22 characters of Base64, 32 hexadecimal digits, or a
// traceparent. Any other text is an application's id and is hashed as the ABI specifies. Empty for "".
TraceId trace_id_of(std::string_view request);

// The value of an entry for a key that the user chooses (--where, --by): of a label or an attribute.

// Room for a number as text.
using NumberText = std::array<char, 32>;

// The value of an attribute as it is printed; "" for a list, a map or bytes. The result refers to the attribute or to
// `number`.
std::string_view scalar_text(const Attribute& attribute, NumberText& number);

// If a key is repeated, the first one counts, as in JSON (entry_json.h). `found` refers to the entry. Returns false if
// the entry does not have the key.
bool find_attribute(const Entry& entry, std::string_view key, Attribute& found);

// The labels model, tenant and engine are fields of the entry, all other labels are attributes. A key that the entry
// does not have is looked up in the resource of its process. "" if neither has it, or if the value is a list, a map or
// bytes. The result refers to the entry, to its process or to `number`.
std::string_view label_or_attribute(const Entry& entry, std::string_view key, NumberText& number);

// OTLP's three signals.
enum class Signal : std::uint8_t { traces, logs, metrics };
inline constexpr std::size_t kSignals = 3;

// Of counters and histograms: since the start of the series, or since the last export. `low_memory`: the latter, except
// for counters whose total somebody else counts.
enum class Temporality : std::uint8_t { cumulative, delta, low_memory };

}  // namespace nopspan::collector
