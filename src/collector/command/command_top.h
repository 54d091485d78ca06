// SPDX-License-Identifier: Apache-2.0
// `nopspan top` for any source. A test runs it with a source of its own.
#pragma once

#include "command/command.h"
#include "model/source.h"
#include "top/top_runner.h"

#include <memory>

namespace CLI {
class App;
}

namespace nopspan::collector {

void add_top_options(CLI::App& app, TopOptions& options);

// Shows a screen if stdin and stdout are a terminal that supports one. Otherwise, or if plain text, JSON, --count or
// --rows was requested, prints tables.
int run_top(TopOptions options, const OutputOptions& common, std::unique_ptr<Source> source);

}  // namespace nopspan::collector
