// SPDX-License-Identifier: Apache-2.0
#include "command/options.h"

#include "base/clocks.h"
#include "base/failure.h"
#include "base/named_time.h"
#include "base/text.h"
#include "host/cgroup.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>

namespace nopspan::collector {

OptionGroup::OptionGroup(CLI::App& app, const char* name) : app_(app), before_(app.option_defaults()->get_group()) {
  app_.option_defaults()->group(name);
}
OptionGroup::~OptionGroup() { app_.option_defaults()->group(before_); }

CLI::Validator whole_number(std::uint64_t least, std::uint64_t most) {
  const std::string range = "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
  std::string wanted = least > 0 ? "a positive whole number" : "a whole number";
  if (most < UINT32_MAX) wanted = range;
  const auto refusal = [least, most, range, wanted](const std::string& text) {
    std::uint64_t number = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool is_number = read.ptr == text.data() + text.size() && !text.empty();
    if (is_number && read.ec == std::errc() && number >= least && number <= most) return std::string();
    const bool is_too_large = is_number && (read.ec != std::errc() || number > most);
    return "\"" + printable(text, 40) + "\" is not " + (is_too_large ? range : wanted);
  };
  return {refusal, ""};
}

CLI::Validator some_text() {
  return {[](const std::string& text) { return text.empty() ? "the value must not be empty" : ""; }, ""};
}

CLI::Validator one_of(const std::vector<std::string>& words) {
  const auto refusal = [words](const std::string& text) {
    if (std::find(words.begin(), words.end(), text) != words.end()) return std::string();
    std::string all;
    for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
    return "\"" + printable(text, 40) + "\" is not one of " + all;
  };
  return {refusal, ""};
}

CLI::Validator some_time(std::uint64_t least_ns, const std::string& refusal) {
  // This check runs after the conversion of units, so the text is a number of nanoseconds. Less than one would be
  // rounded to 0.
  return {[=](const std::string& ns) { return std::stod(ns) >= static_cast<double>(least_ns) ? "" : refusal; }, ""};
}

// Converts a number with a unit, and checks the converted number. The messages are written here, because those of CLI11
// do not show an example of a correct value.
CLI::Validator number_with_unit(const CLI::Validator& convert, const CLI::Validator& range, const std::string& kind,
                                const std::string& bounds) {
  const auto attempt = [=](std::string& text) {
    const std::string given = "\"" + printable(text, 40) + "\" is not ";
    try {
      if (!convert(text).empty()) return given + kind;
    } catch (const CLI::ValidationError&) {
      return given + kind;
    }
    return range(text).empty() ? "" : given + bounds;
  };
  return {attempt, ""};
}

// Changes the text of a time to its number of nanoseconds.
std::string to_nanoseconds(std::string& text) {
  const std::optional<double> ns = nanoseconds_of(text);
  if (!ns) return "not a time";
  text = std::to_string(*ns);
  return "";
}

CLI::Validator whole_seconds(std::uint64_t least, std::uint64_t most) {
  const std::string refusal =
      "must be a whole number of seconds from " + std::to_string(least) + "s to " + std::to_string(most) + "s";
  // The text is a number of nanoseconds, as in some_time().
  const auto check = [=](const std::string& ns) {
    const double seconds = std::stod(ns) / static_cast<double>(kSecond);
    const bool is_right =
        seconds == std::floor(seconds) && seconds >= static_cast<double>(least) && seconds <= static_cast<double>(most);
    return is_right ? "" : refusal;
  };
  return {check, ""};
}

CLI::Option* add_text_option(CLI::App& app, const std::string& name, std::string& text, const std::string& type,
                             const std::string& what) {
  return app.add_option(name, text, what)->type_name(type)->check(some_text());
}

CLI::Option* add_duration_option(CLI::App& app, const std::string& name, std::uint64_t& ns, const std::string& what) {
  const auto set = [&ns](double value) { ns = static_cast<std::uint64_t>(std::llround(value)); };
  return app.add_option_function<double>(name, set, what)
      ->transform(number_with_unit(CLI::Validator(to_nanoseconds, ""), CLI::Range(0.0, 9e18),  // fits into 64 bits
                                   "a time: use a number with a unit (ns, us, ms, s, m, h, d), such as 250ms",
                                   "between 0s and 104166d"))
      ->type_name("TIME");
}

CLI::Option* add_bytes_option(CLI::App& app, const std::string& name, std::uint64_t& bytes, const std::string& what,
                              const SizeRange& range) {
  // CLI11 parses -1 as the largest 64-bit number, which the range refuses.
  return app.add_option(name, bytes, what)
      ->transform(number_with_unit(CLI::AsSizeValue(false), CLI::Range(range.least, range.most),
                                   "a size: use a whole number with a unit (K, M, G, T), such as 64M", range.text))
      ->type_name("SIZE");
}

CLI::Option* repeatable(CLI::Option* option) {
  return option->expected(1)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

CLI::Option* numeric(CLI::Option* option, std::uint64_t least, std::uint64_t most) {
  return option->type_name("N")->check(whole_number(least, most));
}

CLI::Option* add_pid_option(CLI::App& app, std::vector<std::uint32_t>& pids, const std::string& what) {
  // CLI11's own delimiter would skip an empty pid, or read the next word as one.
  const auto set_pids = [&pids](const std::vector<std::string>& lists) {
    for (const std::string& list : lists) {
      for (std::string& pid : CLI::detail::split(list, ',')) {
        if (const std::string error = whole_number(1)(pid); !error.empty()) throw CLI::ValidationError("--pid", error);
        pids.push_back(static_cast<std::uint32_t>(std::stoul(pid)));
      }
    }
  };
  return repeatable(app.add_option_function<std::vector<std::string>>("--pid", set_pids, what))->type_name("PID");
}

CLI::Option* add_where_option(CLI::App& app, std::vector<Filter::Condition>& where, const std::string& what) {
  const auto set_where = [&where](const std::vector<std::string>& conditions) {
    for (const std::string& text : conditions) {
      const std::size_t end = text.find('=');
      if (end == 0 || end >= text.size() - 1) {
        throw CLI::ValidationError("--where", "\"" + printable(text, 40) + "\" is not KEY=VALUE");
      }
      where.push_back({text.substr(0, end), text.substr(end + 1)});
    }
    if (where.size() > Filter::kMostConditions) {
      throw CLI::ValidationError("--where", "at most " + std::to_string(Filter::kMostConditions) + " are possible");
    }
  };
  return repeatable(app.add_option_function<std::vector<std::string>>("--where", set_where, what))
      ->type_name("KEY=VALUE");
}

void add_filter_options(CLI::App& app, Filter& filter) {
  const OptionGroup group(app, "Filters");
  add_text_option(app, "--request", filter.request, "ID",
                  "Only the request with this request id, trace id or traceparent");
  add_text_option(app, "--name", filter.name, "NAME", "Only requests that contain a span with this name")
      ->transform(as_recorded);
  add_text_option(app, "--model", filter.model, "MODEL", "Only requests that contain a span with this model")
      ->transform(as_recorded);
  add_text_option(app, "--tenant", filter.tenant, "TENANT", "Only requests that contain a span of this tenant")
      ->transform(as_recorded);
  add_where_option(app, filter.where,
                   "Only requests that contain a span with this label or attribute, or of a process with this resource "
                   "attribute, such as route=/chat or service.version=1.5.0; repeat the option for more conditions");
  add_pid_option(app, filter.pids,
                 "Only these processes, not those that they fork later; repeat the option, or write 1,2,3");
  add_text_option(app, "--cgroup", filter.cgroup, "CGROUP",
                  "Only processes in or below this cgroup: a path, or the beginning of a container id")
      ->transform(cgroup_named);
  add_duration_option(app, "--slower-than", filter.slower_than_ns,
                      "Only requests that took at least this long, such as 500ms");
  app.add_flag("--errors", filter.errors, "Only requests that contain an error");
  add_text_option(app, "--error", filter.error_type, "TYPE", "Only requests that contain an error of this type")
      ->transform(as_recorded);
  numeric(app.add_option("--sample", filter.sample_one_in,
                         "Only 1 in N requests, by OpenTelemetry's rule: the same ones on every host"),
          1);
  app.add_flag("--sampled-only", filter.sampled_only,
               "Only requests whose traceparent has the sampled flag, and those that began without one");
}

void describe_span_filters(CLI::App& app) {
  app.get_option("--name")->description("Only spans with this name");
  app.get_option("--model")->description("Only spans with this model");
  app.get_option("--slower-than")->description("Only spans that took at least this long, such as 500ms");
  app.get_option("--errors")->description("Only spans that failed");
  describe_entry_filters(app);
}

void describe_entry_filters(CLI::App& app) {
  app.get_option("--tenant")->description("Only spans of this tenant");
  app.get_option("--where")->description(
      "Only spans with this label or attribute, or of a process with this resource attribute, such as route=/chat or "
      "service.version=1.5.0; repeat the option for more conditions");
  app.get_option("--error")->description("Only spans that failed with this type of error");
}

CLI::Option* add_grouping_option(CLI::App& app, Grouping& by) {
  const auto read = [&by](const std::string& text) {
    try {
      by = parse_grouping(text);
    } catch (const Failure& failure) {
      throw CLI::ValidationError(failure.what());
    }
  };
  return app
      .add_option_function<std::string>(
          "--by", read,
          "Group rows by one or more of name, model, tenant, process, engine, tool, error "
          "(the error type), and keys of other labels and attributes, and of the resources of processes, such as "
          "route, "
          "host or service.version (default: name,model)")
      ->type_name("WHAT");
}

namespace {

CLI::Option* add_time_option(CLI::App& app, const std::string& name, std::string& time, const std::string& what) {
  return app.add_option(name, time, what)->type_name("TIME")->check([](const std::string& text) {
    if (named_time(text, unix_now())) return std::string();
    return "\"" + printable(text, 40) +
           "\" is not a time: use a date and a time of day, such as 2026-11-27T14:05:00, with Z or +02:00 if it is "
           "not local; a time of day before the recording's end, such as 14:05; or how long before its end, such as "
           "10m";
  });
}

}  // namespace

void add_time_options(CLI::App& app, Filter& filter, CLI::Option* needed) {
  const OptionGroup group(app, "Filters");
  CLI::Option* const since = add_time_option(
      app, "--since", filter.since,
      "Only what ended after this time, such as 2026-11-27T14:05:00Z, 14:05 (before the recording's end), or 10m "
      "(before its end). Earlier chunks are not read");
  CLI::Option* const until = add_time_option(app, "--until", filter.until, "Only what began before this time");
  if (needed == nullptr) return;
  for (CLI::Option* const option : {since, until}) option->needs(needed);
}

void add_source_options(CLI::App& app, SourceOptions& options) {
  const OptionGroup group(app, "Source");
  add_filter_options(app, options.filter);
  CLI::Option* from =
      add_text_option(app, "--from", options.from, "FILE", "Read this recording instead of tracing this host");
  add_time_options(app, options.filter, from);
  CLI::Option* binary = add_text_option(app, "--binary", options.binary, "FILE",
                                        "Also attach to this program or library, even if no process uses it yet");
  CLI::Option* leave_out =
      add_text_option(app, "--leave-out", options.leave_out, "FILE",
                      "Do not attach to the processes that this file names, one a line: pid N, with all that it has "
                      "forked, or cgroup CGROUP. It is read again while nopspan runs: name a process before you take a "
                      "checkpoint of it");
  CLI::Option* buffer = add_bytes_option(app, "--buffer", options.buffer_bytes,
                                         "Size of the kernel's ring buffer; increase it if entries are lost "
                                         "(4K to 1G, rounded up to a power of 2; default: 16M)",
                                         {4096, std::uint64_t{1} << 30U, "between 4K and 1G"});
  CLI::Option* max_age = add_duration_option(app, "--max-age", options.max_age_ns,
                                             "Fetch entries that an idle thread has held for this long (default: 1s)");
  add_duration_option(app, "--duration", options.duration_ns, "Stop after this time (default: run until Ctrl-C)")
      ->check(some_time());
  CLI::Option* metrics =
      add_text_option(app, "--metrics", options.metrics, "FILE",
                      "Write the counts of delivered, filtered and lost entries to this file every 10 s, as Prometheus "
                      "metrics; a symbolic link is refused");
  for (CLI::Option* option : {binary, leave_out, buffer, max_age, metrics}) from->excludes(option);
}

}  // namespace nopspan::collector
