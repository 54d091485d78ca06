// SPDX-License-Identifier: Apache-2.0
/// @file
/// In-process handlers: functions in the program that receive the events of spans. They need no tracer, no privileges
/// and no probes, so they also work in tests and on hosts where eBPF is not allowed. Their semantics are those of
/// Erlang's :telemetry (https://hexdocs.pm/telemetry).
///
/// @code
/// nopspan::Errc error = nopspan::attach("slow-chats", "llm.chat.stop", [](const nopspan::Event& e) {
///   if (e.duration_ns() > 1'000'000'000) printf("%.*s\n", int(e.request_id().size()), e.request_id().data());
/// });
/// if (error != nopspan::Errc::ok) fprintf(stderr, "attach: %s\n", nopspan::describe(error));
/// @endcode
///
/// If a span ends with an exception, handlers receive `NAME.exception` instead of `NAME.stop`. A handler that counts
/// all ends attaches to both.
///
/// Thread safety: all functions may be called from any thread at any time, also inside a handler, but not in a signal
/// handler. A handler must return on the thread that called it, also if it switches fibers.
#ifndef NOPSPAN_REGISTRY_H
#define NOPSPAN_REGISTRY_H

#include <nopspan/detail/config.h>
#include <nopspan/event.h>
#include <nopspan/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

/// A handler. It runs on the thread that emits the event, before the emitting call returns. Handlers of one event run
/// in the order in which they were attached.
///
/// - It may attach and detach handlers, and emit events, which reach other handlers. While it runs, it is not called
///   again on the same thread. If handlers nest more than 16 deep, no handler receives the event. Both are counted
///   (stats().recursion_dropped). So k handlers of one event that each emit that event again make k! calls, because
///   each is called inside each other.
/// - It must return, or throw. It must not end its thread, and must not leave by longjmp(): detach() would wait for
///   ever, and no handler would be called on that thread again.
/// - If it throws, it is detached and counted (stats().handler_failures). An error is logged (set_log_sink()), and the
///   event `telemetry.handler.failure` is emitted with the metadata event_name, handler_id, handler_config, kind and
///   reason, and stacktrace if stack traces are captured (capture_stacktraces()). The probe `event` fires for it,
///   without handler_config, reason and stacktrace, which are content. It belongs to the span of the event that the
///   handler received. The exception does not reach the application.
using Handler = std::function<void(const Event&)>;

/// Attaches a handler to one event ("llm.chat.stop"), or to all events below a prefix ("db.*": db.query.start, but not
/// dbx.start). "*" means all events. It receives the events of all spans that start from now on, and
/// all point events that are emitted from now on. It can miss the end of a span that started before, because the
/// library decides at the start whether the span has handlers. While any handler is attached, all spans are recorded,
/// so that events have the ids of the spans around them. If no handler is attached to the events of a span, no tracer
/// is attached and open spans are not kept (stats.h), its metadata callables do not run. Those of a catalogue's span,
/// and of a span that begins a request, run while any handler is attached.
///
/// @param id      the name of the handler; copied. An id can be attached only once, even for different events.
/// @param event   the full name of the event, or a prefix; copied. A span or event of that name need not exist yet. A
///                span has no event of its own name: if a span "db.query" starts while a handler is attached to
///                "db.query", a warning is logged once (set_log_sink()).
/// @param handler the function. It is kept until it is detached, by detach() or because it threw. Detach it before its
///                code is unloaded (dlclose()).
/// @param config  a value for the handler's own use, which Event::config() returns. With it one function can serve
///                several ids, for example with different thresholds.
/// @return ok; already_exists if a handler with this id is attached; invalid_argument for a null or empty id, an
///         invalid event name (see Errc::invalid_argument) or an empty handler; out_of_memory, also while 65,536
///         detached handlers wait to be destroyed (see detach()). If the result is not ok, nothing was attached.
NOPSPAN_API Errc attach(Text id, Text event, Handler handler, Value config = {}) NOPSPAN_IN_SHELL(return Errc::ok);

/// The same for several events under one id. The handler is attached to all of them or to none. It is called once for
/// an event, also if it is attached to the event and to prefixes of it. With an empty list the
/// result is ok, and nothing is attached.
NOPSPAN_API Errc attach_many(Text id, const std::vector<std::string>& events, Handler handler, Value config = {})
    NOPSPAN_IN_SHELL(return Errc::ok);

/// Detaches a handler from all its events. Outside of handlers, it waits until the handler has returned on all other
/// threads. It also waits if another thread is detaching the same id, and then returns not_found. After ok, and after
/// such a not_found:
///
/// - No thread runs the handler any more, and none will.
/// - The handler's captures have been destroyed, so the objects that they refer to may be destroyed too.
///
/// Do not call it while holding a lock that a handler takes, because it would wait for that handler forever.
///
/// Inside a handler, or in the destructor of a handler's capture, it does not wait:
///
/// - An event that is being dispatched still reaches all handlers that were attached when the dispatch began.
/// - The captures are destroyed when this thread has returned from all handlers. If another thread is running a handler
///   then, they are destroyed later. This is done by the next thread that calls attach() or detach() outside of
///   handlers, or that returns from all handlers after one of them has called detach() or thrown.
///
/// A thread that only emits events destroys no captures. The destructor of a capture must not take a lock that a thread
/// holds while it calls attach() or detach(), or while it emits events to handlers that call them or throw.
///
/// @return ok; not_found if no handler with this id is attached, also for a null or empty id.
NOPSPAN_API Errc detach(Text id) NOPSPAN_IN_SHELL(return Errc::ok);

/// One event of an attached handler.
struct HandlerInfo {
  std::string id;     ///< as given to attach()
  std::string event;  ///< one of its events
  Value config;       ///< as given to attach()
};
/// Lists the handlers of all events under a prefix, in the order in which they were attached. The list has one entry
/// for each event of a handler. A prefix is made of whole segments: "llm.chat" selects llm.chat.stop, but not
/// llm.chatter. "" selects all. Throws std::bad_alloc if there is no memory for the list.
NOPSPAN_API NOPSPAN_CONTAINER_ABI std::vector<HandlerInfo> list_handlers(Text prefix = "") NOPSPAN_IN_SHELL(return {});

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_REGISTRY_H
