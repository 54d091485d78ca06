// SPDX-License-Identifier: Apache-2.0
// What a command line is made of, as help, completion and man page tell it. Hidden commands and options are left out.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace nopspan::collector {

std::vector<const CLI::App*> commands_of(const CLI::App& app);
// With the program's own options, which every command understands, behind them.
std::vector<const CLI::Option*> all_options_of(const CLI::App& command);
// Groups in the order of their first option, and a group's options in theirs.
std::vector<std::string> groups_of(const CLI::App& command);
std::vector<const CLI::Option*> options_of(const CLI::App& command, const std::string& group);
std::vector<const CLI::Option*> positionals_of(const CLI::App& command);

// {"-h", "--help"}
std::vector<std::string> names_of(const CLI::Option& option);
// "FILE"; "" if it is no positional.
std::string positional_name_of(const CLI::Option& option);
// How an option's value is called: "TIME", "rate|p99"; "" if it has none.
std::string value_of(const CLI::Option& option);
// The values that it may have; empty: others than these.
std::vector<std::string> choices_of(const CLI::Option& option);
// "-h, --help", "--slower-than TIME"
std::string usage_of(const CLI::Option& option);

// Its name with those before it: "nopspan trace".
std::string full_name_of(const CLI::App& command);
// "nopspan replay [OPTIONS] FILE"
std::string usage_of(const CLI::App& command);

// What stands for a command in a list: its description's first sentence without the full stop, of a long one what comes
// before a colon.
std::string summary_of(const CLI::App& command);

}  // namespace nopspan::collector
