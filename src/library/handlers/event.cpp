// SPDX-License-Identifier: Apache-2.0
// The functions by which handlers read an event: views of its fields, and owning copies.
#include <nopspan/event.h>

#include "fields/metadata.h"
#include "genai/span_attributes.h"
#include "state/span_state.h"

namespace nopspan {

using detail::FieldEntry;

Value::Type ValueView::type() const noexcept { return exists() ? FieldEntry::at(entry_)->type : Value::Type::null; }
bool ValueView::as_bool(bool fallback) const noexcept {
  return type() == Value::Type::boolean ? FieldEntry::at(entry_)->word() != 0 : fallback;
}
std::int64_t ValueView::as_int(std::int64_t fallback) const noexcept {
  return type() == Value::Type::integer ? FieldEntry::at(entry_)->as_int() : fallback;
}
double ValueView::as_double(double fallback) const noexcept {
  if (type() == Value::Type::integer) return static_cast<double>(FieldEntry::at(entry_)->as_int());
  return type() == Value::Type::real ? FieldEntry::at(entry_)->as_double() : fallback;
}
std::string_view ValueView::as_string(std::string_view fallback) const noexcept {
  return type() == Value::Type::string ? FieldEntry::at(entry_)->as_string() : fallback;
}
bool ValueView::is_content() const noexcept {
  return exists() && (FieldEntry::at(entry_)->flags & FieldEntry::kContent) != 0;
}
ValueView ValueView::find(std::string_view key) const noexcept {
  const FieldEntry* found = detail::Node(FieldEntry::at(entry_)).find(key).entry();
  return ValueView(reinterpret_cast<const unsigned char*>(found));
}
Value ValueView::copy() const { return exists() ? detail::copy_value(*FieldEntry::at(entry_)) : Value(); }

const unsigned char* FieldsView::first() const noexcept {
  const unsigned char* at = begin_;
  constexpr std::uint8_t kSort = FieldEntry::kMeasurement | FieldEntry::kProbesOnly;
  const std::uint8_t wanted = measurements_ ? FieldEntry::kMeasurement : 0;
  while (at < end_ && (FieldEntry::at(at)->flags & kSort) != wanted) at = FieldEntry::at(at)->end();
  return at < end_ ? at : nullptr;
}
const unsigned char* FieldsView::next(const unsigned char* entry) const noexcept {
  FieldsView rest = *this;
  rest.begin_ = FieldEntry::at(entry)->end();
  return rest.first();
}
std::string_view FieldsView::key_of(const unsigned char* entry) noexcept { return FieldEntry::at(entry)->key(); }

ValueView FieldsView::find(std::string_view key) const noexcept {
  for (const unsigned char* at = first(); at != nullptr; at = next(at)) {
    if (key_of(at) == key) return ValueView(at);
  }
  return {};
}
std::size_t FieldsView::size() const noexcept {
  std::size_t count = 0;
  for (const unsigned char* at = first(); at != nullptr; at = next(at)) ++count;
  return count;
}
Value FieldsView::copy() const {
  Value::Map map;
  for_each([&](std::string_view key, ValueView value) { map.emplace_back(key, value.copy()); });
  return map;
}

const Value& Event::config() const noexcept {
  static const Value kNone;
  return config_ == nullptr ? kNone : *config_;
}

void Event::add_ids() const noexcept {
  detail::add_ids(*ids_of_);
  end_ = ids_of_->fields.end();
  ids_of_ = nullptr;
}

void Event::find_request_id() const noexcept {
  request_id_ =
      attributes_ != nullptr ? std::string_view(detail::visible_id(*attributes_->span)) : std::string_view("");
}

FieldsView Event::attributes() const noexcept {
  // The result is kept in `attributes_`, not in the event, because the event may be copied.
  if (attributes_ != nullptr && !attributes_->made) {
    const detail::InsideLibrary inside;
    detail::collect_attributes(*attributes_->span, attributes_->at_end, attributes_->fields);
    attributes_->made = true;
  }
  FieldsView view;
  view.begin_ = attributes_ != nullptr ? attributes_->fields.begin() : attributes_begin_;
  view.end_ = attributes_ != nullptr ? attributes_->fields.end() : attributes_end_;
  return view;
}

OwnedEvent::OwnedEvent(const Event& event) : event_((static_cast<void>(event.metadata()), event)) {
  text_.insert(text_.end(), event.name_.begin(), event.name_.end());
  const std::string_view request_id = event.request_id();
  text_.insert(text_.end(), request_id.begin(), request_id.end());
  event_.name_ = {text_.data(), event.name_.size()};
  event_.request_id_ = {text_.data() + event.name_.size(), event.request_id_.size()};
  fields_.assign(event.begin_, event.end_);
  event_.begin_ = fields_.data();
  event_.end_ = fields_.data() + fields_.size();
  const FieldsView attributes = event.attributes();
  attributes_.assign(attributes.begin_, attributes.end_);
  event_.attributes_ = nullptr;
  event_.attributes_begin_ = attributes_.data();
  event_.attributes_end_ = attributes_.data() + attributes_.size();
  links_.assign(event.links_, event.links_ + event.link_count_);
  event_.links_ = links_.data();
  if (event.step() != nullptr) {
    step_.assign(1, *event.step());
    event_.step_ = step_.data();
    members_.assign(event.members(), event.members() + event.member_count());
    event_.members_ = members_.data();
  }
  context_.assign(1, event.context());
  event_.context_ = context_.data();
  config_.assign(1, event.config());
  event_.config_ = config_.data();
}
OwnedEvent::OwnedEvent(const OwnedEvent& other) : OwnedEvent(other.event_) {}
OwnedEvent& OwnedEvent::operator=(const OwnedEvent& other) {
  if (this != &other) *this = OwnedEvent(other.event_);
  return *this;
}

}  // namespace nopspan
