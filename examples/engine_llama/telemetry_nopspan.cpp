// SPDX-License-Identifier: Apache-2.0
// With the library. Its names of fields become the attributes of OpenTelemetry's conventions.
#include "telemetry.h"

#include <nopspan/context.h>
#include <nopspan/engine.h>
#include <nopspan/span.h>
#include <nopspan/stream.h>

namespace telemetry {
namespace {

namespace engine = nopspan::engine;

template <class Span>
void end_or_cancel(Span& span, const char* cancelled) {
  if (cancelled != nullptr) {
    span.cancel(cancelled);
  } else {
    span.end();
  }
}

}  // namespace

struct Request::Spans {
  Count number;
  nopspan::StreamMeter meter;  // engine.request
  nopspan::Context context;    // of that span
  nopspan::AsyncSpan phase;
  Labels labels;
};

Request::Request(const Labels& labels, Count number, const std::string& tenant) : spans_(new Spans) {
  spans_->number = number;
  spans_->labels = labels;
  // Requests that began before a tracer attached have the labels of their parent.
  const nopspan::Context parent = nopspan::Context()
                                      .with_label("engine", labels.engine)
                                      .with_label("model", labels.model)
                                      .with_label("tenant", tenant);
  spans_->meter =
      nopspan::StreamMeter{nopspan::AsyncSpan{engine::request, parent, [&](auto& fields) {
                                                fields.engine(labels.engine).model(labels.model).set("number", number);
                                              }}};
  spans_->context = spans_->meter.span().context();
}

void Request::begin_phase(Phase phase, const char* reason) {
  if (phase == kQueue) {
    spans_->phase = nopspan::AsyncSpan{engine::queue, spans_->context, [&](auto& fields) { fields.reason(reason); }};
  } else if (phase == kPrefill) {
    spans_->phase = nopspan::AsyncSpan{engine::prefill, spans_->context};
  } else {
    spans_->phase = nopspan::AsyncSpan{engine::decode, spans_->context};
  }
}

void Request::end_phase(Phase phase, const Work& work, const char* cancelled) {
  if (phase == kPrefill) {
    spans_->phase.with<engine::PrefillFields>([&](engine::PrefillFields& fields) {
      fields.prefill_tokens(work.prefilled).cached_tokens(work.cached).recomputed_tokens(work.recomputed);
    });
  } else if (phase == kDecode) {
    spans_->phase.with<engine::DecodeFields>([&](engine::DecodeFields& fields) {
      fields.decode_tokens(work.decoded).drafts(work.drafts);
      fields.drafted_tokens(work.drafted).accepted_tokens(work.accepted);
    });
  }
  end_or_cancel(spans_->phase, cancelled);
}

void Request::token() { spans_->meter.token(); }

void Request::prefix_cache(Count queried, Count hit) {
  engine::prefix_cache(spans_->context, [&](auto& event) { event.engine(spans_->labels.engine).local(queried, hit); });
}

void Request::preempted(Count tokens) {
  engine::preempted(spans_->context, [&](engine::PreemptedFields& event) {
    event.engine(spans_->labels.engine).reason("no_blocks").mode("recompute").blocks(tokens).tokens(tokens);
  });
}

void Request::end(const Numbers& numbers, const char* cancelled) {
  spans_->meter.span().with<engine::RequestFields>([&](engine::RequestFields& fields) {
    const Work& work = numbers.work;
    fields.input_tokens(numbers.input).output_tokens(numbers.output).cached_tokens(numbers.cached);
    fields.prefill_tokens(work.prefilled - work.recomputed).recomputed_tokens(work.recomputed);
    fields.prompt_chunks(work.chunks).decode_tokens(work.decoded).preemptions(numbers.preemptions);
    fields.drafts(work.drafts).drafted_tokens(work.drafted).accepted_tokens(work.accepted);
    fields.accepted_by_position(numbers.accepted_at.data(), numbers.accepted_at.size());
    fields.queue_ns(numbers.spent_ns[kQueue]).prefill_ns(numbers.spent_ns[kPrefill]);
    fields.decode_ns(numbers.spent_ns[kDecode]).max_tokens(numbers.max_tokens).n(1);
    fields.finish_reason(numbers.finish_reason);
  });
  end_or_cancel(spans_->meter, cancelled);
}

struct Step::Spans {
  nopspan::Span span;
  std::vector<engine::Member> members;
};

Step::Step(const Labels& labels)
    : spans_(new Spans{nopspan::Span{engine::step, [&](auto& fields) { fields.engine(labels.engine); }}, {}}) {}

void Step::add(const Request& request, const Member& member) {
  engine::Member added =
      engine::Member::of(request.spans_->context, static_cast<std::uint64_t>(request.spans_->number));
  added.prefill_tokens = member.prefill_tokens;
  added.context_tokens = member.context_tokens;
  added.decode_tokens = member.decode_tokens;
  added.drafted_tokens = member.drafted_tokens;
  added.accepted_tokens = member.accepted_tokens;
  spans_->members.push_back(added);
}

void Step::end(const Numbers& numbers) {
  spans_->span.with<engine::StepFields>([&](engine::StepFields& fields) {
    fields.batch_size(numbers.size).prefill_tokens(numbers.prefilled).decode_tokens(numbers.decoded);
    fields.budget_tokens(numbers.budget).device_ns(numbers.device).kv_used(numbers.cells);
    fields.number(static_cast<std::uint64_t>(numbers.number));
    fields.members(spans_->members.data(), spans_->members.size());
  });
  spans_.reset();
}

struct Load::Spans {
  nopspan::Span span;
};

Load::Load(const Labels& labels)
    : spans_(new Spans{
          nopspan::Span{engine::load, [&](auto& fields) { fields.engine(labels.engine).model(labels.model); }}}) {}

void Load::end(Count bytes) {
  spans_->span.with<engine::LoadFields>([&](engine::LoadFields& fields) { fields.bytes(bytes); });
  spans_.reset();
}

void evicted(const Labels& labels, Count tokens, std::chrono::nanoseconds lifetime, std::chrono::nanoseconds idle) {
  engine::evicted([&](engine::EvictedFields& event) {
    event.engine(labels.engine).tier("device").blocks(tokens).tokens(tokens).lifetime_ns(lifetime).idle_ns(idle);
  });
}

void report(const Labels& labels, const Stats& stats) {
  engine::stats([&](engine::StatsFields& fields) {
    fields.engine(labels.engine).model(labels.model).running(stats.running).waiting(stats.waiting);
    fields.kv_cache_used(stats.cells_used).kv_cache_total(stats.cells);
    fields.counter("ended", stats.ended).counter("generated_tokens", stats.generated);
  });
}

}  // namespace telemetry
