// SPDX-License-Identifier: Apache-2.0
// The smallest program with a span: g++ hello.cpp -lnopspan && ./a.out
// While it runs, trace it from another terminal, as root: nopspan top, or bpftrace scripts/spans.bt
#include <nopspan/span.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

int main(int argc, char** argv) {
  const int greetings = argc > 1 ? std::atoi(argv[1]) : 60;
  for (int number = 0; number < greetings; ++number) {
    nopspan::Span span{"hello"};  // ends with its scope
    std::this_thread::sleep_for(std::chrono::seconds(number > 0));
    if (span) span.set("number", number);
    std::puts(span ? "hello, somebody is tracing" : "hello, nobody is tracing");
  }
}
