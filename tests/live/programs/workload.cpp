// SPDX-License-Identifier: Apache-2.0
// About 2,000 spans of every kind on several threads. A handler writes each start and end that it receives to a file. A
// tracer of the same run must receive the same.
//
// Takes commands (commands.h): `run FILE`, which writes one JSON object per line to FILE, and `canary ID`.
#include "canary.h"

#include <nopspan/context.h>
#include <nopspan/llm.h>
#include <nopspan/probes.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <cstdio>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using nopspan::AsyncSpan;
using nopspan::Context;
using nopspan::ContextScope;
using nopspan::Name;
using nopspan::Span;
using nopspan::Value;

constexpr int kRounds = 20;
constexpr int kThreads = 4;

const char long_name[] = "work.a_name_of_more_than_sixty_three_bytes_which_is_cut_so_that_it_can_be_seen";

std::string hex(std::uint64_t id) {
  char text[20];
  std::snprintf(text, sizeof(text), "%llx", static_cast<unsigned long long>(id));
  return text;
}

class Recorder {
 public:
  explicit Recorder(const char* file) : file_(file) {
    std::vector<std::string> events;
    for (const std::string& name : names()) {
      for (const char* suffix : {".start", ".stop", ".exception"}) events.push_back(name + suffix);
    }
    error_ = nopspan::attach_many("recorder", events, [this](const nopspan::Event& event) { write(event); });
  }
  ~Recorder() { static_cast<void>(nopspan::detach("recorder")); }
  [[nodiscard]] nopspan::Errc error() const { return error_; }

 private:
  // The names as they are emitted, after repair. A truncated name has no handler, because a handler's event name must
  // not have an empty segment, as in "..." followed by ".stop".
  static std::vector<std::string> names() {
    return {"work.root",     "work.inner",   "work.leaf",      "work.fails",  "work.cancelled", "work.throws",
            "work.unwound",  "work.async",   "work.abandoned", "work.linked", "work.complete",  "work.given_end",
            "work.streamed", "llm.chat",     "llm.tool",       "unnamed",     "work.grün",      "work.interned",
            "work.bad?byte", "work.bad?tab", "work.caught"};
  }

  void write(const nopspan::Event& event) {
    Value line = Value::map();
    line.set("event", event.name());
    line.set("request_id", event.request_id());
    line.set("span_id", hex(event.span_id()));
    line.set("parent_id", hex(event.parent_id()));
    line.set("root_id", hex(event.context().root_id()));
    line.set("status", static_cast<int>(event.status()));
    line.set("flags", event.flags());
    line.set("duration_ns", event.duration_ns());
    line.set("monotonic_time_ns", event.monotonic_time_ns());
    line.set("link_count", event.link_count());
    // A tracer receives only a tracestate that came in a header, not the random bits for an id of the application.
    const auto tracestate = event.context().tracestate();
    const bool came = (event.flags() & NOPSPAN_FLAG_FOREIGN_ID) == 0;
    line.set("tracestate", came ? std::string_view(tracestate) : std::string_view(""));
    for (const char* key : {"model", "engine", "tenant", "error.type", "kind"}) {
      if (event.metadata(key).exists()) line.set(key, event.metadata(key).copy());
    }
    if (event.metadata("reason").exists()) line.set("type", event.metadata("reason").find("type").copy());
    const std::lock_guard<std::mutex> lock(mutex_);
    file_ << line.to_string() << '\n';
  }

  std::mutex mutex_;
  std::ofstream file_;
  nopspan::Errc error_ = nopspan::Errc::ok;
};

void nested() {
  Span root{"work.root", [](nopspan::Fields& f) { f.engine("llama.cpp").model("tiny").tenant("acme"); }};
  for (int i = 0; i < 3; ++i) {
    Span inner{"work.inner"};
    Span leaf{"work.leaf", [&](nopspan::Fields& f) { f.model("leaf-" + std::to_string(i)); }};
  }
}

void ends() {
  Span root{"work.root"};
  Span{"work.fails"}.fail("timeout", "a message is content");
  Span{"work.cancelled"}.cancel("client went away");
  try {
    nopspan::span("work.throws", [] { throw std::runtime_error("why"); });
  } catch (const std::runtime_error&) {
  }
  try {
    nopspan::span("work.throws", [] { throw 17; });
  } catch (int) {
  }
  try {
    Span unwound{"work.unwound"};
    throw std::logic_error("not seen by a destructor");
  } catch (const std::logic_error&) {
  }
  try {
    AsyncSpan unwound{"work.async", root.context()};
    throw std::logic_error("not seen by a destructor");
  } catch (const std::logic_error&) {
  }
  try {
    Span caught{"work.caught"};
    try {
      throw std::out_of_range("seen");
    } catch (...) {
      caught.caught();
      throw;
    }
  } catch (const std::out_of_range&) {
  }
}

void asynchronous() {
  Span root{"work.root"};
  AsyncSpan here{"work.async", root.context()};
  AsyncSpan elsewhere{"work.async", here.context()};
  AsyncSpan own{"work.async"};
  std::thread([&] { elsewhere.fail("reset"); }).join();
  here.end();
  own.cancel();
  AsyncSpan left{"work.abandoned", root.context()};
}

void linked_and_given() {
  Span root{"work.root"};
  Span linked{"work.linked"};
  for (int i = 0; i < 8; ++i) linked.link(Context::make());
  nopspan::complete("work.complete", root.context(), nopspan::now_ns() - 5'000'000, 4'000'000);
  Span given{"work.given_end", {nopspan::SpanKind::client, nopspan::now_ns() - 1'000'000}};
  given.end_at(nopspan::now_ns());
}

void supplied_ids() {
  const char* ids[] = {"order-4711", "0af7651916cd43dd8448eb211c80319c", "an id with blanks",
                       "a-request-id-of-more-than-sixty-three-bytes-which-is-cut-so-that-it-can-be-seen"};
  for (const char* id : ids) {
    ContextScope scope{Context::with_request_id(id)};
    Span root{"work.root"};
  }
  ContextScope remote{
      Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=opaque")};
  Span server{"work.root", {nopspan::SpanKind::server}};
  Span inner{"work.inner"};
}

void names(int round) {
  Span cut{long_name};
  Span empty{""};
  Span utf8{"work.grün"};
  Span bad{
      "work.bad\xff"
      "byte"};
  Span tab{"work.bad\ttab"};
  Span interned{Name::intern("work.interned")};
  interned.measure("round", round);
}

void llm() {
  nopspan::span(
      nopspan::llm::chat, [](auto& m) { m.model("tiny"); },
      [](Span& chat) {
        chat.first_token();
        nopspan::span(
            nopspan::llm::tool, [](auto& m) { m.tool_name("calculator"); }, [] {});
        chat.with([](nopspan::Fields& f) { f.input_tokens(3).output_tokens(4); });
      });
  Span streamed{"work.streamed"};
  streamed.first_token(2);
}

std::string run(const std::string& file) {
  const Recorder recorder(file.c_str());
  if (recorder.error() != nopspan::Errc::ok) return nopspan::describe(recorder.error());
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([] {
      for (int round = 0; round < kRounds; ++round) {
        nested();
        ends();
        asynchronous();
        linked_and_given();
        supplied_ids();
        names(round);
        llm();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return "done";
}

}  // namespace

int main() {
  Commands commands;
  commands["run"] = [](std::istringstream& a) { return run(word(a)); };
  commands["canary"] = canary_command;
  return serve(commands);
}
