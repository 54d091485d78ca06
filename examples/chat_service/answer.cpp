// SPDX-License-Identifier: Apache-2.0
#include "answer.h"

#include <nopspan/engine.h>

#include <chrono>
#include <cstdint>
#include <utility>

namespace example {
namespace {

// How soon the server notices that a client hung up.
constexpr std::chrono::milliseconds kLookInterval{10};
constexpr int kClientClosed = 499;  // nginx logs this status; no client receives it
constexpr int kEventsBeforeCut = 2;

std::int64_t ns(std::chrono::steady_clock::duration time) { return std::chrono::nanoseconds(time).count(); }

std::int64_t signed_count(std::size_t count) { return static_cast<std::int64_t>(count); }

}  // namespace

bool Answer::next(std::string& text) {
  for (;;) {
    const Piece piece = generation_->next(text, kLookInterval);
    if (piece == Piece::kEnd && generation_->finish() != Finish::kCancelled) return false;
    if (piece == Piece::kEnd) {
      end("shutdown");
      throw ApiError(503, "server_error", "the server is shutting down");
    }
    if (head_.watch.gone()) {
      end("client_closed");
      throw ApiError(kClientClosed, "client_closed", "the client hung up");
    }
    if (piece == Piece::kText) return true;
  }
}

std::string Answer::whole() {
  std::string content, text;
  while (next(text)) content += text;
  Json message{{"role", "assistant"}, {"content", content}};
  if (!head_.calls.empty()) message = {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", head_.calls}};
  Json whole = envelope("chat.completion", {{"index", 0}, {"message", message}, {"finish_reason", finish_reason()}});
  whole["usage"] = usage();
  end(nullptr);
  return to_text(whole);
}

bool Answer::stream(httplib::DataSink& sink) {
  int written = 0;
  const auto write = [&](const std::string& events) {
    const bool cuts = head_.cut && written++ == kEventsBeforeCut;
    if (!cuts && sink.write(events.data(), events.size())) return true;
    end(cuts ? "cut" : "client_closed");
    return false;
  };
  if (!write(event({{"role", "assistant"}, {"content", ""}}))) return false;
  try {
    std::string text;
    for (bool is_first = true; next(text); is_first = false) {
      // The model's text is the arguments of the calls, which are written as a whole.
      if (!head_.calls.empty() && !is_first) continue;
      const Json delta = head_.calls.empty() ? Json{{"content", text}} : Json{{"tool_calls", head_.calls}};
      if (!write(event(delta))) return false;
    }
  } catch (const ApiError&) {
    return false;
  }
  std::string last = event(Json::object(), finish_reason());
  if (head_.include_usage) {
    Json chunk = envelope("chat.completion.chunk", nullptr);
    chunk["usage"] = usage();
    last += "data: " + to_text(chunk) + "\n\n";
  }
  if (!write(last + "data: [DONE]\n\n")) return false;
  end(nullptr);  // first, so that the span ends before that of the client
  sink.done();
  return true;
}

// An object of the protocol with a choice, or without one.
Json Answer::envelope(const char* object, const Json& choice) const {
  Json json{{"id", head_.id}, {"object", object}, {"created", created_}, {"model", head_.model}};
  json["choices"] = choice.is_null() ? Json::array() : Json::array({choice});
  return json;
}

std::string Answer::event(const Json& delta, const char* finish_reason) const {
  Json choice{{"index", 0}, {"delta", delta}, {"finish_reason", nullptr}};
  if (finish_reason != nullptr) choice["finish_reason"] = finish_reason;
  return "data: " + to_text(envelope("chat.completion.chunk", choice)) + "\n\n";
}

const char* Answer::finish_reason() const {
  if (!head_.calls.empty()) return "tool_calls";
  return generation_->finish() == Finish::kLength ? "length" : "stop";
}

Json Answer::usage() const {
  const GenerationFacts& facts = generation_->facts();
  const std::size_t prompt_tokens = generation_->request().prompt.size();
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", facts.completion_tokens},
          {"total_tokens", prompt_tokens + facts.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", facts.cached_tokens}}}};
}

void Answer::end(const char* cancelled_why) {
  if (std::exchange(ended_, true)) return;
  if (cancelled_why != nullptr) generation_->cancel(cancelled_why);
  const GenerationFacts& facts = generation_->facts();
  const std::size_t prompt_tokens = generation_->request().prompt.size();
  const std::int64_t queue_ns = ns(facts.admitted - facts.submitted);
  const std::int64_t prefill_ns = ns(facts.first_token - facts.admitted);
  const std::int64_t decode_ns = ns(facts.ended - facts.first_token);
  const std::size_t max_tokens = generation_->request().max_tokens;
  const char* reason = cancelled_why != nullptr ? "cancelled" : finish_reason();
  nopspan::StreamMeter& meter = generation_->meter();
  meter.span().with<nopspan::engine::RequestFields>([&](nopspan::engine::RequestFields& fields) {
    fields.input_tokens(signed_count(prompt_tokens))
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
  Json line{{"request", head_.request_id},
            {"number", facts.number},
            {"arrival_ns", ns(head_.arrival.time_since_epoch())},
            {"queue_ns", queue_ns},
            {"prefill_ns", prefill_ns},
            {"decode_ns", decode_ns},
            {"input_tokens", prompt_tokens},
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
    line["ttft_ns"] = ns(facts.first_token - head_.arrival);
    line["ttft_latest_ns"] = ns(facts.first_token_reported - head_.arrival);
  }
  books_(line);
}

}  // namespace example
