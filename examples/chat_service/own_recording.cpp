// SPDX-License-Identifier: Apache-2.0
#include "own_recording.h"

#include <stdexcept>

namespace example {

#ifdef EXAMPLES_RECORDING

void OwnRecording::declare_option(CLI::App& app) {
  app.add_option("--record", target_, "write a recording of this program to this file, or to a reader: unix:PATH");
}

void OwnRecording::open() {
  if (target_.empty()) return;
  const std::string error = writer_.open(target_);
  if (!error.empty()) throw std::runtime_error("--record: " + error);
}

std::string OwnRecording::close() { return writer_.close() ? "" : "entries are missing in " + target_; }

#else

void OwnRecording::declare_option(CLI::App& /*app*/) {}
void OwnRecording::open() {}
std::string OwnRecording::close() { return ""; }

#endif

}  // namespace example
