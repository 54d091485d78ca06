// SPDX-License-Identifier: Apache-2.0
#include "recorder/session.h"

#include "base/clocks.h"
#include "stream/batch_entries.h"

#include <nopspan/detail/batch_tap.h>
#include <nopspan/stats.h>

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <new>
#include <utility>

namespace nopspan::recording {
namespace {

using collector::ChunkKind;
using collector::monotonic_now;
using collector::RecordedBatch;
using collector::RecordedClock;

constexpr std::uint64_t kSecond = 1'000'000'000, kMillisecond = 1'000'000;
constexpr std::uint64_t kTickEvery = kSecond / 10, kFlushEvery = kSecond / 2, kLedgerEvery = kSecond;
constexpr std::uint64_t kFetchEvery = kSecond / 2, kLookEvery = kSecond / 2, kCopyEvery = kSecond / 50;
constexpr std::uint64_t kFirstPause = kSecond / 10, kLongestPause = 2 * kSecond;
constexpr std::size_t kChunkBytes = 1U << 20U;
constexpr std::size_t kMostBuffer = std::size_t{1} << 30U;
constexpr std::size_t kMostClocks = 1024;
// A thread may be in the tap for the time of a copy. If the system stopped it there, nobody waits longer than this.
constexpr std::uint64_t kLeaveTap = kSecond / 5;

std::size_t buffer_size(std::size_t wanted) {
  std::size_t size = BatchRing::kLeast;
  while (size < wanted && size < kMostBuffer) size *= 2;
  return size;
}

// Signals of the program are not for this thread. It inherits the mask from the thread that starts it.
class BlockedSignals {
 public:
  explicit BlockedSignals(sigset_t& before) : before_(before) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t& before_;
};

void append_piece(std::string& to, std::string_view batch, std::size_t begin, std::size_t end) {
  if (begin == end) return;
  const collector::RecordedPiece piece{static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end - begin)};
  to.append(reinterpret_cast<const char*>(&piece), sizeof(piece));
  to.append(batch.substr(begin, end - begin));
  to.resize((to.size() + 7) / 8 * 8);
}

// Whether the entry contains a text that forms and entries after it may name: the kind of an exception, or the name of
// the span around an event.
bool may_share_text(std::string_view record, std::string_view batch) {
  return !collector::own_part(record, batch, NOPSPAN_PART_EXCEPTION_KIND).empty() ||
         !collector::own_part(record, batch, NOPSPAN_PART_TEXT).empty();
}

// Without the first entries of a batch, which an earlier chunk has, but with what they share with the others.
std::string pieces_of(std::string_view batch, std::uint64_t skipped, std::uint64_t entries) {
  std::string pieces;
  std::size_t at = 0, begin = 0;
  const auto pass = [&] {  // the record at `at`, which is whole
    const std::string_view left = batch.substr(at);
    const std::string_view record = collector::record_at(left);
    at += collector::padded_size(record, left.size());
    return record;
  };
  while (skipped > 0) {
    const std::size_t end = at;
    const std::string_view record = pass();
    if (record.empty()) return pieces;
    if (!collector::is_entry(record)) continue;
    --skipped;
    append_piece(pieces, batch, begin, may_share_text(record, batch) ? at : end);
    begin = at;
  }
  while (entries > 0) {
    const std::string_view record = pass();
    if (record.empty()) break;
    if (collector::is_entry(record)) --entries;
  }
  append_piece(pieces, batch, begin, at);
  return pieces;
}

}  // namespace

Session::Session(Target target, const Options& options)
    : options_(options),
      pid_(::getpid()),
      ring_(buffer_size(options.buffer_bytes)),
      target_(std::move(target)),
      process_(OwnProcess::read()),
      copies_(detail::copies()) {
  sem_init(&done_, 0, 0);
  sample_clock();
}

Session::~Session() { sem_destroy(&done_); }

bool Session::is_in_child() const noexcept { return ::getpid() != pid_; }

