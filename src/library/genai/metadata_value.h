// SPDX-License-Identifier: Apache-2.0
// Reads a Value of the reference's shape as Metadata.
#pragma once

#include "fields/metadata.h"

#include <nopspan/event.h>

namespace nopspan::detail {

// False if the value is nested deeper than a field may be (FieldBuffer::kMaxDepth).
bool is_shallow(const Value& value, unsigned depth = 0) noexcept;

// Valid as long as `given`. Cannot be copied, because `metadata` may point into this object.
struct ValueMetadata {
  explicit ValueMetadata(const Value& given);
  ValueMetadata(const ValueMetadata&) = delete;
  ValueMetadata& operator=(const ValueMetadata&) = delete;

  Metadata metadata;

 private:
  Value finish_reasons_;  // used if some finish reasons are lists or maps, which become JSON texts here
};

}  // namespace nopspan::detail
