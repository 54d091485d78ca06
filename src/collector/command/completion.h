// SPDX-License-Identifier: Apache-2.0
// What a shell needs to complete a command line of this program.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace nopspan::collector {

// A script for "bash", "zsh" or "fish", made from what `app` understands.
std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace nopspan::collector
