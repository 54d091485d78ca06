// SPDX-License-Identifier: Apache-2.0
// The server's side: what an inference engine knows of a request.
//
//   slot.span = nopspan::AsyncSpan{nopspan::engine::request, nopspan::Context::from_traceparent(header),
//                                  {nopspan::SpanKind::server}};
#ifndef NOPSPAN_ENGINE_H
#define NOPSPAN_ENGINE_H

#include <nopspan/config.h>
#include <nopspan/event_names.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>

#include <cstdint>
#include <string_view>

namespace nopspan::engine {

// Metadata of engine.request, arrival to last byte. Its end fires the `engine_request` probe with these times.
class RequestFields : public Fields {
 public:
  using Fields::Fields;
  RequestFields& engine(Text name) { return put("engine", name); }
  RequestFields& model(Text name) { return put("model", name); }
  RequestFields& tenant(Text name) { return put("tenant", name); }
  RequestFields& input_tokens(std::int64_t count) { return put("input_tokens", count); }
  RequestFields& output_tokens(std::int64_t count) { return put("output_tokens", count); }
  RequestFields& cached_tokens(std::int64_t count) { return put("cached_tokens", count); }
  RequestFields& finish_reason(Text reason) { return put("finish_reason", reason); }

  // Times in ns.
  RequestFields& queue_ns(std::int64_t time) { return number("queue_ns", time); }
  RequestFields& prefill_ns(std::int64_t time) { return number("prefill_ns", time); }
  RequestFields& decode_ns(std::int64_t time) { return number("decode_ns", time); }
  RequestFields& preemptions(std::int64_t count) { return number("preemptions", count); }

 private:
  template <class T>
  RequestFields& put(Text key, const T& value) {
    set(key, value);
    return *this;
  }
  RequestFields& number(Text key, std::int64_t value) {
    measure(key, value);
    return *this;
  }
};

NOPSPAN_CONSTANT SpanName<RequestFields> request{"engine.request"};
NOPSPAN_CONSTANT Name queue{"engine.queue"};
NOPSPAN_CONSTANT Name prefill{"engine.prefill"};
NOPSPAN_CONSTANT Name decode{"engine.decode"};
NOPSPAN_CONSTANT Name step{"engine.step"};

// The prefix of every name here.
constexpr std::string_view event_prefix() noexcept { return "engine"; }
// The names of all events: three of each span, and engine.stats, which gauges emit.
NOPSPAN_API EventNames event_names() noexcept;

}  // namespace nopspan::engine

#endif  // NOPSPAN_ENGINE_H
