// SPDX-License-Identifier: Apache-2.0
// The table of the spans that nopspan knows by name: which measurements handlers see, their kind, and their operation
// in the GenAI conventions. It also reports unknown names under a catalogue's prefix, which the compiler cannot check.
#pragma once

#include "fields/attribute_keys.h"
#include "state/intern.h"

#include <nopspan/span.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// The events and measurements that handlers see of a span.
enum class Shape : std::uint8_t {
  standard,    // .start: system_time, monotonic_time; .stop, .exception: duration, monotonic_time
  agent,       // .start: system_time; .stop, .exception: duration
  compaction,  // .start and .stop: system_time; no .exception
  iteration,   // _start (its own event name): system_time; no event at its end
};

struct CatalogueSpan {
  std::string_view name;
  Catalogue catalogue;
  Shape shape;
  SpanKind kind;
  std::string_view operation;  // as in genai::start(), for example "chat"; "" if the conventions have none for it
  std::uint32_t flags = 0;     // NOPSPAN_FLAG_* of all its spans
};

// False if the name cannot be under a catalogue's prefix (llm., agent., engine., gen_ai., mcp.). Compares only the
// first two letters, which rules out most other names.
inline bool may_be_in_catalogue(std::string_view name) noexcept {
  if (name.size() < 2) return false;
  constexpr auto letters = [](const char* two) {
    return static_cast<unsigned char>(two[0]) | static_cast<unsigned char>(two[1]) << 8;
  };
  switch (letters(name.data())) {  // a binary search
    case letters("ll"):
    case letters("ag"):
    case letters("en"):
    case letters("ge"):
    case letters("mc"):
      return true;
    default:
      return false;
  }
}

// Null for a name that is in no catalogue.
const CatalogueSpan* find_catalogue_span(std::string_view name) noexcept;

// Call it for a span that find_catalogue_span() did not find. If the name has the prefix llm. or agent. ("llm.chats"),
// it is counted, and logged once per name. Programs may have names of their own under the other catalogues' prefixes.
void check_catalogue(const Interned& name) noexcept;

}  // namespace nopspan::detail
