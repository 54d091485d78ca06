// SPDX-License-Identifier: Apache-2.0
// What `nopspan top` does, of any source of spans.
#pragma once

#include "command/command.h"
#include "top/top_options.h"

namespace CLI {
class App;
}

namespace nopspan::collector {

void add_top_options(CLI::App& app, TopOptions& options);

// On a screen if stdin and stdout are a terminal that can show one, and neither plain text nor JSON was asked for.
void run_top(TopOptions options, const OutputOptions& common, const OpenSource& open);

}  // namespace nopspan::collector
