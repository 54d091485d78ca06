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

std::int64_t ns(std::chrono::steady_clock::duration time) { return std::chrono::nanoseconds(time).count(); }

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
  while (next_piece(text)) message.content += text;
  if (abandoned_) throw ApiError(kClientClosed, "client_closed", "", "the client hung up");
  if (cancelled()) {
    abandon("shutdown");
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
bool Answer::next_piece(std::string& text) {
  for (;;) {
    const Piece piece = generation_->next(text, kLookInterval);
    if (piece == Piece::kEnd) return false;
    if (caller_.watch.gone()) {
      abandon("client_closed");
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
    if (next_piece(text)) {
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

void Answer::abandon(const char* reason) {
  if (state_ == State::kDone) return;
  if (state_ == State::kAllSaid && !cancelled()) {
    finish(nullptr);
    return;
  }
  generation_->cancel(reason);
  abandoned_ = true;
  finish(reason);
}

const char* Answer::finish_reason() const {
  if (!calls_.empty()) return "tool_calls";
  return generation_->finish() == Finish::kLength ? "length" : "stop";
}

Usage Answer::usage() const {
  const GenerationFacts& facts = generation_->facts();
  return {prompt_tokens_, facts.completion_tokens, facts.cached_tokens};
}

void Answer::finish(const char* cancelled_why) {
  if (state_ == State::kDone) return;
  state_ = State::kDone;
  const GenerationFacts& facts = generation_->facts();
  const std::int64_t queue_ns = ns(facts.admitted - facts.submitted);
  const std::int64_t prefill_ns = ns(facts.first_token - facts.admitted);
  const std::int64_t decode_ns = ns(facts.ended - facts.first_token);
  const std::size_t max_tokens = generation_->request().max_tokens;
  const char* reason = cancelled_why != nullptr ? "cancelled" : finish_reason();
  nopspan::StreamMeter& meter = generation_->meter();
  meter.span().with<nopspan::engine::RequestFields>([&](nopspan::engine::RequestFields& fields) {
    fields.input_tokens(signed_count(prompt_tokens_))
        .output_tokens(signed_count(facts.completion_tokens))
        .cached_tokens(signed_count(facts.cached_tokens))
        .finish_reason(reason)
        .queue_ns(queue_ns)
        .prefill_ns(prefill_ns)
        .decode_ns(decode_ns)
        .prefill_tokens(signed_count(facts.prefill_tokens))
        .max_tokens(signed_count(max_tokens))
        .n(1)
        .preemptions(signed_count(facts.preemptions))
        .recomputed_tokens(signed_count(facts.recomputed_tokens))
        .prompt_chunks(signed_count(facts.prompt_chunks));
    if (facts.completion_tokens > 0) fields.decode_tokens(signed_count(facts.completion_tokens) - 1);
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
  if (!books_) return;
  Json line{{"request", caller_.request_id},
            {"number", facts.number},
            {"arrival_ns", ns(caller_.arrival.time_since_epoch())},
            {"queue_ns", queue_ns},
            {"prefill_ns", prefill_ns},
            {"decode_ns", decode_ns},
            {"input_tokens", prompt_tokens_},
            {"output_tokens", facts.completion_tokens},
            {"cached_tokens", facts.cached_tokens},
            {"prefill_tokens", facts.prefill_tokens},
            {"drafts", facts.drafts},
            {"drafted_tokens", facts.drafted_tokens},
            {"accepted_tokens", facts.accepted_tokens},
            {"accepted_by_position", facts.accepted_by_position},
            {"preemptions", facts.preemptions},
            {"recomputed_tokens", facts.recomputed_tokens},
            {"prompt_chunks", facts.prompt_chunks},
            {"gaps", facts.gaps},
            {"finish_reason", reason},
            {"cancelled", cancelled_why != nullptr}};
  if (facts.completion_tokens > 0) {
    // nopspan reads the clock between these two readings.
    line["ttft_ns"] = ns(facts.first_token - caller_.arrival);
    line["ttft_latest_ns"] = ns(facts.first_token_reported - caller_.arrival);
  }
  books_(line);
}

}  // namespace example
