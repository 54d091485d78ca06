// SPDX-License-Identifier: Apache-2.0
// The setters of the agent catalogue's keys, and the builders that are made of them.
#ifndef NOPSPAN_DETAIL_AGENT_KEYS_H
#define NOPSPAN_DETAIL_AGENT_KEYS_H

#include <nopspan/detail/config.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/fields.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE::agent::detail {

// Sets each key of a map; the keys that are content in that event are content. If it is not a map, it is counted.
NOPSPAN_API NOPSPAN_COLD void put_map(Fields& fields, Text event, const Value& map) noexcept NOPSPAN_IN_SHELL();

// Defines a mix-in with one setter. The last argument is the setter's declaration. agent.h lists the setters.
#define NOPSPAN_AGENT_KEY(Mixin, put, key, ...)                       \
  template <class Self>                                               \
  struct Mixin {                                                      \
    __VA_ARGS__ { return static_cast<Self&>(*this).put(key, value); } \
  }
NOPSPAN_AGENT_KEY(Code, content, "code", Self& code(Text value));
NOPSPAN_AGENT_KEY(Config, set, "config", template <class T> Self& config(const T& value));
NOPSPAN_AGENT_KEY(ContextSize, set, "context_size", Self& context_size(std::int64_t value));
NOPSPAN_AGENT_KEY(Count, set, "count", Self& count(std::int64_t value));
NOPSPAN_AGENT_KEY(FinalState, set, "final_state", Self& final_state(Text value));
NOPSPAN_AGENT_KEY(From, set, "from", Self& from(Text value));
NOPSPAN_AGENT_KEY(HasUnread, set, "has_unread", Self& has_unread(bool value));
NOPSPAN_AGENT_KEY(Insight, content, "insight", template <class T> Self& insight(const T& value));
NOPSPAN_AGENT_KEY(Intent, content, "intent", Self& intent(Text value));
NOPSPAN_AGENT_KEY(Iteration, set, "iteration", Self& iteration(std::int64_t value));
NOPSPAN_AGENT_KEY(Message, content, "message", Self& message(Text value));
NOPSPAN_AGENT_KEY(MessageCount, measure, "message_count", Self& message_count(std::int64_t value));
NOPSPAN_AGENT_KEY(Notification, content, "notification", template <class T> Self& notification(const T& value));
NOPSPAN_AGENT_KEY(NotificationCount, set, "notification_count", Self& notification_count(std::int64_t value));
NOPSPAN_AGENT_KEY(NotificationId, set, "notification_id", Self& notification_id(Text value));
NOPSPAN_AGENT_KEY(Operator, set, "operator", Self& operator_name(Text value));
NOPSPAN_AGENT_KEY(OperatorPid, set, "operator_pid", Self& operator_pid(Text value));
NOPSPAN_AGENT_KEY(OperatorState, set, "operator_state", Self& operator_state(Text value));
NOPSPAN_AGENT_KEY(Reason, content, "reason", template <class T> Self& reason(const T& value));
NOPSPAN_AGENT_KEY(Response, content, "response", template <class T> Self& response(const T& value));
NOPSPAN_AGENT_KEY(Result, content, "result", template <class T> Self& result(const T& value));
NOPSPAN_AGENT_KEY(RetryCount, set, "retry_count", Self& retry_count(std::int64_t value));
NOPSPAN_AGENT_KEY(Running, set, "running", Self& running(bool value));
NOPSPAN_AGENT_KEY(Skill, set, "skill", Self& skill(Text value));
NOPSPAN_AGENT_KEY(SnapshotId, set, "snapshot_id", Self& snapshot_id(Text value));
NOPSPAN_AGENT_KEY(Status, set, "status", Self& status(Text value));
NOPSPAN_AGENT_KEY(StopReason, set, "reason", Self& reason(Text value));  // a symbol, not content
NOPSPAN_AGENT_KEY(Strategy, set, "strategy", Self& strategy(Text value));
NOPSPAN_AGENT_KEY(Thought, content, "thought", Self& thought(Text value));
NOPSPAN_AGENT_KEY(To, set, "to", Self& to(Text value));
NOPSPAN_AGENT_KEY(ToolName, set, "tool_name", Self& tool_name(Text value));
NOPSPAN_AGENT_KEY(ToolSelected, set, "tool_selected", Self& tool_selected(Text value));
NOPSPAN_AGENT_KEY(TraceId, set, "trace_id", Self& trace_id(Text value));
NOPSPAN_AGENT_KEY(UnreadCount, set, "unread_count", Self& unread_count(std::int64_t value));
NOPSPAN_AGENT_KEY(WillRetry, set, "will_retry", Self& will_retry(bool value));
#undef NOPSPAN_AGENT_KEY

template <class Self>
struct Ms {
  Self& ms(Milliseconds time) { return static_cast<Self&>(*this).set("ms", time.count()); }
};
template <class Self>
struct NotificationIds {
  Self& notification_ids(const Text* ids, std::size_t count) {
    return static_cast<Self&>(*this).set("notification_ids", ids, count);
  }
  Self& notification_ids(std::initializer_list<Text> ids) { return notification_ids(ids.begin(), ids.size()); }
  template <class Range, nopspan::detail::if_list<Range> = 0>
  Self& notification_ids(const Range& ids) {
    return static_cast<Self&>(*this).set("notification_ids", ids);
  }
};
template <class Self>
struct Skills {
  Self& skills(const Text* symbols, std::size_t count) {
    return static_cast<Self&>(*this).set("skills", symbols, count);
  }
  Self& skills(std::initializer_list<Text> symbols) { return skills(symbols.begin(), symbols.size()); }
  template <class Range, nopspan::detail::if_list<Range> = 0>
  Self& skills(const Range& symbols) {
    return static_cast<Self&>(*this).set("skills", symbols);
  }
};

template <template <class> class... Keys>
class Builder : public BuilderOf<Builder<Keys...>>, public Keys<Builder<Keys...>>... {
 public:
  using BuilderOf<Builder>::BuilderOf;
};
template <template <class> class... Keys>
using Event = nopspan::detail::NamedEvent<Builder<Operator, Keys...>, nopspan::detail::Point::timed>;
// All events of the coordinator may have its state.
template <template <class> class... Keys>
using CoordinatorEvent =
    nopspan::detail::NamedEvent<Builder<Running, NotificationCount, Keys...>, nopspan::detail::Point::timed>;

}  // namespace NOPSPAN_NAMESPACE::agent::detail

#endif  // NOPSPAN_DETAIL_AGENT_KEYS_H