std::string Session::start(const std::shared_ptr<Session>& self, void (*when_alone)()) {
  // What threads have written for a tracer so far is not of this recording.
  const auto begin_thread = [](void* to, const nopspan_thread& header, const unsigned char*) {
    auto& session = *static_cast<Session*>(to);
    session.account_.begin_thread(header.sequence_id, header.next, header.discarded);
  };
  const std::uint64_t threads = count_threads();
  account_.begin(threads > 0 ? threads - 1 : 0);
  detail::for_each_held_batch(begin_thread, this);
  if (!detail::attach_batch_tap(&ring_, threads == 1)) return "another Writer is open in this process";
  const BlockedSignals blocked(mask_);
  try {
    // Threads that ran then may have begun spans whose children are not in the recording.
    process_.numbers.attached_ns = flushed_ns_ = ledger_ns_ = fetched_ns_ = looked_ns_ = monotonic_now();
    target_.while_waiting([this] { look_whether_alone(); });
    thread_ = std::thread([self, when_alone] {
      self->run();
      self->keep_if_in_use(self);
      if (!self->is_alone_) return;
      when_alone();
      self->thread_.detach();  // the C library calls exit() when this thread, the last one, returns
    });
  } catch (...) {
    detach();
    keep_if_in_use(self);
    throw;
  }
  return "";
}

void Session::keep_if_in_use(const std::shared_ptr<Session>& self) noexcept {
  static std::atomic<Session*> last_kept{nullptr};  // so that detectors of leaks find them
  if (is_detached_) return;
  kept_ = self;
  kept_before_ = last_kept.exchange(this);
}

bool Session::detach() noexcept {
  if (detail::detach_batch_tap(&ring_, kLeaveTap)) is_detached_ = true;
  return is_detached_;
}

void Session::run() {
  try {
    work();
    end();
  } catch (const std::bad_alloc&) {  // the recording ends here; its reader sees that it has no end
    detach();
    target_.close();
  }
  sem_post(&done_);
}

void Session::work() {
  // Here and not in start(): a pipe may be full, or have no reader, which is a signal.
  if (target_.is_open()) begin_recording();
  bool is_behind = false;
  while (!is_ending_) {
    if (!is_behind) ring_.wait(monotonic_now() + kTickEvery);
    look_whether_copied();
    sample_clock();
    is_behind = !receive();
    tick();
    look_whether_alone();
  }
}

// Copies of this process have this thread too. None of them must write as the process that was copied. A checkpoint and
// its restore take longer than kCopyEvery, so each is seen here before anything is written.
void Session::look_whether_copied() {
  const std::uint64_t now = monotonic_now();
  if (detail::copies() != copies_) return begin_copy(account_.threads());
  if (now - copy_looked_ns_ < kCopyEvery) return;
  copy_looked_ns_ = now;
  if (!process_.is_restored()) return;
  std::vector<std::uint64_t> threads = account_.threads();
  const auto add = [](void* to, const nopspan_thread& header, const unsigned char*) {
    static_cast<std::vector<std::uint64_t>*>(to)->push_back(header.sequence_id);
  };
  detail::for_each_held_batch(add, &threads);
  reseed();
  begin_copy(threads);
}

// Begins to record as another process. What threads have written under their sequence_ids of before the copy is left
// out: the process that was copied records it. reseed() has given them others.
void Session::begin_copy(const std::vector<std::uint64_t>& threads) {
  copies_ = detail::copies();
  process_ = OwnProcess::read();
  account_ = {};
  const std::uint64_t running = count_threads();
  account_.begin(running > 0 ? running - 1 : 0);
  for (const std::uint64_t thread : threads) account_.ignore_thread(thread);
  chunk_.clear();
  clocks_.clear();  // another host has other clocks
  sample_clock();   // the next batch, which may be the one that is being read, needs one
  entries_ = unwritten_ = 0;
  reported_ = before_ = {};
  refused_before_ = ring_.refused_at_ends();
  connect_ns_ = 0;
  process_.numbers.attached_ns = flushed_ns_ = ledger_ns_ = fetched_ns_ = looked_ns_ = monotonic_now();
  has_begun_ = false;
  target_.begin_copy(process_.instance);
}

// If main() ends by pthread_exit(), the process ends when its last thread does. This thread must not be that one, and
// from then on it must not block the signals by which the process is ended. Those of its writes stay blocked.
void Session::look_whether_alone() {
  const std::uint64_t now = monotonic_now();
  if (is_ending_ || now - looked_ns_ < kLookEvery) return;
  looked_ns_ = now;
  if (!is_last_thread()) return;
  is_alone_ = true;
  deadline_ns_ = now + options_.close_timeout_ms * kMillisecond;
  is_ending_ = true;
  sigset_t mask = mask_;
  sigaddset(&mask, SIGPIPE);
  sigaddset(&mask, SIGXFSZ);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
}

