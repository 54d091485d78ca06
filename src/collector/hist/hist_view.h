// SPDX-License-Identifier: Apache-2.0
// How histograms look to people.
#pragma once

#include "hist/hist_table.h"

#include <cstddef>
#include <string>

namespace nopspan::collector {

struct HistStyle {
  std::size_t width = 80;  // columns
  bool color = false;
  bool blocks = true;         // UTF-8's; else ASCII
  std::size_t most_rows = 0;  // 0: all

  // As stdout is: its width if it is a terminal (else COLUMNS, else 80), blocks where the locale has UTF-8.
  static HistStyle of_stdout(bool color);
};

std::string to_text(const HistTable& table, const HistStyle& style);
// The ledger as all commands print it, and how many times are in the row `other`.
std::string ledger_text(const HistTable& table);

}  // namespace nopspan::collector
