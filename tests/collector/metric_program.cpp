// SPDX-License-Identifier: Apache-2.0
// Serves files as metrics: metric_program FOLDER ADDRESS [HOST]. A request gets FOLDER/text or FOLDER/openmetrics.
// Prints the address, and its counts as JSON for each line that it reads. Ends at the end of stdin.
#include "base/failure.h"
#include "serve/metric_server.h"
#include "temporary_folder.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <iostream>
#include <stdexcept>
#include <string>

using namespace nopspan::collector;

int main(int count, char** words) {
  if (count < 3) return Failure::kUsageError;
  const std::string folder = words[1];
  MetricServerOptions options;
  options.address = words[2];
  if (count > 3) options.hosts = {words[3]};
  // A test that writes a file wants to read it back at once.
  options.reuse = std::chrono::milliseconds(0);
  try {
    const MetricServer server(options, [&](MetricFormat format) {
      const std::string path = folder + (format == MetricFormat::text ? "/text" : "/openmetrics");
      if (!std::filesystem::exists(path)) throw std::runtime_error("no " + path);
      return contents_of(path);
    });
    std::cout << server.address() << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
      const MetricServerCounts now = server.counts();
      nlohmann::json json;
      for (const MetricServerCountField& field : kServerCounts) json[field.name] = now.*field.count;
      std::cout << json << std::endl;
    }
  } catch (const Failure& failure) {
    std::cerr << failure.what() << '\n';
    return failure.exit_status;
  }
}
