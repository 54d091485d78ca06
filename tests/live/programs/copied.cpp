// SPDX-License-Identifier: Apache-2.0
// A service that a test restores from a checkpoint, twice: copied TARGET FILE. It records itself to TARGET, and appends
// the trace id and the span id of each of its spans to FILE, 20 requests per second. Every other request is of a caller
// that calls all copies. The file is opened for each line, so that no checkpoint has it.
#include <nopspan/context.h>
#include <nopspan/propagation.h>
#include <nopspan/recording.h>
#include <nopspan/span.h>

#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace {

void note(const char* path, const nopspan::Span& span) {
  std::FILE* const file = std::fopen(path, "a");
  if (file == nullptr) return;
  const auto trace = span.context().trace_id();
  std::fprintf(file, "%s %016llx\n", trace.c_str(), static_cast<unsigned long long>(span.context().span_id()));
  std::fclose(file);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  nopspan::recording::Writer writer;
  if (const std::string error = writer.open(argv[1]); !error.empty()) {
    std::fprintf(stderr, "%s\n", error.c_str());
    return 1;
  }
  const std::vector<std::pair<std::string, std::string>> caller{
      {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}};
  for (;;) {
    {
      const nopspan::Span own{"copied.own"};
      note(argv[2], own);
    }
    {
      const nopspan::ContextScope from{nopspan::extract(caller)};
      const nopspan::Span called{"copied.called"};
      note(argv[2], called);
    }
    usleep(50'000);
  }
}
