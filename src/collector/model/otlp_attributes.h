// SPDX-License-Identifier: Apache-2.0
// OTLP attributes (otlp_wire.h), for code that reads messages with protozero.
#pragma once

#include "model/otlp_wire.h"

#include <protozero/pbf_reader.hpp>

#include <string_view>

namespace nopspan::collector {

// The bytes of a field that is a message, a string or bytes.
inline std::string_view view_of(protozero::pbf_reader& reader) {
  const protozero::data_view view = reader.get_view();
  return {view.data(), view.size()};
}

}  // namespace nopspan::collector
