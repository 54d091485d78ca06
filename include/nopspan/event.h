// SPDX-License-Identifier: Apache-2.0
// What a handler is given.
#ifndef NOPSPAN_EVENT_H
#define NOPSPAN_EVENT_H

#include <nopspan/config.h>
#include <nopspan/context.h>
#include <nopspan/text.h>
#include <nopspan/value.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan {

namespace detail {
struct EventAttributes;
}

// A value inside an event, without a copy. Valid as long as the event.
class ValueView {
 public:
  ValueView() noexcept = default;
  // Whether the event has such a key. All accessors of an absent value give their fallback.
  [[nodiscard]] bool exists() const noexcept { return entry_ != nullptr; }
  [[nodiscard]] NOPSPAN_API Value::Type type() const noexcept;  // of an absent value: null
  [[nodiscard]] bool is_null() const noexcept { return type() == Value::Type::null; }
  // The value, if it has that type; otherwise `fallback`; as_double() takes an integer too.
  [[nodiscard]] NOPSPAN_API bool as_bool(bool fallback = false) const noexcept;
  [[nodiscard]] NOPSPAN_API std::int64_t as_int(std::int64_t fallback = 0) const noexcept;
  [[nodiscard]] NOPSPAN_API double as_double(double fallback = 0) const noexcept;
  [[nodiscard]] NOPSPAN_API std::string_view as_string(std::string_view fallback = {}) const noexcept;
  // The value under a key of a map; an absent one, if it is no map or has no such key.
  [[nodiscard]] NOPSPAN_API ValueView find(std::string_view key) const noexcept;
  // Whether it is content, which leaves the process only with capture_content(true).
  [[nodiscard]] NOPSPAN_API bool is_content() const noexcept;
  // An owning copy; of an absent value: null.
  [[nodiscard]] NOPSPAN_API Value copy() const;

 private:
  friend class FieldsView;
  explicit ValueView(const unsigned char* entry) noexcept : entry_(entry) {}
  const unsigned char* entry_ = nullptr;
};

// The measurements or the metadata of an event, in the order in which they were set. Valid as long as the event.
class FieldsView {
 public:
  // The value under a key; an absent one, if there is none.
  [[nodiscard]] NOPSPAN_API ValueView find(std::string_view key) const noexcept;
  ValueView operator[](std::string_view key) const noexcept { return find(key); }
  [[nodiscard]] NOPSPAN_API std::size_t size() const noexcept;
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  // Calls visit(std::string_view key, ValueView value) for each.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const unsigned char* entry = first(); entry != nullptr; entry = next(entry)) {
      visit(key_of(entry), ValueView(entry));
    }
  }
  // An owning copy: a map.
  [[nodiscard]] NOPSPAN_API Value copy() const;

 private:
  friend class Event;
  friend class OwnedEvent;
  friend struct EventAccess;
  [[nodiscard]] NOPSPAN_API const unsigned char* first() const noexcept;
  [[nodiscard]] NOPSPAN_API const unsigned char* next(const unsigned char* entry) const noexcept;
  NOPSPAN_API static std::string_view key_of(const unsigned char* entry) noexcept;

  const unsigned char* begin_ = nullptr;
  const unsigned char* end_ = nullptr;
  bool measurements_ = false;
};

// One event, as a handler sees it. Valid while the handler runs; OwnedEvent keeps a copy. Read by one thread at a time.
class Event {
 public:
  Event() noexcept = default;

  // "llm.chat.stop"
  [[nodiscard]] std::string_view name() const noexcept { return name_; }
  // The visible request id; empty where there is no request.
  [[nodiscard]] std::string_view request_id() const noexcept { return request_id_; }
  // The span the event belongs to and its parent; 0 where there is none.
  [[nodiscard]] std::uint64_t span_id() const noexcept { return context_->span_id(); }
  [[nodiscard]] std::uint64_t parent_id() const noexcept { return parent_id_; }
  [[nodiscard]] const Context& context() const noexcept { return *context_; }
  // NOPSPAN_STATUS_* of nopspan/probes.h: 0 ok, 1 error, 2 cancelled, 3 exception. 0 except at the end of a span.
  [[nodiscard]] unsigned status() const noexcept { return status_; }
  // NOPSPAN_FLAG_* of nopspan/probes.h.
  [[nodiscard]] unsigned flags() const noexcept { return flags_; }
  [[nodiscard]] bool is_orphan() const noexcept { return (flags_ & 1U) != 0; }

