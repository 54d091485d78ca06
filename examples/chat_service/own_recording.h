// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_OWN_RECORDING_H
#define EXAMPLES_OWN_RECORDING_H

#include <CLI/CLI.hpp>
#include <stdexcept>
#include <string>
#ifdef EXAMPLES_RECORDING
#include <nopspan/recording.h>
#endif

namespace example {

// A recording that the program writes of itself, for hosts where the collector cannot attach. Without the library
// nopspan::recording, the program does not have the option --record.
class OwnRecording {
 public:
#ifdef EXAMPLES_RECORDING
  void declare_option(CLI::App& app) {
    app.add_option("--record", target_, "write a recording of this program to this file, or to a reader: unix:PATH");
  }
  // Begins to record if the option was given. Throws std::runtime_error.
  void open() {
    if (target_.empty()) return;
    const std::string error = writer_.open(target_);
    if (!error.empty()) throw std::runtime_error("--record: " + error);
  }
  // Returns false if entries are missing.
  bool close() { return writer_.close(); }

 private:
  std::string target_;
  nopspan::recording::Writer writer_;
#else
  void declare_option(CLI::App& /*app*/) {}
  void open() {}
  bool close() { return true; }
#endif
};

}  // namespace example

#endif  // EXAMPLES_OWN_RECORDING_H
