// SPDX-License-Identifier: Apache-2.0
// The value of an entry for a key that the user chooses (--where, --by): of a label or an attribute.
#pragma once

#include "model/entry.h"
#include "model/otlp_wire.h"

#include <array>
#include <string_view>

namespace nopspan::collector {

// Room for a number as text.
using NumberText = std::array<char, 32>;

// The value of an attribute as it is printed; "" for a list, a map or bytes. The result refers to the attribute or to
// `number`.
std::string_view scalar_text(const Attribute& attribute, NumberText& number);

// If a key is repeated, the first one counts, as in JSON (entry_json.h). `found` refers to the entry. Returns false if
// the entry does not have the key.
bool find_attribute(const Entry& entry, std::string_view key, Attribute& found);

// The labels model, tenant and engine are fields of the entry, all other labels are attributes. "" if the entry does
// not have the key, or if the value is a list, a map or bytes. The result refers to the entry or to `number`.
std::string_view label_or_attribute(const Entry& entry, std::string_view key, NumberText& number);

}  // namespace nopspan::collector
