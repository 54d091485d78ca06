// SPDX-License-Identifier: Apache-2.0
// nopspan record: writes a source's entries to a file.
#include "base/failure.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "command/tracing_process.h"
#include "model/filter.h"
#include "model/sampling.h"
#include "recording/recorder.h"
#include "recording/recorder_stream.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

namespace nopspan::collector {
namespace {

constexpr char kRecordDescription[] =
    "Records spans, point events, retries and gauges until Ctrl-C, or until all\n"
    "processes of --pid have ended. Read the file with nopspan replay FILE, nopspan\n"
    "top --from FILE or nopspan trace --from FILE. If it is damaged or truncated,\n"
    "they read the intact part.\n"
    "--name, --model, --slower-than and --errors may let unwanted entries through.\n"
    "Repeat these options when you read the file. record --from refuses them.\n"
    "--tenant, --where and --error select single entries, so traces may lack spans.";
constexpr char kRecordExamples[] =
    "Examples:\n"
    "  nopspan record spans.rec --duration 10s\n"
    "  nopspan record spans.rec --pid 4711 --max-size 1G  up to five files of 1 GiB\n"
    "  nopspan record - | setsid zstd > spans.rec.zst     compress the recording\n"
    "  zstd -dc spans.rec.zst | nopspan replay -          read it again";

struct RecordOptions {
  SourceOptions source;
  RecorderOptions recorder;
};

bool is_same_file(const std::string& one, const std::string& other) {
  if (one == "-" || other == "-") return false;  // stdin or stdout
  std::error_code none;
  return std::filesystem::equivalent(one, other, none) ||
         std::filesystem::weakly_canonical(one, none) == std::filesystem::weakly_canonical(other, none);
}

// Refuses an output file that --from reads or --metrics writes, because both files would be destroyed. The older files
// of --max-size are checked too, because they are renamed and deleted.
void refuse_same_files(const RecordOptions& options) {
  const std::string& path = options.recorder.path;
  const SourceOptions& source = options.source;
  if (!source.from.empty() && is_same_file(source.from, path)) {
    throw Failure(path + " is the file that --from reads", Failure::kUsageError);
  }
  for (const std::string& older : options.recorder.older_files()) {
    if (!source.from.empty() && is_same_file(source.from, older)) {
      throw Failure(older + " is the file that --from reads", Failure::kUsageError);
    }
  }
  if (!source.metrics.empty() && is_same_file(source.metrics, path)) {
    throw Failure(path + " is the file that --metrics writes", Failure::kUsageError);
  }
}

// Writes the threshold of --sample into the spans, so that an export of the recording knows it.
class MarkingSink : public Sink {
 public:
  MarkingSink(Sink& sink, const Filter& filter)
      : sink_(sink),
        has_sample_(filter.sample_one_in > 1 || filter.sampled_only),
        mark_(filter.sample_one_in, filter.sampled_only) {}
  [[nodiscard]] BatchSink* batches() override { return has_sample_ ? nullptr : sink_.batches(); }
  void on_entry(const Entry& entry) override { sink_.on_entry(has_sample_ ? mark_.marked(entry) : entry); }
  void on_tick(std::uint64_t now_unix_ns) override { sink_.on_tick(now_unix_ns); }

