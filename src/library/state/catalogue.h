// SPDX-License-Identifier: Apache-2.0
// The table of the spans that nopspan knows by name: which measurements handlers see, their kind, and their operation
// in the GenAI conventions. It also reports unknown names under a catalogue's prefix, which the compiler cannot check.
#pragma once

#include "fields/attribute_keys.h"
#include "state/intern.h"

#include <nopspan/span.h>

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
// first four letters, which rules out nearly all other names.
inline bool may_be_in_catalogue(std::string_view name) noexcept {
  if (name.size() < 4) return false;
  constexpr auto letters = [](const char* four) {
    std::uint32_t all = 0;
    for (unsigned i = 0; i < 4; ++i) all |= static_cast<std::uint32_t>(static_cast<unsigned char>(four[i])) << 8 * i;
    return all;
  };
  switch (letters(name.data())) {  // a binary search
    case letters("llm."):
    case letters("agen"):
    case letters("engi"):
    case letters("gen_"):
    case letters("mcp."):
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
