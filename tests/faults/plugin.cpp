// SPDX-License-Identifier: Apache-2.0
// A plug-in that uses nopspan: the shared library, or a copy of its own.
#include "plugin.h"
#include "every_call.h"
#include "raised_gate.h"

#include <nopspan/genai.h>
#include <nopspan/registry.h>
#include <nopspan/stats.h>

#include <atomic>
#include <new>
#include <string>

namespace {
std::atomic<int> ends{0};
}

int plugin_ends() { return ends.exchange(0); }
unsigned long plugin_dropped() { return nopspan::stats().spans_dropped; }
void plugin_attach() {
  (void)nopspan::attach_many("plugin", {"work.stop", "plugin.late.stop"}, [](const nopspan::Event&) { ++ends; });
}
void plugin_detach() { (void)nopspan::detach("plugin"); }
void plugin_price() {
  std::string json = R"({"unit": "per_token", "models": {"other": {})", error;
  for (unsigned i = 0; i < 100; ++i) json.append(",\"").append(Numbered(i).text).append(R"(": {"input": 1})");
  nopspan::genai::PriceTable prices;
  if (prices.parse(json + "}}", error)) nopspan::genai::set_prices(prices);
}
void plugin_misname() { const nopspan::Span span{"llm.misnamed"}; }
void plugin_raise() { new RaisedGate(RaisedGate::batch); }
void plugin_work() {
  for (const Call& call : every_call) call.make(1);
}
void plugin_begin(void* span) { new (span) nopspan::AsyncSpan{"plugin.late"}; }
void plugin_end(void* span) { static_cast<nopspan::AsyncSpan*>(span)->end(); }
