// SPDX-License-Identifier: Apache-2.0
// A Value of the reference's shape as Metadata.
#pragma once

#include "fields/metadata.h"

#include <nopspan/value.h>

namespace nopspan::detail {

// Whether it is nested as deep as a field may be, and no deeper.
bool is_shallow(const Value& value, unsigned depth = 0) noexcept;

// Valid as long as `given`. Not copied: `metadata` may point into it.
struct ValueMetadata {
  explicit ValueMetadata(const Value& given);
  ValueMetadata(const ValueMetadata&) = delete;
  ValueMetadata& operator=(const ValueMetadata&) = delete;

  Metadata metadata;

 private:
  Value finish_reasons_;  // where some of them are lists or maps: those as JSON
};

}  // namespace nopspan::detail
