// SPDX-License-Identifier: Apache-2.0
#include "export/export_queue.h"

#include "base/failure.h"
#include "base/text.h"
#include "base/threads.h"

#include <csignal>
#include <system_error>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr auto kSayEvery = std::chrono::seconds(10);
constexpr auto kLookIfHurried = std::chrono::milliseconds(50);
// A request without an answer for that long lets the spools take what waits.
constexpr auto kSlow = std::chrono::seconds(1);
constexpr auto kReadAgain = std::chrono::seconds(1);  // a spool, after too many files were open

constexpr std::size_t lane_of(Signal signal) { return static_cast<std::size_t>(signal); }
constexpr std::size_t spool_lane_of(Signal signal) { return kSignals + lane_of(signal); }

std::string items_text(const ItemCounts& items) {
  if (items.spans > 0) return counted(items.spans, "span");
  if (items.logs > 0) return counted(items.logs, "log record");
  return counted(items.points, "data point");
}

}  // namespace

ExportQueue::ExportQueue(ExportQueueOptions options, Transport& transport, ReceiverAccount& account, Spool* spool)
    : options_(std::move(options)),
      transport_(transport),
      account_(account),
      spool_(spool),
      lanes_{Lane(options_.back_off, Signal::traces, false), Lane(options_.back_off, Signal::logs, false),
             Lane(options_.back_off, Signal::metrics, false), Lane(options_.back_off, Signal::traces, spool != nullptr),
             Lane(options_.back_off, Signal::logs, spool != nullptr)},
      thread_(start()) {}

ExportQueue::~ExportQueue() { finish(std::chrono::nanoseconds(0)); }

bool ExportQueue::has_space(Signal signal) const {
  const std::lock_guard lock(mutex_);
  return !is_full(signal) || (has_spool(signal) && (is_failing(signal) || !spool_->is_full(signal)));
}

bool ExportQueue::is_failing() const {
  const std::lock_guard lock(mutex_);
  return is_failing(Signal::traces);
}

bool ExportQueue::is_full(Signal signal) const {
  const std::size_t capacity = options_.capacity_bytes;
  std::size_t all = 0;
  for (std::size_t i = 0; i < kSignals; ++i) all += lanes_[i].bytes;
  return all >= capacity && lanes_[lane_of(signal)].bytes >= capacity / 4;
}

void ExportQueue::note_unsaved(const ItemCounts& outside) {
  const std::lock_guard lock(mutex_);
  outside_ = outside;
  spool_if_slow();
  note_unsaved();
}

// With mutex_.
void ExportQueue::spool_if_slow() {
  if (!is_slow() || Clock::now() < spool_again_) return;
  for (const Signal signal : {Signal::traces, Signal::logs}) {
    // With a full disk, each try compresses a body.
    if (spool_waiting(lanes_[lane_of(signal)])) spool_again_ = Clock::now() + kSlow;
  }
}

// With mutex_, after items have moved: if the program is killed before, the number is too large.
void ExportQueue::note_unsaved() {
  if (spool_ == nullptr) return;
  const AccountTotals totals = account_.totals();
  ItemCounts items = outside_;
  for (const Signal signal : {Signal::traces, Signal::logs}) items += lanes_[lane_of(signal)].items;
  items.spans += totals.signals[kTracesRow].lost();
  items.span_events += totals.signals[kSpanEventsRow].lost();
  items.logs += totals.signals[kLogsRow].lost();
  spool_->note_unsaved(items);
}

bool ExportQueue::is_slow() const {
  return sending_since_ != Clock::time_point() && Clock::now() - sending_since_ >= kSlow;
}

// Whether the last request of a signal with a spool has failed.
bool ExportQueue::is_failing(Signal signal) const {
  return has_spool(signal) && lanes_[spool_lane_of(signal)].failures > 0;
}

