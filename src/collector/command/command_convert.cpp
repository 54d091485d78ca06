// SPDX-License-Identifier: Apache-2.0
// nopspan convert: writes a recording as a file for another program to show.
#include "base/clocks.h"
#include "base/failure.h"
#include "base/new_file.h"
#include "base/saturating.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "convert/perfetto.h"
#include "host/privileges.h"
#include "model/steps.h"
#include "recording/recording.h"
#include "trace/trace_stage.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

struct ConvertOptions {
  SourceOptions source;  // `from` is the file that is being read
  TraceStageOptions stage;
  std::vector<std::string> files;
  std::string to, out, flows = "some";
  std::uint64_t slowest = 0;  // 0: all
  bool force = false;
};

// The requests that are shown, which the first reading of the recording finds.
class Chosen : public TraceSink {
 public:
  Chosen(std::uint64_t slowest, StepFlows& flows) : slowest_(slowest), flows_(flows) {}

  bool on_trace(const AssembledTrace& trace) override {
    Request request{
        trace.links.longest_root_ns(), trace.trace.id(), trace.links.start_unix_ns(), trace.links.end_unix_ns(), {}};
    for (const TraceLinks::Node& node : trace.links.nodes()) {
      if (node.entry->is_span() && flows_.knows(node.entry->span_id)) request.spans.push_back(node.entry->span_id);
    }
    requests_.push_back(std::move(request));
    // Twice as many are kept before the faster half of them is forgotten.
    if (slowest_ != 0 && requests_.size() >= 2 * slowest_) keep_slowest();
    return true;
  }
  void finish() {
    if (slowest_ != 0) {
      keep_slowest();
    } else {
      join_parts();
    }
    for (const Request& request : requests_) {
      for (const std::uint64_t span : request.spans) flows_.show(span);
    }
    std::sort(requests_.begin(), requests_.end(),
              [](const Request& a, const Request& b) { return a.start_unix_ns < b.start_unix_ns; });
    for (const Request& request : requests_) {
      if (times_.empty() || request.start_unix_ns > times_.back().last_unix_ns) {
        times_.push_back({request.start_unix_ns, request.end_unix_ns});
      } else {
        times_.back().last_unix_ns = std::max(times_.back().last_unix_ns, request.end_unix_ns);
      }
    }
    std::sort(requests_.begin(), requests_.end(),
              [](const Request& a, const Request& b) { return is_before(a.id, b.id); });
  }
  [[nodiscard]] bool has(const TraceId& id) const {
    const auto found =
        std::lower_bound(requests_.begin(), requests_.end(), id,
                         [](const Request& request, const TraceId& other) { return is_before(request.id, other); });
    return found != requests_.end() && found->id == id;
  }
  // Whether it is in the time of one of them.
  [[nodiscard]] bool covers(const Entry& entry) const {
    const auto after = std::upper_bound(
        times_.begin(), times_.end(), saturating_sum(entry.start_unix_ns, entry.duration_ns),
        [](std::uint64_t end_unix_ns, const TimeRange& time) { return end_unix_ns < time.first_unix_ns; });
    return after != times_.begin() && std::prev(after)->last_unix_ns >= entry.start_unix_ns;
  }

 private:
  struct Request {
    std::uint64_t duration_ns;
    TraceId id;
    std::uint64_t start_unix_ns, end_unix_ns;
    std::vector<std::uint64_t> spans;  // that steps name
  };
  static bool is_before(const TraceId& a, const TraceId& b) {
    return std::memcmp(a.bytes, b.bytes, sizeof(a.bytes)) < 0;
  }
  // A request may have parts: late ones, and those of several hosts.
  void join_parts() {
    std::sort(requests_.begin(), requests_.end(),
              [](const Request& a, const Request& b) { return is_before(a.id, b.id); });
    std::vector<Request> whole;
    for (Request& part : requests_) {
      if (whole.empty() || !(whole.back().id == part.id)) {
        whole.push_back(std::move(part));
        continue;
      }
      Request& first = whole.back();
      first.duration_ns = std::max(first.duration_ns, part.duration_ns);
      first.start_unix_ns = std::min(first.start_unix_ns, part.start_unix_ns);
      first.end_unix_ns = std::max(first.end_unix_ns, part.end_unix_ns);
      first.spans.insert(first.spans.end(), part.spans.begin(), part.spans.end());
    }
    requests_ = std::move(whole);
  }
  void keep_slowest() {
    join_parts();
    if (requests_.size() <= slowest_) return;
    const auto end = requests_.begin() + static_cast<std::ptrdiff_t>(slowest_);
    std::nth_element(requests_.begin(), end, requests_.end(),
                     [](const Request& a, const Request& b) { return a.duration_ns > b.duration_ns; });
    requests_.erase(end, requests_.end());
  }

