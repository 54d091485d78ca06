// SPDX-License-Identifier: Apache-2.0
// Writes OTLP requests of random entries, each as protobuf (.pb) and as JSON (.json): export_examples DIR. With `-` in
// place of DIR and a number in place of a signal (0 traces, 1 logs, 2 metrics), it writes the JSON of the request that
// it reads: export_examples - 0
#include "kept_entry.h"

#include "export/export_feed.h"
#include "export/otlp_json.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

using namespace nopspan::collector;

namespace {

constexpr std::uint64_t kBegin = 1'790'000'000'000'000'000;

class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {}
  void write(const std::string& name, const ExportBody& body) const {
    const auto json = otlp_json(body.signal, body.bytes);
    if (!json) {
      std::fprintf(stderr, "%s: no JSON\n", name.c_str());
      std::exit(1);
    }
    std::ofstream(path_ + "/" + name + ".pb", std::ios::binary) << body.bytes;
    std::ofstream(path_ + "/" + name + ".json", std::ios::binary) << *json;
  }

 private:
  std::string path_;
};

void write_random(const Folder& folder) {
  std::mt19937_64 random(19);
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2), make_process(15, "")};
  ExportFeed feed({}, [&folder](const ExportBody& body) {
    folder.write(body.signal == Signal::traces ? "random-traces" : "random-logs", body);
  });
  feed.on_tick(kBegin + 5 * kSecond);
  std::vector<nopspan_member> members;
  for (int i = 0; i < 500; ++i) {
    feed.add(any_span(random, processes).entry());
    if (i % 10 == 0) feed.add(any_step(random, processes, members).entry());
  }
  feed.finish();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3) {
    const std::string request(std::istreambuf_iterator<char>(std::cin), {});
    const auto json = otlp_json(static_cast<Signal>(std::atoi(argv[2])), request);
    if (json) std::fwrite(json->data(), 1, json->size(), stdout);
    return json ? 0 : 1;
  }
  if (argc != 2) return 2;
  const Folder folder(argv[1]);
  write_random(folder);
}
