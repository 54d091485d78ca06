// SPDX-License-Identifier: Apache-2.0
/// @file
/// The event that a handler receives: its ids, measurements and metadata, and Value, which metadata consist of.
/// registry.h attaches handlers.
///
/// @code
/// auto handler = [](const nopspan::Event& e) {
///   const std::int64_t tokens = e.metadata("output_tokens").as_int();
///   e.metadata().for_each([](std::string_view key, nopspan::ValueView value) {
///     if (!value.is_content()) printf("%.*s\n", int(key.size()), key.data());
///   });
///   printf("%lld tokens in %lld ns\n", (long long)tokens, (long long)e.duration_ns());
/// };
/// @endcode
///
/// @code
/// nopspan::Value usage = nopspan::Value::map({{"input", 12}, {"tags", nopspan::Value::list({"a", "b"})}});
/// usage.set("output", 34);
/// std::int64_t input = usage.find("input")->as_int();
/// @endcode
///
/// Thread safety: only the thread that runs the handler may read an event and its views. An OwnedEvent may move to
/// another thread.
#ifndef NOPSPAN_EVENT_H
#define NOPSPAN_EVENT_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/value_types.h>
#include <nopspan/engine.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

/// Null, or a bool, integer, double, string, list or map. A value owns its contents. A copy copies them. Lists and maps
/// may be nested. Maps keep the order of insertion. Integers and doubles are different types, and are not converted
/// into each other. Values may be nested to any depth: they are copied, compared, printed and destroyed without
/// recursion. To copy, compare or print a nested value takes memory for the work, and throws std::bad_alloc if there is
/// none.
class NOPSPAN_CONTAINER_ABI Value {
 public:
  /// The types.
  enum class Type : std::uint8_t { null, boolean, integer, real, string, list, map };
  using List = std::vector<Value>;                         ///< the items of a list
  using Map = std::vector<std::pair<std::string, Value>>;  ///< the entries of a map

  /// Null.
  Value() noexcept = default;
  /// A value of one of the types that FieldSetters::set() lists. Integers over 2^63-1 become 2^63-1. Texts are copied.
  // The kind is not compared with ValueKind::none: in C++20, gcc 16 then looks for operators of Value, which needs this
  // constructor.
  template <class T, std::enable_if_t<static_cast<bool>(detail::kind_of<T>()), int> = 0>
  Value(const T& value) noexcept(std::is_arithmetic_v<T>) {  // NOLINT(*-explicit-*)
    detail::give(value, Target{*this});
  }
  /// Copies the contents.
  Value(const Value& other) : Value(leaf_of(other)) {
    if (other.has_items()) copy_items(other);
  }
  /// Moves the contents.
  Value(Value&& other) noexcept = default;
  /// Copies the contents.
  Value& operator=(const Value& other) { return *this = Value(other); }
  /// Moves the contents. `other` may be inside this value.
  Value& operator=(Value&& other) noexcept {
    Value taken(std::move(other));
    swap(taken);
    return *this;
  }
  /// Destroys the contents.
  ~Value() {
    if (has_items()) destroy_items();
  }
  /// A list.
  Value(List list) noexcept : type_(Type::list), list_(std::move(list)) {}  // NOLINT(*-explicit-*)
  /// A map. Its keys should be different.
  Value(Map map) noexcept : type_(Type::map), map_(std::move(map)) {}  // NOLINT(*-explicit-*)

  /// A list of the items.
  static Value list(std::initializer_list<Value> items = {}) { return Value(List(items)); }
  /// A map of the entries.
  static Value map(std::initializer_list<Map::value_type> items = {}) { return Value(Map(items)); }

  /// The type of the value.
  [[nodiscard]] Type type() const noexcept { return type_; }
  /// Whether it is null.
  [[nodiscard]] bool is_null() const noexcept { return type_ == Type::null; }

