// SPDX-License-Identifier: Apache-2.0
#include "export/otlp_receiver.h"

#include "base/stopping.h"

#include <thread>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::chrono::milliseconds kLookForSpace{2};
// Each request costs a receiver more than its spans, and takes at least a block of the spool.
constexpr std::uint64_t kFlushEvery = kSecond / 2;
constexpr std::chrono::milliseconds kLongestWait{900};  // so that it ends at the next tick of a recording

// If entries can wait, those that are encoded already must not be dropped.
ExportQueueOptions queue_options(const OtlpReceiverOptions& options) {
  ExportQueueOptions queue = options.queue;
  queue.refuses = !options.waits;
  queue.traces = options.content.traces;
  queue.logs = options.content.logs;
  return queue;
}

// The signal whose request has the entry.
Signal signal_of(const Entry& entry) { return items_of(entry).logs > 0 ? Signal::logs : Signal::traces; }

}  // namespace

OtlpReceiver::OtlpReceiver(OtlpReceiverOptions options, std::unique_ptr<Transport> transport)
    : options_(std::move(options)),
      transport_(std::move(transport)),
      spool_(options_.spool ? std::make_unique<Spool>(*options_.spool, account_) : nullptr),
      feed_(options_.content,
            [this](ExportBody body) {
              queue_.post(std::move(body));
              has_posted_ = true;
            }),
      queue_(queue_options(options_), *transport_, account_, spool_.get()) {}

void OtlpReceiver::add(const Entry& entry) {
  constexpr unsigned kMostNotNoted = 256;
  if (spool_ != nullptr && ++not_noted_ > kMostNotNoted) note_unsaved();
  while (options_.waits && !queue_.has_space(signal_of(entry)) && !stopping &&
         std::chrono::steady_clock::now() < options_.waits_until) {
    std::this_thread::sleep_for(kLookForSpace);
  }
  feed_.add(entry);
  if (has_posted_) note_unsaved();
}

void OtlpReceiver::on_tick(std::uint64_t now_unix_ns) {
  // What waits for the receiver must be on disk soon, also events whose span has not ended. They become log records, so
  // they stay if these are not wanted.
  const bool hurries = options_.content.logs && queue_.is_failing();
  feed_.on_tick(now_unix_ns, hurries ? kLongestWait : std::chrono::nanoseconds::max());
  // The clock of a recording stands still while its pipe is silent.
  const bool has_passed = now_unix_ns > std::exchange(ticked_at_, now_unix_ns);
  if (!has_passed || now_unix_ns - flushed_at_ >= kFlushEvery) {
    flushed_at_ = now_unix_ns;
    feed_.flush();
  }
  note_unsaved();
}

void OtlpReceiver::note_unsaved() {
  has_posted_ = false;
  not_noted_ = 0;
  if (spool_ != nullptr) queue_.note_unsaved(feed_.waiting());
}

void OtlpReceiver::finish(std::chrono::nanoseconds time) {
  feed_.finish();
  note_unsaved();
  queue_.finish(time);
}

}  // namespace nopspan::collector
