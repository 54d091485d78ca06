// SPDX-License-Identifier: Apache-2.0
// A command of the program: its options, and what it does.
#pragma once

#include "filter.h"
#include "source.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace nopspan::collector {

// Options that every command has. `--json` before or after the command's name.
struct Common {
  bool json = false;
  bool color = false;  // stdout is a terminal, and NO_COLOR and --no-color do not forbid it
};

// Options of the commands that look at spans.
struct SourceOptions {
  Filter filter;
  std::string from;                          // a recording; empty: this host's processes
  std::string binary;                        // attach to this file too, also if no process maps it yet
  std::uint64_t buffer_bytes = 16U << 20U;   // of the kernel's ring buffer
  std::uint64_t max_age_ns = 1'000'000'000;  // what a thread has held for so long is fetched from it
  std::uint64_t duration_ns = 0;             // 0: until SIGINT or SIGTERM
  bool per_event = false;                    // one hit a span instead of batches
};
void add_source_options(CLI::App& app, SourceOptions& options);
std::unique_ptr<Source> open_source(const SourceOptions& options);

// An option that is given as "250ms", "1.5s", "2m", and one as "64M", "1GiB" (text.h); a wrong one is a misuse.
CLI::Option* add_duration_option(CLI::App& app, const std::string& name, std::uint64_t& ns, const std::string& what);
CLI::Option* add_bytes_option(CLI::App& app, const std::string& name, std::uint64_t& bytes, const std::string& what);

// Set by SIGINT and SIGTERM.
extern std::atomic<bool> stopping;
// Runs the source until it ends, `stopping` or --duration; then prints the ledger to stderr (to_text), unless `quiet`.
void run_source(Source& source, Sink& sink, const SourceOptions& options, bool quiet = false);
// The source's remark as a line for stderr; "" if it has none. What run_source() prints with the ledger.
std::string remark_text(const Source& source);

// What main() calls after the command line was understood: the exit status.
using Run = std::function<int()>;

// Each adds a command to `app` and sets `run` when it was chosen.
void add_ps(CLI::App& app, const Common& common, Run& run);
void add_top(CLI::App& app, const Common& common, Run& run);
void add_hist(CLI::App& app, const Common& common, Run& run);
void add_trace(CLI::App& app, const Common& common, Run& run);
void add_record(CLI::App& app, const Common& common, Run& run);
void add_replay(CLI::App& app, const Common& common, Run& run);
void add_doctor(CLI::App& app, const Common& common, Run& run);

}  // namespace nopspan::collector
