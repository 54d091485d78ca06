// SPDX-License-Identifier: Apache-2.0
#include "answer.h"

#include <nopspan/engine.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace example {
namespace {

// How soon the server notices that a client hung up.
constexpr std::chrono::milliseconds kLookInterval{10};
constexpr int kClientClosed = 499;  // nginx logs this status; no client receives it

std::int64_t ns_between(GenerationTimes::Clock::time_point from, GenerationTimes::Clock::time_point to) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(to - from).count();
}

std::int64_t ns(GenerationTimes::Clock::time_point time) {
  return ns_between(GenerationTimes::Clock::time_point(), time);
}

std::int64_t signed_count(std::size_t count) { return static_cast<std::int64_t>(count); }

ApiError shutting_down() { return {503, "server_error", "shutting_down", "the server is shutting down"}; }

Json call_delta(std::size_t index, Json call) {
  call["index"] = index;
  return Json{{"tool_calls", Json::array({call})}};
}

}  // namespace

std::string Answer::whole() {
  Message message;
  std::string text;
  while (next_piece(text, kClientClosed)) message.content += text;
  if (abandoned_) throw ApiError(kClientClosed, "client_closed", "", "the client hung up");
  if (cancelled()) {
    abandon("shutdown", shutting_down().status());
    throw shutting_down();
  }
  if (!calls_.empty()) {
    message.content.clear();  // it contained the arguments of the calls
    message.tool_calls = calls_;
  }
  std::string json = chat_completion(head_, message, finish_reason(), usage());
  finish(nullptr);
  return json;
}

// Waits for the next piece of text. Returns false at the end. Cancels the request if the client hangs up.
bool Answer::next_piece(std::string& text, int status_if_gone) {
  for (;;) {
    const Piece piece = generation_->next(text, kLookInterval);
    if (piece == Piece::kEnd) return false;
    if (caller_.watch.gone()) {
      abandon("client_closed", status_if_gone);
      return false;
    }
    if (piece == Piece::kText) return true;
  }
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
    if (next_piece(text, 200)) {
      return calls_.empty() ? delta_event(head_, Json{{"content", text}}) : tool_call_events(text);
    }
    if (abandoned_) return {};
    state_ = State::kAllSaid;
    return last_events(include_usage);
  }
  finish(cancelled() ? "shutdown" : nullptr);
  return {};
}

// The model generates the arguments of all calls as one text. This divides the text among the calls.
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

void Answer::abandon(const char* reason, int status) {
  if (state_ == State::kDone) return;
  if (state_ == State::kAllSaid && !cancelled()) {
    finish(nullptr);
    return;
  }
  generation_->cancel(reason);
  abandoned_ = true;
  finish(reason, status);
}

const char* Answer::finish_reason() const {
  if (!calls_.empty()) return "tool_calls";
  return generation_->finish() == Finish::kLength ? "length" : "stop";
}

Usage Answer::usage() const { return {prompt_tokens_, generation_->completion_tokens(), generation_->cached_tokens()}; }

RequestEntry Answer::entry(const char* cancelled_why, int status) const {
  const GenerationTimes& times = generation_->times();
  RequestEntry entry;
  entry.request_id = caller_.request_id;
  entry.number = generation_->number();
  entry.arrival_ns = ns(caller_.arrival);
  entry.queue_ns = ns_between(times.submitted, times.admitted);
  entry.prefill_ns = ns_between(times.admitted, times.first_token);
  entry.decode_ns = ns_between(times.first_token, times.ended);
  if (generation_->completion_tokens() > 0) {
    entry.ttft_ns = ns_between(caller_.arrival, times.first_token);
    entry.ttft_latest_ns = ns_between(caller_.arrival, times.first_token_reported);
  }
  entry.input_tokens = prompt_tokens_;
  entry.output_tokens = generation_->completion_tokens();
  entry.cached_tokens = generation_->cached_tokens();
  entry.prefill_tokens = generation_->prefill_tokens();
  entry.max_tokens = generation_->max_tokens();
  entry.facts = generation_->facts();
  entry.finish_reason = cancelled_why != nullptr ? "cancelled" : finish_reason();
  entry.cancelled = cancelled_why != nullptr;
  entry.status = status;
  return entry;
}

void Answer::finish(const char* cancelled_why, int status) {
  if (state_ == State::kDone) return;
  state_ = State::kDone;
  const RequestEntry ended = entry(cancelled_why, status);
  nopspan::StreamMeter& meter = generation_->meter();
  meter.span().with<nopspan::engine::RequestFields>([&](nopspan::engine::RequestFields& fields) {
    fields.input_tokens(signed_count(ended.input_tokens))
        .output_tokens(signed_count(ended.output_tokens))
        .cached_tokens(signed_count(ended.cached_tokens))
        .finish_reason(ended.finish_reason)
        .queue_ns(ended.queue_ns)
        .prefill_ns(ended.prefill_ns)
        .decode_ns(ended.decode_ns)
        .prefill_tokens(signed_count(ended.prefill_tokens))
        .max_tokens(signed_count(ended.max_tokens))
        .n(1)
        .preemptions(signed_count(ended.facts.preemptions))
        .recomputed_tokens(signed_count(ended.facts.recomputed_tokens))
        .prompt_chunks(signed_count(ended.facts.prompt_chunks));
    if (ended.output_tokens > 0) fields.decode_tokens(signed_count(ended.output_tokens) - 1);
    const GenerationFacts& facts = ended.facts;
    if (facts.drafts == 0) return;
    fields.drafts(signed_count(facts.drafts))
        .drafted_tokens(signed_count(facts.drafted_tokens))
        .accepted_tokens(signed_count(facts.accepted_tokens))
        .accepted_by_position(facts.accepted_by_position.data(), facts.accepted_by_position.size());
  });
  if (cancelled_why != nullptr) {
    meter.cancel(cancelled_why);
  } else {
    meter.end();
  }
  books_.add(ended);
}

}  // namespace example
