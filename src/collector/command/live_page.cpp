// SPDX-License-Identifier: Apache-2.0
#include "command/live_page.h"

#include "base/clocks.h"
#include "base/text.h"
#include "base/threads.h"
#include "convert/page.h"
#include "convert/perfetto.h"
#include "model/ledger.h"
#include "open/open_list.h"
#include "top/top_feed.h"
#include "top/top_print.h"
#include "trace/trace_stage.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <iostream>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostLines = std::size_t{64} << 20U, kMostOpenTraces = std::size_t{32} << 20U;
constexpr std::size_t kMostInSteps = 100'000;  // requests whose steps are known
constexpr std::size_t kMostRates = 200;        // of rates
constexpr int kLowLevel = 1;                   // of gzip
constexpr std::uint64_t kFlushed = kSecond;
// A page that is loaded again, or whose tab was hidden, finds what there was.
constexpr std::chrono::minutes kForgotten{5};
constexpr std::uint64_t kCapture = 10 * kSecond;  // for Perfetto
// Requests in flight are read for a tenth of the time at most.
constexpr int kOpenPause = 9;
constexpr std::chrono::seconds kMostOpenPause{60};

TraceStageOptions stage_options() {
  TraceStageOptions options;
  options.limits.bytes = kMostOpenTraces;
  options.limits.traces = TraceLimits::traces_for(kMostOpenTraces);
  return options;
}

TopRequest rates_request() {
  TopRequest request;
  request.interval_ns = kFlushed;
  return request;
}