  /// @{
  /// The value if it has that type, otherwise `fallback`. Nothing is converted, except that as_double() also accepts an
  /// integer. The view of as_string() is valid until the value changes.
  [[nodiscard]] bool as_bool(bool fallback = false) const noexcept {
    return type_ == Type::boolean ? integer_ != 0 : fallback;
  }
  [[nodiscard]] std::int64_t as_int(std::int64_t fallback = 0) const noexcept {
    return type_ == Type::integer ? integer_ : fallback;
  }
  [[nodiscard]] double as_double(double fallback = 0) const noexcept {
    return type_ == Type::real ? real_ : type_ == Type::integer ? static_cast<double>(integer_) : fallback;
  }
  [[nodiscard]] std::string_view as_string(std::string_view fallback = {}) const noexcept {
    return type_ == Type::string ? std::string_view(string_) : fallback;
  }
  /// @}
  /// @{
  /// The items of a list; empty for other types. Of a temporary, they are moved out of it.
  [[nodiscard]] const List& as_list() const& noexcept { return list_; }
  [[nodiscard]] List as_list() && noexcept { return std::move(list_); }
  /// @}
  /// @{
  /// The entries of a map; empty for other types. Of a temporary, they are moved out of it.
  [[nodiscard]] const Map& as_map() const& noexcept { return map_; }
  [[nodiscard]] Map as_map() && noexcept { return std::move(map_); }
  /// @}
  /// The value under a key of a map, valid until the map changes. A null pointer if the value is not a map or lacks the
  /// key.
  [[nodiscard]] NOPSPAN_API const Value* find(std::string_view key) const& noexcept;
  /// The same for a temporary, from which the value is moved. Empty if the value is not a map or lacks the key.
  [[nodiscard]] NOPSPAN_API std::optional<Value> find(std::string_view key) &&;
  /// Adds an entry to a map, or replaces the value under that key. A value of another type becomes a map first. Returns
  /// this value.
  NOPSPAN_API Value& set(std::string_view key, Value value);

  /// Whether type and contents are equal. The order of a map's keys does not matter; 1 and 1.0 differ.
  NOPSPAN_API friend bool operator==(const Value& a, const Value& b);
  /// The opposite of ==.
  friend bool operator!=(const Value& a, const Value& b) { return !(a == b); }

  /// The value as JSON, for messages.
  [[nodiscard]] NOPSPAN_API std::string to_string() const NOPSPAN_IN_SHELL(return {});

 private:
  [[nodiscard]] bool has_items() const noexcept { return !list_.empty() || !map_.empty(); }
  // A copy without the items.
  static Value leaf_of(const Value& other);
  NOPSPAN_API void copy_items(const Value& other) NOPSPAN_IN_SHELL(list_ = other.list_; map_ = other.map_);
  NOPSPAN_API void destroy_items() noexcept NOPSPAN_IN_SHELL();
  void swap(Value& other) noexcept {
    std::swap(type_, other.type_);
    std::swap(integer_, other.integer_);
    std::swap(real_, other.real_);
    string_.swap(other.string_);
    list_.swap(other.list_);
    map_.swap(other.map_);
  }

  // Where detail::give() passes the value on to.
  struct Target {
    Value& made;

    void null() const noexcept {}
    void boolean(bool value) const noexcept {
      made.type_ = Type::boolean;
      made.integer_ = value ? 1 : 0;
    }
    void integer(std::int64_t value) const noexcept {
      made.type_ = Type::integer;
      made.integer_ = value;
    }
    void natural(std::uint64_t value) const noexcept { integer(detail::clamped_integer(value)); }
    void real(double value) const noexcept {
      made.type_ = Type::real;
      made.real_ = value;
    }
    void text(Text value) const {
      if (value.is_null()) return;
      made.type_ = Type::string;
      made.string_.assign(value.data(), value.size());
    }
    void value(const Value& value) const { made = value; }
    template <detail::ValueKind kind, class Range>
    void items(const Range& range) const {
      made.type_ = kind == detail::ValueKind::map ? Type::map : Type::list;
      for (const auto& item : range) {
        if constexpr (kind == detail::ValueKind::map) {
          made.map_.emplace_back(Text(item.first).view(), item.second);
        } else {
          made.list_.emplace_back(item);
        }
      }
    }
  };

  Type type_ = Type::null;
  std::int64_t integer_ = 0;
  double real_ = 0;
  std::string string_;
  List list_;
  Map map_;
};

#if NOPSPAN_SHELL
// A program may have values of its own. In a shell they are copied, compared and destroyed by recursion.
inline const Value* Value::find(std::string_view key) const& noexcept {
  for (const auto& [name, value] : map_) {
    if (name == key) return &value;
  }
  return nullptr;
}
inline std::optional<Value> Value::find(std::string_view key) && {
  const Value* found = find(key);
  return found != nullptr ? std::optional<Value>(std::move(*const_cast<Value*>(found))) : std::nullopt;
}
inline Value& Value::set(std::string_view key, Value value) {
  if (type_ != Type::map) *this = map();
  if (const Value* found = find(key); found != nullptr) {
    *const_cast<Value*>(found) = std::move(value);
  } else {
    map_.emplace_back(key, std::move(value));
  }
  return *this;
}
inline bool operator==(const Value& a, const Value& b) {
  for (const auto& [name, value] : a.map_) {
    const Value* other = b.find(name);
    if (other == nullptr || value != *other) return false;
  }
  return a.type_ == b.type_ && a.integer_ == b.integer_ && a.real_ == b.real_ && a.string_ == b.string_ &&
         a.list_ == b.list_ && a.map_.size() == b.map_.size();
}
#endif

