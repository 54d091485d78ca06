// SPDX-License-Identifier: Apache-2.0
#include "command/help_text.h"

#include "command/command_words.h"

#include <CLI/CLI.hpp>

#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr std::size_t kColumn = 24;  // where descriptions begin
constexpr std::size_t kWidth = 100;

// "  name      description", the latter wrapped; on the next line where the name is long.
std::string row(const std::string& name, const std::string& description) {
  std::string text = "  " + name;
  std::size_t at = text.size();
  const auto new_line = [&] {
    text += "\n" + std::string(kColumn, ' ');
    at = kColumn;
  };
  if (at + 2 > kColumn) {
    new_line();
  } else {
    text.append(kColumn - at, ' ');
    at = kColumn;
  }
  for (const std::string& word : CLI::detail::split(description, ' ')) {
    if (at > kColumn && at + 1 + word.size() > kWidth) new_line();
    if (at > kColumn) {
      text += ' ';
      ++at;
    }
    text += word;
    at += word.size();
  }
  return text + "\n";
}

std::string rows_of(const std::vector<const CLI::Option*>& options) {
  std::string text;
  for (const CLI::Option* option : options) {
    text += row(option->get_positional() ? positional_name_of(*option) : usage_of(*option), option->get_description());
  }
  return text;
}

class Formatter : public CLI::FormatterBase {
 public:
  std::string make_help(const CLI::App* app, std::string /*name*/, CLI::AppFormatMode /*mode*/) const override {
    std::string text = "Usage: " + usage_of(*app) + "\n\n" + app->get_description() + "\n";
    if (const auto commands = commands_of(*app); !commands.empty()) {
      text += "\nCommands:\n";
      for (const CLI::App* command : commands) text += row(command->get_name(), summary_of(*command));
    }
    if (const auto positionals = positionals_of(*app); !positionals.empty()) text += "\n" + rows_of(positionals);
    for (const std::string& group : groups_of(*app)) text += "\n" + group + ":\n" + rows_of(options_of(*app, group));
    if (app->get_parent() != nullptr) {
      text += "\nOf every command:\n";
      for (const std::string& group : groups_of(*app->get_parent())) {
        for (const CLI::Option* option : options_of(*app->get_parent(), group)) {
          const bool own =
              option == app->get_parent()->get_help_ptr() || option == app->get_parent()->get_version_ptr();
          if (!own) text += rows_of({option});
        }
      }
    }
    if (const std::string footer = app->get_footer(); !footer.empty()) text += "\n" + footer + "\n";
    return text;
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> help_formatter() { return std::make_shared<Formatter>(); }

}  // namespace nopspan::collector
