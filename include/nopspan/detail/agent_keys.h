// SPDX-License-Identifier: Apache-2.0
// The setters of the agent catalogue's keys, and the builders that are made of them.
#ifndef NOPSPAN_DETAIL_AGENT_KEYS_H
#define NOPSPAN_DETAIL_AGENT_KEYS_H

#include <nopspan/config.h>
#include <nopspan/detail/named_event.h>
#include <nopspan/fields.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace nopspan::agent::detail {

// Sets each key of a map; the keys that are content in that event are content. If it is not a map, it is counted.
NOPSPAN_API NOPSPAN_COLD void put_map(Fields& fields, Text event, const Value& map) noexcept;

template <template <class> class Key, class Self, class T>
Self& put(Key<Self>* key, Text name, const T& value) {
  auto& self = static_cast<Self&>(*key);
  self.set(name, value);
  return self;
}
template <template <class> class Key, class Self, class T>
Self& put_content(Key<Self>* key, Text name, const T& value) {
  auto& self = static_cast<Self&>(*key);
  self.content(name, value);
  return self;
}

// The setters of one key each. agent.h lists them.
template <class Self>
struct Code {
  Self& code(Text text) { return put_content(this, "code", text); }
};
template <class Self>
struct Config {
  template <class T>
  Self& config(const T& value) {
    return put(this, "config", value);
  }
};
template <class Self>
struct ContextSize {
  Self& context_size(std::int64_t messages) { return put(this, "context_size", messages); }
};
template <class Self>
struct Count {
  Self& count(std::int64_t number) { return put(this, "count", number); }
};
template <class Self>
struct FinalState {
  Self& final_state(Text symbol) { return put(this, "final_state", symbol); }
};
template <class Self>
struct From {
  Self& from(Text symbol) { return put(this, "from", symbol); }
};
template <class Self>
struct HasUnread {
  Self& has_unread(bool value) { return put(this, "has_unread", value); }
};
template <class Self>
struct Insight {
  template <class T>
  Self& insight(const T& value) {
    return put_content(this, "insight", value);
  }
};
template <class Self>
struct Intent {
  Self& intent(Text text) { return put_content(this, "intent", text); }
};
template <class Self>
struct Iteration {
  Self& iteration(std::int64_t number) { return put(this, "iteration", number); }
};
template <class Self>
struct Message {
  Self& message(Text text) { return put_content(this, "message", text); }
};
template <class Self>
struct MessageCount {
  Self& message_count(std::int64_t number) {
    auto& self = static_cast<Self&>(*this);
    self.measure("message_count", number);
    return self;
  }
};
template <class Self>
struct Ms {
  Self& ms(std::int64_t time) { return put(this, "ms", time); }
};
template <class Self>
struct Notification {
  template <class T>
  Self& notification(const T& value) {
    return put_content(this, "notification", value);
  }
};
template <class Self>
struct NotificationCount {
  Self& notification_count(std::int64_t number) { return put(this, "notification_count", number); }
};
template <class Self>
struct NotificationId {
  Self& notification_id(Text id) { return put(this, "notification_id", id); }
};
template <class Self>
struct NotificationIds {
  Self& notification_ids(const Text* ids, std::size_t count) {
    auto& self = static_cast<Self&>(*this);
    self.set("notification_ids", ids, count);
    return self;
  }
  Self& notification_ids(std::initializer_list<Text> ids) { return notification_ids(ids.begin(), ids.size()); }
};
template <class Self>
struct Operator {
  Self& operator_name(Text symbol) { return put(this, "operator", symbol); }
};
template <class Self>
struct OperatorPid {
  Self& operator_pid(Text id) { return put(this, "operator_pid", id); }
};
template <class Self>
struct OperatorState {
  Self& operator_state(Text symbol) { return put(this, "operator_state", symbol); }
};
template <class Self>
struct Reason {
  template <class T>
  Self& reason(const T& value) {
    return put_content(this, "reason", value);
  }
};
template <class Self>
struct Response {
  template <class T>
  Self& response(const T& value) {
    return put_content(this, "response", value);
  }
};
template <class Self>
struct Result {
  template <class T>
  Self& result(const T& value) {
    return put_content(this, "result", value);
  }
};
template <class Self>
struct RetryCount {
  Self& retry_count(std::int64_t number) { return put(this, "retry_count", number); }
};
template <class Self>
struct Running {
  Self& running(bool value) { return put(this, "running", value); }
};
template <class Self>
struct Skill {
  Self& skill(Text symbol) { return put(this, "skill", symbol); }
};
template <class Self>
struct Skills {
  Self& skills(const Text* symbols, std::size_t count) {
    auto& self = static_cast<Self&>(*this);
    self.set("skills", symbols, count);
    return self;
  }
  Self& skills(std::initializer_list<Text> symbols) { return skills(symbols.begin(), symbols.size()); }
};
template <class Self>
struct SnapshotId {
  Self& snapshot_id(Text id) { return put(this, "snapshot_id", id); }
};
template <class Self>
struct Status {
  Self& status(Text symbol) { return put(this, "status", symbol); }
};
template <class Self>
struct StopReason {  // a symbol, not content
  Self& reason(Text symbol) { return put(this, "reason", symbol); }
};
template <class Self>
struct Strategy {
  Self& strategy(Text symbol) { return put(this, "strategy", symbol); }
};
template <class Self>
struct Thought {
  Self& thought(Text text) { return put_content(this, "thought", text); }
};
template <class Self>
struct To {
  Self& to(Text symbol) { return put(this, "to", symbol); }
};
template <class Self>
struct ToolName {
  Self& tool_name(Text name) { return put(this, "tool_name", name); }
};
template <class Self>
struct ToolSelected {
  Self& tool_selected(Text name) { return put(this, "tool_selected", name); }
};
template <class Self>
struct TraceId {
  Self& trace_id(Text id) { return put(this, "trace_id", id); }
};
template <class Self>
struct UnreadCount {
  Self& unread_count(std::int64_t number) { return put(this, "unread_count", number); }
};
template <class Self>
struct WillRetry {
  Self& will_retry(bool value) { return put(this, "will_retry", value); }
};

template <template <class> class... Keys>
class Builder : public Fields, public Keys<Builder<Keys...>>... {
 public:
  using Fields::Fields;
};
template <template <class> class... Keys>
using Event = nopspan::detail::NamedEvent<Builder<Operator, Keys...>, nopspan::detail::Point::timed>;
// All events of the coordinator may have its state.
template <template <class> class... Keys>
using CoordinatorEvent =
    nopspan::detail::NamedEvent<Builder<Running, NotificationCount, Keys...>, nopspan::detail::Point::timed>;

}  // namespace nopspan::agent::detail

#endif  // NOPSPAN_DETAIL_AGENT_KEYS_H
