// SPDX-License-Identifier: Apache-2.0
// Whether text is UTF-8: protobuf's strings must be, or a receiver refuses the whole message.
#pragma once

#include <string>
#include <string_view>

namespace nopspan::collector {

bool is_utf8(std::string_view text);
// `text` with "?" for each byte that is not UTF-8.
std::string mended_utf8(std::string_view text);

}  // namespace nopspan::collector
