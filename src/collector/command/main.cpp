// SPDX-License-Identifier: Apache-2.0
// The program nopspan: parses the command line, runs the chosen command, and turns exceptions into messages and an exit
// status.
#include "base/failure.h"
#include "base/out_of_memory.h"
#include "base/stop_signals.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"
#include "command/command.h"
#include "command/tracing_process.h"

#include <CLI/CLI.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

namespace {

constexpr char kDescription[] =
    "Trace programs that use the nopspan library while they run: which requests\n"
    "they serve, how long each step takes, how many tokens it uses, and which\n"
    "errors occur. The programs need no restart.\n";
constexpr char kExamples[] =
    "Examples:\n"
    "  nopspan ps                        list the processes that can be traced\n"
    "  nopspan open --older-than 5s      show requests that hang, and where\n"
    "  nopspan top                       show rates, times and tokens live\n"
    "  nopspan trace --slower-than 2s    show slow requests as trees\n"
    "  nopspan record spans.rec          record everything to a file\n"
    "  nopspan replay spans.rec          summarize the recording\n"
    "  nopspan convert spans.rec --to perfetto -o spans.pftrace\n"
    "                                    write it for ui.perfetto.dev\n"
    "  nopspan export --otlp http://localhost:4318\n"
    "                                    send spans, logs and metrics to OTLP\n"
    "  nopspan serve                     serve metrics for Prometheus\n"
    "  nopspan doctor                    find out why no spans arrive\n"
    "\n"
    "TIME is a number with a unit: ns, us, ms, s, m, h or d (without one: seconds).\n"
    "SIZE is a number of bytes, or a multiple of 1024: K, M, G or T.\n"
    "\n"
    "Tracing needs root, or the capabilities that nopspan doctor lists.\n"
    "Exit status: 0 success, 1 failure, or nothing in the recording matches the\n"
    "filters, 2 usage error.";

// CLI11's help with two differences: descriptions of options are wrapped, and the options that an option excludes are
// not listed. help2man and the shells' completion (packaging/) parse this help.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() {
    column_width(kColumn);
    label("SUBCOMMAND", "COMMAND");
    label("Positionals", "Arguments");
  }
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    return CLI::detail::find_and_replace(CLI::Formatter::make_option_name(option, is_positional), ",", ", ");
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_size() == 0 || option->get_positional() ? "" : " " + option->get_type_name();
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    std::string text = option->get_description();
    for (std::size_t line = 0; text.size() - line > kWidth - kColumn;) {
      const std::size_t end = text.rfind(' ', line + kWidth - kColumn);
      if (end == std::string::npos || end < line) break;
      text[end] = '\n';
      line = end + 1;
    }
    return text;
  }

 private:
  static constexpr std::size_t kColumn = 24, kWidth = 80;
};

void set_signals() {
  stop_on_signals();
  // If the reader of the output closes the pipe (`| head`), the program ends without a message.
  signal(SIGPIPE, SIG_DFL);
  // write() fails with EFBIG instead, which is reported.
  signal(SIGXFSZ, SIG_IGN);
}

// If the program is started without stdin, stdout or stderr, a file that it opens would get the number, and output
// would be written into it. Writing to these descriptors fails.
void reserve_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) == -1) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

bool color_allowed() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return (no_color == nullptr || *no_color == '\0') && (terminal == nullptr || std::strcmp(terminal, "dumb") != 0) &&
         isatty(STDOUT_FILENO) == 1;
}

void add_output_options(CLI::App& app, OutputOptions& common, bool& no_color) {
  app.add_flag("--json", common.json, "Print JSON instead of text");
  app.add_flag("--no-color", no_color, "Do not use colors (same as NO_COLOR=1)");
}

void add_commands(CLI::App& app, OutputOptions& common, bool& no_color, Run& run) {
  using Add = void (*)(CLI::App&, const OutputOptions&, Run&);
  for (const Add add : {add_ps, add_open, add_top, add_trace, add_blame, add_whatif, add_hist, add_record, add_replay,
                        add_export, add_serve, add_convert, add_doctor}) {
    add(app, common, run);
  }
  for (CLI::App* command : app.get_subcommands({})) {
    command->group("Commands");
    add_output_options(*command, common, no_color);
  }
}

// " (did you mean --slower-than?)" for "--slower=1s": the options of which an unknown word is the beginning.
std::string suggestion(const CLI::App& command, const std::string& unknown) {
  std::string names;
  if (!unknown.starts_with("--")) return names;
  const std::string beginning = unknown.substr(2, unknown.find('=') - 2);
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (name.starts_with(beginning)) names += (names.empty() ? " (did you mean --" : " or --") + name;
    }
  }
  return names.empty() ? names : names + "?)";
}

// "; usage: nopspan convert FILE... --to FORMAT --out FILE": all that the command needs, because CLI11 names one
// missing word at a time. "" if it needs nothing and has no arguments.
std::string usage(const CLI::App& command) {
  std::string words;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional()) {
      const std::string word = option->get_name(true) + (option->get_items_expected_max() > 1 ? "..." : "");
      words += option->get_required() ? " " + word : " [" + word + "]";
    } else if (option->get_required()) {
      words += " --" + option->get_lnames().front() + " " + option->get_type_name();
    }
  }
  return words.empty() ? words : "; usage: nopspan " + command.get_name() + words;
}

