// SPDX-License-Identifier: Apache-2.0
/// @file
/// In-process handlers: functions that receive the same events as the probes, where eBPF cannot reach (tests,
/// locked-down hosts). The semantics are those of Erlang's :telemetry (https://hexdocs.pm/telemetry).
///
/// @code
/// nopspan::Errc error = nopspan::attach("slow-chats", "llm.chat.stop", [](const nopspan::Event& e) {
///   if (e.duration_ns() > 1'000'000'000) printf("%.*s\n", int(e.request_id().size()), e.request_id().data());
/// });
/// if (error != nopspan::Errc::ok) fprintf(stderr, "attach: %s\n", nopspan::describe(error));
/// @endcode
///
/// Thread safety: all functions may be called from any thread at any time, also inside a handler.
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

/// A handler. It runs on the thread that emits the event, before the emitting call returns. Handlers of one event run
/// in the order in which they were attached.
///
/// - It may attach, detach and emit. Events that handlers of handlers emit more than 16 deep reach no handler, and are
///   counted (stats().recursion_dropped).
/// - It must not end its thread.
/// - If it throws, it is detached and counted (stats().handler_failures), an error is logged, and the event
///   `telemetry.handler.failure` is emitted, with the metadata event_name, handler_id, handler_config, kind, reason and
///   stacktrace. The exception does not reach the application.
using Handler = std::function<void(const Event&)>;

/// Attaches a handler to one event ("llm.chat.stop"). It receives the events that are emitted from now on.
///
/// @param id      names the handler; copied. One id has one handler, whatever its events.
/// @param event   the full name of the event; copied. It need not be known yet.
/// @param handler is kept until it is detached, by detach() or because it threw.
/// @param config  a value for the handler's own use: Event::config() returns it. One function can so serve several ids
///                that differ in, say, a threshold.
/// @return ok; already_exists; invalid_argument for a null or empty id, an invalid event name (see
///         Errc::invalid_argument) or an empty handler; out_of_memory. Unless it returns ok, nothing is attached.
NOPSPAN_API Errc attach(Text id, Text event, Handler handler, Value config = {});

/// The same for several events under one id. Either all are attached or none. An empty list is ok, and attaches
/// nothing.
NOPSPAN_API Errc attach_many(Text id, const std::vector<std::string>& events, Handler handler, Value config = {});

/// Detaches a handler from all its events. Called outside of handlers, it waits for the handlers that are running on
/// other threads. When it has returned, whatever it returned:
///
/// - no other thread is running a handler of that id that was attached before, or will run it;
/// - what the handler had captured has been destroyed, so the objects that it referred to may be destroyed too.
///
/// Do not call it while holding a lock that a handler takes: it would wait for that handler for ever.
///
/// Called inside a handler, or in the destructor of something that a handler had captured, it does not wait:
///
/// - an event that is being dispatched still goes to all the handlers that it had at its start;
/// - what the handler had captured is destroyed by a later event, attach() or detach(), on that call's thread. So such
/// a
///   destructor must not take a lock under which a thread emits events.
///
/// @return ok; not_found, also for a null or empty id; out_of_memory, and the handler stays attached.
NOPSPAN_API Errc detach(Text id);

/// One event of an attached handler.
struct HandlerInfo {
  std::string id;     ///< as given to attach()
  std::string event;  ///< one of its events
  Value config;       ///< as given to attach()
};
/// The handlers that are attached to events under a prefix, in the order in which they were attached: one entry for
/// each event of a handler. The prefix is of whole segments: "llm.chat" selects llm.chat.stop, but not llm.chatter. ""
/// selects all. Throws std::bad_alloc if there is no memory for the list.
NOPSPAN_API std::vector<HandlerInfo> list_handlers(Text prefix = "");

}  // namespace nopspan

#endif  // NOPSPAN_REGISTRY_H