inline Value Value::leaf_of(const Value& other) {
  Value leaf;
  leaf.type_ = other.type_;
  leaf.integer_ = other.integer_;
  leaf.real_ = other.real_;
  leaf.string_ = other.string_;
  return leaf;
}

class NOPSPAN_CONTAINER_ABI OwnedEvent;

namespace detail {
struct EventAttributes;

/// A time in ns that is given as a real number. 0 if it is not a number.
constexpr std::int64_t ns_of(double ns) noexcept {
  constexpr double kMost = 9e18;
  if (ns > -kMost && ns < kMost) return static_cast<std::int64_t>(ns);
  return ns > 0 ? INT64_MAX : ns < 0 ? INT64_MIN : 0;
}
}  // namespace detail

/// How a span ended. The numbers are those of NOPSPAN_STATUS_* (nopspan/probes.h).
enum class Status : std::uint8_t {
  ok = 0,         ///< the work succeeded
  error = 1,      ///< the work failed; see Span::fail()
  cancelled = 2,  ///< the work was stopped on purpose, or the span was abandoned
  exception = 3,  ///< an exception ended the span
};
/// "ok", "error", "cancelled" or "exception": static storage.
constexpr const char* to_string(Status status) noexcept {
  return status == Status::ok          ? "ok"
         : status == Status::error     ? "error"
         : status == Status::cancelled ? "cancelled"
                                       : "exception";
}

/// A view of a value inside an event. It is valid as long as the event.
class ValueView {
 public:
  /// A view of an absent value.
  ValueView() noexcept = default;
  /// Whether the event has the key. If not, the value is absent, and all accessors return their fallback.
  [[nodiscard]] bool exists() const noexcept { return entry_ != nullptr; }
  /// The type of the value; null for an absent value.
  [[nodiscard]] NOPSPAN_API Value::Type type() const noexcept NOPSPAN_IN_SHELL(return {});
  /// Whether the value is null or absent.
  [[nodiscard]] bool is_null() const noexcept { return type() == Value::Type::null; }
  /// @{
  /// The value if it has that type, otherwise `fallback`. Nothing is converted, except that as_double() also accepts an
  /// integer.
  [[nodiscard]] NOPSPAN_API bool as_bool(bool fallback = false) const noexcept NOPSPAN_IN_SHELL(return fallback);
  [[nodiscard]] NOPSPAN_API std::int64_t as_int(std::int64_t fallback = 0) const noexcept
      NOPSPAN_IN_SHELL(return fallback);
  [[nodiscard]] NOPSPAN_API double as_double(double fallback = 0) const noexcept NOPSPAN_IN_SHELL(return fallback);
  [[nodiscard]] NOPSPAN_API std::string_view as_string(std::string_view fallback = {}) const noexcept
      NOPSPAN_IN_SHELL(return fallback);
  /// @}
  /// The value under a key of a map; absent if the value is not a map or lacks the key.
  [[nodiscard]] NOPSPAN_API ValueView find(std::string_view key) const noexcept NOPSPAN_IN_SHELL(return {});
  /// Whether the value is content, which reaches probes only with capture_content(true).
  [[nodiscard]] NOPSPAN_API bool is_content() const noexcept NOPSPAN_IN_SHELL(return {});
  /// An owning copy; null for an absent value.
  [[nodiscard]] NOPSPAN_API Value copy() const NOPSPAN_IN_SHELL(return {});

 private:
  friend class FieldsView;
  explicit ValueView(const unsigned char* entry) noexcept : entry_(entry) {}
  const unsigned char* entry_ = nullptr;
};