// What was flushed before the last fetch, and is still in the ring, would count as lost.
void Session::tick() {
  const std::uint64_t now = monotonic_now();
  if (!target_.is_open()) connect();
  const bool knows_all = ring_.has_read(fetched_until_);
  const bool writes_ledger = knows_all && now - ledger_ns_ >= kLedgerEvery;
  if (writes_ledger || now - flushed_ns_ >= kFlushEvery) flush();
  if (writes_ledger) {
    ledger_ns_ = now;
    if (!has_begun_ && target_.is_open()) begin_recording();
    write_ledger(counts());
  }
  if (!knows_all) return;
  publish_statistics();
  if (now - fetched_ns_ < kFetchEvery) return;
  fetch();
  account_.note_living(living_);
}

// Threads may write until the gate is down. What they discard then is counted in their headers.
void Session::end() {
  fetch();
  const bool is_quiet = detach();
  receive_rest();
  if (is_quiet) fetch();
  if (!target_.is_open()) connect();
  flush();
  if (!has_begun_ && target_.is_open()) begin_recording();
  const Counts all = counts();
  // Without its ledger, the recording must not look complete.
  const bool has_end = write_ledger(all) && write(ChunkKind::end, 0, {});
  is_complete_ = has_end && all.lost() == 0 && is_quiet;
  publish_statistics();
  target_.close();
}

// Returns false if there is more, because the threads write faster than this one reads.
bool Session::receive() {
  const std::uint64_t latest = monotonic_now() + kTickEvery;
  while (ring_.next([this](const BatchRing::Record& record, std::string_view bytes) { read_batch(record, bytes); })) {
    if (monotonic_now() >= latest) return false;
  }
  return true;
}

// After the deadline, batches are counted and not written.
void Session::receive_rest() {
  const auto read = [this](const BatchRing::Record& record, std::string_view bytes) {
    read_batch(record, monotonic_now() >= deadline_ns_ ? std::string_view() : bytes);
  };
  while (ring_.next(read)) {
  }
}

// Fetches what threads hold, because a thread that does nothing does not flush.
void Session::fetch() {
  fetched_ns_ = monotonic_now();
  const auto read = [](void* to, const nopspan_thread& header, const unsigned char* bytes) {
    auto& session = *static_cast<Session*>(to);
    session.read_batch(BatchRing::Record::of(header, header.bytes),
                       {reinterpret_cast<const char*>(bytes), header.bytes});
    session.living_.insert(header.sequence_id);
  };
  living_.clear();
  detail::for_each_held_batch(read, this);
  // What an ended thread has flushed was in the ring by then, and is read before the next round.
  fetched_until_ = ring_.end();
}

void Session::read_batch(const BatchRing::Record& record, std::string_view bytes) {
  if (detail::copies() != copies_) begin_copy(account_.threads());  // before it knows a sequence_id of the copy
  if (bytes.empty()) return account_.emitted_until(record.sequence_id, record.next, record.discarded);
  for (const collector::Sequences& fresh :
       account_.arrive(record.sequence_id, {record.first, record.next}, record.discarded)) {
    const std::uint64_t entries = fresh.count();
    if (!target_.is_open()) {
      unwritten_ += entries;
      continue;
    }
    if (chunk_.empty()) {
      for (const RecordedClock& clock : clocks_) chunk_.add(clock);
      process_.add_to(chunk_);
    }
    RecordedBatch batch;
    batch.thread_id = record.thread_id;
    batch.sequence_id = record.sequence_id;
    batch.first = fresh.first;
    batch.entries = static_cast<std::uint32_t>(entries);
    if (fresh.first == record.first) {
      chunk_.add(batch, bytes);
    } else {
      batch.flags = collector::kRecordedPieces;
      chunk_.add(batch, pieces_of(bytes, fresh.first - record.first, entries));
    }
    entries_ += entries;
    if (chunk_.bytes() >= kChunkBytes) flush();
  }
}

