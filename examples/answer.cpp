// SPDX-License-Identifier: Apache-2.0
#include "answer.h"

#include <nopspan/engine.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace example {
namespace {

std::int64_t ns_between(GenerationTimes::Clock::time_point from, GenerationTimes::Clock::time_point to) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(to - from).count();
}

ApiError shutting_down() { return {503, "server_error", "shutting_down", "the server is shutting down"}; }

Json call_delta(std::size_t index, Json call) {
  call["index"] = index;
  return Json{{"tool_calls", Json::array({call})}};
}

}  // namespace

std::string Answer::whole() {
  Message message;
  std::string text;
  while (generation_->next(text)) message.content += text;
  if (cancelled()) {
    abandon("shutdown");
    throw shutting_down();
  }
  if (!calls_.empty()) {
    message.content.clear();  // it was the arguments of the calls
    message.tool_calls = calls_;
  }
  std::string json = chat_completion(head_, message, finish_reason(), usage());
  end_span(nullptr);
  return json;
}

std::string Answer::next_events(bool include_usage) {
  if (state_ == State::kNew) {
    state_ = State::kRunning;
    Json role{{"role", "assistant"}, {"content", ""}};
    if (!calls_.empty()) role["content"] = nullptr;
    return delta_event(head_, role);
  }
  if (state_ == State::kRunning) {
    std::string text;
    if (generation_->next(text)) {
      return calls_.empty() ? delta_event(head_, Json{{"content", text}}) : tool_call_events(text);
    }
    state_ = State::kAllSaid;
    return last_events(include_usage);
  }
  end_span(cancelled() ? "shutdown" : nullptr);
  return {};
}

// The arguments of all calls come as one text; here it is divided among them again.
std::string Answer::tool_call_events(std::string_view text) {
  std::string events;
  while (!text.empty() && call_ < calls_.size()) {
    const ToolCall& call = calls_[call_];
    if (call_bytes_ == 0) {
      events += delta_event(head_, call_delta(call_, tool_call_json({call.id, call.name, ""})));
    }
    const std::string piece(text.substr(0, call.arguments.size() - call_bytes_));
    events += delta_event(head_, call_delta(call_, Json{{"function", {{"arguments", piece}}}}));
    text.remove_prefix(piece.size());
    call_bytes_ += piece.size();
    if (call_bytes_ == call.arguments.size()) {
      ++call_;
      call_bytes_ = 0;
    }
  }
  return events;
}

std::string Answer::last_events(bool include_usage) const {
  if (cancelled()) return error_event(shutting_down()) + kDoneEvent;
  std::string events = delta_event(head_, Json::object(), finish_reason());
  if (include_usage) events += usage_event(head_, usage());
  return events + kDoneEvent;
}

void Answer::abandon(const char* reason) {
  if (state_ == State::kDone) return;
  if (state_ == State::kAllSaid && !cancelled()) {
    end_span(nullptr);
    return;
  }
  generation_->cancel();
  end_span(reason);
}

const char* Answer::finish_reason() const {
  if (!calls_.empty()) return "tool_calls";
  return generation_->finish() == Finish::kLength ? "length" : "stop";
}

Usage Answer::usage() const { return {prompt_tokens_, generation_->completion_tokens(), generation_->cached_tokens()}; }

void Answer::end_span(const char* cancelled_why) {
  if (state_ == State::kDone) return;
  state_ = State::kDone;
  nopspan::AsyncSpan& span = generation_->span();
  span.with<nopspan::engine::RequestFields>([&](nopspan::engine::RequestFields& fields) {
    const GenerationTimes& times = generation_->times();
    fields.input_tokens(static_cast<std::int64_t>(prompt_tokens_))
        .output_tokens(static_cast<std::int64_t>(generation_->completion_tokens()))
        .cached_tokens(static_cast<std::int64_t>(generation_->cached_tokens()))
        .finish_reason(cancelled_why != nullptr ? "cancelled" : finish_reason())
        .queue_ns(ns_between(times.submitted, times.admitted))
        .prefill_ns(ns_between(times.admitted, times.first_token))
        .decode_ns(ns_between(times.first_token, times.ended));
  });
  if (cancelled_why != nullptr) {
    span.cancel(cancelled_why);
  } else {
    span.end();
  }
}

}  // namespace example