/// A view of the measurements or the metadata of an event, in the order in which they were set. It is valid as long as
/// the event.
class FieldsView {
 public:
  /// The value under a key; absent if there is none.
  [[nodiscard]] NOPSPAN_API ValueView find(std::string_view key) const noexcept NOPSPAN_IN_SHELL(return {});
  /// The same as find().
  ValueView operator[](std::string_view key) const noexcept { return find(key); }
  /// The number of keys.
  [[nodiscard]] NOPSPAN_API std::size_t size() const noexcept NOPSPAN_IN_SHELL(return {});
  /// Whether there are no keys.
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  /// Calls `visit(std::string_view key, ValueView value)` for each key.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const unsigned char* entry = first(); entry != nullptr; entry = next(entry)) {
      visit(key_of(entry), ValueView(entry));
    }
  }
  /// An owning copy: a map.
  [[nodiscard]] NOPSPAN_API Value copy() const NOPSPAN_IN_SHELL(return {});

 private:
  friend class Event;
  friend class OwnedEvent;
  friend struct EventAccess;
  [[nodiscard]] NOPSPAN_API const unsigned char* first() const noexcept NOPSPAN_IN_SHELL(return {});
  [[nodiscard]] NOPSPAN_API const unsigned char* next(const unsigned char* entry) const noexcept
      NOPSPAN_IN_SHELL(return {});
  NOPSPAN_API static std::string_view key_of(const unsigned char* entry) noexcept NOPSPAN_IN_SHELL(return {});

  const unsigned char* begin_ = nullptr;
  const unsigned char* end_ = nullptr;
  bool measurements_ = false;
};

/// One event, as a handler receives it. It is valid while the handler runs, and programs cannot copy it. OwnedEvent
/// keeps a copy.
class Event {
 public:
  /// An empty event: no name, ids or fields.
  Event() noexcept = default;
  /// Nothing to release.
  ~Event() = default;

  /// The name: "llm.chat.stop".
  [[nodiscard]] std::string_view name() const noexcept { return name_; }
  /// The request id as users see it; empty if there is no request.
  [[nodiscard]] std::string_view request_id() const noexcept {
    if (request_id_.data() == nullptr) find_request_id();
    return request_id_;
  }
  /// The span that the event belongs to; 0 if there is none.
  [[nodiscard]] std::uint64_t span_id() const noexcept { return context_->span_id(); }
  /// The parent of that span; 0 if there is none, or if the span is another process's.
  [[nodiscard]] std::uint64_t parent_id() const noexcept { return parent_id_; }
  /// The place of that span in its trace; see Context.
  [[nodiscard]] const Context& context() const noexcept { return *context_; }
  /// How the span ended. It is ok for events that are not the end of a span.
  [[nodiscard]] Status status() const noexcept { return status_; }
  /// Flags of the span, as NOPSPAN_FLAG_* of nopspan/probes.h.
  [[nodiscard]] unsigned flags() const noexcept { return flags_; }
  /// Whether the span has, or may have, a parent that was not recorded.
  [[nodiscard]] bool is_orphan() const noexcept { return (flags_ & 1U) != 0; }

  /// How long the span took, in ns: the measurement `duration`. 0 if the event has none. A time that the program gives
  /// as a real number is truncated.
  [[nodiscard]] std::int64_t duration_ns() const noexcept { return time("duration"); }
  /// The time of the event, CLOCK_MONOTONIC in ns: the measurement `monotonic_time`. 0 if the event has none.
  [[nodiscard]] std::int64_t monotonic_time_ns() const noexcept { return time("monotonic_time"); }
  /// The time of the event, in ns since 1970: the measurement `system_time`. 0 if the event has none.
  [[nodiscard]] std::int64_t system_time_ns() const noexcept { return time("system_time"); }

  /// All measurements: numbers.
  [[nodiscard]] FieldsView measurements() const noexcept { return view(true); }
  /// All metadata. The events of a span also have its labels, and its ids: request_id, span_id and parent_id. The last
  /// two have 16 hexadecimal digits, or are null.
  [[nodiscard]] FieldsView metadata() const noexcept {
    if (ids_of_ != nullptr) add_ids();
    return view(false);
  }
  /// One measurement; absent if the event does not have it.
  [[nodiscard]] ValueView measurement(std::string_view key) const noexcept { return measurements().find(key); }
  /// The metadata of one key; absent if the event does not have it.
  [[nodiscard]] ValueView metadata(std::string_view key) const noexcept { return metadata().find(key); }

  /// The attributes of the event under OpenTelemetry's names (docs/genai.md). Probes report the same attributes, except
  /// that here content is always included, and marked (ValueView::is_content()), and that probes report the error.type
  /// of a span in no catalogue as a field of the record. The first call computes them.
  [[nodiscard]] NOPSPAN_API FieldsView attributes() const noexcept NOPSPAN_IN_SHELL(return {});

  /// The `config` that was given to attach(), for this handler.
  [[nodiscard]] NOPSPAN_API const Value& config() const noexcept NOPSPAN_IN_SHELL(static const Value none; return none);