bool ExportQueue::post(ExportBody body) {
  if (!is_wanted(body.signal)) {
    account_.add(body.items, &SignalAccount::left_out);
    return true;
  }
  const Signal signal = body.signal;
  const std::lock_guard lock(mutex_);
  const auto drop = [&](DropReason reason) { return account_.drop_new(body.items, reason), false; };
  if (ends_) return drop(DropReason::no_time);
  if (is_full(signal)) {
    if (has_spool(signal)) {
      const auto problem = spool_->keep(body, false);
      if (!problem) {
        account_.add(body.items, &SignalAccount::spooled);
        has_work_.notify_one();
        return true;
      }
      // A source that waits has asked has_space().
      if (options_.refuses || is_failing(signal) || *problem != DropReason::spool_full) return drop(*problem);
    } else if (options_.refuses) {
      return drop(DropReason::queue_full);
    }
  }
  account_.add(body.items, &SignalAccount::queued);
  Lane& lane = lanes_[lane_of(signal)];
  lane.hold(body);
  lane.bodies.push_back({std::move(body), false, 0, {}});
  if (is_failing(signal) || is_slow()) spool_waiting(lane);
  has_work_.notify_one();
  return true;
}

void ExportQueue::post_metrics(std::vector<ExportBody> bodies) {
  const std::lock_guard lock(mutex_);
  Lane& lane = lanes_[lane_of(Signal::metrics)];
  if (!ends_ && !options_.has_deltas) {
    for (const Waiting& old : lane.bodies) give_up(old, DropReason::replaced);
    lane.bodies.clear();
    ++snapshot_;
  }
  for (ExportBody& body : bodies) {
    if (ends_) {
      account_.drop_new(body.items, DropReason::no_time);
      continue;
    }
    if (options_.has_deltas && is_full(Signal::metrics)) {
      account_.drop_new(body.items, DropReason::queue_full);
      continue;
    }
    account_.add(body.items, &SignalAccount::queued);
    lane.hold(body);
    lane.bodies.push_back({std::move(body), false, snapshot_, {}});
  }
  has_work_.notify_one();
}

bool ExportQueue::finish(std::chrono::nanoseconds time) {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(ends_, true)) deadline_.set(std::min(deadline_.get(), Clock::now() + time));
    // One more attempt now, unless the receiver asked for a pause.
    for (Lane& lane : lanes_) {
      if (!lane.waits_for_receiver) lane.not_before = {};
      lane.has_failed = lane.waits_for_receiver;
    }
    said_at_[static_cast<std::size_t>(Said::failing)] = {};  // a user who waits for the end must see why
    has_work_.notify_one();
  }
  transport_.wake();
  {
    std::unique_lock lock(mutex_);
    while (!has_ended_.wait_for(lock, kLookIfHurried, [this] { return is_ended_; })) {
      spool_if_slow();
      if (!options_.is_hurried()) continue;
      deadline_.set(Clock::now());
      has_work_.notify_one();
      transport_.wake();
    }
  }
  if (thread_.joinable()) thread_.join();
  const SignalAccount total = account_.totals().total();
  return total.queued + total.spooled + total.unconfirmed +
             total.dropped[static_cast<std::size_t>(DropReason::no_time)] ==
         0;
}

// SIGPIPE would end the program: a TLS library may write to a closed connection.
std::thread ExportQueue::start() {
  try {
    return thread_without_signals([this] { run(); });
  } catch (const std::system_error& error) {
    throw Failure(std::string("cannot start a thread: ") + error.what());
  }
}

void ExportQueue::run() {
  std::unique_lock lock(mutex_);
  run_until_end(lock);
  count_rest();
  if (spool_ != nullptr) spool_->close();
  note_unsaved();
  is_ended_ = true;
  has_ended_.notify_all();
}

void ExportQueue::run_until_end(std::unique_lock<std::mutex>& lock) {
  while (true) {
    const auto now = Clock::now();
    if (now >= deadline_.get() || (ends_ && is_done())) return;
    if (Lane* const lane = next_lane(now)) {
      if (lane->bodies.empty()) {
        load_spool(*lane, lock);
      } else {
        attempt(*lane, lock);
      }
      continue;
    }
    if (ends_ && next_time(now) >= deadline_.get()) return;  // the receiver asked for a longer pause
    // A far time would overflow in the library's conversion between clocks.
    constexpr auto kLongest = std::chrono::hours(1);
    has_work_.wait_until(lock, std::min({next_time(now), deadline_.get(), now + kLongest}));
  }
}

