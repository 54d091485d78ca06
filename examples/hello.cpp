// SPDX-License-Identifier: Apache-2.0
// The smallest program with spans: hello [GREETINGS [FILE]]. With FILE it records itself.
#include <nopspan/recording.h>
#include <nopspan/span.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  nopspan::recording::Writer recording;
  if (const std::string error = argc > 2 ? recording.open(argv[2]) : ""; !error.empty()) std::puts(error.c_str());
  for (int left = argc > 1 ? std::atoi(argv[1]) : 60; left > 0; --left) {
    nopspan::Span hello{"hello"};  // ends with its scope
    hello.set("left", left);
    nopspan::span("think", [] { sleep(1); });
    std::puts(hello ? "hello, somebody is tracing" : "hello, nobody is tracing");
  }
}
