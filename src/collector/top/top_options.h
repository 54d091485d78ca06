// SPDX-License-Identifier: Apache-2.0
// The options of `nopspan top`.
#pragma once

#include "model/source_options.h"
#include "top/top_feed.h"
#include "top/top_table.h"

#include <cstddef>
#include <cstdint>

namespace nopspan::collector {

struct TopOptions {
  SourceOptions source;
  TopRequest request;
  TopView view;
  std::uint64_t window_ns = 10 * kSecond;  // whole seconds
  std::size_t most_rows = 1000;            // limit of rows; keys beyond it are counted as `other`
  std::size_t shown_rows = 0;              // limit for plain text and JSON; 0: all
  std::uint64_t count = 0;                 // number of tables to print; 0: no limit
  bool plain = false;
};

}  // namespace nopspan::collector
