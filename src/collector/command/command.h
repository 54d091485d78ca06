// SPDX-License-Identifier: Apache-2.0
// A command of the program: its options, and what it does.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace nopspan::collector {

// Options that every command has.
struct OutputOptions {
  bool json = false;
  bool color = false;  // stdout is a terminal, and neither NO_COLOR nor --no-color is given
};

// What main() calls after the command line was understood: the exit status.
using Run = std::function<int()>;

// Each adds a command to `app` and sets `run` when it was chosen.
void add_ps(CLI::App& app, const OutputOptions& common, Run& run);
void add_top(CLI::App& app, const OutputOptions& common, Run& run);
void add_hist(CLI::App& app, const OutputOptions& common, Run& run);
void add_trace(CLI::App& app, const OutputOptions& common, Run& run);
void add_record(CLI::App& app, const OutputOptions& common, Run& run);
void add_replay(CLI::App& app, const OutputOptions& common, Run& run);
void add_doctor(CLI::App& app, const OutputOptions& common, Run& run);

}  // namespace nopspan::collector
