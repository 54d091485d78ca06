// SPDX-License-Identifier: Apache-2.0
// nopspan export: sends spans, logs and metrics to OTLP receivers. nopspan serve is the same without a receiver.
#include "base/failure.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/live_page.h"
#include "command/metrics_service.h"
#include "command/options.h"
#include "command/tracing_process.h"
#include "export/exported_attributes.h"
#include "export/exporter.h"
#include "export/header_file.h"
#include "export/otlp_receiver.h"
#include "export/otlp_settings.h"
#include "host/host_name.h"
#include "host/process_facts.h"
#include "metric/metric_otlp.h"
#include "model/filter.h"
#include "model/service.h"
#include "model/source.h"
#include "trace/trace_stage.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr char kExportDescription[] =
    "Sends spans, logs and metrics to an OTLP receiver, for example the OpenTelemetry\n"
    "Collector, Tempo or Jaeger. The process that sends has no privileges. Another\n"
    "one traces.\n"
    "\n"
    "The variables OTEL_EXPORTER_OTLP_* and OTEL_RESOURCE_ATTRIBUTES of the\n"
    "OpenTelemetry specification apply where an option is not given.\n"
    "\n"
    "--sample, --sampled-only and --request choose the same requests on every host.\n"
    "--slower-than, --errors, --name, --model, --tenant, --where and --error choose\n"
    "by this host's part of a request when it has ended: the parts of other hosts may\n"
    "be left out there. Metrics count all requests. Only --pid and --cgroup restrict\n"
    "metrics too.\n"
    "\n"
    "At the end each receiver has an account in which each item is in one state:\n"
    "accepted, rejected (by the receiver, one by one), refused (with its request),\n"
    "dropped (not sent, or the receiver was too busy until the end), unconfirmed\n"
    "(sent, but not answered: it may be there), spooled (on disk, for the next run),\n"
    "or left out (by the filters). If the last run with this --spool was killed or\n"
    "failed, what it had only in memory or had lost counts as missing. The exit\n"
    "status is 1 if items were rejected, refused, dropped, unconfirmed or missing.\n"
    "While the command sends what is left, a second Ctrl-C ends that: what is in\n"
    "memory is spooled or counted. A third one ends the command at once, without\n"
    "accounts.";
constexpr char kExportExamples[] =
    "Examples:\n"
    "  nopspan export --otlp http://localhost:4318       everything, over HTTP\n"
    "  nopspan export --otlp https://otlp.example:4317 --protocol grpc\n"
    "                                                    over gRPC with TLS\n"
    "  nopspan export --otlp http://localhost:4318 --slower-than 2s\n"
    "                                                    spans of requests that were\n"
    "                                                    slow on this host\n"
    "  nopspan export --otlp http://localhost:4318 --spool /var/lib/nopspan/spool\n"
    "                                                    survives an outage of the\n"
    "                                                    receiver\n"
    "  nopspan export --otlp-file DIR --from spans.rec   a recording, to files\n"
    "  nopspan export --otlp http://localhost:4318 --serve 127.0.0.1:9464\n"
    "                                                    also for Prometheus";

constexpr char kServeDescription[] =
    "Serves metrics of spans, GenAI requests and engines by HTTP, for Prometheus:\n"
    "rates, errors and durations of every span name, tokens, times to first token,\n"
    "queues and gauges, and the ledger. docs/metrics.md lists them. Everybody who can\n"
    "connect may read them.\n"
    "\n"
    "At / is a page of requests: those in flight, and those that have ended while the\n"
    "page was open. Processes of root and of the user of this command may read it, if\n"
    "they connect on this host, and everybody who opens the address that the command\n"
    "prints, which has a token. After sudo, your browser needs the token, and so does\n"
    "everything behind a proxy.\n"
    "\n"
    "The process that serves has no privileges; others trace, and read what is in\n"
    "flight.";
