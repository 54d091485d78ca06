// SPDX-License-Identifier: Apache-2.0
// With nopspan_mini.h alone, as in an engine that takes no dependency. The names of attributes are those that the
// library makes of its fields, so that nopspan's commands find the engine's numbers.
#include "telemetry.h"

#define NPM_IMPLEMENTATION
#include <nopspan_mini.h>

namespace telemetry {
namespace {

void set_labels(npm_span span, const Labels& labels) {
  npm_span_set_label(span, NPM_ENGINE, labels.engine.c_str());
  npm_span_set_label(span, NPM_MODEL, labels.model.c_str());
}

void end_or_cancel(npm_span span, const char* cancelled) {
  if (cancelled != nullptr) {
    npm_span_cancel(span, cancelled);
  } else {
    npm_span_end(span);
  }
}

std::uint64_t positive(Count count) { return static_cast<std::uint64_t>(count); }

}  // namespace

struct Request::Spans {
  Count number;
  npm_span request, phase;
  Labels labels;
};

Request::Request(const Labels& labels, Count number, const std::string& tenant)
    : spans_(new Spans{number, npm_request_begin(nullptr), npm_none(), labels}) {
  set_labels(spans_->request, labels);
  npm_span_set_label(spans_->request, NPM_TENANT, tenant.c_str());
  npm_span_set_int(spans_->request, "number", number);
}

void Request::begin_phase(Phase phase, const char* reason) {
  constexpr const char* kNames[] = {"engine.queue", "engine.prefill", "engine.decode"};
  spans_->phase = npm_span_begin(kNames[phase], spans_->request);
  set_labels(spans_->phase, spans_->labels);  // the request may have begun before a tracer attached
  if (reason != nullptr) npm_span_set_text(spans_->phase, "nopspan.reason", reason);
}

void Request::end_phase(Phase phase, const Work& work, const char* cancelled) {
  if (phase == kPrefill) {
    npm_span_set_int(spans_->phase, "nopspan.prefill_tokens", work.prefilled);
    npm_span_set_int(spans_->phase, "cached_tokens", work.cached);
    npm_span_set_int(spans_->phase, "nopspan.recomputed_tokens", work.recomputed);
  } else if (phase == kDecode) {
    npm_span_set_int(spans_->phase, "nopspan.decode_tokens", work.decoded);
    npm_span_set_int(spans_->phase, "nopspan.drafts", work.drafts);
    npm_span_set_int(spans_->phase, "nopspan.drafted_tokens", work.drafted);
    npm_span_set_int(spans_->phase, "nopspan.accepted_tokens", work.accepted);
  }
  end_or_cancel(spans_->phase, cancelled);
}

void Request::token() { npm_span_first_token(spans_->request); }

void Request::prefix_cache(Count queried, Count hit) {
  const npm_span event = npm_event_begin("engine.prefix_cache", spans_->request);
  set_labels(event, spans_->labels);
  npm_span_set_int(event, "nopspan.queried_tokens", queried);
  npm_span_set_int(event, "nopspan.hit_tokens", hit);
  npm_span_end(event);
}

void Request::preempted(Count tokens) {
  const npm_span event = npm_event_begin("engine.preempted", spans_->request);
  set_labels(event, spans_->labels);
  npm_span_set_text(event, "nopspan.reason", "no_blocks");
  npm_span_set_text(event, "nopspan.mode", "recompute");
  npm_span_set_int(event, "nopspan.blocks", tokens);
  npm_span_set_int(event, "nopspan.tokens", tokens);
  npm_span_end(event);
}

void Request::end(const Numbers& numbers, const char* cancelled) {
  const npm_span span = spans_->request;
  const Work& work = numbers.work;
  const npm_times times{0,
                        positive(numbers.spent_ns[kQueue]),
                        positive(numbers.spent_ns[kPrefill]),
                        positive(numbers.spent_ns[kDecode]),
                        positive(work.prefilled - work.recomputed),
                        positive(work.decoded),
                        positive(numbers.preemptions)};
  npm_request_set_times(span, &times);
  npm_span_set_usage(span, positive(numbers.input), positive(numbers.output), positive(numbers.cached), 0);
  npm_span_set_int(span, "nopspan.prefill_tokens", work.prefilled - work.recomputed);
  npm_span_set_int(span, "nopspan.recomputed_tokens", work.recomputed);
  npm_span_set_int(span, "nopspan.prompt_chunks", work.chunks);
  npm_span_set_int(span, "nopspan.decode_tokens", work.decoded);
  npm_span_set_int(span, "nopspan.preemptions", numbers.preemptions);
  npm_span_set_int(span, "nopspan.drafts", work.drafts);
  npm_span_set_int(span, "nopspan.drafted_tokens", work.drafted);
  npm_span_set_int(span, "nopspan.accepted_tokens", work.accepted);
  npm_span_set_ints(span, "nopspan.accepted_by_position", numbers.accepted_at.data(), numbers.accepted_at.size());
  npm_span_set_int(span, "gen_ai.request.max_tokens", numbers.max_tokens);
  npm_span_set_texts(span, "gen_ai.response.finish_reasons", &numbers.finish_reason, 1);
  end_or_cancel(span, cancelled);
}

struct Step::Spans {
  npm_span span;
  std::vector<npm_member> members;
};

Step::Step(const Labels& labels) : spans_(new Spans{npm_step_begin(), {}}) {
  npm_span_set_label(spans_->span, NPM_ENGINE, labels.engine.c_str());
}

void Step::add(const Request& request, const Member& member) {
  npm_member added = npm_member_of(request.spans_->request, positive(request.spans_->number));
  added.prefill_tokens = member.prefill_tokens;
  added.context_tokens = member.context_tokens;
  added.decode_tokens = member.decode_tokens;
  added.drafted_tokens = member.drafted_tokens;
  added.accepted_tokens = member.accepted_tokens;
  spans_->members.push_back(added);
}

void Step::end(const Numbers& numbers) {
  npm_step facts{};
  facts.number = positive(numbers.number);
  facts.batch_size = static_cast<std::uint32_t>(numbers.size);
  facts.prefill_tokens = positive(numbers.prefilled);
  facts.decode_tokens = positive(numbers.decoded);
  facts.budget_tokens = positive(numbers.budget);
  facts.device_ns = positive(numbers.device.count());
  facts.kv_used = positive(numbers.cells);
  npm_span_set_int(spans_->span, "nopspan.batch_size", numbers.size);
  npm_span_set_int(spans_->span, "nopspan.prefill_tokens", numbers.prefilled);
  npm_span_set_int(spans_->span, "nopspan.decode_tokens", numbers.decoded);
  npm_step_end(spans_->span, &facts, spans_->members.data(), spans_->members.size());
}

struct Load::Spans {
  npm_span span;
};

Load::Load(const Labels& labels) : spans_(new Spans{npm_span_begin("engine.load", npm_none())}) {
  set_labels(spans_->span, labels);
}

void Load::end(Count bytes) {
  npm_span_set_int(spans_->span, "nopspan.bytes", bytes);
  npm_span_end(spans_->span);
}

void evicted(const Labels& labels, Count tokens, std::chrono::nanoseconds lifetime, std::chrono::nanoseconds idle) {
  const npm_span event = npm_event_begin("engine.evicted", npm_none());
  npm_span_set_label(event, NPM_ENGINE, labels.engine.c_str());
  npm_span_set_text(event, "nopspan.tier", "device");
  npm_span_set_int(event, "nopspan.blocks", tokens);
  npm_span_set_int(event, "nopspan.tokens", tokens);
  npm_span_set_int(event, "nopspan.lifetime_ns", lifetime.count());
  npm_span_set_int(event, "nopspan.idle_ns", idle.count());
  npm_span_end(event);
}

void report(const Labels& labels, const Stats& stats) {
  const char* const engine = labels.engine.c_str();
  npm_gauge(engine, "running", stats.running, 0);
  npm_gauge(engine, "waiting", stats.waiting, 0);
  npm_gauge(engine, "kv_cache_used", stats.cells_used, stats.cells);
  npm_gauge(engine, "kv_cache_total", stats.cells, 0);
  npm_counter(engine, "ended", stats.ended);
  npm_counter(engine, "generated_tokens", stats.generated);
}

}  // namespace telemetry
