// SPDX-License-Identifier: Apache-2.0
// Options that several commands have, and the source that they name.
#pragma once

#include "model/row_key.h"
#include "model/source.h"
#include "model/source_options.h"

#include <cstdint>
#include <memory>
#include <string>

namespace CLI {
class App;
class Option;
class Validator;
}  // namespace CLI

namespace nopspan::collector {

// Adds --request, --name, --model, --pid, --cgroup, --slower-than, --errors and --sample to a command.
void add_filter_options(CLI::App& app, Filter& filter);
// Those, and where spans come from.
void add_source_options(CLI::App& app, SourceOptions& options);
// This host's processes, or the recording that --from names. Throws Failure.
std::unique_ptr<Source> open_source(const SourceOptions& options);
// In the help of a command whose filters ask each span by itself, not its request.
void say_filters_choose_spans(CLI::App& app);

// Adds --by, the keys of a table's rows.
CLI::Option* add_grouping_option(CLI::App& app, Grouping& by);

// For CLI::Option::check(): refuse what is no whole number from `least` to `most`, an empty text (a shell's variable
// that is not set) and no time at all, which would be as if the option had not been given.
CLI::Validator whole_number(std::uint64_t least, std::uint64_t most = UINT32_MAX);
CLI::Validator some_text();
CLI::Validator some_time();

// An option whose value is a time such as 250ms, 1.5s, 2m or 7 (seconds), and one whose value is a size such as 64M,
// 1GiB or 4096 (bytes; units are powers of 1024). Times have six significant digits.
CLI::Option* add_duration_option(CLI::App& app, const std::string& name, std::uint64_t& ns, const std::string& what);
CLI::Option* add_bytes_option(CLI::App& app, const std::string& name, std::uint64_t& bytes, const std::string& what);

}  // namespace nopspan::collector
