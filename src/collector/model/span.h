// SPDX-License-Identifier: Apache-2.0
// What all commands work on: one span or event, as a process told of it or as it was read from a recording.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace nopspan::collector {

// A process that has spans. Kept by those that refer to it after it has ended.
struct Process {
  std::uint32_t pid = 0;            // as the collector's pid namespace numbers it
  std::uint32_t namespace_pid = 0;  // as its own does
  std::uint64_t start_ticks = 0;    // /proc/PID/stat's starttime: with the pid it names a process for good
  std::string command;              // comm
  std::string executable;           // "" if it cannot be told
  std::string cgroup;               // path in cgroup v2
  std::string container;            // id from the cgroup's path; "" outside containers
  std::string library;              // the file with the probes, as the process names it
  std::string library_version;      // "" if it does not tell
  std::string host;
};
using ProcessPointer = std::shared_ptr<const Process>;

// Whether both are the same run of a program.
bool is_same_process(const Process& a, const Process& b);
// As the kernel's programs name one that ended before it was looked at: by the thread's name, which mostly is its own.
ProcessPointer with_command(const ProcessPointer& process, std::string_view command);

enum class Kind : std::uint8_t { span, event, retry, gauge };

// Values of Span::status, as in <nopspan/probes.h>.
inline constexpr std::uint8_t kOk = 0, kError = 1, kCancelled = 2, kException = 3;

struct TraceId {
  unsigned char bytes[16] = {};
  [[nodiscard]] bool empty() const;
  friend bool operator==(const TraceId& a, const TraceId& b) = default;
};

struct Usage {
  std::uint64_t input = 0, output = 0, cached = 0, reasoning = 0;
};

struct EngineTimes {
  std::uint64_t arrival_ns = 0, queue_ns = 0, prefill_ns = 0, decode_ns = 0;
  std::uint64_t prefill_tokens = 0, decode_tokens = 0, preemptions = 0;
};

// A view: texts and bytes live as long as the call that it is given to. Texts are as the process wrote them, at most a
// few KiB; whoever prints one sends it through printable() (text.h).
struct Span {
  Kind kind = Kind::span;
  std::uint8_t status = kOk;
  std::uint32_t flags = 0;  // NOPSPAN_FLAG_*
  TraceId trace_id;         // empty: in no request
  std::uint64_t span_id = 0, parent_id = 0;
  std::uint64_t root_id = 0;        // the outermost span of that process in that trace
  std::uint64_t start_unix_ns = 0;  // of an event, retry or gauge its own time
  std::uint64_t duration_ns = 0;
  std::string_view name, engine, model, tenant;
  std::string_view exception_kind, error_type;  // of a retry: its reason
  std::string_view foreign_id;                  // the request's id as the application supplied it, else ""
  std::string_view tracestate;
  std::string_view text;        // a tool's name; of an event or retry the name of the span that it is in
  std::string_view attributes;  // OTLP KeyValues: field 9 of a Span, of events and retries field 3 of its Event
  std::string_view links;       // struct nopspan_link[]
  bool has_usage = false, has_first_token = false, has_engine_times = false;
  bool tells_tokens = false, tells_tool = false;  // count tokens and tools where these say so: once a fact
  Usage usage;
  std::uint64_t first_token_ns = 0;  // from the span's start
  EngineTimes engine_times;
  std::int64_t value = 0;    // of a gauge; of a retry the delay in ns
  std::uint64_t number = 0;  // of a gauge its maximum, 0: none; of a retry the attempt
  std::uint32_t thread_id = 0;
  std::uint64_t stream = 0, sequence = 0;
  const ProcessPointer* process = nullptr;  // never null where a sink sees it

  [[nodiscard]] bool failed() const { return status == kError || status == kException; }
};

// The id that people know a request by: the supplied one, else 22 characters of URL-safe Base64; "" where there is
// none.
std::string request_id_of(const Span& span);
// The trace id of a request's id in any of its forms: 22 characters of Base64, 32 hexadecimal digits, a traceparent, or
// what the application supplied, which is hashed as the ABI says. Empty for "".
TraceId trace_id_of(std::string_view request);

}  // namespace nopspan::collector
