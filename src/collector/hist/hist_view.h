// SPDX-License-Identifier: Apache-2.0
// Prints a table of histograms as text.
#pragma once

#include "hist/hist_table.h"

#include <cstddef>
#include <string>

namespace nopspan::collector {

struct HistStyle {
  std::size_t width = 80;  // columns
  bool color = false;
  bool blocks = true;         // UTF-8 block characters instead of ASCII
  std::size_t most_rows = 0;  // 0: all

  // Suits stdout: `width` is that of the terminal (otherwise COLUMNS, otherwise 80), and `blocks` is set if the locale
  // is UTF-8.
  static HistStyle of_stdout(bool color);
};

std::string to_text(const HistTable& table, const HistStyle& style);
// The ledger as all commands print it, and the number of times in the row `other`.
std::string ledger_text(const HistTable& table);

}  // namespace nopspan::collector
