// SPDX-License-Identifier: Apache-2.0
// A transport whose answers a test chooses.
#pragma once

#include "export/transport.h"

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

using AnswerKind = ReceiverAnswer::Kind;

inline ReceiverAnswer answer_of(AnswerKind kind, bool may_have_arrived = false) {
  ReceiverAnswer answer;
  answer.kind = kind;
  answer.may_have_arrived = may_have_arrived;
  answer.text = kind == ReceiverAnswer::Kind::accepted ? "" : "no";
  return answer;
}

class ScriptedTransport : public Transport {
 public:
  using Reply = std::function<ReceiverAnswer(const ExportBody&)>;
  explicit ScriptedTransport(Reply reply = [](const ExportBody&) { return answer_of(ReceiverAnswer::Kind::accepted); })
      : reply_(std::move(reply)) {}

  ReceiverAnswer post(const ExportBody& body, const MovableDeadline& until) override {
    std::unique_lock lock(mutex_);
    posted_.push_back(body);
    changed_.notify_all();
    while (is_held_) {
      if (MovableDeadline::Clock::now() >= until.get()) return answer_of(ReceiverAnswer::Kind::retry, true);
      changed_.wait_for(lock, std::chrono::milliseconds(10));
    }
    return reply_(body);
  }
  [[nodiscard]] std::string name(Signal /*signal*/) const override { return "receiver"; }

  // post() does not return while it is held.
  void hold(bool is_held) {
    const std::lock_guard lock(mutex_);
    is_held_ = is_held;
    changed_.notify_all();
  }
  void set_reply(Reply reply) {
    const std::lock_guard lock(mutex_);
    reply_ = std::move(reply);
  }
  void wait_for(std::size_t posts) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return posted_.size() >= posts; });
  }
  [[nodiscard]] std::vector<ExportBody> posted() const {
    const std::lock_guard lock(mutex_);
    return posted_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Reply reply_;
  std::vector<ExportBody> posted_;
  bool is_held_ = false;
};

}  // namespace nopspan::collector