// Whether finish() is done. Bodies may stay in a spool if the receiver does not accept them now. Metrics then have been
// tried once.
bool ExportQueue::is_done() const {
  const bool stay =
      std::any_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.is_spool && lane.has_failed; });
  return std::all_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) {
    if (!lane.is_spool) {
      return lane.bodies.empty() || (stay && lane.has_failed && lane.signal == Signal::metrics);
    }
    return lane.has_failed || !is_wanted(lane.signal) || (lane.bodies.empty() && spool_->is_empty(lane.signal));
  });
}

// The lane whose body is to be sent now. For an empty lane of a spool, one is to be loaded.
ExportQueue::Lane* ExportQueue::next_lane(Clock::time_point now) {
  // Metrics first, because they are few and become outdated.
  constexpr std::array kOrder = {Signal::metrics, Signal::logs, Signal::traces};
  for (const Signal signal : kOrder) {
    Lane& lane = lanes_[lane_of(signal)];
    if (!lane.bodies.empty() && lane.not_before <= now) return &lane;
  }
  for (Lane& lane : lanes_) {
    if (is_spools_turn(lane) && lane.not_before <= now && !(lane.bodies.empty() && spool_->is_empty(lane.signal)))
      return &lane;
  }
  return nullptr;
}

// When next_lane() may return another lane, if nothing is posted.
ExportQueue::Clock::time_point ExportQueue::next_time(Clock::time_point now) const {
  auto next = Clock::time_point::max();
  for (const Lane& lane : lanes_) {
    const bool waits = lane.is_spool ? is_spools_turn(lane) && lane.not_before > now : !lane.bodies.empty();
    if (waits) next = std::min(next, lane.not_before);
  }
  return next;
}

bool ExportQueue::is_spools_turn(const Lane& lane) const {
  return lane.is_spool && is_wanted(lane.signal) && lanes_[lane_of(lane.signal)].bodies.empty();
}

void ExportQueue::load_spool(Lane& lane, std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  std::optional<Spool::Kept> kept = spool_->read(lane.signal);
  lock.lock();
  if (!kept) {
    if (!spool_->is_empty(lane.signal)) lane.not_before = Clock::now() + kReadAgain;
    return;
  }
  lane.may_have_arrived = kept->may_have_arrived;
  lane.bodies.push_back({std::move(kept->body), kept->may_have_arrived, 0, {}});
}

// The request is made without the lock.
void ExportQueue::attempt(Lane& lane, std::unique_lock<std::mutex>& lock) {
  Waiting waiting = std::move(lane.bodies.front());
  lane.bodies.pop_front();
  if (!waiting.first_attempt) waiting.first_attempt = Clock::now();
  account_.send(waiting.body.items, place_of(lane), waiting.may_have_arrived);
  began_at_end_ = ends_;
  sending_since_ = Clock::now();
  lock.unlock();
  if (lane.is_spool) spool_->begin_sending(lane.signal);
  const ReceiverAnswer answer = transport_.post(waiting.body, deadline_);
  lock.lock();
  sending_since_ = {};
  settle(lane, std::move(waiting), answer);
  note_unsaved();
  if (!lane.is_spool) return;
  if (lane.bodies.empty()) {  // the spool's body, or every part of it, has its answer
    spool_->settle(lane.signal);
    lane.may_have_arrived = false;
  } else if (!lane.may_have_arrived) {
    spool_->note_failure(lane.signal);
  }
}