  const std::uint64_t slowest_;
  StepFlows& flows_;
  std::vector<Request> requests_;
  std::vector<TimeRange> times_;  // of the requests, in order, without overlaps
};

// Says on a terminal how much of the recordings has been read. Each is read twice.
class Progress {
 public:
  explicit Progress(const std::vector<std::string>& paths) : is_shown_(isatty(STDERR_FILENO) == 1) {
    for (const std::string& path : paths) {
      struct stat file = {};
      if (stat(path.c_str(), &file) == 0) all_ += 2 * static_cast<std::uint64_t>(file.st_size);
    }
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }
  // So many bytes of this reading have been read.
  void show(std::uint64_t bytes) {
    constexpr std::uint64_t kInterval = 200'000'000;
    const std::uint64_t now = monotonic_now();
    if (!is_shown_ || all_ == 0 || now < next_ns_) return;
    next_ns_ = now + kInterval;
    std::cerr << "\r" + std::to_string(100 * std::min(before_ + bytes, all_) / all_) + " %" << std::flush;
    has_line_ = true;
  }
  // A reading has ended.
  void add(std::uint64_t bytes) { before_ += bytes; }
  void clear() {
    if (std::exchange(has_line_, false)) std::cerr << "\r\x1b[K" << std::flush;
  }

 private:
  bool is_shown_, has_line_ = false;
  std::uint64_t all_ = 0, before_ = 0, next_ns_ = 0;
};

// Passes entries on to the stage, and to `each` what is in no trace.
template <class Each>
class Split : public Sink {
 public:
  Split(TraceStage& stage, Each each) : stage_(stage), each_(std::move(each)) {}
  void on_entry(const Entry& entry) override {
    each_(entry);
    stage_.on_entry(entry);
  }
  void on_tick(std::uint64_t now_unix_ns) override { stage_.on_tick(now_unix_ns); }

 private:
  TraceStage& stage_;
  Each each_;
};

