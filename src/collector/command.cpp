// SPDX-License-Identifier: Apache-2.0
#include "command.h"

#include "failure.h"
#include "text.h"

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>

namespace nopspan::collector {

std::atomic<bool> stopping = false;

namespace {

using Parse = std::uint64_t (*)(const std::string&);

CLI::Option* add_parsed(CLI::App& app, const std::string& name, std::uint64_t& value, const std::string& what,
                        Parse parse) {
  const auto read = [&value, parse, name](const std::string& text) {
    try {
      value = parse(text);
    } catch (const Failure& failure) {
      throw CLI::ValidationError(name, failure.what());
    }
  };
  return app.add_option_function<std::string>(name, read, what);
}

// Ends the run when its time is over, counted from when the source is live.
class Limited : public Sink {
 public:
  Limited(Sink& sink, std::uint64_t duration_ns) : sink_(sink), duration_(duration_ns) {}
  void on_span(const Span& span) override { sink_.on_span(span); }
  void on_tick(std::uint64_t now_unix_ns) override {
    sink_.on_tick(now_unix_ns);
    const auto now = Clock::now();
    if (began_ == Clock::time_point()) began_ = now;
    if (now - began_ >= duration_) stopping = true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Sink& sink_;
  std::chrono::nanoseconds duration_;
  Clock::time_point began_;
};

}  // namespace

CLI::Option* add_duration_option(CLI::App& app, const std::string& name, std::uint64_t& ns, const std::string& what) {
  return add_parsed(app, name, ns, what, parse_duration)->type_name("TIME");
}

CLI::Option* add_bytes_option(CLI::App& app, const std::string& name, std::uint64_t& bytes, const std::string& what) {
  return add_parsed(app, name, bytes, what, parse_bytes)->type_name("SIZE");
}

void add_source_options(CLI::App& app, SourceOptions& options) {
  constexpr char kGroup[] = "Source";
  add_filter_options(app, options.filter);
  CLI::Option* from =
      app.add_option("--from", options.from, "Read a recording (nopspan record) instead of this host's processes")
          ->type_name("FILE");
  CLI::Option* binary =
      app.add_option("--binary", options.binary, "Trace this program or library too, also before it is started")
          ->type_name("FILE");
  CLI::Option* buffer = add_bytes_option(app, "--buffer", options.buffer_bytes,
                                         "Kernel's buffer: a larger one loses less under load (16M)");
  CLI::Option* max_age =
      add_duration_option(app, "--max-age", options.max_age_ns, "Fetch what an idle thread has held for so long (1s)");
  CLI::Option* duration =
      add_duration_option(app, "--duration", options.duration_ns, "End after so long (else: at Ctrl-C)");
  CLI::Option* per_event =
      app.add_flag("--per-event", options.per_event, "One probe hit a span instead of batches: at once, but dearer");
  for (CLI::Option* option : {from, binary, buffer, max_age, duration, per_event}) option->group(kGroup);
  for (CLI::Option* option : {binary, buffer, max_age, per_event}) from->excludes(option);
}

void run_source(Source& source, Sink& sink, const SourceOptions& options, bool quiet) {
  if (options.duration_ns > 0) {
    Limited limited(sink, options.duration_ns);
    source.run(limited, stopping);
  } else {
    source.run(sink, stopping);
  }
  if (quiet) return;
  std::cout.flush();
  std::cerr << remark_text(source) << to_text(source.ledger());
}

std::string remark_text(const Source& source) {
  const std::string remark = source.remark();
  return remark.empty() ? "" : "nopspan: " + printable(remark) + "\n";
}

}  // namespace nopspan::collector
