// SPDX-License-Identifier: Apache-2.0
// The commands of the program: each adds its options to the command line and, if it is chosen, sets the function that
// runs it.
#pragma once

#include <functional>
#include <memory>

namespace CLI {
class App;
}

namespace nopspan::collector {

class Source;
struct TopOptions;

// Options that every command has.
struct OutputOptions {
  bool json = false;
  bool color = false;  // stdout is a terminal, and neither NO_COLOR nor --no-color is given
};

// Runs the chosen command and returns its exit status. main() calls it after the command line has been parsed.
using Run = std::function<int()>;

// Each function adds its command to `app`, and sets `run` if the user chose that command.
void add_ps(CLI::App& app, const OutputOptions& common, Run& run);
void add_open(CLI::App& app, const OutputOptions& common, Run& run);
void add_top(CLI::App& app, const OutputOptions& common, Run& run);
void add_hist(CLI::App& app, const OutputOptions& common, Run& run);
void add_trace(CLI::App& app, const OutputOptions& common, Run& run);
void add_record(CLI::App& app, const OutputOptions& common, Run& run);
void add_replay(CLI::App& app, const OutputOptions& common, Run& run);
void add_export(CLI::App& app, const OutputOptions& common, Run& run);
void add_serve(CLI::App& app, const OutputOptions& common, Run& run);
void add_blame(CLI::App& app, const OutputOptions& common, Run& run);
void add_whatif(CLI::App& app, const OutputOptions& common, Run& run);
void add_convert(CLI::App& app, const OutputOptions& common, Run& run);
void add_doctor(CLI::App& app, const OutputOptions& common, Run& run);

// `nopspan top` for any source, which a test runs with a source of its own.
void add_top_options(CLI::App& app, TopOptions& options);
// Shows a screen if stdin and stdout are a terminal that supports one. Otherwise, or if plain text, JSON, --count or
// --rows was requested, prints tables.
int run_top(TopOptions options, const OutputOptions& common, std::unique_ptr<Source> source);

}  // namespace nopspan::collector