  /// A span that this one is linked to.
  struct Link {
    unsigned char trace_id[16];  ///< its request
    std::uint64_t span_id;       ///< its id in that request
  };
  /// The links: an array of link_count() elements.
  [[nodiscard]] const Link* links() const noexcept { return links_; }
  /// The number of links.
  [[nodiscard]] std::size_t link_count() const noexcept { return link_count_; }

  /// The facts of a step, in engine.step.stop and engine.step.exception. Null in other events.
  [[nodiscard]] const engine::Step* step() const noexcept { return step_; }
  /// The requests that a step served: an array of member_count() elements. Those with prefill_tokens come first. A step
  /// has its links as members.
  [[nodiscard]] const engine::Member* members() const noexcept { return members_; }
  /// The number of members.
  [[nodiscard]] std::size_t member_count() const noexcept { return step_ != nullptr ? step_->members : 0; }

 private:
  friend class OwnedEvent;
  friend struct EventAccess;
  Event(const Event&) = default;             // programs keep an OwnedEvent instead
  Event& operator=(const Event&) = default;  // programs keep an OwnedEvent instead
  [[nodiscard]] std::int64_t time(std::string_view key) const noexcept {
    const ValueView found = measurement(key);
    return found.type() == Value::Type::real ? detail::ns_of(found.as_double()) : found.as_int();
  }
  [[nodiscard]] FieldsView view(bool measurements) const noexcept {
    FieldsView fields;
    fields.begin_ = begin_;
    fields.end_ = end_;
    fields.measurements_ = measurements;
    return fields;
  }
  NOPSPAN_API void add_ids() const noexcept NOPSPAN_IN_SHELL();
  NOPSPAN_API void find_request_id() const noexcept NOPSPAN_IN_SHELL();

  std::string_view name_;
  mutable std::string_view request_id_;  // its data is null: it was not needed yet
  const Context* context_ = &detail::no_context;
  std::uint64_t parent_id_ = 0;
  Status status_ = Status::ok;
  unsigned flags_ = 0;
  const unsigned char* begin_ = nullptr;
  mutable const unsigned char* end_ = nullptr;
  mutable detail::SpanState* ids_of_ = nullptr;    // whose ids are still to be added to the metadata
  detail::EventAttributes* attributes_ = nullptr;  // computes the attributes; null: the next two members have them
  const unsigned char* attributes_begin_ = nullptr;
  const unsigned char* attributes_end_ = nullptr;
  const Link* links_ = nullptr;
  std::size_t link_count_ = 0;
  const engine::Step* step_ = nullptr;
  const engine::Member* members_ = nullptr;
  const Value* config_ = nullptr;
};

/// A copy of an event that the program may keep. `owned->name()` reads it. Copying it throws std::bad_alloc if there is
/// no memory.
class NOPSPAN_CONTAINER_ABI OwnedEvent {
 public:
  /// Copies the event and its attributes. Throws std::bad_alloc if there is no memory.
  NOPSPAN_API explicit OwnedEvent(const Event& event) NOPSPAN_IN_SHELL();
  /// Copies.
  NOPSPAN_API OwnedEvent(const OwnedEvent& other) NOPSPAN_IN_SHELL();
  /// Copies.
  NOPSPAN_API OwnedEvent& operator=(const OwnedEvent& other) NOPSPAN_IN_SHELL(return *this);
  /// Moves the event. `other` is empty afterwards.
  OwnedEvent(OwnedEvent&& other) noexcept { take(other); }
  /// Moves the event. `other` is empty afterwards.
  OwnedEvent& operator=(OwnedEvent&& other) noexcept {
    if (this != &other) take(other);
    return *this;
  }

  /// Releases the copy.
  ~OwnedEvent() = default;

  /// The event, valid as long as this object.
  const Event& operator*() const noexcept { return event_; }
  /// The event, valid as long as this object.
  const Event* operator->() const noexcept { return &event_; }

 private:
  void take(OwnedEvent& other) noexcept {
    text_ = std::move(other.text_);
    fields_ = std::move(other.fields_);
    attributes_ = std::move(other.attributes_);
    links_ = std::move(other.links_);
    step_ = std::move(other.step_);
    members_ = std::move(other.members_);
    context_ = std::move(other.context_);
    config_ = std::move(other.config_);
    event_ = other.event_;
    other.event_ = Event();
  }

  // Vectors and not strings: their storage stays where it is when moved.
  std::vector<char> text_;
  std::vector<unsigned char> fields_;
  std::vector<unsigned char> attributes_;
  std::vector<Event::Link> links_;
  std::vector<engine::Step> step_;
  std::vector<engine::Member> members_;
  std::vector<Context> context_;
  std::vector<Value> config_;
  Event event_;
};

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_EVENT_H