std::string text_of(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

// Makes what pages follow of entries.
class LivePage::Following : private TraceSink {
 public:
  Following(LivePage& owner, std::uint64_t now_unix_ns)
      : owner_(owner),
        begin_unix_ns_(std::max(now_unix_ns, unix_now())),  // a tick may be late
        page_([&owner](const char* kind, std::string_view base64) { owner.lines_.add(kind, base64); }, now_unix_ns,
              kLowLevel),
        picture_(page_, "", flows_, true),
        stage_({}, stage_options(), *this),
        rates_(owner.source_, {}, kWindowSeconds, kMostRates, rates_request(), true,
               [&owner](const TopSnapshotPointer& now) {
                 owner.lines_.set(LiveFrames::State::rates, text_of(top_json(*now, {}, kMostRates)));
               }) {
    flush();
  }

  void on_entry(const Entry& entry) {
    flows_.see(entry);
    if (flows_.is_full()) flows_.forget();
    stage_.on_entry(entry);
    rates_.on_entry(entry);
  }
  void on_tick(std::uint64_t now_unix_ns) {
    if (now_unix_ns + kSecond < begin_unix_ns_) begin_unix_ns_ = now_unix_ns;  // the clock was set back
    stage_.on_tick(now_unix_ns);
    rates_.on_tick(now_unix_ns);
    capture(now_unix_ns);
    if (now_unix_ns >= flushed_ns_ && now_unix_ns - flushed_ns_ < kFlushed) return;
    flushed_ns_ = now_unix_ns;
    flush();
    owner_.ask_open();
  }
  void finish() {
    stage_.finish(owner_.source_);
    if (capture_) end_capture();
    rates_.finish();
    flush();
  }

 private:
  static constexpr std::uint64_t kWindowSeconds = 10;

  bool on_trace(const AssembledTrace& trace) override {
    // Spans of it may have ended before this began.
    if (!owner_.is_file_ && trace.links.start_unix_ns() < begin_unix_ns_) {
      ++early_;
      return false;
    }
    picture_.add(trace);
    if (capture_) capture_->add(trace);
    return true;
  }
  void on_other(const Entry& entry) override {
    picture_.add(entry);
    if (capture_) capture_->add(entry);
  }
  [[nodiscard]] bool wants_others() const override { return true; }

  // Captures once, from when somebody reads on. Who comes after its end gets another one.
  void capture(std::uint64_t now_unix_ns) {
    LiveFrames& to = owner_.captured_;
    const std::uint64_t joined = to.joined();
    if (to.readers() == 0 || (capture_begin_ns_ > 0 && !capture_ && joined != capture_joined_)) {
      if (capture_begin_ns_ > 0) to.clear();
      capture_ = nullptr;
      capture_begin_ns_ = 0;
    }
    capture_joined_ = joined;
    if (to.readers() == 0) return;
    if (capture_begin_ns_ == 0) {
      capture_begin_ns_ = now_unix_ns;
      capture_ = std::make_unique<PerfettoTrace>(nullptr, no_flows_, kMostOpenTraces,
                                                 [&to](std::string_view bytes) { to.add("bytes", base64_of(bytes)); });
    } else if (capture_ && (now_unix_ns < capture_begin_ns_ || now_unix_ns - capture_begin_ns_ >= kCapture)) {
      end_capture();
    }
  }
  void end_capture() {
    capture_->finish(owner_.source_.ledger(), owner_.source_.remark(), owner_.source_.clock());
    capture_ = nullptr;
    owner_.captured_.add("end", "");
  }
  void flush() {
    picture_.finish(owner_.source_.ledger(), owner_.source_.remark(), {});
    std::vector<std::string> notes;
    if (const std::uint64_t count = stage_.counts().incomplete; count > 0)
      notes.push_back(counted(count, "incomplete request") + " left out");
    if (early_ > 0) notes.push_back(counted(early_, "request") + " from before the first page was opened left out");
    if (owner_.lines_.has_removed()) notes.emplace_back("The oldest requests are not kept");
    if (!owner_.note_.empty()) notes.push_back(owner_.note_);
    owner_.lines_.set(LiveFrames::State::head, page_.head(std::move(notes)));
  }

  LivePage& owner_;
  std::uint64_t begin_unix_ns_;
  std::uint64_t flushed_ns_ = 0, early_ = 0;
  SpanKeys keys_;
  StepFlows flows_{Flows::some, kMostInSteps, keys_, true};
  Page page_;
  PageOfFile picture_;
  TraceStage stage_;
  TopFeed rates_;
  StepFlows no_flows_{Flows::none, 0, keys_};
  std::unique_ptr<PerfettoTrace> capture_;
  std::uint64_t capture_begin_ns_ = 0, capture_joined_ = 0;
};

LivePage::LivePage(const Source& source, bool is_file, std::unique_ptr<TracingProcess> open, OpenFilter filter,
                   std::string why_none, std::string note)
    : source_(source),
      note_(std::move(note)),
      is_file_(is_file),
      lines_(kMostLines),
      captured_(kMostLines, true),
      open_(std::move(open)),
      problem_(std::move(why_none)) {
  if (!open_) return;
  problem_.clear();
  reads_open_ = true;
  try {
    open_thread_ = thread_without_signals([this, filter = std::move(filter)] { read_open(filter); });
  } catch (const std::system_error&) {
    problem_ = "no more threads are allowed";
    reads_open_ = false;
  }
}

LivePage::~LivePage() {
  stops_ = true;
  if (open_thread_.joinable()) open_thread_.join();
}

void LivePage::ask_open() {
  const Clock::time_point now = Clock::now();
  if (!open_ || now < ask_again_.load()) return;
  asked_ = now;
  ask_again_ = now + kMostOpenPause;  // until it has answered
  open_->ask();
}

// The process reads the memory of others, and this thread waits for it.
void LivePage::read_open(const OpenFilter& filter) {
  OpenReading reading(filter, [this, &reading](OpenNow now) {
    reader_restarts_ = reading.reader_restarts();
    const std::size_t requests = now.requests.size();
    shorten(now);
    nlohmann::ordered_json json = to_json(now);
    json["known"] = known_text(now.processes);
    json["all_requests"] = requests;
    lines_.set(LiveFrames::State::open, text_of(json));
    const auto took = std::chrono::duration_cast<Clock::duration>(Clock::now() - asked_.load());
    ask_again_ = Clock::now() + std::min<Clock::duration>(kOpenPause * took, kMostOpenPause);
  });
  std::string problem;
  try {
    const Deadline until(0, stops_);
    open_->attaches_to_nothing();
    open_->wait_for_start(reading, stops_);
    open_->run(reading, until);
    if (stops_) return;
    problem = reading.end() ? reading.end()->message : "the process that reads them has ended";
  } catch (const std::exception& error) {
    problem = error.what();
  }
  reads_open_ = false;
  std::cerr << "nopspan: the page shows no requests in flight any more: " + printable(problem) + "\n";
  {
    const std::lock_guard lock(mutex_);
    problem_ = problem;
  }
  set_problem();
}

std::optional<unsigned> LivePage::readers() const {
  if (!open_) return {};
  return reads_open_ ? 1 : 0;
}

void LivePage::set_problem() {
  const std::lock_guard lock(mutex_);
  if (!problem_.empty()) lines_.set(LiveFrames::State::open, text_of({{"problem", problem_}}));
}

std::string LivePage::text() { return Page::top(true) + Page::bottom(); }

void LivePage::on_entry(const Entry& entry) {
  if (following_) following_->on_entry(entry);
}

void LivePage::on_tick(std::uint64_t now_unix_ns) {
  if (is_file_ || lines_.readers() + captured_.readers() > 0) {
    wanted_ = Clock::now();
    if (!following_) {
      following_ = std::make_unique<Following>(*this, now_unix_ns);
      set_problem();
    }
  } else if (following_ && Clock::now() - wanted_ > kForgotten) {
    following_.reset();
    lines_.clear();
  }
  if (following_) following_->on_tick(now_unix_ns);
}

void LivePage::finish() {
  stops_ = true;  // the process ends while the rest is sent
  if (following_) following_->finish();
}

}  // namespace nopspan::collector
