// SPDX-License-Identifier: Apache-2.0
// The spans that nopspan knows by name: how they look to handlers, what they are to the GenAI conventions, and what the
// compiler cannot check.
#pragma once

#include "fields/attribute_keys.h"
#include "state/intern.h"

#include <nopspan/span.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// What handlers see of a span.
enum class Shape : std::uint8_t {
  standard,    // .start: system_time, monotonic_time; .stop, .exception: duration, monotonic_time
  agent,       // .start: system_time; .stop, .exception: duration
  compaction,  // .start and .stop: system_time; no .exception
  iteration,   // _start (a name of its own): system_time; nothing at its end
};

struct CatalogueSpan {
  std::string_view name;
  Catalogue catalogue;
  Shape shape;
  SpanKind kind;
  std::string_view
      operation;  // as genai::start() takes it: "chat", "image"; "" if it is no operation of the conventions
};

// Whether a name begins as the catalogues' do (llm., agent., engine.): their first two letters tell nearly all others.
inline bool may_be_in_catalogue(std::string_view name) noexcept {
  if (name.size() < 2) return false;
  const auto letters = [](const char* two) { return two[0] | two[1] << 8; };
  const int first = letters(name.data());
  return first == letters("ll") || first == letters("ag") || first == letters("en");
}

// Null for a name that is in no catalogue.
const CatalogueSpan* find_catalogue_span(std::string_view name) noexcept;

// For a span that find_catalogue_span() did not find: under a catalogue's prefix ("llm.chats") it is counted, and
// logged once.
void check_catalogue(const Interned& name) noexcept;

}  // namespace nopspan::detail