constexpr char kServeExamples[] =
    "Examples:\n"
    "  nopspan serve                                    on 127.0.0.1:9464\n"
    "  nopspan serve 0.0.0.0:9464 --host node7          for a Prometheus elsewhere\n"
    "  nopspan serve --from spans.rec                   a recording, until Ctrl-C\n"
    "  nopspan serve --from unix:/run/nopspan.sock      programs that record\n"
    "                                                   themselves";

struct ExportCommandOptions {
  SourceOptions source;
  bool to_network = false;
  OtlpOptions otlp;
  std::string header_file;
  std::optional<HeaderFile> headers;  // that file
  std::string needs_receiver;         // an option that was given and is only for an OTLP receiver
  std::string files;                  // a folder
  std::vector<std::string> signals = {"traces", "logs", "metrics"};
  ExportOptions content;
  Temporality temporality = Temporality::cumulative;
  TraceStageOptions stage;
  MetricsOptions metrics;
  bool serves = false;
  // `nopspan serve`: no receivers, the filters apply to the metrics, and a recording is served after its end too.
  bool only_serves = false;
  std::uint64_t queue_bytes = 64U << 20U, retry_ns = 300 * kSecond, end_ns = 10 * kSecond;
  std::uint64_t metric_interval_ns = 0;  // 0: not given
  std::string spool;
  std::uint64_t spool_bytes = std::uint64_t{1} << 30U;

  [[nodiscard]] bool has_metrics() const { return serves || wants("metrics"); }
  [[nodiscard]] bool exports_metrics(const Exporter& exporter) const {
    return wants("metrics") && !exporter.receivers().empty();
  }
  [[nodiscard]] bool wants(const char* signal) const {
    return std::find(signals.begin(), signals.end(), signal) != signals.end();
  }
};

bool is_file(const ExportCommandOptions& options) {
  return !options.source.from.empty() && !options.source.from.starts_with("unix:");
}

// The part of the filter that requests in flight can satisfy.
OpenFilter open_filter(const Filter& filter) {
  OpenFilter open;
  open.request = filter.request;
  open.name = filter.name;
  open.model = filter.model;
  open.tenant = filter.tenant;
  open.where = filter.where;
  return open;
}

Process own_process() {
  Process self;
  self.pid = self.namespace_pid = static_cast<std::uint32_t>(getpid());
  self.comm = "nopspan";
  self.library_version = NOPSPAN_VERSION;
  self.host = host_name();
  self.boot_id = boot_id();
  set_own_service(self);
  return self;
}

// Passes everything on to the receivers and to the metrics, so that one attach serves both. The receivers get a
// snapshot of the metrics at each interval.
class ExportSink : public Sink {
 public:
  ExportSink(const ExportCommandOptions& options, Exporter& exporter, MetricsService& service, LivePage& page)
      : exporter_(exporter),
        service_(service),
        page_(page),
        content_(options.content),
        deltas_(options.temporality),
        has_metrics_(options.has_metrics()),
        posts_metrics_(options.exports_metrics(exporter)),
        interval_(options.metric_interval_ns) {}

  void on_entry(const Entry& entry) override {
    exporter_.on_entry(entry);
    if (has_metrics_) service_.on_entry(entry);
    page_.on_entry(entry);
  }
  void on_tick(std::uint64_t now_unix_ns) override {
    exporter_.on_tick(now_unix_ns);
    page_.on_tick(now_unix_ns);
    if (!has_metrics_) return;
    service_.on_tick(now_unix_ns);
    if (posts_metrics_ && std::chrono::steady_clock::now() >= posted_ + interval_) post();
  }
  // After the last entry.
  void finish() {
    if (has_metrics_) service_.finish();
    posts_metrics_ ? post() : service_.update();
    page_.finish();
  }

