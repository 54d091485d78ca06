// SPDX-License-Identifier: Apache-2.0
// Apart from the rest: <term.h> has macros with names such as `columns`.
#include "base/terminal.h"

#include <curses.h>
#include <term.h>
#include <unistd.h>

namespace nopspan::collector {

bool has_screen() {
  if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1) return false;
  int error = 0;
  if (setupterm(nullptr, STDOUT_FILENO, &error) != OK) return false;
  const bool has = tigetstr("cup") != nullptr;
  del_curterm(cur_term);
  return has;
}

}  // namespace nopspan::collector
