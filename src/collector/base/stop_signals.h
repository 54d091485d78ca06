// SPDX-License-Identifier: Apache-2.0
// What the signals do by which a user ends a command: SIGINT, SIGTERM and SIGHUP.
#pragma once

namespace nopspan::collector {

// The first signal asks the command to stop (base/stopping.h). Those of the same kind within 100 ms after one count as
// that one, because timeout(1) and supervisors signal a process and then its group. The second one kills the program,
// but if `ends_in_order` is set, the command has two seconds for its end. The first one does that too if it comes after
// the source was read, so no loop behind the reading can keep the command from its end. A third signal kills at once.
// While an exporter is `finishing`, only the third one kills.
void on_stop_signal(int number);

// Installs on_stop_signal(). An ignored SIGHUP stays ignored.
void stop_on_signals();

// The command has returned, and what is left takes less than a second: it is not killed for being late any more.
void command_has_returned();

}  // namespace nopspan::collector