 private:
  void post() {
    posted_ = std::chrono::steady_clock::now();
    service_.update();
    MetricSnapshot snapshot = service_.exported();
    deltas_.apply(snapshot);
    const auto resource_of = [this](const Process* about) {
      std::uint64_t repaired = 0;
      Process resource = about != nullptr ? *about : own_;
      // A service on a host knows only the boot id (service_as_process()).
      if (resource.host.empty() && resource.boot_id == own_.boot_id) resource.host = own_.host;
      return exported_resource(resource, content_, repaired);
    };
    std::vector<ExportBody> bodies;
    for (OtlpMetrics& metrics : otlp_metrics(snapshot, resource_of, NOPSPAN_VERSION, content_.semconv)) {
      bodies.push_back({Signal::metrics, std::move(metrics.bytes), {0, 0, 0, metrics.points}});
    }
    for (const auto& receiver : exporter_.receivers()) receiver->add_metrics(bodies);
  }

  Exporter& exporter_;
  MetricsService& service_;
  LivePage& page_;
  const ExportOptions content_;
  MetricDeltas deltas_;
  const Process own_ = own_process();
  const bool has_metrics_, posts_metrics_;
  const std::chrono::nanoseconds interval_;
  std::chrono::steady_clock::time_point posted_ = std::chrono::steady_clock::now();
};

void say(const std::string& message) { standard_error().write("nopspan: " + printable(message, 1000) + "\n"); }

nlohmann::ordered_json to_json(Receiver& receiver) {
  const ExportBodies::Counts counts = receiver.counts();
  nlohmann::ordered_json json = {{"receiver", receiver.name()}};
  json.update(to_json(receiver.account().totals()));
  json["measured"] = counts.measured;
  json["late_events"] = counts.late_events;
  json["made_events"] = counts.made_events;
  json["repaired_texts"] = counts.repaired_texts;
  json["dropped_attributes"] = counts.dropped_attributes;
  return json;
}

constexpr std::pair<const char*, Signal> kSignalNames[] = {
    {"traces", Signal::traces}, {"logs", Signal::logs}, {"metrics", Signal::metrics}};

// The URLs of the signals that are exported. Equal ones are named once, others with their signals.
std::string receiver_name(const OtlpSettings& settings, const ExportCommandOptions& options) {
  std::vector<std::pair<std::string, std::string>> names;  // a URL, and its signals
  for (const auto& [name, signal] : kSignalNames) {
    if (!options.wants(name)) continue;
    const std::string url = receiver_url(settings.of(signal), signal);
    const auto found = std::find_if(names.begin(), names.end(), [&](const auto& one) { return one.first == url; });
    if (found == names.end()) {
      names.emplace_back(url, name);
    } else {
      found->second += std::string(",") + name;
    }
  }
  if (names.size() == 1) return names.front().first;
  std::string text;
  for (const auto& [url, signals] : names) {
    if (!text.empty()) text += " ";
    (text += url) += " (";
    (text += signals) += ")";
  }
  return text;
}

// The headers of the command line, if --header-file has other ones than before.
HeaderRenewal header_renewal(const ExportCommandOptions& options) {
  if (!options.headers) return nullptr;
  return [file = *options.headers, otlp = options.otlp]() mutable -> std::optional<NamesAndValues> {
    try {
      if (!file.read_if_changed()) return {};
      otlp.file_headers = file.headers();
      NamesAndValues headers = given_headers(otlp);
      say("--header-file was read again, because it has changed");
      return headers;
    } catch (const Failure& failure) {
      say(std::string(failure.what()) + ": the headers that were read before are still sent");
      return {};
    }
  };
}

