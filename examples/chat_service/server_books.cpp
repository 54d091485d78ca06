// SPDX-License-Identifier: Apache-2.0
#include "server_books.h"

#include <stdexcept>

namespace example {
namespace {

// The first token belongs to prefill, so decode generates the others.
Json tokens_per_second(const RequestEntry& request) {
  if (request.output_tokens < 2 || request.decode_ns <= 0) return nullptr;
  return static_cast<double>(request.output_tokens - 1) * 1e9 / static_cast<double>(request.decode_ns);
}

Json time(std::int64_t ns) { return ns >= 0 ? Json(ns) : Json(nullptr); }

}  // namespace

ServerBooks::ServerBooks(const std::string& path, const Json& server) : lines_(std::make_unique<JsonLines>(path)) {
  lines_->write(Json{{"server", server}});
  if (const std::string error = lines_->flush(); !error.empty()) throw std::runtime_error(error);
}

void ServerBooks::add(const RequestEntry& request) {
  if (lines_ == nullptr) return;
  lines_->write(Json{{"request", request.request_id},
                     {"number", request.number},
                     {"arrival_ns", request.arrival_ns},
                     {"queue_ns", request.queue_ns},
                     {"prefill_ns", request.prefill_ns},
                     {"decode_ns", request.decode_ns},
                     {"ttft_ns", time(request.ttft_ns)},
                     {"ttft_latest_ns", time(request.ttft_latest_ns)},
                     {"input_tokens", request.input_tokens},
                     {"output_tokens", request.output_tokens},
                     {"cached_tokens", request.cached_tokens},
                     {"prefill_tokens", request.prefill_tokens},
                     {"max_tokens", request.max_tokens},
                     {"drafts", request.facts.drafts},
                     {"drafted_tokens", request.facts.drafted_tokens},
                     {"accepted_tokens", request.facts.accepted_tokens},
                     {"accepted_by_position", request.facts.accepted_by_position},
                     {"preemptions", request.facts.preemptions},
                     {"recomputed_tokens", request.facts.recomputed_tokens},
                     {"prompt_chunks", request.facts.prompt_chunks},
                     {"gaps", request.facts.gaps},
                     {"tokens_per_second", tokens_per_second(request)},
                     {"finish_reason", request.finish_reason},
                     {"cancelled", request.cancelled},
                     {"status", request.status}});
}

void ServerBooks::add_step(const Step& step) {
  if (lines_ == nullptr) return;
  Json members = Json::array();
  for (const Member& member : step.members) {
    members.push_back(
        {member.number, member.prefill_tokens, member.decode_tokens, member.drafted_tokens, member.accepted_tokens});
  }
  lines_->write(Json{{"step", step.number},
                     {"batch_size", step.batch_size},
                     {"prefill_tokens", step.prefill_tokens},
                     {"decode_tokens", step.decode_tokens},
                     {"drafted_tokens", step.drafted_tokens},
                     {"accepted_tokens", step.accepted_tokens},
                     {"members", members}});
}

void ServerBooks::add_event(const char* name, Json facts) {
  if (lines_ == nullptr) return;
  facts["event"] = name;
  lines_->write(facts);
}

}  // namespace example
