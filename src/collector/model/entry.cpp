// SPDX-License-Identifier: Apache-2.0
#include "model/entry.h"

#include <nopspan/probes.h>

#include <charconv>
#include <cstddef>
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
  return &a == &b || (a.pid == b.pid && a.start_ticks == b.start_ticks && a.host == b.host);
}

ProcessPointer with_short_texts(const ProcessPointer& process) {
  constexpr std::size_t kMost = 1024, kMostOfText = 100;
  std::size_t bytes = 0;
  for (const auto text : kProcessTexts) bytes += ((*process).*text).size();
  if (bytes <= kMost) return process;
  Process kept = *process;
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

}  // namespace nopspan::collector
