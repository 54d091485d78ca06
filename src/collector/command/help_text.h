// SPDX-License-Identifier: Apache-2.0
// What --help prints.
#pragma once

#include <memory>

namespace CLI {
class FormatterBase;
}

namespace nopspan::collector {

// For CLI::App::formatter(), before commands are added: these take it over.
std::shared_ptr<CLI::FormatterBase> help_formatter();

}  // namespace nopspan::collector
