// SPDX-License-Identifier: Apache-2.0
// The program: reads the command line, runs the command, and turns what went wrong into a message and an exit status.
#include "base/failure.h"
#include "base/output_options.h"
#include "base/stopping.h"
#include "base/text.h"
#include "command/command.h"
#include "command/command_words.h"
#include "command/completion.h"
#include "command/help_text.h"
#include "command/man_page.h"
#include "command/suggestion.h"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

namespace {

constexpr char kDescription[] =
    "Shows the spans of programs that use the nopspan library, while they run: which requests ran, how long each step\n"
    "took, how many tokens, which errors. The programs are not restarted, and cost nothing again when it ends.";
constexpr char kExamples[] =
    "Examples:\n"
    "  nopspan ps                          which processes have spans to show\n"
    "  nopspan top                         rates, times and tokens of each span, live\n"
    "  nopspan trace --slower-than 2s      requests that took longer, as trees\n"
    "  nopspan record spans.rec            everything into a file; nopspan replay spans.rec\n"
    "  nopspan doctor                      why it sees nothing\n"
    "\n"
    "Tracing needs root, or the capabilities that nopspan doctor names.\n"
    "Exit status: 0 done, 1 failed, 2 misused.";

// The second one ends the program at once: whoever presses Ctrl-C twice does not want to wait.
void stop_on_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stopping = true; };
  // Restarted is what waits for whoever reads the output: a line that a signal cuts would be lost, and all behind it.
  // What may wait long for something else does so in poll(), which is not restarted.
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  for (const int signal_number : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal_number, &action, nullptr);
  // Whoever reads the output may go away (`| head`): that ends the program, without a word.
  signal(SIGPIPE, SIG_DFL);
}

bool color_allowed() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return (no_color == nullptr || *no_color == '\0') && (terminal == nullptr || std::strcmp(terminal, "dumb") != 0) &&
         isatty(STDOUT_FILENO) == 1;
}

void add_commands(CLI::App& app, const OutputOptions& common, Run& run) {
  using Add = void (*)(CLI::App&, const OutputOptions&, Run&);
  for (const Add add : {add_ps, add_top, add_trace, add_hist, add_record, add_replay, add_doctor}) {
    add(app, common, run);
  }
}

const CLI::App& chosen(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : chosen(*commands.front());
}

int misused(const CLI::App& app, const std::string& what) {
  const std::string name = full_name_of(chosen(app));
  std::cerr << name << ": " << what << "; see " << name << " --help\n";
  return Failure::kMisused;
}

// A word that nothing takes, and what may have been meant.
std::string unknown(const CLI::App& app, const std::string& word) {
  const CLI::App& command = chosen(app);
  const bool option = word.starts_with('-');
  std::vector<std::string> known;
  if (option) {
    for (const CLI::Option* one : all_options_of(command)) {
      for (const std::string& name : names_of(*one)) known.push_back(name);
    }
  } else {
    for (const CLI::App* one : commands_of(command)) known.push_back(one->get_name());
  }
  const char* kind = option ? "unknown option " : known.empty() ? "unexpected argument " : "unknown command ";
  const std::string meant = suggestion_for(word.substr(0, word.find('=')), known);
  return kind + printable(word) + (meant.empty() ? "" : " (did you mean " + meant + "?)");
}

// What CLI11 threw: a wish for help or the version, or a mistake.
int explain(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
  // A word that nothing takes comes before what is missing: it may be what is missing, mistyped.
  std::vector<std::string> extras = app.remaining(true);
  std::erase(extras, "--");  // CLI11 counts it among them
  if (!extras.empty()) return misused(app, unknown(app, extras.front()));
  std::string what = error.what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    // "--pid: 1 required PID missing"
    if (what.ends_with(" missing")) what = what.substr(0, what.find(':')) + " needs a value";
  }
  return misused(app, printable(what, 1000));
}

// What went wrong names files and processes, whose names may hold what a terminal obeys.
void tell(std::string_view what) {
  constexpr std::size_t kLongest = 10'000;  // of a line: libbpf's log has many
  std::cerr << "nopspan: ";
  for (std::size_t end = 0; end != std::string_view::npos; what.remove_prefix(std::min(end + 1, what.size()))) {
    end = what.find('\n');
    std::cerr << printable(what.substr(0, end), kLongest) << "\n";
  }
}

// Data that did not arrive is a failure: a full disk shows only now.
int finish(int exit_status) {
  const bool was_lost = std::ferror(stdout) != 0 || !std::cout;  // what errno said of it is no longer known
  std::cout.flush();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout) {
    std::cerr << "nopspan: stdout: " << (was_lost ? "not all of the output could be written" : std::strerror(errno))
              << "\n";
    return exit_status == 0 ? Failure::kFailed : exit_status;
  }
  return exit_status;
}

// Commands that packages are made with; `completion` is told of in the man page.
void add_hidden_commands(CLI::App& app, Run& run, std::string& shell) {
  CLI::App* completion = app.add_subcommand("completion", "Print a shell's completion script")->group("");
  completion->add_option("SHELL", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([&] { run = [&] { return std::cout << completion_script(app, shell), 0; }; });
  CLI::App* page = app.add_subcommand("man-page", "Print the man page's source")->group("");
  page->callback([&] { run = [&] { return std::cout << man_page(app, NOPSPAN_VERSION), 0; }; });
}

int run_program(int argc, char** argv) {
  CLI::App app{kDescription, "nopspan"};
  OutputOptions common;
  Run run;
  std::string shell;
  bool no_color = false;
  app.fallthrough();  // options of the program are understood behind a command's name too
  app.formatter(help_formatter());
  app.set_version_flag("--version", "nopspan " NOPSPAN_VERSION, "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.add_flag("--json", common.json, "Print JSON, for programs to read");
  app.add_flag("--no-color", no_color, "Print no colors (so does NO_COLOR=1)");
  app.require_subcommand(0, 1);
  add_commands(app, common, run);
  add_hidden_commands(app, run, shell);
  app.footer(kExamples);  // now: a command that is added takes it over
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return explain(app, error);
  }
  if (!run) {
    std::cerr << app.help();
    return Failure::kMisused;
  }
  common.color = !no_color && color_allowed();
  return run();
}

}  // namespace
}  // namespace nopspan::collector

int main(int argc, char** argv) {
  using nopspan::collector::Failure;
  std::setlocale(LC_CTYPE, "");  // a terminal's wide characters; numbers stay as C writes them
  nopspan::collector::stop_on_signals();
  int exit_status = Failure::kFailed;
  try {
    exit_status = nopspan::collector::run_program(argc, argv);
  } catch (const Failure& failure) {
    nopspan::collector::tell(failure.what());
    exit_status = failure.exit_status;
  } catch (const std::exception& error) {
    nopspan::collector::tell(error.what());
  }
  return nopspan::collector::finish(exit_status);
}
