// SPDX-License-Identifier: Apache-2.0
// `nopspan top`: what it was asked, and what it does.
#pragma once

#include "command.h"
#include "top_feed.h"
#include "top_table.h"

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

void add_top_options(CLI::App& app, TopOptions& options);

// May be called again, for a recording that is to be read again.
using OpenSource = std::function<std::unique_ptr<Source>()>;
// On a screen if stdin and stdout are a terminal that can show one, and neither plain text nor JSON was asked for.
void run_top(TopOptions options, const Common& common, const OpenSource& open);

}  // namespace nopspan::collector
