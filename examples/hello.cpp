// SPDX-License-Identifier: Apache-2.0
// The smallest program with spans: hello [GREETINGS [FILE]]. README.md shows its trace. With FILE it records itself.
#include <nopspan/recording.h>
#include <nopspan/span.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

int main(int argc, char** argv) {
  nopspan::recording::Writer recording;
  if (const std::string error = argc > 2 ? recording.open(argv[2]) : ""; !error.empty()) std::puts(error.c_str());
  for (int left = argc > 1 ? std::atoi(argv[1]) : 60; left > 0; --left) {
    nopspan::Span hello{"hello"};  // ends with its scope
    hello.set("left", left);
    nopspan::span("think", [] { std::this_thread::sleep_for(std::chrono::seconds(1)); });
    std::puts(hello ? "hello, somebody is tracing" : "hello, nobody is tracing");
  }
}
