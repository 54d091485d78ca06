// SPDX-License-Identifier: Apache-2.0
// Writes a recording with spans of many names, so that `nopspan serve --from` has many series: `bench_series FILE
// NAMES`.
#include <nopspan/recording.h>
#include <nopspan/span.h>

#include <cstdio>
#include <cstdlib>
#include <string>

int main(int argc, char** argv) {
  const long names = argc == 3 ? std::atol(argv[2]) : 0;
  if (names < 1) {
    std::fputs("usage: bench_series FILE NAMES\n", stderr);
    return 2;
  }
  nopspan::recording::Options options;
  options.buffer_bytes = std::size_t{64} << 20U;
  nopspan::recording::Writer recording;
  if (const std::string error = recording.open(argv[1], options); !error.empty()) {
    std::fprintf(stderr, "bench_series: %s\n", error.c_str());
    return 1;
  }
  for (long i = 0; i < names; ++i) {
    const std::string name = "span.name.number." + std::to_string(i);
    for (int repeated = 0; repeated < 3; ++repeated) const nopspan::Span span{nopspan::Name{name}};
  }
}