void add_receivers(Exporter& exporter, ExportCommandOptions& options) {
  if (options.files.empty() && !options.to_network) return;
  if (auto attributes = resource_attributes()) {
    options.content.resource_attributes = std::move(*attributes);
  } else {
    say("OTEL_RESOURCE_ATTRIBUTES: write NAME=VALUE,NAME=VALUE, with %XX for special characters: ignored");
  }
  std::vector<std::string> warnings;
  options.temporality = metric_temporality(warnings);
  for (const std::string& warning : warnings) say(warning);
  if (!options.files.empty()) exporter.add(std::make_unique<FileReceiver>(options.files, options.content, say));
  if (!options.to_network) return;
  const OtlpSettings settings = otlp_settings(options.otlp);
  for (const std::string& warning : settings.warnings) say(warning);
  OtlpReceiverOptions receiver;
  receiver.name = receiver_name(settings, options);
  receiver.content = options.content;
  receiver.queue.traces = options.wants("traces");
  receiver.queue.logs = options.content.logs;
  receiver.queue.has_deltas = options.temporality != Temporality::cumulative;
  receiver.queue.capacity_bytes = options.queue_bytes;
  receiver.queue.retry_time = std::chrono::nanoseconds(options.retry_ns);
  receiver.queue.say = say;
  receiver.queue.is_hurried = [] { return hurried.load(); };
  if (!options.spool.empty()) {
    receiver.spool.emplace();
    receiver.spool->folder = options.spool;
    receiver.spool->most_bytes = options.spool_bytes;
    receiver.spool->say = say;
  }
  if (options.source.duration_ns > 0) {
    receiver.waits_until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(options.source.duration_ns);
  }
  receiver.queue.refuses = !is_file(options);
  exporter.add(std::make_unique<OtlpReceiver>(std::move(receiver),
                                              make_transport(settings, NOPSPAN_VERSION, header_renewal(options))));
}

// Who may read the page, and where it is.
std::string page_announcement(const HttpServer& server) {
  const uid_t user = geteuid();
  return "A page of requests is for " + (user == 0 ? "" : "user " + std::to_string(user) + " and ") +
         "root on this host, and for everybody with this address: " + server.page_url() + "\n";
}

std::string announcement(const ExportCommandOptions& options, const Exporter& exporter, const MetricsService& service) {
  std::string text;
  for (const auto& receiver : exporter.receivers()) {
    text += (text.empty() ? "Exporting to " : " and ") + printable(receiver->name());
  }
  if (!text.empty()) text += ". ";
  if (text.empty() && !options.only_serves) text = "No receiver is set, so metrics are served only. ";
  if (options.serves) {
    text += "Metrics are at http://" + service.server()->address() + "/metrics, for everybody who can connect. ";
  }
  text += "Press Ctrl-C to stop.\n";
  return options.serves && options.metrics.has_page ? text + page_announcement(*service.server()) : text;
}

// Serves a recording that has been read completely.
void serve_longer(const SourceOptions& options, MetricsService& service, const Deadline& until) {
  constexpr std::chrono::milliseconds kLookAtEnd{100};
  if (options.from.empty() || stopping) return;
  std::cerr << printable(options.from) + " is read completely, and is served until " +
                   (options.duration_ns > 0 ? "--duration is over" : "Ctrl-C") + ".\n";
  while (!until.is_over()) {
    std::this_thread::sleep_for(kLookAtEnd);
    service.update();
  }
}

nlohmann::ordered_json to_json(const HttpServerCounts& counts) {
  nlohmann::ordered_json json;
  for (const HttpServerCountField& field : kServerCounts) json[field.name] = counts.*field.count;
  return json;
}

std::string to_text(const HttpServerCounts& counts) {
  std::string text = counted(counts.scrapes, "scrape") + " answered";
  for (const auto& [name, count, is_answer, one, what] : kServerCounts) {
    if (one != nullptr && counts.*count > 0) text += ", " + counted(counts.*count, one) + what;
  }
  return text + "\n";
}

// Prints the accounts, the counts of the server and the ledger.
void report(const Exporter& exporter, const HttpServer* server, const Ledger& ledger, bool as_json) {
  nlohmann::ordered_json json = {{"receivers", nlohmann::ordered_json::array()}};
  std::string text;
  for (const auto& receiver : exporter.receivers()) {
    json["receivers"].push_back(to_json(*receiver));
    text += to_text(receiver->account().totals(), receiver->name());
  }
  if (server != nullptr) {
    json["requests"] = to_json(server->counts());
    text += to_text(server->counts());
  }
  json["ledger"] = to_json(ledger);
  if (as_json) {
    std::cout << json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
  } else {
    std::cerr << text + to_text(ledger);
  }
  TextOutput& reported = as_json ? standard_output() : standard_error();
  std::cout.flush();
  if (!reported.flush() || reported.lost() > 0) return;
  for (const auto& receiver : exporter.receivers()) receiver->note_reported();
}

