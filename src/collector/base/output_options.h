// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nopspan::collector {

// Options that every command has. `--json` before or after the command's name.
struct OutputOptions {
  bool json = false;
  bool color = false;  // stdout is a terminal, and NO_COLOR and --no-color do not forbid it
};

}  // namespace nopspan::collector
