// SPDX-License-Identifier: Apache-2.0
// nopspan convert: writes a recording as a file for another program to show.
#include "base/clocks.h"
#include "base/failure.h"
#include "base/gzip.h"
#include "base/new_file.h"
#include "base/saturating.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"
#include "command/command.h"
#include "command/command_run.h"
#include "command/options.h"
#include "convert/page.h"
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
#include <map>
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
  std::string to, out, flows;
  std::uint64_t slowest = 0;  // 0: all
  bool force = false;
};

bool is_page(const ConvertOptions& options) { return options.to == "html"; }

Flows flows_of(const ConvertOptions& options) {
  if (is_page(options) || options.flows == "all") return Flows::all;
  return options.flows == "none" ? Flows::none : Flows::some;
}

// The requests that are shown. Those of several hosts may be parts of the same ones.
class Chosen {
 public:
  explicit Chosen(const ConvertOptions& options)
      : shows_all_(options.slowest == 0 && options.source.filter.empty()),
        slowest_(options.slowest),
        is_one_file_(options.files.size() == 1) {}

  // Remembers the request if it may be shown, and its spans that steps name.
  void see(const AssembledTrace& trace, StepFlows& flows) {
    Request request{
        trace.links.longest_root_ns(), trace.trace.id(), trace.links.start_unix_ns(), trace.links.end_unix_ns(), {}};
    last_start_unix_ns_ = std::max(last_start_unix_ns_, request.start_unix_ns);
    for (const TraceLinks::Node& node : trace.links.nodes()) {
      if (const auto span = flows.find(trace.trace.view(*node.entry))) request.spans.push_back(*span);
    }
    if (shows_all_) {
      for (const StepFlows::Key& span : request.spans) flows.show(span);
      return;
    }
    requests_.push_back(std::move(request));
    // Twice as many are kept before the faster half of them is forgotten. Another file may have a slower part of it.
    if (slowest_ != 0 && is_one_file_ && requests_.size() >= 2 * slowest_) keep_slowest();
  }
  // All were seen.
  void finish() {
    keep_slowest();
    std::sort(requests_.begin(), requests_.end(),
              [](const Request& a, const Request& b) { return a.start_unix_ns < b.start_unix_ns; });
    for (const Request& request : requests_) {
      if (times_.empty() || request.start_unix_ns > times_.back().last_unix_ns) {
        times_.push_back({request.start_unix_ns, request.end_unix_ns});
      } else {
        times_.back().last_unix_ns = std::max(times_.back().last_unix_ns, request.end_unix_ns);
      }
    }
    std::sort(requests_.begin(), requests_.end(), is_before);
  }
  [[nodiscard]] std::uint64_t last_start_unix_ns() const { return last_start_unix_ns_; }
  [[nodiscard]] bool has(const TraceId& id) const {
    return shows_all_ || std::binary_search(requests_.begin(), requests_.end(), Request{0, id, 0, 0, {}}, is_before);
  }
  void show_in(StepFlows& flows) const {
    for (const Request& request : requests_) {
      for (const StepFlows::Key& span : request.spans) flows.show(span);
    }
  }
  // Whether an entry of no request is shown: it is in the time of a request that is, or a flow stops at it.
  [[nodiscard]] bool covers(const Entry& entry, StepFlows& flows) const {
    if (shows_all_) return true;
    bool is_stop = false;
    flows.for_each_at(entry, [&](std::uint64_t /*flow*/) { is_stop = true; });
    const auto after = std::upper_bound(
        times_.begin(), times_.end(), saturating_sum(entry.start_unix_ns, entry.duration_ns),
        [](std::uint64_t end_unix_ns, const TimeRange& time) { return end_unix_ns < time.first_unix_ns; });
    return is_stop || (after != times_.begin() && std::prev(after)->last_unix_ns >= entry.start_unix_ns);
  }

