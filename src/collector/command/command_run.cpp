// SPDX-License-Identifier: Apache-2.0
#include "command/command_run.h"

#include "base/failure.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iostream>
#include <optional>

namespace nopspan::collector {

void CommandRun::run(Source& source, Sink& sink, std::function<Ledger()> ledger, std::function<bool()> has_matched) {
  sink_ = &sink;
  ledger_ = std::move(ledger);
  has_matched_ = std::move(has_matched);
  Deadline until(options_.duration_ns);
  is_read = false;  // convert reads several times
  {
    const struct Waits {
      explicit Waits(const Deadline& end) { standard_output().set_deadline(&end); }
      ~Waits() { standard_output().set_deadline(nullptr); }
    } waits(until);
    source.run(*this, until);
    times_ = source.times();
  }
  if (until.has_expired()) standard_output().hurry();
  if (until.is_over()) stopping = true;  // for threads that draw meanwhile
  is_read = true;
}

// A batch has entries of several requests.
BatchSink* CommandRun::batches() {
  batches_ = asked_.request.empty() ? sink_->batches() : nullptr;
  return batches_ != nullptr ? this : nullptr;
}

void CommandRun::on_batch(const EntryBatch& batch) {
  has_entries_ = true;
  batches_->on_batch(batch);
}

void CommandRun::on_entry(const Entry& entry) {
  has_entries_ = has_entries_ || asked_.may_want_own_request_of(entry);
  keys_.see(entry);
  sink_->on_entry(entry);
}

void CommandRun::on_tick(std::uint64_t now_unix_ns) {
  sink_->on_tick(now_unix_ns);
  if (!is_told_ && options_.from.empty()) tell_if_nothing_matches(now_unix_ns);
  if (announcement_ && options_.from.empty()) std::cerr << std::exchange(announcement_, nullptr)();
  metrics_.write_if_due(ledger_);
  if (standard_output().has_failed()) stopping = true;
  if (ends_with_processes_ && have_processes_ended()) stopping = true;
}

bool CommandRun::have_processes_ended() const {
  const auto has_ended = [](std::uint32_t pid) { return kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH; };
  return std::all_of(options_.filter.pids.begin(), options_.filter.pids.end(), has_ended);
}

void CommandRun::tell_if_nothing_matches(std::uint64_t now_unix_ns) {
  constexpr std::uint64_t kPatience = 5 * kSecond;
  if (began_unix_ns_ == 0 || now_unix_ns < began_unix_ns_) began_unix_ns_ = now_unix_ns;  // the clock was set back
  if (now_unix_ns - began_unix_ns_ < kPatience) return;
  is_told_ = true;
  if (keys_.are_missing()) {
    std::cerr << keys_.text("no entry has had the key", " for 5 s");
  } else if (matches_nothing()) {
    std::cerr << "nopspan: nothing has matched " + to_text(asked_) + " for 5 s\n";
  }
}

int CommandRun::exit_status() const {
  const std::string& from = options_.from;
  if (from.empty() || interrupted) return 0;
  const std::string file = from == "-" ? "stdin" : printable(from);
  const bool has_result = !keys_.are_missing() && !matches_nothing();
  std::string text;
  if (keys_.are_missing()) {
    text = keys_.text("no entry in " + file + " has the key", "");
  } else if (!has_result) {
    text = "nopspan: nothing in " + file + " matches " + to_text(asked_) + "\n";
  } else if (times_ && asked_.has_idle_times(times_->first_unix_ns, times_->last_unix_ns)) {
    Filter times;
    times.since = asked_.since;
    times.until = asked_.until;
    text = "nopspan: no entry in " + file + " is outside " + to_text(times) + "\n";
  }
  if (!text.empty() && times_ && !(asked_.since.empty() && asked_.until.empty())) {
    text.insert(text.size() - 1, "; it was recorded from " + date_text(times_->first_unix_ns) + " to " +
                                     date_text(times_->last_unix_ns));
  }
  std::cerr << text;
  return has_result ? 0 : Failure::kFailed;
}

}  // namespace nopspan::collector