// A new file, a device or pipe that exists, or stdout.
class Out {
 public:
  Out(const std::string& path, bool may_replace) : path_(path), may_replace_(may_replace) {
    if (path == "-") {
      fd_ = STDOUT_FILENO;
      return;
    }
    const FileKind kind = kind_of_file(path);
    if (kind == FileKind::link)
      throw Failure(path + " is a symbolic link, and links are not followed: use another name", Failure::kUsageError);
    if (kind == FileKind::regular && !may_replace)
      throw Failure(path + ": File exists: use another name, or --force to replace it", Failure::kUsageError);
    if (kind == FileKind::regular || kind == FileKind::none) {
      file_ = std::make_unique<NewFile>(path, S_IRUSR | S_IWUSR);
      if (const int error = file_->error(); error != 0) throw failure(error, Failure::status_of(error));
      fd_ = file_->fd();
    } else {
      device_.reset(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
      if (!device_) throw failure(errno, Failure::status_of(errno));
      fd_ = device_.get();
    }
  }
  // Whether what was written may be written again.
  [[nodiscard]] bool is_new() const { return file_ != nullptr; }
  void write(std::string_view bytes) {
    bytes_ += bytes.size();
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw failure(errno);
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  // A member of a tar archive (POSIX.1-1988, ustar), which write() fills until end_member().
  void begin_member(const std::string& name) {
    name_ = name;
    member_ = bytes_;
    write(std::string(kTarBlock, '\0'));
  }
  void end_member() {
    const std::uint64_t size = bytes_ - member_ - kTarBlock;
    write(std::string((kTarBlock - size % kTarBlock) % kTarBlock, '\0'));
    const std::string header = tar_header(name_, size);
    if (pwrite(fd_, header.data(), header.size(), static_cast<off_t>(member_)) != static_cast<ssize_t>(header.size()))
      throw failure(errno);
  }
  void end_archive() { write(std::string(2 * kTarBlock, '\0')); }
  void publish() {
    if (!file_) return;
    if (const int error = file_->publish(may_replace_); error != 0) throw failure(error);
  }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  static constexpr std::size_t kTarBlock = 512;
  static std::string tar_header(const std::string& name, std::uint64_t size) {
    std::string header(kTarBlock, '\0');
    const auto put = [&](std::size_t at, const std::string& text) { header.replace(at, text.size(), text); };
    const auto octal = [](std::uint64_t number, std::size_t digits) {
      std::string text(digits, '0');
      for (std::size_t i = digits; i-- > 0; number /= 8) text[i] = static_cast<char>('0' + number % 8);
      return text;
    };
    put(0, name.substr(0, 99));
    put(100, octal(0600, 7));
    put(108, octal(0, 7));
    put(116, octal(0, 7));
    put(124, octal(size, 11));  // up to 8 GiB
    put(136, octal(0, 11));
    put(148, "        ");  // the checksum is of blanks here
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    unsigned sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    put(148, octal(sum, 6) + std::string(1, '\0'));
    return header;
  }
  [[nodiscard]] Failure failure(int error, int status = Failure::kFailed) const {
    return Failure((path_ == "-" ? "stdout" : path_) + ": " + errno_text(error), status);
  }

  std::string path_, name_;
  bool may_replace_;
  std::unique_ptr<NewFile> file_;
  OpenFile device_;
  int fd_ = -1;
  std::uint64_t bytes_ = 0, member_ = 0;
};

Flows flows_of(const std::string& word) {
  return word == "all" ? Flows::all : word == "none" ? Flows::none : Flows::some;
}

class PerfettoSink : public TraceSink {
 public:
  PerfettoSink(PerfettoTrace& out, const Chosen& chosen) : out_(out), chosen_(chosen) {}
  bool on_trace(const AssembledTrace& trace) override {
    if (chosen_.has(trace.trace.id())) out_.add(trace);
    return true;
  }

 private:
  PerfettoTrace& out_;
  const Chosen& chosen_;
};

// A recording, and what the first reading found.
struct Known {
  std::string path;
  std::string host, member;  // of the first process; its name in the archive
  std::optional<ClockSamples> clocks;
};

// How Perfetto places the files of several recordings on one time axis. The clocks of two hosts differ by what their
// wall clocks differ.
std::string manifest_of(const std::vector<Known>& files) {
  const Known& first = files.front();
  const auto clock_of = [](const Known& file, bool is_same_host) {
    return is_same_host && file.clocks ? "MONOTONIC" : "REALTIME";
  };
  nlohmann::ordered_json members = nlohmann::ordered_json::array();
  for (const Known& file : files) {
    nlohmann::ordered_json member = {{"path", file.member}, {"machine", {{"name", file.host}}}};
    if (&file != &first) {
      const char* const clock = clock_of(file, file.host == first.host && first.clocks.has_value());
      member["clocks"] = {{"clock", clock}, {"is", {{"file", first.member}, {"clock", clock}}}};
    }
    members.push_back(std::move(member));
  }
  const nlohmann::ordered_json manifest = {{"perfetto_manifest",
                                            {{"version", 1},
                                             {"trace_time", {{"file", first.member}, {"clock", clock_of(first, true)}}},
                                             {"files", std::move(members)}}}};
  return manifest.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

class Conversion {
 public:
  Conversion(ConvertOptions& options, const OutputOptions& common)
      : options_(options),
        common_(common),
        for_source_(TraceFilter(options.source.filter, {}).for_source()),
        out_(options.out, options.force),
        flows_(flows_of(options.flows)),
        chosen_(options.slowest, flows_),
        progress_(options.files) {
    if (options.files.size() > 1 && !out_.is_new())
      throw Failure("several recordings are written as an archive (tar), which must be a new file",
                    Failure::kUsageError);
  }

  int run() {
    int status = Failure::kFailed;
    for (const std::string& path : options_.files) {
      if (find(path) == 0) status = 0;
    }
    if (status != 0) return status;
    chosen_.finish();
    const bool is_archive = known_.size() > 1;
    if (is_archive) {
      out_.begin_member("perfetto_manifest.json");
      out_.write(manifest_of(known_));
      out_.end_member();
    }
    for (const Known& file : known_) {
      if (is_archive) out_.begin_member(file.member);
      write(file);
      if (is_archive) out_.end_member();
    }
    if (is_archive) out_.end_archive();
    if (stopping) throw Failure("stopped: " + printable(options_.out) + " is not written", Failure::kFailed);
    out_.publish();
    progress_.clear();
    report();
    return 0;
  }

 private:
  template <class Each, class After>
  void read(const std::string& path, TraceSink& sink, const Each& each, const After& after) {
    options_.source.from = path;
    auto opened = std::make_unique<Recording>(path, for_source_);
    const Recording& recording = *opened;
    FilteredSource source(std::move(opened), for_source_);
    TraceStage stage(options_.source.filter, options_.stage, sink);
    std::uint64_t entries = 0;
    Split split(stage, [&](const Entry& entry) {
      if (++entries % 1024 == 0) progress_.show(recording.state().bytes);
      each(entry);
    });
    CommandRun run(options_.source, options_.source.filter);
    run.run(
        source, split, [&source] { return source.ledger(); }, [&stage] { return stage.has_matched(); });
    stage.finish(source);
    progress_.add(recording.state().bytes);
    after(recording, source, run, stage);
  }

  // The first reading: which requests are shown. Returns the exit status.
  int find(const std::string& path) {
    Known& file = known_.emplace_back(Known{path, {}, {}, {}});
    int status = 0;
    read(
        path, chosen_,
        [&](const Entry& entry) {
          if (file.host.empty()) file.host = (*entry.process)->host;
          if (is_step(entry) || entry.kind == Kind::part) flows_.see(entry);
        },
        [&](const Recording& recording, const Source&, const CommandRun& run, const TraceStage&) {
          file.clocks = recording.clocks();
          status = run.exit_status();
        });
    if (file.host.empty()) file.host = path;
    file.member =
        std::to_string(known_.size()) + "-" + printable(file.host.substr(file.host.rfind('/') + 1)) + ".pftrace";
    return status;
  }

  void write(const Known& file) {
    PerfettoTrace trace(file.clocks ? &*file.clocks : nullptr, flows_,
                        [&](std::string_view bytes) { out_.write(bytes); });
    PerfettoSink sink(trace, chosen_);
    const bool shows_all = options_.slowest == 0 && options_.source.filter.empty();
    read(
        file.path, sink,
        [&](const Entry& entry) {
          const bool is_alone = entry.kind == Kind::gauge || entry.kind == Kind::part || entry.trace_id.empty() ||
                                is_step(entry) || is_linked(entry) || flows_.engine_of(entry.trace_id) != nullptr;
          if (is_alone && (shows_all || chosen_.covers(entry) || flows_.stops_at(entry))) trace.add(entry);
        },
        [&](const Recording& recording, const Source& source, const CommandRun&, const TraceStage& stage) {
          const std::optional<ClockState> clock = source.clock();
          trace.finish(source.ledger(), recording.missing(), clock ? clock->error_ns : 0);
          counts_ += trace.counts();
          left_out_ += stage.counts().incomplete;
          remarks_ += remark_text(source.remark());
          ledgers_.push_back(source.ledger());
        });
  }

  void report() const {
    std::cerr << remarks_;
    if (common_.json) {
      nlohmann::ordered_json json = {{"file", options_.out}, {"bytes", out_.bytes()}, {"requests", counts_.requests}};
      json.update({{"incomplete_left_out", left_out_}, {"spans", counts_.spans}, {"steps", counts_.steps}});
      json.update({{"events", counts_.points}, {"gauges", counts_.values}});
      json["ledgers"] = nlohmann::ordered_json::array();
      for (const Ledger& ledger : ledgers_) json["ledgers"].push_back(to_json(ledger));
      (options_.out == "-" ? std::cerr : std::cout)
          << json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
      return;
    }
    std::string text = printable(options_.out) + ": " + bytes_text(out_.bytes()) + ", " +
                       counted(counts_.requests, "request") + ", " + counted(counts_.spans, "span") + " (" +
                       counted(counts_.steps, "step") + " of engines), " + counted(counts_.points, "event") + ", " +
                       counted(counts_.values, "value") + " of gauges";
    if (left_out_ > 0) text += "; " + counted(left_out_, "incomplete request") + " left out (--incomplete shows them)";
    text += "\n";
    for (const Ledger& ledger : ledgers_) text += to_text(ledger);
    std::cerr << text;
  }

  ConvertOptions& options_;
  const OutputOptions& common_;
  const Filter for_source_;
  Out out_;
  StepFlows flows_;
  Chosen chosen_;
  Progress progress_;
  std::vector<Known> known_;
  PerfettoTrace::Counts counts_;
  std::uint64_t left_out_ = 0;
  std::string remarks_;
  std::vector<Ledger> ledgers_;
};

int run_convert(ConvertOptions& options, const OutputOptions& common) {
  confine({{}, options.files, {options.out}});
  if (std::find(options.files.begin(), options.files.end(), "-") != options.files.end())
    throw Failure("stdin cannot be converted, because the recording is read twice: use a file", Failure::kUsageError);
  if (options.out == "-" && isatty(STDOUT_FILENO) == 1)
    throw Failure("stdout is a terminal: redirect it to a file or a pipe", Failure::kUsageError);
  std::signal(SIGPIPE, SIG_IGN);  // write() fails with EPIPE instead
  options.stage.limits.traces = TraceLimits::traces_for(options.stage.limits.bytes);
  return Conversion(options, common).run();
}

constexpr char kConvertDescription[] =
    "Writes the requests of a recording to a file that other programs show. For\n"
    "Perfetto, open the file at https://ui.perfetto.dev, which reads it in the\n"
    "browser and sends it nowhere. Several recordings become an archive (tar) that\n"
    "Perfetto reads as one trace. Each request is a track. Spans that overlap are in\n"
    "tracks below it. Each engine is a track with its steps, below its process, as\n"
    "are gauges. Arrows lead from a request to the steps that served it. With filters\n"
    "or --slowest, the steps and gauges are those of the time of the requests.";
constexpr char kConvertExamples[] =
    "Examples:\n"
    "  nopspan convert spans.rec --to perfetto -o spans.pftrace\n"
    "  nopspan convert spans.rec --to perfetto -o slow.pftrace --slowest 20\n"
    "  nopspan convert spans.rec --to perfetto -o out.pftrace --since 14:05\n"
    "  nopspan convert host-a.rec host-b.rec --to perfetto -o both.tar";

}  // namespace

void add_convert(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App* command = app.add_subcommand("convert", "Write a recording as a file for Perfetto");
  command->footer(std::string(kConvertDescription) + "\n\n" + kConvertExamples);
  command->add_option("FILE", options->files, "Recordings to read")->required()->check(some_text());
  add_text_option(*command, "--to", options->to, "FORMAT", "Format: perfetto")->required()->check(one_of({"perfetto"}));
  add_text_option(*command, "-o,--out", options->out, "FILE", "File to write; - is stdout")->required();
  command->add_flag("--force", options->force, "Replace an existing file");
  numeric(command->add_option("--slowest", options->slowest, "Only the N slowest requests"), 1);
  command
      ->add_option("--flows", options->flows,
                   "Arrows from a request to the steps of its engine: some (the first, the one after the longest "
                   "gap, and the last), all or none (default: some)")
      ->type_name("WHICH")
      ->check(one_of({"some", "all", "none"}));
  command->add_flag("--incomplete", options->stage.incomplete,
                    "Also requests that have not ended, or that began before the attach");
  numeric(command->add_option("--max-spans", options->stage.limits.entries_per_trace,
                              "Keep at most N spans and events per request (default: 10000)"),
          1, 10'000'000);
  add_bytes_option(*command, "--memory", options->stage.limits.bytes,
                   "Memory for requests that have not ended (default: 64M)");
  add_filter_options(*command, options->source.filter);
  add_time_options(*command, options->source.filter);
  command->callback([options, &common, &run] { run = [options, &common] { return run_convert(*options, common); }; });
}

}  // namespace nopspan::collector
