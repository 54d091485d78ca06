// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_OWN_RECORDING_H
#define EXAMPLES_OWN_RECORDING_H

#ifdef EXAMPLES_RECORDING
#include <nopspan/recording.h>
#endif

#include <CLI/CLI.hpp>
#include <string>

namespace example {

// A recording that the program writes of itself, for hosts where the collector cannot attach. Without the library
// nopspan::recording, the program does not have the option.
class OwnRecording {
 public:
  // Adds the option --record.
  void declare_option(CLI::App& app);
  // Begins to record if the option was given. Throws std::runtime_error.
  void open();
  // Returns "", or that entries are missing.
  std::string close();

 private:
#ifdef EXAMPLES_RECORDING
  std::string target_;
  nopspan::recording::Writer writer_;
#endif
};

}  // namespace example

#endif  // EXAMPLES_OWN_RECORDING_H
