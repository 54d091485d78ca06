// SPDX-License-Identifier: Apache-2.0
#include "command/completion.h"

#include "command/command_words.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

namespace nopspan::collector {
namespace {

using Options = std::vector<const CLI::Option*>;

bool is_file(const CLI::Option& option) {
  return (option.get_positional() ? positional_name_of(option) : value_of(option)) == "FILE";
}

// The words of all options that `wanted` chooses, each once, of all commands: an option means the same in each.
template <typename Wanted>
std::vector<std::string> words_where(const CLI::App& app, Wanted wanted) {
  std::vector<std::string> words;
  for (const CLI::App* command : commands_of(app)) {
    for (const CLI::Option* option : all_options_of(*command)) {
      if (!wanted(*option)) continue;
      for (const std::string& name : names_of(*option)) {
        if (std::find(words.begin(), words.end(), name) == words.end()) words.push_back(name);
      }
    }
  }
  return words;
}

std::string words_of(const Options& options) {
  std::string words;
  for (const CLI::Option* option : options)
    words += (words.empty() ? "" : " ") + CLI::detail::join(names_of(*option), " ");
  return words;
}

std::string names_of_commands(const CLI::App& app, const char* separator) {
  std::string names;
  for (const CLI::App* command : commands_of(app)) names += (names.empty() ? "" : separator) + command->get_name();
  return names;
}

bool takes_a_file(const CLI::App& command) {
  const Options positionals = positionals_of(command);
  return std::any_of(positionals.begin(), positionals.end(),
                     [](const CLI::Option* option) { return is_file(*option); });
}

// `text` within single quotes of a shell, behind a backslash each character of `escaped`.
std::string quoted(const std::string& text, std::string_view escaped = "") {
  std::string out = "'";
  for (const char c : text) {
    if (escaped.find(c) != std::string_view::npos) out += '\\';
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return out + "'";
}

// ---- bash: of its own functions alone, since bash-completion may be absent ----

std::string bash_script(const CLI::App& app) {
  const auto files = words_where(app, is_file);
  const auto plain = words_where(app, [](const CLI::Option& option) {
    return !value_of(option).empty() && !is_file(option) && choices_of(option).empty();
  });
  std::string script = R"(# bash completion for nopspan: made by `nopspan completion bash`
_nopspan() {
  local command= files= value= options= i
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  # bash makes three words of --from=x
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = ]]; then
    previous=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      )" + names_of_commands(app, " | ") +
                       R"()
        command=${COMP_WORDS[i]}
        break
        ;;
    esac
  done
  COMPREPLY=()
)";
  script += "  case $command:$previous in\n";
  for (const CLI::App* command : commands_of(app)) {
    for (const CLI::Option* option : all_options_of(*command)) {
      if (const auto choices = choices_of(*option); !choices.empty()) {
        for (const std::string& name : names_of(*option)) {
          script += "    " + command->get_name() + ":" + name + ")\n      mapfile -t COMPREPLY < <(compgen -W " +
                    quoted(CLI::detail::join(choices, " ")) + " -- \"$current\")\n      return\n      ;;\n";
        }
      }
    }
  }
  const auto any_of = [](const std::vector<std::string>& words) { return "*:" + CLI::detail::join(words, " | *:"); };
  if (!files.empty()) script += "    " + any_of(files) + ") files=1 value=1 ;;\n";
  if (!plain.empty()) script += "    " + any_of(plain) + ") return ;;\n";
  script += "  esac\n  case $command in\n";
  for (const CLI::App* command : commands_of(app)) {
    script += "    " + command->get_name() + ") options=" + quoted(words_of(all_options_of(*command)));
    script += takes_a_file(*command) ? " files=1 ;;\n" : " ;;\n";
  }
  Options own;
  for (const std::string& group : groups_of(app)) {
    for (const CLI::Option* option : options_of(app, group)) own.push_back(option);
  }
  script += "    *) options=" + quoted(words_of(own) + " " + names_of_commands(app, " ")) + " ;;\n  esac\n";
  script += R"(  if [[ -z $value && ($current == -* || -z $command) ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
  elif [[ -n $files ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -F _nopspan nopspan
)";
  return script;
}

// ---- zsh ----

std::string zsh_value(const CLI::Option& option) {
  if (value_of(option).empty()) return "";
  if (const auto choices = choices_of(option); !choices.empty()) {
    return ":value:(" + CLI::detail::join(choices, " ") + ")";
  }
  return ":" + value_of(option) + (is_file(option) ? ":_files" : ": ");
}

std::string zsh_arguments(const Options& options) {
  std::string text;
  for (const CLI::Option* option : options) {
    const std::string value = zsh_value(*option);
    for (const std::string& name : names_of(*option)) {
      const std::string equals = value.empty() || !name.starts_with("--") ? "" : "=";
      std::string description = quoted(option->get_description(), "[]:\\");
      description = description.substr(1, description.size() - 2);
      // NOLINTNEXTLINE(performance-inefficient-string-concatenation): once a run, and read as it is printed
      text += " \\\n        '" + name + equals + "[" + description + "]" + value + "'";
    }
  }
  return text;
}

std::string zsh_script(const CLI::App& app) {
  std::string script = R"(#compdef nopspan
# zsh completion for nopspan: made by `nopspan completion zsh`
_nopspan() {
  local curcontext=$curcontext state line
  _arguments -C)";
  Options own;
  for (const std::string& group : groups_of(app)) {
    for (const CLI::Option* option : options_of(app, group)) own.push_back(option);
  }
  script += zsh_arguments(own) + " \\\n        '1: :->command' '*:: :->rest'\n";
  script += "  case $state in\n    command)\n      local -a commands=(\n";
  for (const CLI::App* command : commands_of(app)) {
    script += "        " + quoted(command->get_name() + ":" + summary_of(*command)) + "\n";
  }
  script +=
      "      )\n      _describe -t commands 'nopspan command' commands\n      ;;\n    rest)\n      case $words[1] in\n";
  for (const CLI::App* command : commands_of(app)) {
    script += "        " + command->get_name() + ")\n      _arguments" + zsh_arguments(all_options_of(*command));
    if (takes_a_file(*command)) script += " \\\n        '*:FILE:_files'";
    script += "\n          ;;\n";
  }
  return script + R"(      esac
      ;;
  esac
}
if [[ $funcstack[1] == _nopspan ]]; then _nopspan "$@"; else compdef _nopspan nopspan; fi
)";
}