// Handles an exception of CLI11: --help, --version, or a usage error. Returns the exit status.
int explain(const CLI::App& app, const CLI::ParseError& error) {
  // An unknown word is reported before a missing one, because it may be the missing one, mistyped.
  std::vector<std::string> extras = app.remaining(true);
  std::erase(extras, "--");                    // CLI11 includes it in the list
  std::reverse(extras.begin(), extras.end());  // ExtrasError prints the last one first
  const bool is_help = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);  // or the version
  // The help of the program does not answer `nopspan trcae --help`.
  if (is_help && (extras.empty() || !app.get_subcommands().empty())) return app.exit(error);
  std::string what = extras.empty() ? error.what() : CLI::ExtrasError(extras).what();
  if (what.ends_with(" missing")) what = what.substr(0, what.find(':')) + " needs a value";  // "--pid: 1 required PID"
  // "--name: At Most 1 required but received 2"
  if (const std::size_t at = what.find(": At Most 1 required"); at != std::string::npos) {
    what = what.substr(0, at) + " can be given only once";
  }
  std::string name = app.get_name();
  if (const auto chosen = app.get_subcommands(); !chosen.empty()) {
    name += " " + chosen.front()->get_name();
    if (!extras.empty()) what += suggestion(*chosen.front(), extras.back());
    if (!extras.empty() || dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) what += usage(*chosen.front());
  } else if (!extras.empty()) {
    what += "; the commands are";
    for (const CLI::App* command : app.get_subcommands({})) what += " " + command->get_name();
  }
  std::cerr << name << ": " << printable(what, 1000) << "; see " << name << " --help\n";
  return Failure::kUsageError;
}

// Prints an error. It may contain names of files and processes, so control characters are printed as \xNN: the terminal
// would execute an escape sequence.
void print_error(std::string_view what) {
  constexpr std::size_t kLongest = 10'000;  // bytes per line; libbpf's log has many lines
  if (what.empty()) return;                 // it was printed before
  std::cerr << "nopspan: ";
  for (std::size_t end = 0; end != std::string_view::npos; what.remove_prefix(std::min(end + 1, what.size()))) {
    end = what.find('\n');
    std::cerr << printable(what.substr(0, end), kLongest) << "\n";
  }
}

// Output that was not written is a failure.
int finish(int exit_status) {
  TextOutput& output = standard_output();
  std::cout.flush();
  output.close();
  if (output.lost() > 0 || output.has_failed()) {
    std::cerr << "nopspan: stdout: " +
                     std::string(output.has_failed() ? std::strerror(output.error())
                                                     : "not all of the output could be written in time") +
                     "\n";
    if (exit_status == 0) exit_status = Failure::kFailed;
  }
  standard_error().close();
  restore_streams();
  return exit_status;
}

int run_program(const std::vector<std::string>& arguments) {
  CLI::App app{kDescription, "nopspan"};
  OutputOptions common;
  Run run;
  bool no_color = false;
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", "nopspan " NOPSPAN_VERSION, "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this help and exit");
  add_output_options(app, common, no_color);
  app.require_subcommand(0, 1);
  add_commands(app, common, no_color, run);
  app.footer(kExamples);  // set last, because commands inherit it when they are added
  std::vector<const char*> argv;
  argv.reserve(arguments.size());
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  try {
    app.parse(static_cast<int>(argv.size()), argv.data());
  } catch (const CLI::ParseError& error) {
    return explain(app, error);
  }
  if (!run) {
    std::cerr << app.help();
    return Failure::kUsageError;
  }
  if (!app.got_subcommand("export")) forget_secret_variables();
  common.color = !no_color && color_allowed();
  return run();
}

}  // namespace
}  // namespace nopspan::collector

int main(int argc, char** argv) {
  using nopspan::collector::Failure;
  // First, so that other users have little time to read secrets.
  const std::vector<std::string> arguments = nopspan::collector::take_arguments(argc, argv);
  nopspan::collector::hide_secret_variables();
  std::setlocale(LC_CTYPE, "");  // for wide characters on a terminal; LC_NUMERIC stays "C"
  nopspan::collector::reserve_standard_descriptors();
  nopspan::collector::set_signals();
  nopspan::collector::redirect_streams();
  nopspan::collector::report_out_of_memory_at_the_end();
  int exit_status = Failure::kFailed;
  try {
    exit_status = nopspan::collector::run_program(arguments);
    if (nopspan::collector::source_failure) std::rethrow_exception(nopspan::collector::source_failure);
  } catch (const Failure& failure) {
    nopspan::collector::print_error(failure.what());
    exit_status = failure.exit_status;
  } catch (const std::exception& error) {
    nopspan::collector::print_error(nopspan::collector::exception_text(error));
  }
  nopspan::collector::command_has_returned();
  exit_status = nopspan::collector::finish(exit_status);
  if (nopspan::collector::leaves_threads) _exit(exit_status);
  return exit_status;
}
