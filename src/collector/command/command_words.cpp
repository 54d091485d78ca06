// SPDX-License-Identifier: Apache-2.0
#include "command/command_words.h"

#include <CLI/CLI.hpp>

#include <algorithm>

namespace nopspan::collector {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

std::vector<const CLI::Option*> options_of(const CLI::App& command, const std::string& group) {
  return command.get_options(
      [&group](const CLI::Option* option) { return option->nonpositional() && option->get_group() == group; });
}

std::vector<std::string> groups_of(const CLI::App& command) {
  std::vector<std::string> groups = command.get_groups();
  std::erase_if(groups, [&](const std::string& group) { return group.empty() || options_of(command, group).empty(); });
  return groups;
}

std::vector<const CLI::Option*> all_options_of(const CLI::App& command) {
  std::vector<const CLI::Option*> options;
  for (const CLI::App* app = &command; app != nullptr; app = app->get_parent()) {
    for (const std::string& group : groups_of(*app)) {
      for (const CLI::Option* option : options_of(*app, group)) {
        const bool known = std::any_of(options.begin(), options.end(), [&](const CLI::Option* other) {
          return names_of(*other) == names_of(*option);  // each command has a --help of its own
        });
        if (!known) options.push_back(option);
      }
    }
  }
  return options;
}

std::vector<const CLI::Option*> positionals_of(const CLI::App& command) {
  return command.get_options(
      [](const CLI::Option* option) { return option->get_positional() && !option->get_group().empty(); });
}

std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

std::string positional_name_of(const CLI::Option& option) {
  std::string name = option.get_positional() ? option.get_name(true) : "";
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c; });
  return name;
}

std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();  // "TEXT:{rate,p99}", of CLI::IsMember
  const auto begin = type.find('{');
  const auto end = type.find('}');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  return CLI::detail::split(type.substr(begin + 1, end - begin - 1), ',');
}

std::string value_of(const CLI::Option& option) {
  if (option.get_type_size() == 0 || option.get_expected_max() == 0) return "";
  if (const auto choices = choices_of(option); !choices.empty()) return CLI::detail::join(choices, "|");
  const std::string type = option.get_type_name();  // "PID:POSITIVE"
  return type.substr(0, type.find(':'));
}

std::string usage_of(const CLI::Option& option) {
  if (option.get_positional()) {
    const std::string name = positional_name_of(option) + (option.get_expected_max() > 1 ? "..." : "");
    return option.get_required() ? name : "[" + name + "]";
  }
  const std::string value = value_of(option);
  return CLI::detail::join(names_of(option), ", ") + (value.empty() ? "" : " " + value);
}

std::string full_name_of(const CLI::App& command) {
  const CLI::App* parent = command.get_parent();
  return parent == nullptr ? command.get_name() : full_name_of(*parent) + " " + command.get_name();
}

std::string usage_of(const CLI::App& command) {
  std::string usage = full_name_of(command) + " [OPTIONS]";
  for (const CLI::Option* option : positionals_of(command)) usage += " " + usage_of(*option);
  return commands_of(command).empty() ? usage : usage + " COMMAND";
}

std::string summary_of(const CLI::App& command) {
  constexpr std::size_t kLong = 76;
  const std::string text = command.get_description();
  std::string summary = text.substr(0, std::min({text.find(". "), text.find(".\n"), text.find("\n\n"), text.size()}));
  std::replace(summary.begin(), summary.end(), '\n', ' ');
  if (summary.size() > kLong) summary.resize(std::min(summary.find(": "), summary.size()));
  if (summary.ends_with('.')) summary.pop_back();
  return summary;
}

}  // namespace nopspan::collector
