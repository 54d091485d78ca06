// SPDX-License-Identifier: Apache-2.0
#include "command/metrics_service.h"

#include "base/text.h"
#include "blame/blame_print.h"
#include "command/live_page.h"
#include "command/options.h"
#include "export/receiver_account.h"
#include "metric/metric_text.h"
#include "model/service.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

// A header Host is compared without its port, so a name with a port would never match.
CLI::Validator name_of_host() {
  return {[](const std::string& name) {
            return name.find_first_of(" \t:/@[]?#") == std::string::npos
                       ? ""
                       : "\"" + printable(name, 40) + "\" is not a name: leave out the port, such as node7";
          },
          ""};
}

// Counts of an account that are not states.
constexpr AccountState kOrigins[] = {{"taken", &SignalAccount::taken},
                                     {"found", &SignalAccount::found},
                                     {"resent", &SignalAccount::resent},
                                     {"missing", &SignalAccount::missing}};

// A metric of nopspan itself.
MetricFamily& own_family(MetricRegistry& registry, const char* name, const char* unit, const char* help,
                         MetricType type, std::vector<std::string> labels = {}) {
  return registry.family({name, unit, help, type, std::move(labels)});
}

}  // namespace

void add_metrics_options(CLI::App& app, MetricsOptions& options) {
  const OptionGroup group(app, "Metrics");
  const auto set_semconv = [&options](const std::string& name) {
    options.feed.semconv = name == "next" ? Semconv::next : Semconv::v1_41;
  };
  app.add_option_function<std::string>(
         "--semconv", set_semconv, "Names of the GenAI conventions: of v1.41 (default), or those to which they change")
      ->type_name("v1.41|next")
      ->check(one_of({"v1.41", "next"}));
  numeric(app.add_option("--max-series", options.limits.most_series,
                         "Series of a metric, for each of Prometheus and OTLP. OTLP adds up further ones by "
                         "service, and both then as \"other\" (default: 2000)"),
          1, 1'000'000);
  repeatable(
      app.add_option("--host", options.server.hosts,
                     "A name by which clients reach this server, beside localhost and its address; repeat the option "
                     "for more. Requests with another Host header are refused, because a web page could make them"))
      ->type_name("NAME")
      ->check(some_text())
      ->check(name_of_host());
}

MetricsService::View::View(const MetricsOptions& options, bool by_resource)
    : output(by_resource ? "otlp" : "prometheus"),
      registry(options.limits, by_resource),
      feed(registry, with_targets(options.feed, !by_resource)),
      ledger(registry),
      stalls(registry.family(
          {"nopspan.engine.stall",
           "s",
           "Time that requests lost to others in steps.",
           MetricType::counter,
           {"service.name", "nopspan.engine", "gen_ai.request.model", "nopspan.tenant", "nopspan.by_tenant"}})),
      unsure(registry.counter("nopspan.engine.stall.unsure", "{request}",
                              "Requests of which the steps do not show who stalled them.",
                              {"service.name", "nopspan.engine", "gen_ai.request.model"})) {}

MetricsService::MetricsService(const MetricsOptions& options, const Source& source, const Exporter& exporter,
                               bool serves, bool exports, std::function<void(const std::string&)> say)
    : source_(source),
      exporter_(exporter),
      most_series_(options.limits.most_series),
      say_(std::move(say)),
      blame_(
          {}, [](const Entry&) { return true; },
          [this](const Blame::Request& request) {
            for (const auto& view : views_) write_stalls(*view, request);
          }) {
  if (serves) views_.push_back(std::make_unique<View>(options, false));
  if (exports) views_.push_back(std::make_unique<View>(options, true));
}

void MetricsService::on_tick(std::uint64_t now_unix_ns) {
  for (const auto& view : views_) view->feed.on_tick(now_unix_ns);
  now_unix_ns_ = now_unix_ns;
  blame_.on_tick(now_unix_ns);
  if (now_unix_ns >= updated_unix_ns_ && now_unix_ns - updated_unix_ns_ < kSecond) return;
  updated_unix_ns_ = now_unix_ns;
  update();
}

