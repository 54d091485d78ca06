// SPDX-License-Identifier: Apache-2.0
// Access to the private parts of an Event, for the library.
#pragma once

#include "fields/field_buffer.h"

#include <nopspan/event.h>

namespace nopspan {

struct EventAccess {
  static void set_name(Event& e, std::string_view name) { e.name_ = name; }
  static void set_context(Event& e, const Context& context) { e.context_ = &context; }
  static void set_parent_id(Event& e, std::uint64_t id) { e.parent_id_ = id; }
  static void set_status(Event& e, unsigned status) { e.status_ = static_cast<Status>(status); }
  static void set_flags(Event& e, unsigned flags) { e.flags_ = flags; }
  static void set_fields(Event& e, const detail::FieldBuffer& fields) {
    e.begin_ = fields.begin();
    e.end_ = fields.end();
  }
  // The span's ids are added to the metadata when a handler first reads it.
  static void set_ids_of(Event& e, detail::SpanState* span) { e.ids_of_ = span; }
  // The attributes are made from this when a handler first reads them. It must outlive the event.
  static void set_attributes(Event& e, detail::EventAttributes* attributes) { e.attributes_ = attributes; }
  static void set_links(Event& e, const Event::Link* links, std::size_t count) {
    e.links_ = links;
    e.link_count_ = count;
  }
  static void set_step(Event& e, const engine::Step* step, const engine::Member* members) {
    e.step_ = step;
    e.members_ = members;
  }
  static void set_config(Event& e, const Value* config) { e.config_ = config; }
};

}  // namespace nopspan