// Changes of less than 5 us are not recorded.
void Session::sample_clock() {
  constexpr std::uint64_t kTolerance = 5'000;
  const collector::ClockSample sample = collector::sampled_clock(&monotonic_now, &collector::unix_now);
  if (!clocks_.empty()) {
    const std::uint64_t change = collector::clock_change(sample.offset_ns, clocks_.back().offset_ns);
    if (change <= std::max(kTolerance, 2 * sample.error_ns)) return;
  }
  if (clocks_.size() >= kMostClocks) clocks_.erase(clocks_.begin(), clocks_.begin() + kMostClocks / 2);
  clocks_.push_back({sample.monotonic_ns, sample.offset_ns});
  if (!chunk_.empty()) chunk_.add(clocks_.back());
}

// The pause grows, and differs between processes, because many may wait for one reader.
void Session::connect() {
  if (!target_.reconnects()) return;
  const std::uint64_t now = monotonic_now();
  if (now < connect_ns_ && !is_ending_) return;
  has_begun_ = false;
  if (target_.connect()) {
    connect_pause_ns_ = 0;
    begin_recording();
    return;
  }
  connect_pause_ns_ = std::clamp(connect_pause_ns_ * 2, kFirstPause, kLongestPause);
  connect_ns_ = now + connect_pause_ns_ / 2 + random_number() % (connect_pause_ns_ / 2);
}

bool Session::begin_recording() {
  before_ = reported_;
  std::array<char, 17> id{};
  std::snprintf(id.data(), id.size(), "%016llx", static_cast<unsigned long long>(random_number()));
  std::string about = "{\"recording\":\"";
  about += id.data();
  about += "\",\"part\":1,";
  append_json_text(about, "host", process_.host);
  about.back() = '}';
  has_begun_ = true;
  // The empty ledger records the start time.
  has_begun_ = write(ChunkKind::about, 0, about) && write(ChunkKind::ledger, 0, ledger_text({}, {}, process_));
  if (has_begun_) ++connections_;
  return has_begun_;
}

void Session::flush() {
  flushed_ns_ = monotonic_now();
  if (!has_begun_ && target_.is_open()) begin_recording();
  if (chunk_.empty()) return;
  const std::uint64_t entries = std::exchange(entries_, 0);
  const bool is_written = write(ChunkKind::batches, entries, chunk_.payload());
  chunk_.clear();
  if (!is_written) {
    unwritten_ += entries;
    return;
  }
  reported_.emitted += entries;
  reported_.delivered += entries;
}

bool Session::write_ledger(const Counts& counts) {
  if (!write(ChunkKind::ledger, 0, ledger_text(counts, before_, process_))) return false;
  reported_ = counts;
  return true;
}

bool Session::write(ChunkKind kind, std::uint64_t entries, std::string_view payload) {
  return has_begun_ &&
         target_.write({kind, static_cast<std::uint32_t>(entries), collector::unix_now(), payload}, deadline_ns_);
}

Counts Session::counts() const {
  Counts counts = account_.counts();
  const std::uint64_t at_ends = ring_.refused_at_ends() - refused_before_;
  counts.emitted += at_ends;
  counts.export_dropped += at_ends + unwritten_;
  counts.delivered -= unwritten_;
  return counts;
}

void Session::publish_statistics() {
  const Counts all = counts();
  const std::lock_guard<std::mutex> lock(mutex_);
  statistics_ = {all.emitted,  all.delivered,  all.export_dropped, all.lost() - all.export_dropped,
                 connections_, target_.bytes()};
}

Statistics Session::statistics() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return statistics_;
}

bool Session::finish() noexcept {
  const std::uint64_t now = monotonic_now();
  const std::uint64_t deadline = now + options_.close_timeout_ms * kMillisecond;
  deadline_ns_ = std::max<std::uint64_t>(deadline, 1);
  is_ending_ = true;
  ring_.wake();
  // A thread that waits for a reader looks at the deadline every 50 ms. One that waits for a disk does not.
  if (wait_for(done_, deadline + kLeaveTap + kSecond / 5)) {
    thread_.join();
    return is_complete_;
  }
  detach();
  thread_.detach();  // it owns this object too
  return false;
}

}  // namespace nopspan::recording
