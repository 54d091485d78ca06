// SPDX-License-Identifier: Apache-2.0
// A plug-in that uses nopspan: the shared library, or a copy of its own.
#include "plugin.h"
#include "every_call.h"
#include "raised_gate.h"

#include <nopspan/genai.h>
#include <nopspan/llm.h>
#include <nopspan/registry.h>
#include <nopspan/stats.h>
#include <nopspan/stream.h>

#include <atomic>
#include <functional>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>

namespace {
std::atomic<int> ends{0};
}  // namespace

// Of this name in each plug-in, so that the instances of templates have the same names.
struct Answers {
  int operator()() const { return 3; }
};

int plugin_ends() { return ends.exchange(0); }
unsigned long plugin_dropped() { return nopspan::stats().spans_dropped; }
void plugin_attach() {
  (void)nopspan::attach_many("plugin", {"work.stop", "plugin.late.stop", "llm.stream.stop"},
                             [](const nopspan::Event&) { ++ends; });
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
void plugin_templates() {
  nopspan::span("work", Answers());
  nopspan::Span{"work"}.set("numbers", std::vector<int>{1, 2, 3});
  const nopspan::Context parent = nopspan::Context::make();
  std::unordered_map<int, nopspan::AsyncSpan> slots;
  for (int i = 0; i < 100; ++i) slots.emplace(i, nopspan::AsyncSpan{"work", parent});
  slots.erase(50);
  std::vector<nopspan::AsyncSpan> list;
  for (int i = 0; i < 100; ++i) list.emplace_back("work", parent);
  list.erase(list.begin());
  const std::function<int()> job = nopspan::wrap(Answers());
  nopspan::span("work", job);
  for (const int item : nopspan::llm::stream_range(std::vector<int>{1, 2, 3}))
    nopspan::span("work", [&] { return item; });
}
void plugin_begin(void* span) { new (span) nopspan::AsyncSpan{"plugin.late"}; }
void plugin_end(void* span) { static_cast<nopspan::AsyncSpan*>(span)->end(); }
