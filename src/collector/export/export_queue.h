// SPDX-License-Identifier: Apache-2.0
// Request bodies that wait for a receiver, and the thread that sends them.
#pragma once

#include "export/export_body.h"
#include "export/receiver_account.h"
#include "export/spool.h"
#include "export/transport.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace nopspan::collector {

struct BackOffOptions {
  std::chrono::nanoseconds first = std::chrono::seconds(1), most = std::chrono::seconds(30);
};

// The pauses between attempts: each is about twice as long as the one before, and random, so that the exporters of
// many hosts do not return to a receiver at the same moment.
class BackOff {
 public:
  explicit BackOff(BackOffOptions options, std::uint64_t seed = std::random_device()())
      : options_(options), interval_(options.first), random_(seed) {}

  // The pause before the next attempt: between half of the interval and one and a half times the interval.
  std::chrono::nanoseconds next() {
    const double factor = std::uniform_real_distribution<double>(0.5, 1.5)(random_);
    const auto pause = std::chrono::duration_cast<std::chrono::nanoseconds>(interval_ * factor);
    interval_ = std::min(2 * interval_, options_.most);
    return pause;
  }
  void reset() { interval_ = options_.first; }

 private:
  BackOffOptions options_;
  std::chrono::nanoseconds interval_;
  std::mt19937_64 random_;
};

struct ExportQueueOptions {
  std::size_t capacity_bytes = 64U << 20U;  // of the bodies in memory
  // Whether a full queue refuses bodies, if they do not go to a spool. A caller that asks has_space() before it encodes
  // more may exceed the capacity by what it has encoded already.
  bool refuses = true;
  // Whether metrics are differences, so that a newer snapshot does not replace an older one.
  bool has_deltas = false;
  // Without them, new spans or log records are left out, and those of a spool stay there.
  bool traces = true, logs = true;
  BackOffOptions back_off;
  // A body in memory that no attempt delivers for that long is given up; 0: never. With a spool, it waits there
  // instead. A receiver's Retry-After is honored up to this time.
  std::chrono::nanoseconds retry_time = std::chrono::minutes(5);
  std::function<void(const std::string&)> say = [](const std::string& /*message*/) {};  // messages for the user
  // While finish() waits: whether the user wants it to end now. It then does what it does at the end of its time.
  std::function<bool()> is_hurried = [] { return false; };
};

// Bodies of each signal are sent in the order in which they were posted, except those that a full queue could not hold,
// and those that wait while a request has no answer. If a signal's request fails, the other signals do not wait for its
// next attempt.
//
// With a spool, what waits is on disk as soon as a request has failed, or has no answer after a second: the bodies in
// memory are moved there, and so are those that are posted until a request of the signal succeeds, or any request has
// its answer. What a full queue cannot hold is on disk too. A spool's bodies are sent while none of its signal wait in
// memory. Those of a signal that is not wanted stay there.
class ExportQueue {
 public:
  // All arguments must outlive this object. The spool may be null.
  ExportQueue(ExportQueueOptions options, Transport& transport, ReceiverAccount& account, Spool* spool = nullptr);
  ~ExportQueue();
  ExportQueue(const ExportQueue&) = delete;
  ExportQueue& operator=(const ExportQueue&) = delete;

