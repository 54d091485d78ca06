// SPDX-License-Identifier: Apache-2.0
// Options that several commands share.
#pragma once

#include "facts/row_key.h"
#include "model/filter.h"

#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
class Validator;
}  // namespace CLI

namespace nopspan::collector {

// While it exists, the help of the command lists options that are added under this heading.
class OptionGroup {
 public:
  OptionGroup(CLI::App& app, const char* name);
  ~OptionGroup();
  OptionGroup(const OptionGroup&) = delete;
  OptionGroup& operator=(const OptionGroup&) = delete;

 private:
  CLI::App& app_;
  const std::string before_;
};

// Adds --request, --name, --model, --tenant, --where, --pid, --cgroup, --slower-than, --errors, --error, --sample and
// --sampled-only to a command.
void add_filter_options(CLI::App& app, Filter& filter);
// Adds --since and --until, which need the other option, if one is given.
void add_time_options(CLI::App& app, Filter& filter, CLI::Option* needed = nullptr);
// Adds the filter options, and the options that choose and configure the source (--from, --binary, --buffer, …).
void add_source_options(CLI::App& app, SourceOptions& options);
// Changes the filters' help for a command that applies them to single spans instead of requests.
void describe_span_filters(CLI::App& app);
// The same for --tenant, --where and --error only.
void describe_entry_filters(CLI::App& app);

// The option may be given several times, each with one value.
CLI::Option* repeatable(CLI::Option* option);
// Adds --pid, whose value is a list.
CLI::Option* add_pid_option(CLI::App& app, std::vector<std::uint32_t>& pids, const std::string& what);
// Adds --where, which may be repeated.
CLI::Option* add_where_option(CLI::App& app, std::vector<Filter::Condition>& where, const std::string& what);

// Adds --by, which chooses the keys of a table's rows.
CLI::Option* add_grouping_option(CLI::App& app, Grouping& by);

// For CLI::Option::check(). whole_number() accepts whole numbers from `least` to `most`. some_text() refuses an empty
// text, for example from an unset shell variable. some_time() refuses 0, because 0 means that the option was not given.
CLI::Validator whole_number(std::uint64_t least, std::uint64_t most = UINT32_MAX);
CLI::Validator some_text();
CLI::Validator one_of(const std::vector<std::string>& words);
CLI::Validator some_time(std::uint64_t least_ns = 1, const std::string& refusal = "must be greater than 0");
// The option's value is a whole number, which the help calls N.
CLI::Option* numeric(CLI::Option* option, std::uint64_t least, std::uint64_t most = UINT32_MAX);
// For a time (add_duration_option) that must be a number of seconds.
CLI::Validator whole_seconds(std::uint64_t least, std::uint64_t most);

// Adds an option whose value is a text that is not empty. The help calls the value `type`.
CLI::Option* add_text_option(CLI::App& app, const std::string& name, std::string& text, const std::string& type,
                             const std::string& what);

// The first adds an option whose value is a time, such as 250ms, 1.5s, 2m or 7 (seconds). The second adds an
// option whose value is a size, such as 64M, 1GiB or 4096 (bytes). Units of sizes are powers of 1024.
CLI::Option* add_duration_option(CLI::App& app, const std::string& name, std::uint64_t& ns, const std::string& what);
struct SizeRange {
  std::uint64_t least = 4096, most = std::uint64_t{1} << 62U;
  const char* text = "between 4K and 4194304T";
};
CLI::Option* add_bytes_option(CLI::App& app, const std::string& name, std::uint64_t& bytes, const std::string& what,
                              const SizeRange& range = {});

}  // namespace nopspan::collector