 private:
  struct Request {
    std::uint64_t duration_ns;
    TraceId id;
    std::uint64_t start_unix_ns, end_unix_ns;
    std::vector<StepFlows::Key> spans;  // that steps name
  };
  static bool is_before(const Request& a, const Request& b) {
    return std::memcmp(a.id.bytes, b.id.bytes, sizeof(a.id.bytes)) < 0;
  }
  void keep_slowest() {
    // A request may have parts: late ones come after it.
    std::stable_sort(requests_.begin(), requests_.end(), is_before);
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
    if (slowest_ == 0 || requests_.size() <= slowest_) return;
    const auto end = requests_.begin() + static_cast<std::ptrdiff_t>(slowest_);
    std::nth_element(requests_.begin(), end, requests_.end(),
                     [](const Request& a, const Request& b) { return a.duration_ns > b.duration_ns; });
    requests_.erase(end, requests_.end());
  }

  const bool shows_all_;
  const std::uint64_t slowest_;
  const bool is_one_file_;
  std::uint64_t last_start_unix_ns_ = 0;
  std::vector<Request> requests_;
  std::vector<TimeRange> times_;  // of the requests, in order, without overlaps
};

// A recording, and what its first reading finds.
class Known : public TraceSink {
 public:
  Known(std::string path, const ConvertOptions& options, Chosen& chosen, SpanKeys& keys)
      : path_(std::move(path)),
        chosen_(chosen),
        flows_(flows_of(options), options.stage.limits.bytes / StepFlows::kBytesOfRequest, keys) {}

  bool on_trace(const AssembledTrace& trace) override {
    chosen_.see(trace, flows_);
    for (const ProcessPointer& process : trace.trace.processes()) note(process);
    return true;
  }
  void on_other(const Entry& entry) override {
    if (is_step(entry) || entry.kind == Kind::part) flows_.see(entry);
    note(*entry.process);
  }
  [[nodiscard]] bool wants_others() const override { return true; }

  void keep_clocks(const std::optional<ClockSamples>& clocks) {
    if (!boot_.empty()) clocks_ = clocks;
  }
  void show(const Chosen& chosen) { chosen.show_in(flows_); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] StepFlows& flows() { return flows_; }
  // Throws Failure if the file is not the one of the first call.
  void check_file() {
    struct stat facts = {};
    stat(path_.c_str(), &facts);
    if (inode_ != 0 && std::pair(facts.st_dev, facts.st_ino) != std::pair(device_, inode_))
      throw Failure(path_ + " was replaced while it was read: convert it again");
    device_ = facts.st_dev;
    inode_ = facts.st_ino;
  }
  // Null if the times are those of the wall clock, or of several boots.
  [[nodiscard]] const ClockSamples* clocks() const { return clocks_ ? &*clocks_ : nullptr; }
  // The host of the first entry, and its boot, if that is known and the same for all entries; otherwise "".
  [[nodiscard]] const std::string& host() const { return host_; }
  [[nodiscard]] const std::string& boot() const { return boot_; }
  // The name in an archive of the file that is made of it.
  [[nodiscard]] std::string member(std::size_t number) const {
    constexpr std::size_t kMostOfHost = 64;  // bytes
    std::string name = host_.substr(0, kMostOfHost);
    for (char& c : name) {
      if (!is_letter_or_digit(c) && c != '-' && c != '.') c = '_';
    }
    return std::to_string(number) + "-" + (name.empty() ? "host" : name) + ".pftrace";
  }

 private:
  void note(const ProcessPointer& process) {
    if (process == last_process_) return;
    if (last_process_ == nullptr) {
      host_ = process->host;
      boot_ = process->boot_id;
    } else if (process->boot_id != boot_) {
      boot_.clear();
    }
    last_process_ = process;
  }