  // Whether there is room for a body, in memory or in the spool. Each signal has a quarter of the capacity for itself,
  // so that a receiver that fails for one signal does not keep the others out. What fails does not wait for room in a
  // spool.
  [[nodiscard]] bool has_space(Signal signal) const;
  // Whether spans go to a spool because their last request has failed.
  [[nodiscard]] bool is_failing() const;
  // Notes in the spool what is only in memory or was lost, now and whenever that of this queue has changed. `outside`:
  // what is in memory outside of it. If the receiver is slow to answer, moves what waits to the spool.
  void note_unsaved(const ItemCounts& outside);
  // Takes a body of new items. If the queue and the spool are full, drops and counts it, and returns false. The last
  // body that is accepted may exceed the capacity.
  bool post(ExportBody body);
  // Takes the bodies of a snapshot of metrics. Bodies of older snapshots that still wait are dropped and counted. If
  // metrics are differences, they stay, and new ones are dropped and counted if the queue is full.
  void post_metrics(std::vector<ExportBody> bodies);
  // Sends what is left, at most for `time`. Then moves the bodies in memory to the spool for the next run, or counts
  // them as dropped or unconfirmed. Bodies in the spool stay there. If only such bodies and metrics are left and the
  // receiver does not accept them, does not wait. Returns whether nothing is left. Bodies that are posted later are
  // dropped. Further calls have no effect.
  bool finish(std::chrono::nanoseconds time);

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    ExportBody body;
    bool may_have_arrived = false;  // an earlier attempt may have arrived
    std::uint64_t snapshot = 0;     // of metrics
    std::optional<Clock::time_point> first_attempt;
  };
  struct Lane {
    Lane(const BackOffOptions& options, Signal of, bool of_spool) : back_off(options), signal(of), is_spool(of_spool) {}
    void hold(const ExportBody& body) {
      if (is_spool) return;
      bytes += body.bytes.size();
      items += body.items;
    }
    void release(const ExportBody& body) {
      if (is_spool) return;
      bytes -= body.bytes.size();
      items -= body.items;
    }

    std::deque<Waiting> bodies;
    std::size_t bytes = 0;  // of the bodies, and of the one in flight; in memory only, so 0 for a spool's lane
    ItemCounts items;       // of the same
    BackOff back_off;
    Signal signal;
    Clock::time_point not_before;
    std::uint64_t failures = 0;       // attempts since the last one that succeeded
    bool waits_for_receiver = false;  // the receiver chose not_before
    bool has_failed = false;          // its last attempt, since finish() if it was called
    const bool is_spool;
    bool may_have_arrived = false;  // of a spool's lane: the body that was loaded, or a part of it
  };
  // The lanes are those of the signals, and of the spool: its traces and its logs.
  static constexpr std::size_t kSpools = 2, kLanes = kSignals + kSpools;
  // Messages that are repeated at most every kSayEvery.
  enum class Said : std::uint8_t { failing, refused, rejected, warning, malformed, divided, given_up, count };

  std::thread start();
  void run();
  void run_until_end(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] Lane* next_lane(Clock::time_point now);
  [[nodiscard]] Clock::time_point next_time(Clock::time_point now) const;
  [[nodiscard]] bool is_spools_turn(const Lane& lane) const;
  [[nodiscard]] bool is_done() const;
  [[nodiscard]] bool is_slow() const;
  [[nodiscard]] bool is_full(Signal signal) const;
  [[nodiscard]] bool is_wanted(Signal signal) const {
    return signal == Signal::traces ? options_.traces : signal != Signal::logs || options_.logs;
  }
  [[nodiscard]] bool has_spool(Signal signal) const { return spool_ != nullptr && signal != Signal::metrics; }
  [[nodiscard]] bool is_failing(Signal signal) const;
  void spool_if_slow();
  void note_unsaved();
  [[nodiscard]] std::optional<DropReason> move_to_spool(const Waiting& waiting);
  std::optional<DropReason> spool_waiting(Lane& lane);
  void load_spool(Lane& lane, std::unique_lock<std::mutex>& lock);
  void attempt(Lane& lane, std::unique_lock<std::mutex>& lock);
  void settle(Lane& lane, Waiting waiting, const ReceiverAnswer& answer);
  void retry(Lane& lane, Waiting waiting, const ReceiverAnswer& answer);
  bool split_up(Lane& lane, Waiting& waiting);
  static void end_failures(Lane& lane);
  void give_up(const Waiting& waiting, DropReason reason);
  void count_rest();
  void say(Said what, const std::string& message);
  [[nodiscard]] static ReceiverAccount::Count place_of(const Lane& lane) {
    return lane.is_spool ? &SignalAccount::spooled : &SignalAccount::queued;
  }

  const ExportQueueOptions options_;
  Transport& transport_;
  ReceiverAccount& account_;
  Spool* const spool_;
  MovableDeadline deadline_;

  mutable std::mutex mutex_;
  std::condition_variable has_work_, has_ended_;
  std::array<Lane, kLanes> lanes_;  // this and all below with mutex_
  std::uint64_t snapshot_ = 0;
  bool ends_ = false, is_ended_ = false;
  bool began_at_end_ = false;        // the attempt in flight began after finish()
  Clock::time_point sending_since_;  // the begin of the attempt in flight
  Clock::time_point spool_again_;    // after the spool could not take what waits for a slow request
  ItemCounts outside_;               // in memory, but not in this queue
  std::array<Clock::time_point, static_cast<std::size_t>(Said::count)> said_at_{};

  std::thread thread_;  // the last member, because it uses the others
};

}  // namespace nopspan::collector