void ExportQueue::settle(Lane& lane, Waiting waiting, const ReceiverAnswer& answer) {
  const ItemCounts items = waiting.body.items;
  const std::string name = transport_.name(waiting.body.signal);
  waiting.may_have_arrived = waiting.may_have_arrived || answer.may_have_arrived;
  if (answer.is_malformed) {
    account_.count(&AccountTotals::malformed_answers);
    if (answer.kind == ReceiverAnswer::Kind::accepted)
      say(Said::malformed, name + ": malformed answer: " + answer.text);
  }
  switch (answer.kind) {
    case ReceiverAnswer::Kind::retry:
      return retry(lane, std::move(waiting), answer);
    case ReceiverAnswer::Kind::too_large:
      if (split_up(lane, waiting)) {
        say(Said::divided, name + ": " + answer.text + ": the request is divided");
        return;
      }
      [[fallthrough]];
    case ReceiverAnswer::Kind::refused:
      // Somebody may renew a token, or mend an address. A spool waits for it.
      if (answer.may_be_mended && has_spool(lane.signal)) return retry(lane, std::move(waiting), answer);
      account_.move(items, &SignalAccount::in_flight,
                    waiting.may_have_arrived ? &SignalAccount::unconfirmed : &SignalAccount::refused);
      say(Said::refused, name + ": refused " + items_text(items) + ": " + answer.text);
      break;
    case ReceiverAnswer::Kind::not_encodable:
      account_.drop(items, &SignalAccount::in_flight, DropReason::not_encodable);
      say(Said::refused, name + ": dropped " + items_text(items) + ": " + answer.text);
      break;
    case ReceiverAnswer::Kind::accepted:
      account_.accept(items, answer.rejected, waiting.may_have_arrived);
      // If a part of the body stays in the spool, the next run sends the whole body.
      if (lane.is_spool) lane.may_have_arrived = true;
      if (answer.rejected > 0) {
        say(Said::rejected, name + ": rejected " + std::to_string(answer.rejected) + " of " + items_text(items) +
                                (answer.text.empty() ? "" : ": " + answer.text));
      } else if (!answer.text.empty() && !answer.is_malformed) {
        account_.count(&AccountTotals::warnings);
        say(Said::warning, name + ": " + answer.text);
      }
      if (lane.failures > 0) {
        options_.say(name + ": accepts requests again after " + counted(lane.failures, "failed attempt"));
        said_at_[static_cast<std::size_t>(Said::failing)] = {};
      }
      break;
  }
  end_failures(lane);
  lane.release(waiting.body);
  if (lane.is_spool) lane.has_failed = false;
  if (has_spool(lane.signal)) end_failures(lanes_[spool_lane_of(lane.signal)]);
}

void ExportQueue::end_failures(Lane& lane) {
  if (lane.failures > 0) lane.not_before = {};
  lane.failures = 0;
  lane.back_off.reset();
  lane.waits_for_receiver = false;
}

void ExportQueue::retry(Lane& lane, Waiting waiting, const ReceiverAnswer& answer) {
  const auto now = Clock::now();
  const Signal signal = waiting.body.signal;
  const std::string name = transport_.name(signal);
  if (lane.is_spool) lane.may_have_arrived = lane.may_have_arrived || waiting.may_have_arrived;
  if (answer.may_be_too_large && split_up(lane, waiting)) {
    return say(Said::divided, name + ": " + answer.text + ": the request is divided");
  }
  account_.move(waiting.body.items, &SignalAccount::in_flight, place_of(lane));
  std::chrono::nanoseconds retry_after = answer.retry_after;
  if (options_.retry_time.count() > 0) retry_after = std::min(retry_after, options_.retry_time);
  ++lane.failures;
  lane.waits_for_receiver = answer.retry_after.count() > 0;
  // After finish() there is one more attempt at once, also if another one was in flight meanwhile.
  const bool tries_at_once = ends_ && !began_at_end_ && !lane.waits_for_receiver;
  lane.not_before = tries_at_once ? now : now + std::max(lane.back_off.next(), retry_after);
  lane.has_failed = !tries_at_once;
  const auto next = lane.not_before;
  const bool is_outdated = signal == Signal::metrics && waiting.snapshot != snapshot_;
  if (is_outdated) {
    say(Said::failing, name + ": " + answer.text);
    return give_up(waiting, DropReason::replaced);
  }
  lane.bodies.push_front(std::move(waiting));
  if (lane.is_spool) {
    spool_waiting(lanes_[lane_of(signal)]);
  } else {
    const DropReason problem = spool_waiting(lane).value_or(DropReason::no_time);
    const Waiting* const first = lane.bodies.empty() ? nullptr : &lane.bodies.front();
    if (first != nullptr && options_.retry_time.count() > 0 && first->first_attempt &&
        now - *first->first_attempt >= options_.retry_time) {
      say(Said::given_up, name + ": gave up " + items_text(first->body.items) + " after " +
                              duration_text(static_cast<std::uint64_t>(options_.retry_time.count())) + ": " +
                              answer.text);
      give_up(*first, problem);
      lane.bodies.pop_front();
      return;
    }
  }
  const auto end = deadline_.get();
  std::string text = name + ": " + answer.text;
  if (answer.retry_after.count() > 0) {
    text += ": asks to wait for " + duration_text(static_cast<std::uint64_t>(retry_after.count()));
  }
  if (next < end) text += "; trying again";
  if (next < end && ends_) {
    const auto left = std::chrono::ceil<std::chrono::seconds>(end - now);
    text += " for at most " + std::to_string(left.count()) + " s";
  }
  say(Said::failing, text);
}