 private:
  Sink& sink_;
  const bool has_sample_;
  SampleMark mark_;
};

// `keep`: the number of older files that rotation keeps.
std::string totals_text(const Recorder::Totals& totals, const std::string& name, unsigned keep) {
  std::string text = totals.entries.text();
  text += " in " + name;
  if (totals.files > 1) {
    text += " and older files (total: " + std::to_string(totals.files) + " files";
    if (totals.files - 1 > keep) text += ", the oldest " + std::to_string(totals.files - 1 - keep) + " deleted";
    text += ")";
  }
  text += ": " + bytes_text(totals.bytes);
  const std::uint64_t entries = totals.entries.all();
  if (entries > 0) text += ", " + std::to_string(totals.bytes / entries) + " bytes per entry";
  return text + "\n";
}

nlohmann::ordered_json to_json(const Recorder::Totals& totals, const std::string& path, const Source& source,
                               const Ledger& ledger) {
  nlohmann::ordered_json json = {{"file", path}, {"files", totals.files}};
  for (std::size_t i = 0; i < totals.entries.by_kind.size(); ++i)
    json[EntryCounts::kMany[i]] = totals.entries.by_kind[i];
  json["bytes"] = totals.bytes;
  json["dropped"] = totals.dropped;
  add_clock(json, source.clock());
  json["ledger"] = to_json(ledger);
  return json;
}

int record(const RecordOptions& options, const OutputOptions& common, std::unique_ptr<Source> unfiltered) {
  const Filter& filter = options.source.filter;
  CommandRun run(options.source, filter);
  Filter of_entries;
  of_entries.tenant = filter.tenant;
  of_entries.where = filter.where;
  of_entries.error_type = filter.error_type;
  const auto source = std::make_unique<FilteredSource>(std::move(unfiltered), std::move(of_entries));
  const RecorderPointer owner(new Recorder(options.recorder, *source));
  Recorder& recorder = *owner;
  if (options.source.from.empty()) {
    recorder.set_live();
    set_standard_outputs_live();
  }
  MarkingSink marking(recorder, filter);
  run.announce([] { return "Recording. Press Ctrl-C to stop.\n"; });
  run.end_with_processes();
  run.run(*source, marking, [&recorder] { return recorder.ledger(); });
  const bool is_complete = recorder.finish();
  const Ledger ledger = recorder.ledger();
  run.finish();
  const std::string& path = options.recorder.path;
  std::cerr << remark_text(source->remark());
  if (common.json) {
    (path == "-" ? std::cerr : std::cout) << to_json(recorder.totals(), path, *source, ledger)
                                                 .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
                                          << "\n";
  } else {
    std::cerr << totals_text(recorder.totals(), options.recorder.name(), options.recorder.keep) << to_text(ledger);
  }
  const bool is_part = interrupted && !options.source.from.empty() && source->is_cut();  // of what was to be copied
  return is_complete && !is_part ? run.exit_status() : Failure::kFailed;
}

int run_record(const RecordOptions& options, const OutputOptions& common) {
  // write() fails with EPIPE instead, and the failure is reported like any other.
  std::signal(SIGPIPE, SIG_IGN);
  refuse_same_files(options);
  if (options.recorder.path == "-" && !options.recorder.force && isatty(STDOUT_FILENO) == 1) {
    // A terminal would execute escape sequences that are in names and attributes.
    throw Failure("stdout is a terminal: redirect it to a file or a pipe, or use --force", Failure::kUsageError);
  }
  std::vector<std::string> files = options.recorder.older_files();
  const std::string& path = options.recorder.path;
  files.push_back(path.starts_with(RecorderStream::kPrefix) ? path.substr(RecorderStream::kPrefix.size()) : path);
  files.push_back(options.source.metrics);
  return run_with_source(options.source, {{}, {}, std::move(files)},
                         [&](std::unique_ptr<Source> source) { return record(options, common, std::move(source)); });
}

}  // namespace

void add_record(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<RecordOptions>();
  CLI::App* command = app.add_subcommand("record", "Record spans to a file");
  command->footer(std::string(kRecordDescription) + "\n\n" + kRecordExamples);
  command
      ->add_option(
          "FILE", options->recorder.path,
          "File to write, with mode 0600; - is stdout; unix:PATH is a socket on which a reader listens, such as "
          "`nopspan export --from unix:PATH`. A symbolic link is not followed, but refused")
      ->required()
      ->check(some_text());
  command->add_flag("--force", options->recorder.force, "Replace an existing file");
  CLI::Option* max_size =
      add_bytes_option(*command, "--max-size", options->recorder.max_bytes,
                       "Start a new file before FILE exceeds this size; older files are FILE.1, FILE.2, and so on");
  CLI::Option* keep =
      numeric(command->add_option("--keep", options->recorder.keep,
                                  "With --max-size, keep N older files (default: 4; with --keep-total: no limit)"),
              0)
          ->needs(max_size);
  CLI::Option* keep_total =
      add_bytes_option(*command, "--keep-total", options->recorder.keep_total,
                       "With --max-size, delete the oldest recordings in the folder of FILE whose names differ from "
                       "FILE's in numbers only, so that all together have at most this size")
          ->needs(max_size);
  add_source_options(*command, options->source);
  describe_entry_filters(*command);
  keep_total->excludes(command->get_option("--from"));  // which might be deleted while it is read
  CLI::Option* from = command->get_option("--from");
  from->excludes(command->get_option("--duration"));  // a copy is whole
  // The kernel applies these to what processes emit, and a recorder does not know whole requests.
  for (const char* option : {"--name", "--model", "--slower-than", "--errors"}) {
    from->excludes(command->get_option(option));
  }
  command->callback([options, keep, keep_total, &common, &run] {
    RecorderOptions& recorder = options->recorder;
    if (keep_total->count() > 0 && recorder.keep_total / 2 < recorder.max_bytes) {
      throw CLI::ValidationError("--keep-total", "must be at least twice --max-size");
    }
    if (keep_total->count() > 0 && keep->count() == 0) recorder.keep = UINT32_MAX;
    run = [options, &common] { return run_record(*options, common); };
  });
}

}  // namespace nopspan::collector
