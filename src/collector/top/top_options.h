// SPDX-License-Identifier: Apache-2.0
// What `nopspan top` was asked.
#pragma once

#include "model/source.h"
#include "model/source_options.h"
#include "top/top_feed.h"
#include "top/top_table.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace nopspan::collector {

struct TopOptions {
  SourceOptions source;
  TopRequest request;
  TopView view;
  unsigned window_seconds = 10;
  std::size_t most_rows = 1000;  // of the table; what has none is `other`
  std::size_t shown_rows = 0;    // of plain text and JSON; 0: all
  std::uint64_t count = 0;       // of tables, then it ends; 0: until it is stopped
  bool plain = false;
};

// May be called again, for a recording that is to be read again.
using OpenSource = std::function<std::unique_ptr<Source>()>;

}  // namespace nopspan::collector
