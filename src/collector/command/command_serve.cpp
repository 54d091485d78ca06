// SPDX-License-Identifier: Apache-2.0
// nopspan serve: metrics of all spans, for Prometheus.
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/metrics_service.h"
#include "command/options.h"
#include "command/tracing_process.h"
#include "model/filtered_source.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr char kServeDescription[] =
    "Serves metrics of spans, GenAI requests and engines by HTTP, for Prometheus:\n"
    "rates, errors and durations of every span name, tokens, times to first token,\n"
    "queues and gauges, and the ledger. docs/metrics.md lists them. The process that\n"
    "serves has no privileges; another one traces.";
constexpr char kServeExamples[] =
    "Examples:\n"
    "  nopspan serve                                    on 127.0.0.1:9464\n"
    "  nopspan serve 0.0.0.0:9464 --host node7          for a Prometheus elsewhere\n"
    "  nopspan serve --from spans.rec                   a recording, until Ctrl-C\n"
    "  nopspan serve --from unix:/run/nopspan.sock      programs that record\n"
    "                                                   themselves";

constexpr std::chrono::milliseconds kLookAtEnd{100};

struct ServeOptions {
  SourceOptions source;
  MetricsOptions metrics;
};

bool is_regular_file(const std::string& path) {
  struct stat facts {};
  const int found = path == "-" ? fstat(STDIN_FILENO, &facts) : stat(path.c_str(), &facts);
  return found == 0 && S_ISREG(facts.st_mode);
}

nlohmann::ordered_json to_json(const MetricServerCounts& counts) {
  nlohmann::ordered_json json;
  for (const MetricServerCountField& field : kServerCounts) json[field.name] = counts.*field.count;
  return json;
}

std::string to_text(const MetricServerCounts& counts) {
  std::string text = counted(counts.scrapes, "scrape") + " answered";
  for (const auto& [name, count, is_answer, one, what] : kServerCounts) {
    if (one != nullptr && counts.*count > 0) text += ", " + counted(counts.*count, one) + what;
  }
  return text + "\n";
}

int serve(const ServeOptions& options, const OutputOptions& common, std::unique_ptr<Source> unfiltered) {
  const std::string& from = options.source.from;
  FilteredSource source(std::move(unfiltered), options.source.filter);
  MetricsService service(options.metrics, source);
  service.serve(options.metrics.server);
  std::cerr << "Metrics are at http://" + service.server()->address() + "/metrics. Press Ctrl-C to stop.\n";
  if (from.empty()) set_standard_outputs_live();
  CommandRun run(options.source, options.source.filter);
  Deadline until(options.source.duration_ns);  // also for a recording that ends before
  until.begin();
  run.run(source, service, [&source] { return source.ledger(); });
  service.update();
  if (is_regular_file(from) && !stopping) {
    std::cerr << printable(from) + " is read completely, and is served until " +
                     (options.source.duration_ns > 0 ? "--duration is over" : "Ctrl-C") + ".\n";
    while (!until.is_over()) {
      std::this_thread::sleep_for(kLookAtEnd);
      service.update();
    }
  }
  const MetricServerCounts counts = service.server()->counts();
  const Ledger ledger = source.ledger();
  std::cerr << remark_text(source.remark());
  if (common.json) {
    nlohmann::ordered_json json = {{"requests", to_json(counts)}, {"ledger", to_json(ledger)}};
    std::cout << json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
  } else {
    std::cerr << to_text(counts) << to_text(ledger);
  }
  return run.exit_status();
}

}  // namespace

void add_serve(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* command = app.add_subcommand("serve", "Serve metrics for Prometheus");
  command->footer(std::string(kServeDescription) + "\n\n" + kServeExamples);
  command
      ->add_option("ADDRESS", options->metrics.server.address,
                   "Address and port to listen on (default: 127.0.0.1:9464); port 0 takes a free one")
      ->check(some_text());
  add_metrics_options(*command, options->metrics);
  add_source_options(*command, options->source);
  describe_span_filters(*command);
  command->callback([options, &common, &run] {
    run = [options, &common] {
      return run_with_source(options->source, {{}, {}, {}, true}, [&](std::unique_ptr<Source> source) {
        return serve(*options, common, std::move(source));
      });
    };
  });
}

}  // namespace nopspan::collector