int export_all(ExportCommandOptions& options, const OutputOptions& common, std::unique_ptr<Source> unfiltered,
               std::unique_ptr<TracingProcess> open) {
  const Filter& filter = options.source.filter;
  const Filter none;
  FilteredSource source(std::move(unfiltered), options.only_serves ? filter : none);
  Exporter exporter(options.only_serves ? none : filter, options.stage,
                    {options.wants("traces"), options.wants("logs")});
  add_receivers(exporter, options);
  options.metrics.feed.is_exemplar = [&exporter](const Entry& entry) { return exporter.surely_exports(entry); };
  const bool has_page = options.serves && options.metrics.has_page;
  LivePage page(source, has_page && is_file(options), std::move(open), open_filter(options.only_serves ? filter : none),
                !options.source.from.empty() ? "a recording does not have them"
                : !filter.cgroup.empty()     ? "they cannot be selected by --cgroup"
                                             : "no process could be started",
                options.only_serves && !filter.empty() ? "Only spans that the filters of nopspan serve select" : "");
  MetricsService service(options.metrics, source, exporter, options.serves, options.exports_metrics(exporter), say);
  ExportSink sink(options, exporter, service, page);
  if (options.serves) service.serve(options.metrics.server, has_page ? &page : nullptr);
  std::cerr << announcement(options, exporter, service);
  if (options.source.from.empty()) set_standard_outputs_live();
  CommandRun run(options.source, filter);
  Deadline until(options.source.duration_ns);  // also for a recording that ends before
  until.begin();
  std::function<bool()> has_matched;  // `nopspan serve`: everything that arrives
  if (!options.only_serves) has_matched = [&exporter] { return exporter.has_matched(); };
  run.run(
      source, sink, [&source] { return source.ledger(); }, has_matched);
  sink.finish();
  if (options.only_serves) serve_longer(options.source, service, until);
  ends_in_order = finishing = true;
  exporter.finish(source, std::chrono::nanoseconds(options.end_ns));
  finishing = false;

  const Ledger ledger = source.ledger();
  std::cerr << remark_text(source.remark());
  const int exit_status = run.exit_status();
  const auto has_losses = [](const auto& receiver) { return receiver->account().totals().has_losses(); };
  const bool loses = std::any_of(exporter.receivers().begin(), exporter.receivers().end(), has_losses);
  report(exporter, service.server(), ledger, common.json);
  return loses ? Failure::kFailed : exit_status;
}

// The interval in milliseconds that the environment asks for. As with the variables of OTLP, an invalid one is ignored
// with a warning.
void read_metric_interval(ExportCommandOptions& options) {
  constexpr char kVariable[] = "OTEL_METRIC_EXPORT_INTERVAL";
  constexpr std::uint64_t kMostMilliseconds = 86'400'000;
  const char* const text = std::getenv(kVariable);
  if (options.metric_interval_ns > 0 || text == nullptr || *text == '\0') return;
  std::string number = text;
  if (const std::string error = whole_number(1, kMostMilliseconds)(number); !error.empty()) {
    std::cerr << std::string("nopspan: ") + kVariable + ": " + error + ": ignored\n";
    return;
  }
  options.metric_interval_ns = std::stoull(number) * 1'000'000;
}