  // Measurements in ns; 0 where the event has none of that name.
  [[nodiscard]] std::int64_t duration_ns() const noexcept { return measurement("duration").as_int(); }
  [[nodiscard]] std::int64_t monotonic_time_ns() const noexcept { return measurement("monotonic_time").as_int(); }
  [[nodiscard]] std::int64_t system_time_ns() const noexcept { return measurement("system_time").as_int(); }

  [[nodiscard]] FieldsView measurements() const noexcept { return view(true); }
  // A span's events also have the ids: request_id, span_id and parent_id (16 hexadecimal digits, or null).
  [[nodiscard]] FieldsView metadata() const noexcept {
    if (ids_of_ != nullptr) add_ids();
    return view(false);
  }
  [[nodiscard]] ValueView measurement(std::string_view key) const noexcept { return measurements().find(key); }
  [[nodiscard]] ValueView metadata(std::string_view key) const noexcept { return metadata().find(key); }

  // What the event is in OpenTelemetry's terms: the attributes that probes carry too (docs/genai.md). Those that are
  // content are here always, and marked (ValueView::is_content()). Made when first asked for.
  [[nodiscard]] NOPSPAN_API FieldsView attributes() const noexcept;

  // What was given to attach().
  [[nodiscard]] NOPSPAN_API const Value& config() const noexcept;

  // The spans this one is linked to.
  struct Link {
    unsigned char trace_id[16];
    std::uint64_t span_id;
  };
  [[nodiscard]] const Link* links() const noexcept { return links_; }
  [[nodiscard]] std::size_t link_count() const noexcept { return link_count_; }

 private:
  friend class OwnedEvent;
  friend struct EventAccess;
  [[nodiscard]] FieldsView view(bool measurements) const noexcept {
    FieldsView fields;
    fields.begin_ = begin_;
    fields.end_ = end_;
    fields.measurements_ = measurements;
    return fields;
  }
  NOPSPAN_API void add_ids() const noexcept;

  std::string_view name_;
  std::string_view request_id_;
  const Context* context_ = &detail::no_context;
  std::uint64_t parent_id_ = 0;
  unsigned status_ = 0;
  unsigned flags_ = 0;
  const unsigned char* begin_ = nullptr;
  mutable const unsigned char* end_ = nullptr;
  mutable detail::SpanState* ids_of_ = nullptr;    // whose ids are still to be added to the metadata
  detail::EventAttributes* attributes_ = nullptr;  // makes them; null: they are what follows
  const unsigned char* attributes_begin_ = nullptr;
  const unsigned char* attributes_end_ = nullptr;
  const Link* links_ = nullptr;
  std::size_t link_count_ = 0;
  const Value* config_ = nullptr;
};

// An event that may be kept.
class OwnedEvent {
 public:
  NOPSPAN_API explicit OwnedEvent(const Event& event);
  NOPSPAN_API OwnedEvent(const OwnedEvent& other);
  NOPSPAN_API OwnedEvent& operator=(const OwnedEvent& other);
  // Leaves an event without a name or anything else.
  OwnedEvent(OwnedEvent&& other) noexcept { take(other); }
  OwnedEvent& operator=(OwnedEvent&& other) noexcept {
    if (this != &other) take(other);
    return *this;
  }
  ~OwnedEvent() = default;

  const Event& operator*() const noexcept { return event_; }
  const Event* operator->() const noexcept { return &event_; }

 private:
  void take(OwnedEvent& other) noexcept {
    text_ = std::move(other.text_);
    fields_ = std::move(other.fields_);
    attributes_ = std::move(other.attributes_);
    links_ = std::move(other.links_);
    context_ = std::move(other.context_);
    config_ = std::move(other.config_);
    event_ = std::exchange(other.event_, Event());
  }

  // Vectors and not strings: their storage stays where it is when moved.
  std::vector<char> text_;
  std::vector<unsigned char> fields_;
  std::vector<unsigned char> attributes_;
  std::vector<Event::Link> links_;
  std::vector<Context> context_;
  std::vector<Value> config_;
  Event event_;
};

}  // namespace nopspan

#endif  // NOPSPAN_EVENT_H