void MetricsService::update() {
  const Ledger ledger = source_.ledger();
  for (const auto& view : views_) {
    view->ledger.write(ledger);
    write_source(view->registry);
    write_uncharged(view->registry);
    write_accounts(view->registry);
    if (server_) write_server(view->registry);
  }
  write_overflows();
}

// Each output reports what happened in both.
void MetricsService::write_overflows() {
  for (const auto& full : views_) {
    for (const MetricOverflow& overflow : full->registry.overflows()) {
      if (!std::exchange(has_said_overflow_, true)) say_overflow(full->output, overflow);
      for (const auto& view : views_) {
        MetricFamily& total = own_family(view->registry, "nopspan.metrics.overflow", "{observation}",
                                         "Observations that have no series of their own, because the metric is full, "
                                         "by the output and by what they are counted as.",
                                         MetricType::counter, {"metric", "output", "counted_as"});
        MetricWriter writer(view->registry);
        for (std::size_t as = 0; as < kCountedAs.size(); ++as) {
          if (overflow.observations[as] == 0) continue;
          writer.total(total, static_cast<double>(overflow.observations[as]),
                       {overflow.family, full->output, kCountedAs[as]});
        }
      }
    }
  }
}

void MetricsService::say_overflow(const char* output, const MetricOverflow& overflow) {
  const bool has_service = overflow.observations[static_cast<std::size_t>(CountedAs::service)] > 0;
  say_(overflow.family + " has no room for further series for " + output + " (--max-series " +
       std::to_string(most_series_) + "). " +
       (has_service ? "They are counted for their service, without the attributes of its pods and processes"
                    : "They are added up as \"other\", or left out") +
       ". The metric nopspan.metrics.overflow counts this for all metrics");
}

void MetricsService::write_stalls(View& view, const Blame::Request& request) {
  const std::string_view service = service_of(*request.process);
  MetricWriter writer(view.registry, *request.process);
  if (!request.is_sure) {
    writer.add(view.unsure, 1, {service, request.engine, request.model});
    return;
  }
  double others_ns = request.stalled_ns();
  const auto add = [&](std::string_view by, double ns) {
    writer.add(view.stalls, ns / static_cast<double>(kSecond),
               {service, request.engine, request.model, request.tenant, by});
  };
  for (const Blame::Culprit& one : request.culprits) {
    add(one.tenant, one.ns);
    others_ns -= one.ns;
  }
  if (others_ns > 1) add(kOthers, others_ns);
}

void MetricsService::write_uncharged(MetricRegistry& registry) {
  MetricFamily& uncharged = registry.counter(
      "nopspan.engine.stall.uncharged", "",
      "What nopspan.engine.stall does not have, because of its limits or because no span has arrived.", {"what"});
  const Blame::Counts& counts = blame_.counts();
  MetricWriter writer(registry);
  writer.total(uncharged, static_cast<double>(counts.engines), {"engines"});
  writer.total(uncharged, static_cast<double>(counts.members), {"members"});
  writer.total(uncharged, static_cast<double>(counts.not_ended), {"requests"});
}

// The time is that of the arrival, because clocks of programs may be wrong.
void MetricsService::write_source(MetricRegistry& registry) {
  MetricFamily& last = own_family(registry, "nopspan.source.last_entry.timestamp", "s",
                                  "When the last entry arrived, in Unix time.", MetricType::gauge);
  MetricFamily& sources = own_family(registry, "nopspan.sources", "{source}",
                                     "What delivers entries now: the process that traces this host, or programs "
                                     "that are connected to the socket.",
                                     MetricType::gauge);
  MetricFamily& closed =
      own_family(registry, "nopspan.sources.closed", "{connection}",
                 "Connections to the socket that were closed, by reason.", MetricType::counter, {"reason"});
  MetricFamily& restarted = own_family(registry, "nopspan.reader.restarts", "",
                                       "How often the process that reads other processes was killed or crashed, and "
                                       "was replaced.",
                                       MetricType::counter);
  MetricFamily& readers = own_family(registry, "nopspan.page.sources", "{source}",
                                     "What reads the requests in flight for the page now: 1, or 0 if that process "
                                     "has ended.",
                                     MetricType::gauge);
  const std::optional<Writers> writers = source_.writers();
  const std::optional<unsigned> page_readers = page_ == nullptr ? std::nullopt : page_->readers();
  MetricWriter writer(registry);  // holds the registry's lock, which own_family() takes too
  if (const std::optional<std::uint64_t> restarts = source_.reader_restarts()) {
    writer.total(restarted, static_cast<double>(*restarts + (page_readers ? page_->reader_restarts() : 0)), {});
  }
  if (page_readers) writer.gauge(readers, *page_readers, {});
  if (last_entry_unix_ns_ > 0) {
    writer.gauge(last, static_cast<double>(last_entry_unix_ns_) / static_cast<double>(kSecond), {});
  }
  if (!writers) return;
  writer.gauge(sources, static_cast<double>(writers->connected), {});
  for (const WriterField& field : kClosedWriters) {
    writer.total(closed, static_cast<double>((*writers).*field.count), {field.name});
  }
}