// Completes the options of `nopspan export`, and reports what is wrong before anything is attached to.
void prepare_receivers(ExportCommandOptions& options) {
  read_metric_interval(options);
  if (options.metric_interval_ns == 0) options.metric_interval_ns = 60 * kSecond;
  options.to_network = options.otlp.endpoint || (options.files.empty() && has_otlp_endpoint());
  if (!options.to_network && options.files.empty() && !options.serves) {
    throw Failure("nothing to export to: use --otlp URL, --otlp-file DIR or --serve ADDRESS", Failure::kUsageError);
  }
  // With --serve it has no effect instead, because nopspan-export.service always has a spool, and its receiver is
  // optional.
  if (!options.to_network && !options.serves && !options.needs_receiver.empty()) {
    throw Failure(options.needs_receiver + " requires --otlp", Failure::kUsageError);
  }
  if (!options.header_file.empty()) {
    options.headers.emplace(options.header_file);
    options.otlp.file_headers = options.headers->headers();
  }
  if (options.to_network) otlp_settings(options.otlp);
  options.content.semconv = options.metrics.feed.semconv;
  options.content.logs = options.wants("logs");
  TraceLimits& limits = options.stage.limits;
  limits.set_max_age(options.source.max_age_ns);
  limits.traces = TraceLimits::traces_for(limits.bytes);
}

// The part of the filter that the source may apply. Metrics are of all requests.
Filter exported_by_source(const ExportCommandOptions& options) {
  const Filter& asked = options.source.filter;
  if (options.has_metrics()) {
    Filter filter;
    filter.pids = asked.pids;
    filter.cgroup = asked.cgroup;
    filter.since = asked.since;
    filter.until = asked.until;
    return filter;
  }
  return Exporter::needs_traces(asked) ? TraceFilter(asked, {}).for_source() : asked;
}

void add_otlp_options(CLI::App& app, ExportCommandOptions& options) {
  const OptionGroup group(app, "Receiver");
  OtlpOptions& otlp = options.otlp;
  app.add_option("--otlp", otlp.endpoint,
                 "Send to this OTLP receiver: http://HOST:PORT or https://HOST:PORT, with a path if it has one")
      ->type_name("URL")
      ->check(some_text());
  app.add_option("--protocol", otlp.protocol, "http/protobuf (default), http/json or grpc")->type_name("PROTOCOL");
  repeatable(
      app.add_option("--header", otlp.headers,
                     "Send this header with each request; repeat the option for more. For a secret use --header-file: "
                     "all users can read command lines until nopspan has hidden the value"))
      ->type_name("NAME=VALUE")
      ->check(some_text());
  add_text_option(app, "--header-file", options.header_file, "FILE",
                  "Send the headers in this file, which has NAME: VALUE in each line; other users must not be able to "
                  "read it (chmod 600). It is read again when it changes");
  app.add_option("--timeout", otlp.timeout, "Time for one request in milliseconds (default: 10000)")->type_name("MS");
  app.add_option("--compression", otlp.compression, "gzip or none (default)")->type_name("NAME");
  app.add_option("--certificate", otlp.certificate, "Trust the authorities in this file instead of the system's")
      ->type_name("FILE");
  app.add_option("--client-key", otlp.client_key, "Key of this client, for receivers that check it")->type_name("FILE");
  app.add_option("--client-certificate", otlp.client_certificate, "Certificate of this client")->type_name("FILE");
  const SizeRange some_bytes{.least = 1, .text = "between 1 and 4194304T"};
  add_bytes_option(app, "--queue", options.queue_bytes, "Memory for requests that wait for the receiver (default: 64M)",
                   some_bytes);
  add_duration_option(app, "--retry-time", options.retry_ns,
                      "Without --spool, give up a request after failures for this time; 0: never (default: 5m)");
  add_duration_option(app, "--end-time", options.end_ns,
                      "At the end, send what is left for at most this time (default: 10s)");
  CLI::Option* const spool =
      add_text_option(app, "--spool", options.spool, "DIR",
                      "Keep what waits in this folder after a failed request and while the memory is "
                      "full, also for the next run");
  add_bytes_option(app, "--spool-size", options.spool_bytes, "Size of the spool (default: 1G)", some_bytes)
      ->needs(spool);
  add_text_option(app, "--otlp-file", options.files, "DIR",
                  "Append to traces.jsonl, logs.jsonl and metrics.jsonl in this folder, as OTLP in JSON");
}

