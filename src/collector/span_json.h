// SPDX-License-Identifier: Apache-2.0
// A span, event, retry or gauge as one JSON object. docs/recording.md says what the fields mean.
#pragma once

#include "span.h"

#include <nlohmann/json_fwd.hpp>

namespace nopspan::collector {

nlohmann::ordered_json to_json(const Span& span);

}  // namespace nopspan::collector
