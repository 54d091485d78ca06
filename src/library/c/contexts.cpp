// SPDX-License-Identifier: Apache-2.0
// The C API of contexts, scopes and the process. Each function calls the one of the C++ API that its comment names.
#include "c/arguments.h"

#include <nopspan/context.h>
#include <nopspan/propagation.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::c {
namespace {

static_assert(sizeof(nopspan_stats) == sizeof(Stats), "the same counts in the same order");
static_assert(sizeof(nopspan_scope) == sizeof(detail::EnteredContext));

// An empty text if the room is not enough, because half of a header or an id would be another one.
std::size_t write(std::string_view text, char* out, std::size_t room) noexcept {
  if (out == nullptr || room == 0) return text.size();
  const std::size_t size = text.size() < room ? text.size() : 0;
  std::memcpy(out, text.data(), size);
  out[size] = '\0';
  return text.size();
}

Context read(Text traceparent, Text tracestate, Text baggage) noexcept {
  detail::ReceivedHeaders received;
  received.traceparent.add(traceparent);
  received.tracestate.add(tracestate);
  received.baggage.add(baggage);
  return detail::read_headers(received);
}

}  // namespace
}  // namespace nopspan::c

namespace c = nopspan::c;
using c::context_of;
using c::to_c;
using nopspan::Context;
using nopspan::Text;

extern "C" {

nopspan_context nopspan_context_current() noexcept { return to_c(Context::current()); }
nopspan_context nopspan_context_make() noexcept { return to_c(Context::make()); }
nopspan_context nopspan_context_with_request_id(const char* id, size_t size) noexcept {
  return to_c(Context::with_request_id(c::text_of(id, size)));
}
nopspan_context nopspan_context_from(const char* traceparent) noexcept {
  return to_c(Context::from_traceparent(traceparent));
}
nopspan_context nopspan_context_from_headers(const char* traceparent, const char* tracestate,
                                             const char* baggage) noexcept {
  return to_c(c::read(traceparent, tracestate, baggage));
}
nopspan_context nopspan_context_from_environment() noexcept { return to_c(nopspan::extract_environment()); }

nopspan_context nopspan_context_extract(nopspan_get_header get, void* carrier) noexcept {
  const auto header = [&](const char* key) {
    size_t size = NOPSPAN_NUL;
    const char* const value = get != nullptr ? get(carrier, key, &size) : nullptr;
    return c::text_of(value, size);
  };
  const Text traceparent = header("traceparent");
  const Text tracestate = header("tracestate");
  return to_c(c::read(traceparent, tracestate, header("baggage")));
}

nopspan_context nopspan_context_with_label(const nopspan_context* context, const char* key,
                                           const char* value) noexcept {
  return to_c(context_of(context).with_label(key, value));
}
bool nopspan_context_is_empty(const nopspan_context* context) noexcept { return context_of(context).empty(); }
uint64_t nopspan_context_span_id(const nopspan_context* context) noexcept { return context_of(context).span_id(); }

size_t nopspan_context_request_id(const nopspan_context* context, char* out, size_t room) noexcept {
  return c::write(context_of(context).request_id(), out, room);
}
size_t nopspan_context_trace_id(const nopspan_context* context, char* out, size_t room) noexcept {
  return c::write(context_of(context).trace_id(), out, room);
}
size_t nopspan_context_label(const nopspan_context* context, const char* key, char* out, size_t room) noexcept {
  return c::write(context_of(context).label(key), out, room);
}
size_t nopspan_context_traceparent(const nopspan_context* context, char* out, size_t room) noexcept {
  return c::write(context_of(context).traceparent(), out, room);
}
size_t nopspan_context_tracestate(const nopspan_context* context, char* out, size_t room) noexcept {
  return c::write(context_of(context).tracestate(), out, room);
}
size_t nopspan_context_baggage(const nopspan_context* context, char* out, size_t room) noexcept {
  char baggage[nopspan::detail::kBaggageRoom];
  const size_t size = nopspan::detail::write_baggage(context_of(context), baggage);
  return c::write({baggage, size}, out, room);
}

void nopspan_context_inject(const nopspan_context* context, nopspan_set_header set, void* carrier) noexcept {
  if (set == nullptr) return;
  nopspan::inject(context_of(context),
                  [&](Text key, Text value) { set(carrier, key.data(), value.data(), value.size()); });
}

bool nopspan_declare_label(const char* key) noexcept { return nopspan::declare_label(key); }

nopspan_scope nopspan_scope_enter(const nopspan_context* context) noexcept {
  const nopspan::detail::EnteredContext entered = nopspan::detail::enter_context(context_of(context));
  return {entered.frame, entered.generation};
}

void nopspan_scope_leave(nopspan_scope scope) noexcept {
  nopspan::detail::leave_context({static_cast<nopspan::detail::ScopeFrame*>(scope.frame), scope.generation});
}

void nopspan_stats_read(struct nopspan_stats* stats, size_t size) noexcept {
  if (stats == nullptr) return;
  size = c::count_of(size);
  const nopspan::Stats counts = nopspan::stats();
  const size_t known = std::min(size, sizeof(counts));
  std::memcpy(stats, &counts, known);
  std::memset(reinterpret_cast<char*>(stats) + known, 0, size - known);
}

bool nopspan_prepare(size_t threads, bool grow) noexcept {
  return nopspan::prepare(threads, grow ? nopspan::Growth::allowed : nopspan::Growth::none);
}
void nopspan_reseed(void) noexcept { nopspan::reseed(); }

void nopspan_keep_open_spans(bool on) noexcept { nopspan::keep_open_spans(on); }

void nopspan_capture_content(enum nopspan_content mode) noexcept {
  nopspan::capture_content(static_cast<nopspan::ContentMode>(static_cast<unsigned>(mode) & 3U));
}

void nopspan_end_open_spans(const char* reason) noexcept {
  nopspan::end_open_spans(reason != nullptr ? reason : "exit");
}

uint64_t nopspan_now_ns() noexcept { return nopspan::now_ns(); }

}  // extern "C"