void add_content_options(CLI::App& app, ExportCommandOptions& options) {
  const OptionGroup group(app, "Content");
  app.add_option("--signals", options.signals, "What to export (default: traces,logs,metrics)")
      ->type_name("LIST")
      ->delimiter(',')
      ->check(one_of({"traces", "logs", "metrics"}));
  numeric(app.add_option("--step-links", options.content.step_links,
                         "Links of an engine's step to the requests that it serves: at most N (default: 0)"),
          0, 65536);
  add_duration_option(app, "--metric-interval", options.metric_interval_ns,
                      "Time between two exports of metrics (default: OTEL_METRIC_EXPORT_INTERVAL, or 60s)")
      ->check(some_time());
  app.add_flag("--incomplete", options.stage.incomplete,
               "With filters of whole requests: also requests that have not ended, or that began before the attach");
  add_bytes_option(app, "--memory", options.stage.limits.bytes,
                   "With filters of whole requests: memory for those that have not ended (default: 64M)");
}

int run_export(ExportCommandOptions& options, const OutputOptions& common) {
  SourceOptions source_options = options.source;
  if (!options.only_serves) {
    prepare_receivers(options);
    source_options.filter = exported_by_source(options);
  }
  std::unique_ptr<TracingProcess> open;
  const auto start_open = [&] {
    if (!options.serves || !options.metrics.has_page || !options.source.filter.cgroup.empty()) return;
    OpenTracerOptions what;
    what.pids = options.source.filter.pids;
    what.reads_held = what.when_asked = true;
    try {
      open = start_tracer(kOpenCapabilities, [what](MessagePipe& pipe) { return open_open_tracer(what, pipe); });
    } catch (const Failure&) {  // the page says that
    }
  };
  const auto export_them = [&](std::unique_ptr<Source> source) {
    return export_all(options, common, std::move(source), std::move(open));
  };
  return run_with_source(source_options, {{}, {}, {}, true}, export_them, start_open);
}

}  // namespace

void add_export(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<ExportCommandOptions>();
  CLI::App* command = app.add_subcommand("export", "Send spans, logs and metrics to an OTLP receiver");
  command->footer(std::string(kExportDescription) + "\n\n" + kExportExamples);
  add_otlp_options(*command, *options);
  add_content_options(*command, *options);
  CLI::Option* serve = add_text_option(*command, "--serve", options->metrics.server.address, "ADDRESS",
                                       "Also serve metrics for Prometheus on this address (see nopspan serve); "
                                       "without a receiver, only this");
  serve->group("Metrics");
  add_metrics_options(*command, options->metrics);
  command->get_option("--host")->needs(serve);
  command
      ->add_flag(
          "--page", options->metrics.has_page,
          "Also serve a page of requests, to root, to this user, and to everybody who has the printed token (see "
          "nopspan serve)")
      ->needs(serve)
      ->group("Metrics");
  add_source_options(*command, options->source);
  command->callback([options, command, serve, &common, &run] {
    options->serves = serve->count() > 0;
    for (const char* const name : {"--client-certificate", "--client-key", "--certificate", "--compression",
                                   "--timeout", "--header-file", "--header", "--protocol", "--spool"}) {
      if (command->count(name) > 0) options->needs_receiver = name;
    }
    run = [options, &common] { return run_export(*options, common); };
  });
}

void add_serve(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<ExportCommandOptions>();
  options->serves = options->only_serves = options->metrics.has_page = true;
  options->signals.clear();
  CLI::App* command = app.add_subcommand("serve", "Serve metrics for Prometheus, and a live page");
  command->footer(std::string(kServeDescription) + "\n\n" + kServeExamples);
  command
      ->add_option("ADDRESS", options->metrics.server.address,
                   "Address and port to listen on (default: 127.0.0.1:9464); port 0 takes a free one")
      ->check(some_text());
  add_metrics_options(*command, options->metrics);
  command
      ->add_flag_callback(
          "--no-page", [options] { options->metrics.has_page = false; }, "Serve only metrics, and no page of requests")
      ->group("Metrics");
  add_source_options(*command, options->source);
  describe_span_filters(*command);
  command->callback([options, &common, &run] { run = [options, &common] { return run_export(*options, common); }; });
}

}  // namespace nopspan::collector