void MetricsService::write_accounts(MetricRegistry& registry) {
  MetricFamily& totals = own_family(registry, "nopspan.export.items", "{item}",
                                    "Spans, events in spans, log records and data points, by what became of them.",
                                    MetricType::counter, {"receiver", "signal", "state", "reason"});
  MetricFamily& waiting =
      own_family(registry, "nopspan.export.waiting", "{item}", "Items that were not acknowledged yet.",
                 MetricType::gauge, {"receiver", "signal", "state"});
  MetricFamily& unreadable = own_family(registry, "nopspan.export.unreadable", "By",
                                        "Bytes of the spool that cannot be read, with an unknown number of items.",
                                        MetricType::counter, {"receiver"});
  for (const auto& receiver : exporter_.receivers()) {
    const AccountTotals account = receiver->account().totals();
    const std::string& name = receiver->name();
    MetricWriter writer(registry);
    writer.total(unreadable, static_cast<double>(account.unreadable_bytes), {name});
    for (std::size_t i = 0; i < account.signals.size(); ++i) {
      const SignalAccount& signal = account.signals[i];
      const auto write = [&](const AccountState& state) {
        const auto count = static_cast<double>(signal.*state.count);
        if (state.waits) {
          writer.gauge(waiting, count, {name, kAccountSignals[i], state.name});
        } else {
          writer.total(totals, count, {name, kAccountSignals[i], state.name});
        }
      };
      std::for_each(std::begin(kOrigins), std::end(kOrigins), write);
      std::for_each(std::begin(kAccountStates), std::end(kAccountStates), write);
      for (std::size_t reason = 0; reason < kDropReasons.size(); ++reason) {
        writer.total(totals, static_cast<double>(signal.dropped[reason]),
                     {name, kAccountSignals[i], "dropped", kDropReasons[reason]});
      }
    }
  }
}

void MetricsService::write_server(MetricRegistry& registry) {
  MetricFamily& requests = own_family(registry, "nopspan.serve.requests", "{request}",
                                      "Requests of clients, by what became of them.", MetricType::counter, {"result"});
  MetricFamily& displaced =
      own_family(registry, "nopspan.serve.displaced", "{connection}",
                 "Connections that were closed while they waited, to make room for others.", MetricType::counter);
  const HttpServerCounts counts = server_->counts();
  MetricWriter writer(registry);
  for (const HttpServerCountField& field : kServerCounts) {
    if (field.is_answer) writer.total(requests, static_cast<double>(counts.*field.count), {field.name});
  }
  writer.total(displaced, static_cast<double>(counts.displaced), {});
}

void MetricsService::serve(const HttpServerOptions& options, LivePage* page) {
  const auto render = [this](MetricFormat format) {
    const MetricSnapshot snapshot = views_.front()->registry.snapshot();
    return format == MetricFormat::openmetrics ? openmetrics_text(snapshot) : prometheus_text(snapshot);
  };
  HttpServer::Content content{render};
  page_ = page;
  if (page != nullptr) {
    content.page = LivePage::text();
    content.followed = {{"/live", &page->lines()}};
    if (!page->is_file()) content.followed.emplace_back("/capture", &page->captured());
  }
  server_ = std::make_unique<HttpServer>(options, std::move(content));
}

}  // namespace nopspan::collector