  const std::string path_;
  Chosen& chosen_;
  StepFlows flows_;
  std::optional<ClockSamples> clocks_;
  ProcessPointer last_process_;
  std::string host_, boot_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
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

// A new file, a device or pipe that exists, or stdout.
class Out {
 public:
  Out(const std::string& path, bool may_replace) : path_(path), may_replace_(may_replace) {
    if (path == "-") {
      fd_ = STDOUT_FILENO;
    } else if (const FileKind kind = kind_of_file(path);
               may_replace && (kind == FileKind::other || kind == FileKind::link)) {
      refuse_foreign_pipe(path);
      return;  // begin() opens it, which may empty it
    } else {
      open_existing_output(path, may_replace);  // refuses what is there
      file_ = std::make_unique<NewFile>(path, S_IRUSR | S_IWUSR);
      if (const int error = file_->error(); error != 0) throw failure(error, Failure::status_of(error));
      fd_ = file_->fd();
    }
  }
  // Before the first write().
  void begin() {
    if (fd_ >= 0) return;
    device_ = open_existing_output(path_, may_replace_);
    if (!device_) throw Failure(path_ + " was replaced while the recording was read");
    fd_ = device_.get();
  }
  [[nodiscard]] std::string name() const { return path_ == "-" ? "stdout" : printable(path_); }
  [[nodiscard]] bool is_new() const { return file_ != nullptr; }
  void refuse_if_stopped() const {
    if (stopping) throw Failure("stopped: " + name() + (is_new() ? " is not written" : " is not whole"));
  }
  // Throws Failure if the user has stopped the program.
  void write(std::string_view bytes) {
    refuse_if_stopped();
    bytes_ += bytes.size();
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw failure(errno);
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  // A member of a tar archive (POSIX.1-1988, ustar), which write() fills until end_member(). Its name has at most 99
  // bytes.
  void begin_member(const std::string& name) {
    name_ = name;
    member_ = bytes_;
    write(std::string(kTarBlock, '\0'));
  }
  void end_member() {
    const std::uint64_t size = bytes_ - member_ - kTarBlock;
    if (size > kMostTarMember) throw Failure(name_ + " has more than 8 GiB, the limit of an archive: use a filter");
    write(std::string((kTarBlock - size % kTarBlock) % kTarBlock, '\0'));
    const std::string header = tar_header(name_, size);
    if (pwrite(fd_, header.data(), header.size(), static_cast<off_t>(member_)) != static_cast<ssize_t>(header.size()))
      throw failure(errno);
  }
  void end_archive() { write(std::string(2 * kTarBlock, '\0')); }
  void publish() {
    if (!file_) return;
    const int error = file_->publish(may_replace_);
    if (error == EEXIST) throw file_exists(path_);
    if (error != 0) throw failure(error);
  }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  static constexpr std::size_t kTarBlock = 512;
  static constexpr std::uint64_t kMostTarMember = (std::uint64_t{8} << 30U) - 1;
  static std::string tar_header(const std::string& name, std::uint64_t size) {
    std::string header(kTarBlock, '\0');
    const auto put = [&](std::size_t at, const std::string& text) { header.replace(at, text.size(), text); };
    const auto octal = [](std::uint64_t number, std::size_t digits) {
      std::string text(digits, '0');
      for (std::size_t i = digits; i-- > 0; number /= 8) text[i] = static_cast<char>('0' + number % 8);
      return text;
    };
    put(0, name);
    put(100, octal(0600, 7));
    put(108, octal(0, 7));
    put(116, octal(0, 7));
    put(124, octal(size, 11));
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

// Calls `each` now and then, and passes everything on.
template <class Each>
class Watched : public Sink {
 public:
  Watched(Sink& sink, Each each) : sink_(sink), each_(std::move(each)) {}
  void on_entry(const Entry& entry) override {
    if (++entries_ % 1024 == 0) each_();
    sink_.on_entry(entry);
  }
  void on_tick(std::uint64_t now_unix_ns) override { sink_.on_tick(now_unix_ns); }

 private:
  Sink& sink_;
  Each each_;
  std::uint64_t entries_ = 0;
};

class PictureSink : public TraceSink {
 public:
  PictureSink(Picture& out, const Chosen& chosen, StepFlows& flows) : out_(out), chosen_(chosen), flows_(flows) {}
  bool on_trace(const AssembledTrace& trace) override {
    if (chosen_.has(trace.trace.id())) out_.add(trace);
    return true;
  }
  void on_other(const Entry& entry) override {
    if (chosen_.covers(entry, flows_)) out_.add(entry);
  }
  [[nodiscard]] bool wants_others() const override { return true; }

 private:
  Picture& out_;
  const Chosen& chosen_;
  StepFlows& flows_;
};

// How Perfetto places the files of several recordings on one time axis: files of one machine share their clocks, and
// the wall clock is taken to be the same on all machines. CLOCK_MONOTONIC of one machine cannot be the axis of others,
// because Perfetto drops what was before its zero.
std::string manifest_of(const std::vector<std::unique_ptr<Known>>& files) {
  bool is_one_boot = true;
  nlohmann::ordered_json members = nlohmann::ordered_json::array();
  std::map<std::string, std::string> boots;  // by name of the machine
  for (const std::unique_ptr<Known>& file : files) {
    const std::string& boot = file->boot();
    is_one_boot = is_one_boot && file->clocks() != nullptr && boot == files.front()->boot();
    const std::string host = file->host().empty() ? "unknown host" : printable(file->host());
    std::string machine = host;
    for (int other = 2; !boots.try_emplace(machine, boot).second && (boot.empty() || boots[machine] != boot); ++other)
      machine = host + " (" + std::to_string(other) + ")";
    members.push_back({{"path", file->member(members.size() + 1)}, {"machine", {{"name", machine}}}});
  }
  const nlohmann::ordered_json manifest = {
      {"perfetto_manifest",
       {{"version", 1},
        {"trace_time", {{"file", files.front()->member(1)}, {"clock", is_one_boot ? "MONOTONIC" : "REALTIME"}}},
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
        chosen_(options),
        progress_(options.files) {
    if (!is_page(options) && options.files.size() > 1 && !out_.is_new())
      throw Failure("several recordings are written as an archive (tar), which must be a new file",
                    Failure::kUsageError);
  }

  int run() {
    for (const std::string& path : options_.files) find(path);
    if (known_.empty()) return Failure::kFailed;
    chosen_.finish();
    out_.begin();
    const bool is_archive = !is_page(options_) && known_.size() > 1;
    if (is_page(options_)) {
      page_.set_begin(chosen_.last_start_unix_ns());
      out_.write(Page::top(false));
    }
    if (is_archive) {
      out_.begin_member("perfetto_manifest.json");
      out_.write(manifest_of(known_));
      out_.end_member();
    }
    for (std::size_t i = 0; i < known_.size(); ++i) {
      if (is_archive) out_.begin_member(known_[i]->member(i + 1));
      write(*known_[i]);
      if (is_archive) out_.end_member();
    }
    if (is_archive) out_.end_archive();
    if (is_page(options_)) {
      write_block("head", base64_of(gzipped(page_.head(notes()), Page::kLevel)));
      out_.write(Page::bottom());
    }
    out_.refuse_if_stopped();
    out_.publish();
    progress_.clear();
    report();
    return 0;
  }

 private:
  template <class After>
  void read(const std::string& path, TraceSink& sink, const After& after) {
    options_.source.from = path;
    auto opened = std::make_unique<Recording>(path, for_source_);
    const Recording& recording = *opened;
    Filter of_entries = for_source_;
    of_entries.slower_than_ns = 0;  // only the recording knows which short entries a slow request has
    FilteredSource source(std::move(opened), std::move(of_entries));
    TraceStage stage(options_.source.filter, options_.stage, sink);
    Watched watched(stage, [&] { progress_.show(recording.state().bytes); });
    CommandRun run(options_.source, options_.source.filter);
    run.run(
        source, watched, [&source] { return source.ledger(); }, [&stage] { return stage.has_matched(); });
    stage.finish(source);
    progress_.add(recording.state().bytes);
    after(recording, source, run, stage);
  }

  void write_block(const char* kind, std::string_view base64) {
    out_.write("<script type=\"text/plain\" class=\"" + std::string(kind) + "\">");
    out_.write(base64);
    out_.write("</script>\n");
  }

  void find(const std::string& path) {
    auto file = std::make_unique<Known>(path, options_, chosen_, keys_);
    file->check_file();
    read(path, *file, [&](const Recording& recording, const Source&, const CommandRun& run, const TraceStage&) {
      file->keep_clocks(recording.clocks());
      if (run.exit_status() == 0) known_.push_back(std::move(file));
    });
  }

  void write(Known& file) {
    file.show(chosen_);
    file.check_file();
    std::unique_ptr<Picture> made;
    if (is_page(options_)) {
      made = std::make_unique<PageOfFile>(page_, file.path(), file.flows());
    } else {
      made = std::make_unique<PerfettoTrace>(file.clocks(), file.flows(), options_.stage.limits.bytes,
                                             [&](std::string_view bytes) { out_.write(bytes); });
    }
    Picture& trace = *made;
    PictureSink sink(trace, chosen_, file.flows());
    read(file.path(), sink, [&](const Recording&, const Source& source, const CommandRun&, const TraceStage& stage) {
      trace.finish(source.ledger(), source.remark(), source.clock());
      counts_ += trace.counts();
      left_out_ += stage.counts().incomplete;
      over_limit_ += stage.assembler().counts().over_limit;
      evicted_ += stage.assembler().counts().evicted;
      remarks_ += remark_text(source.remark());
      ledgers_.push_back(source.ledger());
    });
  }

  [[nodiscard]] std::vector<std::string> left_out_texts() const {
    std::vector<std::string> texts;
    if (left_out_ > 0)
      texts.push_back(counted(left_out_, "incomplete request") + " left out (--incomplete shows them)");
    if (over_limit_ > 0) texts.push_back(counted(over_limit_, "entry", "entries") + " beyond --max-spans left out");
    if (evicted_ > 0)
      texts.push_back(counted(evicted_, "request") + " evicted before the end, because --memory was full");
    return texts;
  }

  // What the page says about what was selected.
  [[nodiscard]] std::vector<std::string> notes() const {
    std::vector<std::string> notes;
    if (options_.slowest > 0) notes.push_back("Only the " + counted(options_.slowest, "slowest request"));
    if (!options_.source.filter.empty())
      notes.emplace_back("Only requests that the filters of nopspan convert selected");
    const std::vector<std::string> left_out = left_out_texts();
    notes.insert(notes.end(), left_out.begin(), left_out.end());
    if (std::any_of(known_.begin(), known_.end(), [](const auto& file) { return file->flows().is_full(); }))
      notes.emplace_back("Some requests are beyond --memory, and not in the view Engine");
    return notes;
  }

  void report() const {
    std::cerr << remarks_;
    if (common_.json) {
      nlohmann::ordered_json json = {{"file", options_.out}, {"bytes", out_.bytes()}, {"requests", counts_.requests}};
      json.update({{"incomplete_left_out", left_out_},
                   {"over_limit", over_limit_},
                   {"evicted", evicted_},
                   {"spans", counts_.spans},
                   {"steps", counts_.steps}});
      json.update({{"events", counts_.points}, {"gauges", counts_.values}});
      json["ledgers"] = nlohmann::ordered_json::array();
      for (const Ledger& ledger : ledgers_) json["ledgers"].push_back(to_json(ledger));
      (options_.out == "-" ? std::cerr : std::cout)
          << json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
      return;
    }
    std::string text = out_.name() + ": " + bytes_text(out_.bytes()) + ", " + counted(counts_.requests, "request") +
                       ", " + counted(counts_.spans, "span") + ", " + counted(counts_.steps, "step") + " of engines, " +
                       counted(counts_.points, "event") + ", " + counted(counts_.values, "value") + " of gauges";
    for (const std::string& left_out : left_out_texts()) text += "; " + left_out;
    text += "\n";
    for (const Ledger& ledger : ledgers_) text += to_text(ledger);
    std::cerr << text;
  }

  ConvertOptions& options_;
  const OutputOptions& common_;
  const Filter for_source_;
  Out out_;
  Chosen chosen_;
  SpanKeys keys_;
  Progress progress_;
  std::vector<std::unique_ptr<Known>> known_;
  Page page_{[this](const char* kind, std::string_view base64) { write_block(kind, base64); }};
  Picture::Counts counts_;
  std::uint64_t left_out_ = 0, over_limit_ = 0, evicted_ = 0;
  std::string remarks_;
  std::vector<Ledger> ledgers_;
};

int run_convert(ConvertOptions& options, const OutputOptions& common) {
  confine({{}, options.files, {options.out}});
  struct stat out = {}, file = {};
  const bool out_exists = options.out != "-" && stat(options.out.c_str(), &out) == 0;
  for (const std::string& path : options.files) {
    const bool is_there = stat(path.c_str(), &file) == 0;
    if (path == "-" || (is_there && !S_ISREG(file.st_mode) && !S_ISDIR(file.st_mode)))
      throw Failure((path == "-" ? "stdin" : path) + " is not a regular file, and a recording is read twice: use one",
                    Failure::kUsageError);
    if (is_there && out_exists && file.st_dev == out.st_dev && file.st_ino == out.st_ino)
      throw Failure(path + " is the recording to read: use another name for --out", Failure::kUsageError);
  }
  if (is_page(options) && !options.flows.empty()) throw Failure("--flows is for --to perfetto", Failure::kUsageError);
  if (options.out == "-" && isatty(STDOUT_FILENO) == 1)
    throw Failure("stdout is a terminal: redirect it to a file or a pipe", Failure::kUsageError);
  std::signal(SIGPIPE, SIG_IGN);  // write() fails with EPIPE instead
  options.stage.limits.traces = TraceLimits::traces_for(options.stage.limits.bytes);
  return Conversion(options, common).run();
}

constexpr char kConvertDescription[] =
    "Writes the requests of a recording to a file that a browser shows. html: a page\n"
    "that needs nothing else. perfetto: open the file at https://ui.perfetto.dev,\n"
    "which reads it in the browser and sends it nowhere. Several recordings become\n"
    "one page, or an archive (tar) that Perfetto reads as one trace. In Perfetto,\n"
    "each request is a track. Spans that overlap are in tracks below it. Each engine\n"
    "is a track with its steps, below its process, as are gauges. Arrows lead from a\n"
    "request to the steps that served it. With filters or --slowest, the steps and\n"
    "gauges are those of the time of the requests.";
constexpr char kConvertExamples[] =
    "Examples:\n"
    "  nopspan convert spans.rec --to html -o spans.html\n"
    "  nopspan convert spans.rec --to perfetto -o spans.pftrace\n"
    "  nopspan convert spans.rec --to perfetto -o slow.pftrace --slowest 20\n"
    "  nopspan convert spans.rec --to perfetto -o out.pftrace --since 14:05\n"
    "  nopspan convert host-a.rec host-b.rec --to perfetto -o both.tar";

}  // namespace

void add_convert(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App* command = app.add_subcommand("convert", "Write a recording as a page, or for Perfetto");
  command->footer(std::string(kConvertDescription) + "\n\n" + kConvertExamples);
  command->add_option("FILE", options->files, "Recordings to read")->required()->check(some_text());
  add_text_option(*command, "--to", options->to, "FORMAT", "Format: html or perfetto")
      ->required()
      ->check(one_of({"html", "perfetto"}));
  add_text_option(*command, "-o,--out", options->out, "FILE", "File to write; - is stdout")->required();
  command->add_flag("--force", options->force, "Replace an existing file");
  numeric(command->add_option("--slowest", options->slowest, "Only the N slowest requests"), 1);
  command
      ->add_option("--flows", options->flows,
                   "For Perfetto: arrows from a request to the steps of its engine: some (the first, the one after "
                   "the longest gap, and the last), all or none (default: some)")
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
