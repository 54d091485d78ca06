// SPDX-License-Identifier: Apache-2.0
#include "export/otlp_receiver.h"

#include "base/stopping.h"

#include <thread>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::chrono::milliseconds kLookForSpace{2};

// If entries can wait or go to the spool, those that are encoded already must not be dropped.
ExportQueueOptions queue_options(const OtlpReceiverOptions& options) {
  ExportQueueOptions queue = options.queue;
  queue.refuses = !options.waits && !options.spool;
  queue.traces = options.content.traces;
  queue.logs = options.content.logs;
  return queue;
}

SpoolOptions spool_of_logs(SpoolOptions options) {
  options.folder += "/logs";
  return options;
}

// The signal whose request has the entry.
Signal signal_of(const Entry& entry) { return items_of(entry).logs > 0 ? Signal::logs : Signal::traces; }

}  // namespace

// Encodes the groups of the spool, each on its own.
class OtlpReceiver::Encoder : public SpoolEncoder {
 public:
  explicit Encoder(const ExportOptions& options) : options_(options) {}
  void begin() override {
    bodies_.clear();
    feed_.emplace(options_, [this](ExportBody body) { bodies_.push_back(std::move(body)); });
  }
  // Spans that cannot be encoded are counted, because no body has them. It is not known when an entry of a spool was
  // observed, but surely not before its own time.
  void add(const Entry& entry) override {
    if (!ExportEncoder::is_encodable(entry)) return;
    feed_->set_now(entry.start_unix_ns);
    feed_->add(entry);
  }
  std::vector<ExportBody> finish() override {
    feed_->finish();
    return std::exchange(bodies_, {});
  }

 private:
  const ExportOptions& options_;
  std::optional<ExportFeed> feed_;
  std::vector<ExportBody> bodies_;
};

OtlpReceiver::OtlpReceiver(OtlpReceiverOptions options, std::unique_ptr<Transport> transport)
    : options_(std::move(options)),
      transport_(std::move(transport)),
      encoder_(std::make_unique<Encoder>(options_.content)),
      spool_(options_.spool ? std::make_unique<Spool>(*options_.spool, account_) : nullptr),
      logs_spool_(options_.spool ? std::make_unique<Spool>(spool_of_logs(*options_.spool), account_, spool_.get())
                                 : nullptr),
      feed_(options_.content,
            [this](ExportBody body) {
              queue_.post(std::move(body));
              has_posted_ = true;
            }),
      queue_(queue_options(options_), *transport_, account_, spool_.get(), spool_ ? encoder_.get() : nullptr,
             logs_spool_.get()) {}

void OtlpReceiver::add(const Entry& entry) {
  constexpr unsigned kMostNotNoted = 256;
  if (spool_ != nullptr && ++not_noted_ > kMostNotNoted) note_unsaved();
  if (spool_ != nullptr && !is_measured(entry)) {
    const Signal signal = signal_of(entry);
    Spool& spool = signal == Signal::logs ? *logs_spool_ : *spool_;
    // A span goes where its events are. Otherwise they would become log records. The memory is bounded all the same.
    const bool is_awaited = spool.awaits(entry);
    const bool has_events_here = !is_awaited && feed_.has_events_of(entry) && queue_.has_space(signal, 2);
    if (is_awaited || !(has_events_here || queue_.wants(signal))) {
      if (spool.add(entry, items_of(entry))) note_group();
      return;
    }
  }
  // With a spool, only entries come here that have no item or fit into the queue.
  while (options_.waits && spool_ == nullptr && !queue_.has_space(signal_of(entry)) && !stopping &&
         std::chrono::steady_clock::now() < options_.waits_until) {
    std::this_thread::sleep_for(kLookForSpace);
  }
  feed_.add(entry);
  if (has_posted_) note_unsaved();
}

void OtlpReceiver::on_tick(std::uint64_t now_unix_ns) {
  feed_.on_tick(now_unix_ns);
  feed_.flush();
  if (spool_ == nullptr) return;
  for (Spool* const spool : {spool_.get(), logs_spool_.get()}) {
    if (spool->on_tick()) note_group();
  }
  note_unsaved();
}

void OtlpReceiver::note_unsaved() {
  has_posted_ = false;
  not_noted_ = 0;
  if (spool_ == nullptr) return;
  ItemCounts traces = feed_.waiting(Signal::traces), logs = feed_.waiting(Signal::logs);
  traces += spool_->pending();
  logs += logs_spool_->pending();
  queue_.note_unsaved(traces, logs);
}

// A spool has another group.
void OtlpReceiver::note_group() {
  note_unsaved();
  queue_.notify();
}

void OtlpReceiver::finish(std::chrono::nanoseconds time) {
  if (std::exchange(is_finished_, true)) return;
  feed_.finish();
  for (Spool* const spool : {spool_.get(), logs_spool_.get()}) {
    if (spool != nullptr && spool->flush()) note_group();
  }
  note_unsaved();
  queue_.finish(time);
}

}  // namespace nopspan::collector
