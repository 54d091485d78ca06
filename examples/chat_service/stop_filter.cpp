// SPDX-License-Identifier: Apache-2.0
#include "stop_filter.h"

#include <algorithm>
#include <utility>

namespace example {
namespace {

// How many bytes at the end of `text` belong to an incomplete UTF-8 character.
std::size_t unfinished_character(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0U) == 0x80U) continue;
    std::size_t length = 1;
    if (byte >= 0xF0)
      length = 4;
    else if (byte >= 0xE0)
      length = 3;
    else if (byte >= 0xC0)
      length = 2;
    return length > back ? back : 0;
  }
  return 0;
}

// The length of the longest suffix of `text` that is a prefix of `stop`.
std::size_t begun(std::string_view text, std::string_view stop) {
  for (std::size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == stop.substr(0, length)) return length;
  }
  return 0;
}

}  // namespace

std::string StopFilter::add(std::string_view bytes) {
  if (stopped_) return {};
  kept_ += bytes;
  std::size_t first_stop = std::string::npos;
  std::size_t keep = unfinished_character(kept_);
  for (const std::string& stop : stop_strings_) {
    first_stop = std::min(first_stop, kept_.find(stop));
    keep = std::max(keep, begun(kept_, stop));
  }
  stopped_ = first_stop != std::string::npos;
  std::string shown = kept_.substr(0, stopped_ ? first_stop : kept_.size() - keep);
  kept_ = stopped_ ? std::string{} : kept_.substr(shown.size());
  return shown;
}

std::string StopFilter::finish() { return std::exchange(kept_, {}); }

}  // namespace example
