// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace nopspan::collector {

// All are thread-safe, and throw std::bad_alloc. `level` is between 1 (fast) and 12 (small).
std::string gzipped(std::string_view bytes, int level);
// In the format of zlib.
std::string deflated(std::string_view bytes, int level);
// Nothing if the bytes are damaged, or have more than `most` bytes when they are decompressed.
std::optional<std::string> gunzipped(std::string_view bytes, std::size_t most);

}  // namespace nopspan::collector
