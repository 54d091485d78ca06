// SPDX-License-Identifier: Apache-2.0
// One function for each kind of call that makes or fills a span or an event. A call gets a number that differs from
// those before, for new values of labels. None of them allocates memory itself.
#pragma once

#include <nopspan/context.h>
#include <nopspan/execute.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/propagation.h>
#include <nopspan/span.h>
#include <nopspan/stream.h>
#include <nopspan/types.h>

#include <cstddef>
#include <string_view>

// A text that is made of a letter and a number.
struct Numbered {
  explicit Numbered(unsigned number) {
    for (std::size_t i = sizeof(text) - 2; i > 0; --i, number /= 10) text[i] = static_cast<char>('0' + number % 10);
  }
  char text[8] = "n";
};

inline constexpr std::size_t kLargeBytes = 100 * 1024;
inline char large_text[kLargeBytes];  // NULs are replaced, so any text will do

inline void nest(unsigned depth) {
  const nopspan::Span span{"work"};
  if (depth > 1) nest(depth - 1);
}

struct Call {
  const char* what;
  void (*make)(unsigned number);
  std::size_t stack = 12 * 1024;  // the bound that span.h states
};
inline constexpr Call every_call[] = {
    {"Span", [](unsigned) { nest(3); }},
    {"80 nested Spans", [](unsigned) { nest(80); }},
    {"AsyncSpan",
     [](unsigned) {
       nopspan::AsyncSpan span{"work", nopspan::Context::current()};
       span.first_token();
       span.fail("refused", "because");
     }},
    {"StreamMeter",
     [](unsigned) {
       nopspan::StreamMeter meter{nopspan::AsyncSpan{"work", nopspan::Context::make()}};
       for (int i = 0; i < 3; ++i) meter.token();
       meter.end();
     }},
    {"fields of 1000 bytes",
     [](unsigned) {
       nopspan::Span span{"work"};
       span.set("large", std::string_view(large_text, 1000)).measure("count", 1);
     }},
    {"fields of 100 KiB",
     [](unsigned) {
       nopspan::Span span{"work"};
       span.set("large", std::string_view(large_text, kLargeBytes));
     }},
    {"links",
     [](unsigned) {
       nopspan::Span span{"work"};
       for (int i = 0; i < 20; ++i) span.link(nopspan::Context::make());
     }},
    {"new labels",
     [](unsigned number) {
       const Numbered value(number);
       const nopspan::Span span{
           "work", [&](nopspan::Fields& f) { f.tenant(value.text).label("shard", value.text).engine("engine"); }};
     }},
    {"a new name", [](unsigned number) { const nopspan::Span span{std::string_view(Numbered(number).text)}; }},
    {"headers",
     [](unsigned) {
       const auto caller = nopspan::extract([](std::string_view key) {
         if (key == "traceparent") return "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
         return key == "tracestate" ? "vendor=value" : "tenant=acme,key=value";
       });
       const auto work =
           nopspan::wrap(caller.with_label("shard", "1"), [] { nopspan::inject([](nopspan::Text, nopspan::Text) {}); });
       nopspan::span("work", caller, work);
       nopspan::async_span("work", caller, work);
     },
     16 * 1024},  // the bound that propagation.h states
    {"events",
     [](unsigned) {
       nopspan::execute("work.event", [](nopspan::Fields& f) { f.set("key", "value").set("large", large_text); });
       nopspan::gauge("waiting", 1);
       nopspan::counter("total", 1, [](nopspan::GaugeFields& g) { g.engine("engine").label("reason", "slots"); });
     }},
    {"a request id, a failure and a retry in the metadata",
     [](unsigned) {
       nopspan::Span call{nopspan::llm::chat, [](auto& m) { m.request_id("order-1"); }};
       call.set("request_id", "order-2").set("http_status", 503);
       nopspan::genai::retry(1, [](auto& e) { e.delay_ms(0.5).reason("timeout"); });
     }},
    {"complete()", [](unsigned) { nopspan::complete("work", nopspan::Context(), 1, 1); }},
};
