// SPDX-License-Identifier: Apache-2.0
#include "base/terminal.h"

#include "base/cells.h"
#include "base/failure.h"
#include "base/stop_signals.h"
#include "base/stopping.h"

#define NCURSES_NOMACROS 1
#include <curses.h>
#include <fcntl.h>
#include <langinfo.h>
#include <poll.h>
#include <sys/stat.h>
#include <termcap.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

// Numbers of ncurses color pairs.
enum Pair : short { kHeader = 1, kSorted, kSelected, kGood, kBad };

// The modes of the terminal before it became a screen.
termios modes_before;
bool has_modes_before = false;

bool is_same_terminal(int a, int b) {
  struct stat of_a = {}, of_b = {};
  return isatty(a) == 1 && isatty(b) == 1 && fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 &&
         of_a.st_rdev == of_b.st_rdev;
}

}  // namespace

bool has_screen() {
  const char* type = std::getenv("TERM");
  return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && type != nullptr && tgetent(nullptr, type) == 1 &&
         tgetstr("cm", nullptr) != nullptr;
}

Terminal::Terminal(bool color) : color_(color), has_utf8_(std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0) {
  has_modes_before = tcgetattr(STDIN_FILENO, &modes_before) == 0;
  screen_ = newterm(nullptr, stdout, stdin);
  if (screen_ == nullptr) {
    throw Failure("this terminal (TERM) does not support a full screen; use --plain");
  }
  struct sigaction action = {};
  action.sa_handler = on_stop_signal;
  ends_in_order = true;
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &before_[i]);
  cbreak();
  noecho();
  nonl();
  keypad(stdscr, true);
  nodelay(stdscr, true);
  set_escdelay(25);
  curs_set(0);
  color_ = color_ && has_colors() && start_color() == OK && use_default_colors() == OK;
  if (color_) {
    init_pair(kHeader, COLOR_BLACK, COLOR_GREEN);
    init_pair(kSorted, COLOR_BLACK, COLOR_CYAN);
    init_pair(kSelected, COLOR_BLACK, COLOR_CYAN);
    init_pair(kGood, COLOR_GREEN, -1);
    init_pair(kBad, COLOR_RED, -1);
  }
  hold_stderr();
}

void Terminal::restore() {
  if (screen_ == nullptr) return;
  endwin();
  delscreen(static_cast<SCREEN*>(screen_));
  screen_ = nullptr;
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  release_stderr();
}

bool Terminal::takes_output() {
  pollfd terminal = {STDOUT_FILENO, POLLOUT, 0};
  return poll(&terminal, 1, 0) > 0;
}

void Terminal::restore_modes() {
  if (has_modes_before) tcsetattr(STDIN_FILENO, TCSANOW, &modes_before);
}

// Redirects stderr into a pipe. Text beyond the pipe's capacity is lost.
void Terminal::hold_stderr() {
  int ends[2];
  if (!is_same_terminal(STDOUT_FILENO, STDERR_FILENO) || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
  stderr_fd_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  held_fd_ = ends[0];
  dup2(ends[1], STDERR_FILENO);
  close(ends[1]);
}

void Terminal::release_stderr() {
  if (held_fd_ < 0) return;
  dup2(stderr_fd_, STDERR_FILENO);
  close(stderr_fd_);
  // A write that did not fit into the pipe has set the streams' error state. Clear it, so that later messages are
  // written.
  std::cerr.clear();
  clearerr(stderr);
  std::array<char, 4096> text;
  for (ssize_t bytes = 0; (bytes = read(held_fd_, text.data(), text.size())) > 0;) {
    std::fwrite(text.data(), 1, static_cast<std::size_t>(bytes), stderr);
  }
  close(held_fd_);
  held_fd_ = -1;
}

int Terminal::attributes_of(Style style) const {
  struct Look {
    short pair;  // of colors; 0: none
    int without;
  };
  // By Style.
  static constexpr Look kLooks[] = {{0, A_NORMAL},
                                    {0, A_BOLD},
                                    {kHeader, A_REVERSE},
                                    {kSorted, A_REVERSE | A_BOLD},
                                    {kSelected, A_BOLD | A_UNDERLINE},
                                    {kGood, A_NORMAL},
                                    {kBad, A_BOLD},
                                    {0, A_DIM}};
  const Look& look = kLooks[static_cast<std::size_t>(style)];
  return color_ && look.pair != 0 ? static_cast<int>(COLOR_PAIR(look.pair)) : look.without;
}

void Terminal::begin() {
  int rows = 0, columns = 0;
  getmaxyx(stdscr, rows, columns);
  height_ = static_cast<std::size_t>(rows);
  width_ = static_cast<std::size_t>(columns);
  curs_set(0);
  ::erase();
}

void Terminal::put(std::size_t row, std::size_t column, std::string_view text, Style style) {
  if (row >= height_ || column >= width_) return;
  std::string shown(text);
  if (cells_of(shown) > width_ - column) shown = fit(shown, width_ - column);
  if (!has_utf8_) shown = ascii_only(shown);
  attrset(attributes_of(style));
  mvaddstr(static_cast<int>(row), static_cast<int>(column), shown.c_str());
  attrset(A_NORMAL);
}

void Terminal::put_line(std::size_t row, std::string_view text, Style style) { put(row, 0, fit(text, width_), style); }

void Terminal::put_cursor(std::size_t row, std::size_t column) const {
  if (row >= height_ || column >= width_) return;
  ::move(static_cast<int>(row), static_cast<int>(column));
  curs_set(1);
}

void Terminal::end() { refresh(); }

std::uint32_t Terminal::key() {
  wint_t typed = 0;
  const int what = get_wch(&typed);
  if (what == ERR) return none;
  if (what != KEY_CODE_YES) {
    if (typed == '\r' || typed == '\n') return enter;
    if (typed == '\b' || typed == 0x7f) return erase;
    if (typed == ('L' & 0x1f)) {  // Ctrl-L: another program has written to the screen, so redraw all of it
      clearok(curscr, true);
      return other;
    }
    return static_cast<std::uint32_t>(typed);
  }
  static constexpr std::pair<wint_t, Key> kKeys[] = {
      {KEY_UP, up},           {KEY_DOWN, down},    {KEY_LEFT, left},  {KEY_RIGHT, right}, {KEY_PPAGE, page_up},
      {KEY_NPAGE, page_down}, {KEY_HOME, to_home}, {KEY_END, to_end}, {KEY_ENTER, enter}, {KEY_BACKSPACE, erase}};
  for (const auto& [code, key] : kKeys) {
    if (typed == code) return key;
  }
  return other;
}

bool Terminal::wait(int fd, int milliseconds) {
  pollfd waited[] = {{STDIN_FILENO, POLLIN, 0}, {fd, POLLIN, 0}};
  if (poll(waited, 2, milliseconds) < 0) return errno == EINTR;
  return (waited[0].revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
}

}  // namespace nopspan::collector
