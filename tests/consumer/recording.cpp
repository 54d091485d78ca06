// SPDX-License-Identifier: Apache-2.0
// A program that records itself to a file, for tests of nopspan::recording as installed.
#include <nopspan/recording.h>
#include <nopspan/span.h>

#include <cstdio>
#include <string>

int main(int, char** arguments) {
  nopspan::recording::Writer recording;
  if (const std::string error = recording.open(arguments[1]); !error.empty()) {
    std::puts(error.c_str());
    return 1;
  }
  for (int i = 0; i < 10; ++i) {
    const nopspan::Span span{"consumer.recorded"};
    if (!span) return 2;
  }
  return recording.close() ? 0 : 3;
}
