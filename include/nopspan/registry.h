// SPDX-License-Identifier: Apache-2.0
// In-process handlers: the same events as the probes, where eBPF cannot reach. The semantics are :telemetry's
// (https://hexdocs.pm/telemetry).
//
//   nopspan::attach("slow-chats", "llm.chat.stop", [](const nopspan::Event& e) {
//     if (e.duration_ns() > 1'000'000'000) log(e.request_id(), e.name());
//   });
#ifndef NOPSPAN_REGISTRY_H
#define NOPSPAN_REGISTRY_H

#include <nopspan/config.h>
#include <nopspan/errc.h>
#include <nopspan/event.h>
#include <nopspan/text.h>
#include <nopspan/value.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace nopspan {

// Runs on the thread that emits, in order of attachment. One that throws is detached, and the event
// `telemetry.handler.failure` (metadata event_name, handler_id, handler_config, kind, reason, stacktrace) is emitted.
// It may attach, detach and emit; it must not end its thread.
using Handler = std::function<void(const Event&)>;

// Attaches a handler to one event, or to several under one id, for events emitted from now on. `config` is what
// Event::config() returns. Nothing is registered unless the whole call is valid; attaching to no events is ok and
// registers nothing. Thread-safe.
NOPSPAN_API Errc attach(Text id, Text event, Handler handler, Value config = {});
NOPSPAN_API Errc attach_many(Text id, const std::vector<std::string>& events, Handler handler, Value config = {});

// Detaches a handler from all its events. When it returns, with whatever result, no other thread runs a handler of that
// id that was attached before, or will, and what it had captured is destroyed: what it refers to may be destroyed too.
// It waits for all handlers that run at the time: do not hold a lock that one of them takes. Called from inside any
// handler, or from a destructor of what one had captured, it does not wait: a dispatch that runs goes on with the
// handlers it began with, and what they had captured is destroyed by a later event, attach() or detach(), on its
// thread. So such a destructor must not take a lock under which somebody emits. Thread-safe.
NOPSPAN_API Errc detach(Text id);

struct HandlerInfo {
  std::string id;
  std::string event;
  Value config;
};
// The handlers attached to events under a prefix of whole segments ("llm", "llm.chat"; "" for all), an entry for each
// event, in order of attachment. Thread-safe.
NOPSPAN_API std::vector<HandlerInfo> list_handlers(Text prefix = "");

}  // namespace nopspan

#endif  // NOPSPAN_REGISTRY_H
