// SPDX-License-Identifier: Apache-2.0
// Loaded into a program by LD_PRELOAD: appends each event that handlers receive to the file RECEIVED, as a line of
// JSON.
#include <nopspan/event.h>
#include <nopspan/registry.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

nopspan::Value described(const nopspan::Event& event) {
  nopspan::Value all = nopspan::Value::map({{"name", event.name()},
                                            {"status", to_string(event.status())},
                                            {"request", event.request_id()},
                                            {"trace", event.context().trace_id()},
                                            {"orphan", event.is_orphan()}});
  all.set("span", event.metadata("span_id").copy());
  all.set("parent", event.metadata("parent_id").copy());
  all.set("metadata", event.metadata().copy());
  all.set("measurements", event.measurements().copy());
  return all;
}

[[gnu::constructor]] void receive() {
  const char* const path = std::getenv("RECEIVED");
  if (path == nullptr) return;
  const nopspan::Errc error = nopspan::attach("receiver", "*", [path](const nopspan::Event& event) {
    std::FILE* const file = std::fopen(path, "a");
    if (file == nullptr) return;
    std::fputs((described(event).to_string() + "\n").c_str(), file);
    std::fclose(file);
  });
  if (error != nopspan::Errc::ok) std::fprintf(stderr, "receiver: %s\n", nopspan::describe(error));
}

}  // namespace