// ---- fish ----

void add_fish_options(std::string& script, const std::string& condition, const Options& options) {
  for (const CLI::Option* option : options) {
    script += "complete -c nopspan -n " + quoted(condition);
    for (const std::string& name : option->get_snames()) script += " -s " + name;
    for (const std::string& name : option->get_lnames()) script += " -l " + name;
    if (const auto choices = choices_of(*option); !choices.empty()) {
      script += " -x -a " + quoted(CLI::detail::join(choices, " "));
    } else if (!value_of(*option).empty()) {
      script += is_file(*option) ? " -r -F" : " -x";
    }
    script += " -d " + quoted(option->get_description(), "\\") + "\n";
  }
}

std::string fish_script(const CLI::App& app) {
  std::string script = "# fish completion for nopspan: made by `nopspan completion fish`\ncomplete -c nopspan -f\n";
  for (const CLI::App* command : commands_of(app)) {
    script += "complete -c nopspan -n __fish_use_subcommand -a " + command->get_name() + " -d " +
              quoted(summary_of(*command), "\\") + "\n";
  }
  for (const std::string& group : groups_of(app))
    add_fish_options(script, "__fish_use_subcommand", options_of(app, group));
  for (const CLI::App* command : commands_of(app)) {
    const std::string condition = "__fish_seen_subcommand_from " + command->get_name();
    add_fish_options(script, condition, all_options_of(*command));
    if (takes_a_file(*command)) script += "complete -c nopspan -n " + quoted(condition) + " -F\n";
  }
  return script;
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
  if (shell == "zsh") return zsh_script(app);
  if (shell == "fish") return fish_script(app);
  return bash_script(app);
}

}  // namespace nopspan::collector
