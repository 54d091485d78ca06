// SPDX-License-Identifier: Apache-2.0
// Prints what the collector's source delivers to a command: one JSON object per line for each span and event, and the
// ledger in the last line. The first line reports that the collector has attached.
//
//   collect [--count | --brief] [--slow US] [options of the source, as all commands have them]
//
// --count prints no spans. --brief prints only process, sequence_id and sequence of each: "=PID SEQUENCE_ID SEQUENCE".
// --slow makes the command sleep for this many microseconds for each. A line "ledger" on stdin prints the current
// ledger.
#include "base/failure.h"
#include "base/stopping.h"
#include "command/command_run.h"
#include "command/options.h"
#include "command/tracing_process.h"
#include "model/ledger.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

namespace nc = nopspan::collector;

namespace {

std::string line_of(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string hex(std::uint64_t id) {
  char text[20];
  std::snprintf(text, sizeof(text), "%llx", static_cast<unsigned long long>(id));
  return text;
}

nlohmann::ordered_json json_of(const nc::Entry& entry) {
  const char* const kinds[] = {"span", "event", "retry", "gauge", "part"};
  nlohmann::ordered_json json{{"kind", kinds[static_cast<int>(entry.kind)]},
                              {"pid", (*entry.process)->pid},
                              {"comm", (*entry.process)->comm},
                              {"thread", entry.thread_id},
                              {"sequence_id", hex(entry.sequence_id)},
                              {"sequence", entry.sequence},
                              {"request_id", nc::request_id_of(entry)},
                              {"name", entry.name},
                              {"span_id", hex(entry.span_id)},
                              {"parent_id", hex(entry.parent_id)},
                              {"root_id", hex(entry.root_id)},
                              {"status", entry.status},
                              {"flags", entry.flags},
                              {"before_attach", entry.before_attach},
                              {"start_unix_ns", entry.start_unix_ns},
                              {"duration_ns", entry.duration_ns}};
  const auto text = [&json](const char* key, std::string_view value) {
    if (!value.empty()) json[key] = value;
  };
  text("engine", entry.engine);
  text("model", entry.model);
  text("tenant", entry.tenant);
  text("exception_kind", entry.exception_kind);
  text("error_type", entry.error_type);
  text("tracestate", entry.tracestate);
  json["link_count"] = entry.links.size() / 24;
  return json;
}

class Printer : public nc::Sink {
 public:
  Printer(const nc::Source& source, bool count_only, bool brief, std::chrono::microseconds slow)
      : source_(source), count_only_(count_only), brief_(brief), slow_(slow) {}
  void on_entry(const nc::Entry& entry) override {
    if (slow_.count() > 0) std::this_thread::sleep_for(slow_);
    if (count_only_) return;
    if (brief_) {
      std::printf("=%u %llx %llu\n", (*entry.process)->pid, static_cast<unsigned long long>(entry.sequence_id),
                  static_cast<unsigned long long>(entry.sequence));
    } else {
      std::cout << line_of(json_of(entry)) << '\n';
    }
  }
  void on_tick(std::uint64_t) override {
    if (!ready_) std::cout << "ready " << getpid() << '\n';
    ready_ = true;
    pollfd in{STDIN_FILENO, POLLIN, 0};
    while (poll(&in, 1, 0) > 0) {
      std::string line;
      if (!std::getline(std::cin, line)) {
        in.fd = -1;
        break;
      }
      if (line == "ledger") std::cout << line_of({{"ledger", nc::to_json(source_.ledger())}}) << '\n';
    }
    std::cout.flush();
  }

 private:
  const nc::Source& source_;
  bool count_only_;
  bool brief_;
  std::chrono::microseconds slow_;
  bool ready_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"What the collector's source gives to commands"};
  nc::SourceOptions options;
  bool count_only = false, brief = false;
  std::chrono::microseconds::rep slow = 0;
  app.add_flag("--count", count_only);
  app.add_flag("--brief", brief);
  app.add_option("--slow", slow);
  nc::add_source_options(app, options);
  CLI11_PARSE(app, argc, argv);
  for (const int number : {SIGINT, SIGTERM}) std::signal(number, [](int) { nc::stopping = true; });
  try {
    return nc::run_with_source(options, {}, [&](const std::unique_ptr<nc::Source>& source) {
      Printer printer(*source, count_only, brief, std::chrono::microseconds(slow));
      nc::CommandRun(options, {}).run(*source, printer, [&source] { return source->ledger(); });
      std::cout << line_of({{"ledger", nc::to_json(source->ledger())}}) << std::endl;
      return source->ledger().damage.empty() ? 0 : nc::Failure::kFailed;
    });
  } catch (const nc::Failure& failure) {
    std::cerr << "collect: " << failure.what() << '\n';
    return failure.exit_status;
  }
}