// Moves what waits in memory to the spool, as far as that can be written. Its lane then goes on where this one
// was. Returns why something is left.
std::optional<DropReason> ExportQueue::spool_waiting(Lane& lane) {
  if (!has_spool(lane.signal)) return DropReason::no_time;
  if (Lane& spooled = lanes_[spool_lane_of(lane.signal)]; lane.failures > spooled.failures) {
    spooled.failures = lane.failures;
    spooled.not_before = lane.not_before;
    spooled.back_off = lane.back_off;
    spooled.waits_for_receiver = lane.waits_for_receiver;
  }
  while (!lane.bodies.empty()) {
    if (const std::optional<DropReason> problem = move_to_spool(lane.bodies.front())) return problem;
    lane.bodies.pop_front();
  }
  end_failures(lane);
  return {};
}

// Puts the halves of a body into its place. Returns false if it has only one item.
bool ExportQueue::split_up(Lane& lane, Waiting& waiting) {
  const ItemCounts items = waiting.body.items;
  lane.release(waiting.body);
  auto [first, second] = split(std::move(waiting.body));
  ItemCounts both = first.items;
  both += second.items;
  if (second.items.total() == 0 || !(both == items)) {
    waiting.body = std::move(first);  // has at least the items' signal
    lane.hold(waiting.body);
    return false;
  }
  account_.move(items, &SignalAccount::in_flight, place_of(lane));
  lane.hold(first);
  lane.hold(second);
  Waiting half = waiting;
  half.body = std::move(second);
  lane.bodies.push_front(std::move(half));
  waiting.body = std::move(first);
  lane.bodies.push_front(std::move(waiting));
  return true;
}

// Counts a body in memory that will not be sent again.
void ExportQueue::give_up(const Waiting& waiting, DropReason reason) {
  if (waiting.may_have_arrived) {
    account_.move(waiting.body.items, &SignalAccount::queued, &SignalAccount::unconfirmed);
  } else {
    account_.drop(waiting.body.items, &SignalAccount::queued, reason);
  }
  lanes_[lane_of(waiting.body.signal)].release(waiting.body);
}

// Moves a body in memory to the spool. Returns why it cannot be moved. Metrics never are, because a newer snapshot
// replaces older ones.
std::optional<DropReason> ExportQueue::move_to_spool(const Waiting& waiting) {
  if (!has_spool(waiting.body.signal)) return DropReason::no_time;
  if (const auto problem = spool_->keep(waiting.body, waiting.may_have_arrived)) return problem;
  account_.move(waiting.body.items, &SignalAccount::queued, &SignalAccount::spooled);
  lanes_[lane_of(waiting.body.signal)].release(waiting.body);
  note_unsaved();
  return {};
}

void ExportQueue::count_rest() {
  for (std::size_t i = 0; i < kSignals; ++i) {
    for (const Waiting& waiting : lanes_[i].bodies) {
      if (const std::optional<DropReason> problem = move_to_spool(waiting)) give_up(waiting, *problem);
    }
    lanes_[i].bodies.clear();
  }
}

void ExportQueue::say(Said what, const std::string& message) {
  Clock::time_point& said_at = said_at_[static_cast<std::size_t>(what)];
  const auto now = Clock::now();
  if (said_at != Clock::time_point() && now - said_at < kSayEvery) return;
  said_at = now;
  options_.say(message);
}

}  // namespace nopspan::collector
