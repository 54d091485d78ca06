// SPDX-License-Identifier: Apache-2.0
#include "command/man_page.h"

#include "command/command_words.h"

#include <CLI/CLI.hpp>

#include <sstream>

namespace nopspan::collector {
namespace {

constexpr char kPrivileges[] = R"(.SH PRIVILEGES
Tracing needs root, or these capabilities (see
.BR capabilities (7)):
.TP
.B CAP_BPF
to load BPF programs and make their maps.
.TP
.B CAP_PERFMON
to attach them, and to let them read a traced program's memory.
.TP
.B CAP_SYS_ADMIN
for that too, on kernels before 6.6 that have the restriction of mid-2025 (also in stable series).
.TP
.B CAP_SYS_PTRACE
to see which libraries other users' processes map, and to fetch what an idle thread holds.
.TP
.B CAP_DAC_READ_SEARCH
to open libraries in folders that are closed to others.
.TP
.B CAP_CHECKPOINT_RESTORE
to open a library that was replaced while processes go on with it.
.PP
.B nopspan doctor
tries each for real and says what is missing.
Reading a recording needs none of them.
.PP
The systemd unit
.B nopspan.service
records to
.I /var/lib/nopspan
with these alone; it is not enabled by itself.
)";
constexpr char kTail[] = R"(.SH LEDGER
A command that looks at spans ends with what became of all of them: how many the programs emitted, and of these how many
were delivered, filtered out, or lost, each loss with its reason.
The counts close: nothing is lost without being counted.
.SH "EXIT STATUS"
0: done. 1: failed. 2: misused: the command line was not understood.
.SH ENVIRONMENT
.TP
.B NO_COLOR
Not empty: no colors.
.TP
.B TERM
.I dumb
means no colors; the live screen of
.B nopspan top
needs one that ncurses knows.
.SH "SHELL COMPLETION"
Installed with the program for bash, zsh and fish;
.B nopspan completion bash
(or zsh, or fish) prints the script.
.SH "SEE ALSO"
.BR bpftrace (8),
.BR perf-probe (1),
.BR bpf (2),
.BR systemctl (1)
)";

// Text as roff takes it literally. A line that begins with a dot or a quote would be a request.
std::string roff(const std::string& text) {
  std::string out;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
    line_begins = c == '\n';
  }
  return out;
}

void add_options(std::string& page, const std::vector<const CLI::Option*>& options) {
  for (const CLI::Option* option : options) {
    page += ".TP\n.B " + roff(option->get_positional() ? positional_name_of(*option) : usage_of(*option)) + "\n" +
            roff(option->get_description()) + "\n";
  }
}

// A footer: its lines as they are.
void add_as_it_is(std::string& page, const std::string& text) {
  if (!text.empty()) page += ".PP\n.nf\n" + roff(text) + "\n.fi\n";
}

void add_command(std::string& page, const CLI::App& command) {
  page += ".SS \"" + roff(usage_of(command)) + "\"\n" + roff(command.get_description()) + "\n";
  add_options(page, positionals_of(command));
  for (const std::string& group : groups_of(command)) {
    std::vector<const CLI::Option*> options = options_of(command, group);
    std::erase(options, command.get_help_ptr());
    if (options.empty()) continue;
    if (group != "Options") page += ".PP\n" + roff(group) + ":\n";
    add_options(page, options);
  }
  add_as_it_is(page, command.get_footer());
}

}  // namespace

std::string man_page(const CLI::App& app, const std::string& version) {
  std::string page = ".\\\" Made by `nopspan man-page`: do not edit.\n.TH NOPSPAN 1 \"\" \"nopspan " + version +
                     "\" \"User Commands\"\n.SH NAME\nnopspan \\- see the spans of running programs\n" +
                     ".SH SYNOPSIS\n.B " + roff(usage_of(app)) + "\n.SH DESCRIPTION\n" + roff(app.get_description()) +
                     "\n";
  page += ".SH OPTIONS\nOf every command:\n";
  for (const std::string& group : groups_of(app)) add_options(page, options_of(app, group));
  page += ".SH COMMANDS\n";
  for (const CLI::App* command : commands_of(app)) add_command(page, *command);
  page += ".SH EXAMPLES\n";
  add_as_it_is(page, app.get_footer().substr(app.get_footer().find('\n') + 1));  // without its heading
  return page + kPrivileges + kTail;
}

}  // namespace nopspan::collector
