// SPDX-License-Identifier: Apache-2.0
// The contents of batches at the batch probe. The linker replaces the probe's site by the function in this file.
#include "fake_clock.h"
#include "in_child.h"
#include "in_thread.h"
#include "raised_gate.h"
#include "recorded.h"
#include "sanitizers.h"
#if defined(__x86_64__)
#include "single_step.h"
#endif
#include "site_hits.h"

#include "emit/batch.h"
#include "gate/gate.h"
#include "memory/slabs.h"
#include "state/context_access.h"
#include "state/span_state.h"
#include "thread/thread_state.h"

#include <nopspan/agent.h>
#include <nopspan/c.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/probes.h>

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <tuple>

namespace {

namespace engine = nopspan::engine;

struct Entry {
  nopspan_entry fixed;
  nopspan_form form;
  nopspan_request request;
  std::uint64_t start_ns, duration_ns;
  std::vector<std::uint64_t> extras;
  std::string name, engine, model, tenant, exception_kind, error_type, foreign_id, tracestate, text, attributes, links;
  nopspan_step step{};

  [[nodiscard]] std::vector<nopspan_member> members() const {
    std::vector<nopspan_member> all(links.size() / sizeof(nopspan_member));
    if (!all.empty()) std::memcpy(all.data(), links.data(), links.size());
    return all;
  }
};

struct Batch {
  nopspan_thread header;
  std::uint64_t longest_root_ns;
  std::uint64_t errors;
  std::uint64_t bytes;
  std::vector<Entry> entries;
};

// What a tracer would have received from this thread.
thread_local std::vector<Batch>* received = nullptr;
thread_local std::vector<nopspan_thread>* announced = nullptr;

template <class Record>
Record record_at(const char* batch, std::size_t at) {
  Record record;
  std::memcpy(&record, batch + at, sizeof(record));
  return record;
}

Entry read_entry(const char* batch, std::size_t bytes, std::size_t at) {
  Entry entry;
  entry.fixed = record_at<nopspan_entry>(batch, at);
  const std::size_t end = at + entry.fixed.size;
  EXPECT_LE(end, bytes);
  EXPECT_LT(entry.fixed.form * std::size_t{8}, at);
  EXPECT_LT(entry.fixed.request * std::size_t{8}, at);
  const nopspan_form& form = entry.form = record_at<nopspan_form>(batch, entry.fixed.form * std::size_t{8});
  const nopspan_request& request = entry.request =
      record_at<nopspan_request>(batch, entry.fixed.request * std::size_t{8});
  EXPECT_EQ(form.kind, NOPSPAN_SHARED_FORM);
  EXPECT_EQ(form.entry_kind, entry.fixed.kind);
  EXPECT_EQ(request.kind, NOPSPAN_SHARED_REQUEST);
  EXPECT_EQ((request.flags & NOPSPAN_REQUEST_FOREIGN_ID) != 0, (form.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0);
  const auto text = [&](const nopspan_text& where) {
    EXPECT_LE(std::size_t{where.offset} * 8 + where.length, end);  // not behind the entry
    return std::string(batch + std::size_t{where.offset} * 8, where.length);
  };
  std::size_t next = at + sizeof(nopspan_entry);
  const auto words = [&](std::uint32_t bit, std::size_t count) {
    std::vector<std::uint64_t> all((form.parts & bit) != 0 ? count : 0);
    if (!all.empty()) std::memcpy(all.data(), batch + next, all.size() * 8);
    next += all.size() * 8;
    return all;
  };
  const std::vector<std::uint64_t> times = words(NOPSPAN_PART_TIMES, 2);
  entry.start_ns =
      times.empty() ? request.start_ns + static_cast<std::uint64_t>(std::int64_t{entry.fixed.start_ns}) : times[0];
  entry.duration_ns = times.empty() ? entry.fixed.duration_ns : times[1];
  for (const auto& [bit, count] : {std::pair{NOPSPAN_PART_USAGE, 4U}, std::pair{NOPSPAN_PART_FIRST_TOKEN, 1U},
                                   std::pair{NOPSPAN_PART_ENGINE, 7U}, std::pair{NOPSPAN_PART_VALUES, 2U}}) {
    const std::vector<std::uint64_t> part = words(bit, count);
    entry.extras.insert(entry.extras.end(), part.begin(), part.end());
  }
  if ((form.parts & NOPSPAN_PART_STEP) != 0) {
    std::memcpy(&entry.step, batch + next, sizeof(entry.step));
    next += sizeof(entry.step);
  }
  const auto own = [&](std::uint32_t bit) {
    if ((form.parts & bit) == 0) return std::string();
    const auto where = record_at<nopspan_text>(batch, next);
    next += sizeof(where);
    return text(where);
  };
  entry.name = text(form.name);
  entry.engine = text(form.engine);
  entry.model = text(form.model);
  entry.tenant = text(form.tenant);
  entry.foreign_id = text(request.foreign_id);
  entry.tracestate = text(request.tracestate);
  entry.exception_kind = own(NOPSPAN_PART_EXCEPTION_KIND);
  entry.error_type = own(NOPSPAN_PART_ERROR_TYPE);
  entry.text = own(NOPSPAN_PART_TEXT);
  entry.links = own(NOPSPAN_PART_LINKS);
  entry.attributes = own(NOPSPAN_PART_ATTRIBUTES);
  EXPECT_LE(next, end);
  if ((form.parts & NOPSPAN_PART_TEXTS) == 0) entry.attributes.assign(batch + next, end - next);
  return entry;
}

}  // namespace

SiteHits* SiteHits::noted = nullptr;

// NOLINTNEXTLINE(*-reserved-identifier): the linker requires this name
extern "C" void __wrap_nopspan_site_batch(const void* entries, std::uint64_t bytes, std::uint64_t count,
                                          std::uint64_t longest_root_ns, std::uint64_t errors, const void* header) {
  nopspan_thread thread;
  std::memcpy(&thread, header, sizeof(thread));
  if (SiteHits* hits = SiteHits::noted) {
    if (hits->count < std::size(hits->all))
      hits->all[hits->count++] = {thread.sequence_id, thread.next - count, thread.next};
    return;
  }
  if (received == nullptr) return;
  if (bytes == 0) {
    announced->push_back(thread);
    return;
  }
  Batch batch{thread, longest_root_ns, errors, bytes, {}};
  const auto* begin = static_cast<const char*>(entries);
  EXPECT_EQ(thread.buffer, reinterpret_cast<std::uintptr_t>(entries));
  EXPECT_EQ(thread.bytes, bytes);
  EXPECT_EQ(thread.next - thread.first, count);
  std::vector<std::uint64_t> requests;
  for (std::size_t at = 0; at < bytes;) {
    const auto record = record_at<nopspan_entry>(begin, at);
    if (record.kind < NOPSPAN_NOT_AN_ENTRY) batch.entries.push_back(read_entry(begin, bytes, at));
    if (record.kind == NOPSPAN_SHARED_REQUEST) requests.push_back(at / 8);
    at += (record.size + 7U) / 8 * 8;
  }
  // The header leads to all requests, the last one first.
  for (std::uint64_t next = thread.requests; next != 0;) {
    ASSERT_FALSE(requests.empty());
    EXPECT_EQ(next - 1, requests.back());
    next = record_at<nopspan_request>(begin, requests.back() * 8).previous;
    requests.pop_back();
  }
  EXPECT_THAT(requests, IsEmpty());
  EXPECT_EQ(batch.entries.size(), count);
  received->push_back(std::move(batch));
}

namespace {

// Runs `work` on a new thread while a tracer is attached, and keeps everything the tracer received until the thread
// ended.
struct Traced {
  std::vector<Batch> batches;
  std::vector<nopspan_thread> announcements;

  template <class Work>
  explicit Traced(Work work) {
    const RaisedGate tracer(RaisedGate::batch);
    run(work);
  }
  Traced() = default;
  template <class Work>
  void run(Work work) {
    in_thread([&] {
      received = &batches;
      announced = &announcements;
      work();
    });
  }

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Batch& batch : batches) {
      for (const Entry& entry : batch.entries) all.push_back(entry.name);
    }
    return all;
  }
  // The entries of the only batch. If there are not `count` of them, the test fails and ends.
  [[nodiscard]] const std::vector<Entry>& entries(std::size_t count) const {
    if (batches.size() != 1 || batches[0].entries.size() != count) {
      throw std::runtime_error("another number of batches or entries");
    }
    return batches[0].entries;
  }
  [[nodiscard]] const Entry& only() const { return entries(1)[0]; }
};

TEST(Batch, HandsOverARequestWhenItsOutermostSpanEnds) {
  Context context;
  const Traced traced([&] {
    const ContextScope scope{Context::make()};  // certainly a root span, not an orphan
    const Span request{"request"};
    context = request.context();
    short_span("inner", [](Fields& f) { f.set("rows", 7); });
    {
      const Span inner{"inner"};
      const Span innermost{"inner"};
    }
    EXPECT_THAT(*received, IsEmpty());
  });
  ASSERT_THAT(traced.batches, SizeIs(1));
  const Batch& batch = traced.batches[0];
  ASSERT_THAT(traced.names(), ElementsAre("inner", "inner", "inner", "request"));
  const Entry& request = batch.entries[3];

  EXPECT_EQ(request.fixed.span_id, context.span_id());
  EXPECT_EQ(request.request.root_id, context.span_id());
  EXPECT_EQ(request.fixed.parent_id, 0U);
  EXPECT_EQ(batch.longest_root_ns, request.duration_ns);
  EXPECT_EQ(batch.header.open_entries, 0U);
  EXPECT_EQ(batch.errors, 0U);
  for (std::size_t i = 0; i < 3; ++i) {
    const Entry& inner = batch.entries[i];
    EXPECT_EQ(inner.fixed.parent_id, batch.entries[i == 1 ? 2 : 3].fixed.span_id);
    EXPECT_EQ(inner.request.root_id, request.fixed.span_id);
    EXPECT_GE(inner.start_ns, request.start_ns);
    EXPECT_LE(inner.duration_ns, request.duration_ns);
  }
  EXPECT_THAT(batch.entries[0].attributes, HasSubstr("rows"));
  EXPECT_THAT(batch.entries[1].attributes, IsEmpty());
  // The batch contains the form and the request only once.
  EXPECT_EQ(batch.entries[0].fixed.form, batch.entries[1].fixed.form);
  EXPECT_EQ(batch.entries[0].fixed.request, batch.entries[3].fixed.request);
}

TEST(Batch, FindsANameByItsText) {
  const Traced traced([] {
    const ContextScope scope{Context::make()};
    const Span request{"request"};
    for (const char* text : {"db.query", "db.update", "db.query"}) {
      char name[16] = {};
      std::string_view(text).copy(name, sizeof(name) - 1);
      const Span inner{static_cast<const char(&)[16]>(name)};
    }
  });
  EXPECT_THAT(traced.names(), ElementsAre("db.query", "db.update", "db.query", "request"));
  const std::vector<Entry>& entries = traced.batches.at(0).entries;
  EXPECT_EQ(entries[0].fixed.form, entries[2].fixed.form);
}

TEST(Batch, HasAnEventWhoseCallableEndsTheSpanAroundIt) {
  const Traced traced([] {
    const Span request{"request"};
    std::optional<Span> span(std::in_place, "db.query");
    nopspan::execute("cache.hit", [&](Fields&) {
      span.reset();
      { const Span reused{"other"}; }
    });
  });
  const std::vector<Entry>& entries = traced.batches.at(0).entries;
  EXPECT_THAT(traced.names(), ElementsAre("db.query", "other", "cache.hit", "request"));
  EXPECT_EQ(entries.at(2).text, "cache.hit");
}

TEST(Batch, AnnouncesItsThreadOnce) {
  const Traced traced([] {
    { const Span span{"work"}; }
    { const Span span{"work"}; }
  });
  ASSERT_THAT(traced.announcements, SizeIs(1));
  const nopspan_thread& header = traced.announcements[0];
  EXPECT_EQ(header.magic, NOPSPAN_THREAD_MAGIC);
  EXPECT_EQ(header.next, 0U);
  EXPECT_NE(header.sequence_id, 0U);
  EXPECT_EQ(header.mark, *reinterpret_cast<const unsigned long*>(nopspan_gate.process_mark));
}

TEST(Batch, HoldsRequestsThatFollowEachOtherAtOnce) {
  const FakeClock clock;
  const Traced traced([&] {
    { const Span span{"first"}; }
    EXPECT_THAT(*received, SizeIs(1));  // flushed, because the last flush was long ago
    { const Span span{"second"}; }
    { const Span span{"third"}; }
    EXPECT_THAT(*received, SizeIs(1));
    FakeClock::advance(1'000'000);
    { const Span span{"fourth"}; }
    EXPECT_THAT(*received, SizeIs(2));
    { const Span span{"last"}; }
  });
  ASSERT_THAT(traced.batches, SizeIs(3));
  EXPECT_THAT(traced.names(), ElementsAre("first", "second", "third", "fourth", "last"));
  EXPECT_EQ(traced.batches[1].header.first, 1U);
  EXPECT_EQ(traced.batches[1].header.next, 4U);
  EXPECT_EQ(traced.batches[2].header.first, 4U);
}

TEST(Batch, HoldsSpansOfARequestThatIsElsewhereFor100Ms) {
  const FakeClock clock;
  const Traced traced([&] {
    const ContextScope scope{Context::make()};
    const AsyncSpan elsewhere{"elsewhere", Context::current()};
    const ContextScope inside{elsewhere.context()};
    { const Span span{"part"}; }
    EXPECT_THAT(*received, SizeIs(1));
    FakeClock::advance(99'999'999);
    { const Span span{"part"}; }
    EXPECT_THAT(*received, SizeIs(1));
    FakeClock::advance(1);
    { const Span span{"part"}; }
    EXPECT_THAT(*received, SizeIs(2));
  });
  EXPECT_EQ(traced.batches.at(1).header.open_entries, 2U);
}

TEST(Batch, IsOfTheRequestsThatALinkedSpanLinksTo) {
  std::uint64_t bits = 0;
  const Traced traced([&] {
    const Context one = Context::make();
    const Context other = Context::make();
    const ContextScope scope{Context::make()};
    Span step{"step"};
    for (const Context& context : {one, other, Context::current()}) {
      bits |= std::uint64_t{1} << (nopspan::detail::ContextAccess::head(context).trace_id[15] % 64);
    }
    step.link(one);
    step.link(other);
  });
  EXPECT_EQ(traced.batches.at(0).header.request_bits, bits);
  EXPECT_EQ(traced.batches.at(0).header.open_entries, 1U) << "these requests have not ended";
}

// The members of the only step. Checks that the entries belong to it and are complete.
std::vector<nopspan_member> members_from(const Traced& traced) {
  std::vector<nopspan_member> all;
  const Entry* step = nullptr;
  for (const Batch& batch : traced.batches) {
    for (const Entry& entry : batch.entries) {
      if (entry.fixed.kind == NOPSPAN_ENTRY_STEP) {
        EXPECT_EQ(step, nullptr);
        step = &entry;
      } else if (entry.fixed.kind != NOPSPAN_ENTRY_MEMBERS || step == nullptr) {
        continue;
      } else {
        EXPECT_EQ(entry.fixed.span_id, step->fixed.span_id);
        EXPECT_EQ(entry.extras, (std::vector<std::uint64_t>{0, all.size()}));
        EXPECT_EQ(entry.name, step->name);
        EXPECT_EQ(entry.model, step->model);
      }
      EXPECT_GT(batch.header.open_entries, 0U);
      EXPECT_EQ(batch.header.request_bits, ~0UL);
      const std::vector<nopspan_member> some = entry.members();
      EXPECT_LE(some.size(), std::size_t{NOPSPAN_MEMBERS_PER_ENTRY});
      all.insert(all.end(), some.begin(), some.end());
    }
  }
  if (step == nullptr) {
    ADD_FAILURE() << "no step";
  } else {
    EXPECT_EQ(all.size(), step->step.members);
  }
  return all;
}

void expect_members(const Traced& traced, const std::vector<engine::Member>& given) {
  const std::vector<nopspan_member> members = members_from(traced);
  ASSERT_EQ(members.size(), given.size());
  EXPECT_EQ(std::memcmp(members.data(), given.data(), given.size() * sizeof(nopspan_member)), 0);
}

// members, members_with_prefill, batch_size, dropped, the tokens: prefill, decode, drafted, accepted, budget.
std::vector<std::uint64_t> counts_of(const nopspan_step& step) {
  return {step.members,       step.members_with_prefill, step.batch_size,      step.dropped,      step.prefill_tokens,
          step.decode_tokens, step.drafted_tokens,       step.accepted_tokens, step.budget_tokens};
}

std::vector<engine::Member> some_members(std::size_t count) {
  std::vector<engine::Member> members(count);
  for (std::size_t i = 0; i < count; ++i) {
    members[i].request = 1000 + i;
    members[i].decode_tokens = 1;
    members[i].context_tokens = static_cast<std::uint32_t>(i);
  }
  return members;
}

TEST(StepInABatch, HasItsFactsAndMembers) {
  const AsyncSpan unrecorded;
  std::uint64_t recorded = 0;
  const Traced traced([&] {
    const AsyncSpan request{engine::request};
    recorded = request.context().span_id();
    std::vector<engine::Member> members{engine::Member::of(request, 5), engine::Member::of(unrecorded, 7)};
    members[0].prefill_tokens = 30;
    members[0].context_tokens = 100;
    members[1].decode_tokens = 3;
    members[1].drafted_tokens = 4;
    members[1].accepted_tokens = 2;
    Span step{engine::step, [](auto& m) { m.model("m").instance(~0UL).number(9).budget_tokens(512); }};
    step.with<engine::StepFields>([&](auto& m) {
      m.members(members.data(), members.size()).host_ns(10).device_ns(std::chrono::microseconds(2)).kv_used(300);
    });
  });
  const Entry& entry = traced.batches.at(0).entries.at(0);
  ASSERT_EQ(entry.fixed.kind, NOPSPAN_ENTRY_STEP);
  EXPECT_NE(entry.form.flags & NOPSPAN_FLAG_STEP, 0U);
  EXPECT_EQ(entry.name, "engine.step");
  EXPECT_EQ(entry.model, "m");
  const nopspan_step& step = entry.step;
  EXPECT_EQ(step.size, offsetof(nopspan_step, reserved));
  EXPECT_EQ(step.kind, unsigned{NOPSPAN_STEP_MIXED});
  EXPECT_EQ(step.instance, ~0UL);
  EXPECT_EQ(step.number, 9U);
  EXPECT_THAT(counts_of(step), ElementsAre(2U, 1U, 2U, 0U, 30U, 3U, 4U, 2U, 512U));
  EXPECT_EQ(step.host_ns, 10U);
  EXPECT_EQ(step.device_ns, 2000U);
  EXPECT_EQ(step.kv_used, 300U);
  const std::vector<nopspan_member> members = members_from(traced);
  ASSERT_THAT(members, SizeIs(2));
  EXPECT_EQ(members[0].request, recorded);
  EXPECT_EQ(members[0].flags, 0U);
  EXPECT_EQ(members[0].context_tokens, 100U);
  EXPECT_EQ(members[1].request, 7U);
  EXPECT_EQ(members[1].flags, NOPSPAN_MEMBER_OWN_KEY);
}

TEST(StepInABatch, IsWrittenInPartsOf512Members) {
  for (const std::size_t count :
       {std::size_t{1}, std::size_t{512}, std::size_t{513}, std::size_t{1024}, std::size_t{65'536}}) {
    const std::vector<engine::Member> given = some_members(count);
    const Traced traced([&] {
      const Span step{engine::step, [&](auto& m) { m.model("m").members(given.data(), given.size()); }};
    });
    EXPECT_EQ(traced.names().size(), (count + 511) / 512);
    expect_members(traced, given);
    std::uint64_t next = 0;
    for (const Batch& batch : traced.batches) {
      EXPECT_EQ(batch.header.first, next);
      next = batch.header.next;
    }
  }
}

TEST(StepInABatch, TakesMembersOneByOneOrInSeveralCalls) {
  const std::vector<engine::Member> given = some_members(3000);
  const Traced traced([&] {
    Span step{engine::step, [&](auto& m) { m.members(given.data(), 700).members(nullptr, 0); }};
    step.with<engine::StepFields>([&](auto& m) {
      for (std::size_t i = 700; i < given.size(); ++i) m.member(given[i]);
    });
  });
  expect_members(traced, given);
}

TEST(StepInABatch, HasMembersWithPrefillFirst) {
  for (const std::size_t count : {std::size_t{2}, std::size_t{3}, std::size_t{257}, std::size_t{1024}}) {
    std::vector<engine::Member> given = some_members(count);
    for (std::size_t i = 1; i < count; i += 3) given[i].prefill_tokens = 5;
    const Traced traced([&] {
      const Span step{engine::step, [&](auto& m) { m.members(given.data(), given.size()); }};
    });
    std::stable_partition(given.begin(), given.end(), [](const engine::Member& m) { return m.prefill_tokens != 0; });
    expect_members(traced, given);
    EXPECT_EQ(traced.batches[0].entries[0].step.members_with_prefill, (count + 1) / 3);
  }
}

TEST(StepInABatch, KeepsTheCountsThatTheApplicationGives) {
  const std::vector<engine::Member> given = some_members(2);
  const Counted clamped(&nopspan::Stats::values_clamped);
  const Traced traced([&] {
    const Span step{engine::step, [&](auto& m) {
                      m.members(given.data(), given.size()).batch_size(3).prefill_tokens(10).decode_tokens(11);
                      m.drafted_tokens(0).accepted_tokens(12).kind(engine::StepKind::prefill).budget_tokens(-1);
                    }};
  });
  const nopspan_step& step = traced.only().step;
  EXPECT_THAT(counts_of(step), ElementsAre(2U, 0U, 3U, 0U, 10U, 11U, 0U, 12U, 0U));
  EXPECT_EQ(step.kind, unsigned{NOPSPAN_STEP_PREFILL});
  EXPECT_EQ(clamped.times(), 1U);
}

TEST(StepInABatch, IsAStepWithoutMembersAndInsideASpan) {
  const Traced traced([] {
    const ContextScope scope{Context::make()};
    const Span loop{"loop"};
    const Span step{engine::step, [](auto& m) { m.prefill_tokens(4).decode_tokens(1); }};
  });
  const Batch& batch = traced.batches.at(0);
  const Entry& step = batch.entries.at(0);
  EXPECT_EQ(step.fixed.kind, NOPSPAN_ENTRY_STEP);
  EXPECT_NE(step.fixed.parent_id, 0U);
  EXPECT_EQ(step.step.prefill_tokens, 4U);
  EXPECT_EQ(step.step.kind, unsigned{NOPSPAN_STEP_MIXED});
  EXPECT_EQ(step.step.members, 0U);
  EXPECT_EQ(batch.header.open_entries, 0U);
}

TEST(StepInABatch, IsNeverARoot) {
  const Traced traced([] {
    const ContextScope scope{Context::make()};
    const Span step{engine::step};
  });
  EXPECT_EQ(traced.only().fixed.kind, NOPSPAN_ENTRY_STEP);
  EXPECT_EQ(traced.batches[0].longest_root_ns, 0U);
  EXPECT_EQ(traced.batches[0].header.open_entries, 1U);
}

TEST(StepInABatch, StaysUntilTheNextOneEnds) {
  const FakeClock clock;
  const Traced traced([] {
    { const Span step{engine::step}; }
    EXPECT_THAT(*received, IsEmpty());
    FakeClock::advance(1'000'000);
    { const Span step{engine::step}; }
    EXPECT_THAT(*received, SizeIs(1));
  });
  ASSERT_THAT(traced.batches, SizeIs(2));
  EXPECT_EQ(traced.batches[1].header.first, 1U);
}

TEST(StepInABatch, HasALinkAsAMember) {
  const Context parent = Context::from_traceparent("00-0123456789abcdef0123456789abcdef-00000000000000ab-01");
  std::uint64_t recorded = 0;
  const Traced traced([&] {
    const AsyncSpan request{engine::request};
    recorded = request.context().span_id();
    const Span step{engine::step, [&](auto& m) {
                      m.link(request).link(parent).link(Context());
                      for (int i = 0; i < 500; ++i) m.link(parent);
                    }};
  });
  const std::vector<nopspan_member> members = members_from(traced);
  ASSERT_THAT(members, SizeIs(502));
  EXPECT_EQ(members[0].request, recorded);
  EXPECT_EQ(members[0].flags, 0U);
  EXPECT_EQ(members[1].request, 0xefcdab8967452301U);
  EXPECT_EQ(members[1].flags, NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY);
  EXPECT_EQ(traced.batches[0].entries[0].step.kind, unsigned{NOPSPAN_STEP_UNKNOWN});
}

TEST(StepInABatch, CountsMembersOverTheLimit) {
  constexpr std::size_t kMost = std::size_t{1} << 20U;
  const std::vector<engine::Member> given = some_members(kMost);
  const Counted dropped(&nopspan::Stats::members_dropped);
  const SpanRecorder steps("engine.step");
  const Span step{engine::step,
                  [&](auto& m) { m.members(given.data(), kMost).members(given.data(), 2).member(given[0]); }};
  EXPECT_EQ(dropped.times(), 3U);
}

TEST(Batch, LeavesALinkedSpanWithAParentToItsRequest) {
  const Traced traced([] {
    const ContextScope scope{Context::make()};
    const Span request{"request"};
    Span inner{"inner"};
    inner.link(Context::make());
  });
  EXPECT_EQ(traced.batches.at(0).header.open_entries, 0U);
}

TEST(Batch, IsHandedOverWhenFullWhateverIsOpen) {
  const Traced traced([] {
    const Span request{"request"};
    for (int i = 0; i < 1000; ++i) {
      const Span span{"work", [](Fields& f) { f.set("text", std::string(1000, 'x')); }};
    }
  });
  EXPECT_GT(traced.batches.size(), 1U);
  EXPECT_THAT(traced.names(), SizeIs(1001));
  std::uint64_t next = 0;
  for (const Batch& batch : traced.batches) {
    EXPECT_EQ(batch.header.first, next);
    next = batch.header.next;
    EXPECT_LE(batch.bytes, batch.header.capacity);
  }
  EXPECT_EQ(next, 1001U);
}

TEST(Batch, HasRoomForTheLargestSpan) {
  const Traced traced([] {
    const std::string text(63, 'x');
    for (int i = 0; i < 8; ++i) {
      Span span{"work", [&](Fields& f) {
                  f.set("engine", text + "1").set("model", text + "2").set("tenant", text + "3").set("tool_name", text);
                  f.set("input_tokens", 1).set("queue_ns", 1);
                  for (int k = 0; k < 120; ++k) f.set(nopspan::Text(("key" + std::to_string(k)).c_str()), text);
                  for (int k = 0; k < 200; ++k) f.link(Context::make());
                }};
      span.first_token();
      span.fail(nopspan::Text(text.c_str()));
    }
  });
  EXPECT_THAT(traced.names(), SizeIs(8));
  EXPECT_EQ(traced.batches.at(0).entries.at(0).links.size(), 128 * sizeof(nopspan_link));
  EXPECT_GT(traced.batches.at(0).entries.at(0).attributes.size(), 7000U);
}

TEST(Batch, DropsWhatItHoldsWhenTheTracerHasDetached) {
  const FakeClock clock;
  Traced traced;
  traced.run([&] {
    {
      const RaisedGate tracer(RaisedGate::batch);
      { const Span span{"delivered"}; }
      { const Span span{"held"}; }
    }
    {
      const RaisedGate handlers(RaisedGate::spans);
      { const Span span{"unseen"}; }  // the batch part of the gate is down
    }
    const RaisedGate tracer(RaisedGate::batch);
    { const Span span{"new"}; }
  });
  EXPECT_THAT(traced.names(), ElementsAre("delivered", "new"));
  EXPECT_THAT(traced.announcements, SizeIs(2));
  EXPECT_NE(traced.announcements[1].sequence_id, traced.announcements[0].sequence_id);
  EXPECT_EQ(traced.batches.at(1).header.discarded, 0U);
  EXPECT_EQ(traced.batches.at(1).header.first, 0U);
}

TEST(Batch, OfAThreadThatEndsAfterTheGateFellIsNotHandedOver) {
  const FakeClock clock;
  Traced traced;
  traced.run([&] {
    const RaisedGate tracer(RaisedGate::batch);
    { const Span span{"delivered"}; }
    { const Span span{"held"}; }
  });
  EXPECT_THAT(traced.names(), ElementsAre("delivered"));
}

// The count is reset when another thread reuses the header.
TEST(Batch, OfAThreadWithoutMemoryIsToldAsDiscardedWhenItEnds) {
  constexpr unsigned long kAllThereIs = 1UL << 40U;
  __atomic_fetch_add(&nopspan_gate.memory_bytes, kAllThereIs, __ATOMIC_RELAXED);
  const Traced traced([] {
    for (int i = 0; i < 3; ++i) {
      const Span span{"work"};
    }
  });
  __atomic_fetch_sub(&nopspan_gate.memory_bytes, kAllThereIs, __ATOMIC_RELAXED);
  EXPECT_THAT(traced.batches, IsEmpty());
  ASSERT_THAT(traced.announcements, SizeIs(2));
  EXPECT_EQ(traced.announcements[0].discarded, 0U);
  EXPECT_EQ(traced.announcements[1].sequence_id, traced.announcements[0].sequence_id);
  EXPECT_EQ(traced.announcements[1].discarded, 3U);
  EXPECT_EQ(traced.announcements[1].next, 3U);
  EXPECT_NE(traced.announcements[1].mark, 0U);
}

// Other threads and processes read a buffer while its thread gives it back, so it must stay mapped.
TEST(Batch, HasABufferInASlabOrNone) {
  if (kThreadSanitizer || kAddressSanitizer) GTEST_SKIP() << "RLIMIT_AS is below what the sanitizer has mapped";
  const auto limit_growth = [](std::uint64_t bytes) {
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t limit = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) + bytes;
    const rlimit both{limit, RLIM_INFINITY};
    EXPECT_EQ(setrlimit(RLIMIT_AS, &both), 0);
  };
  expect_in_child([&] {
    const Traced traced([&] {
      limit_growth(0);
      while (nopspan::detail::take_block(32U << 10U).bytes != nullptr) continue;
      limit_growth(512U << 10U);  // enough for a mapping of one buffer, but not for a slab
      for (int i = 0; i < 3; ++i) const Span span{"work"};
      EXPECT_NE(nopspan::detail::take_block(32U << 10U).bytes, nullptr);
    });
    EXPECT_THAT(traced.batches, IsEmpty());
    EXPECT_EQ(traced.announcements.back().discarded, 3U);
  });
}

TEST(Batch, InAChildOfForkBeginsAnew) {
  const Traced traced([] {
    const FakeClock clock;
    { const Span span{"delivered"}; }
    { const Span span{"held by the parent"}; }
    const std::uint64_t sequence_id = received->at(0).header.sequence_id;
    expect_in_child([&] {
      received->clear();
      FakeClock::advance(1'000'000'000);
      { const Span span{"child"}; }
      ASSERT_THAT(*received, SizeIs(1));
      ASSERT_THAT(received->at(0).entries, SizeIs(1));
      EXPECT_EQ(received->at(0).entries[0].name, "child");
      EXPECT_EQ(received->at(0).header.first, 0U);
      EXPECT_NE(received->at(0).header.sequence_id, sequence_id);
    });
  });
  EXPECT_THAT(traced.names(), ElementsAre("delivered", "held by the parent"));
}

TEST(Batch, OfACopyOfTheProcessHasAnotherSequence) {
  const FakeClock clock;
  const Traced traced([] {
    { const Span span{"delivered"}; }
    { const Span span{"held before the copy"}; }
    nopspan::reseed();
    { const Span span{"after it"}; }
  });
  EXPECT_THAT(traced.names(), ElementsAre("delivered", "held before the copy", "after it"));
  ASSERT_THAT(traced.batches, SizeIs(3));
  EXPECT_EQ(traced.batches[1].header.sequence_id, traced.batches[0].header.sequence_id);
  EXPECT_NE(traced.batches[2].header.sequence_id, traced.batches[0].header.sequence_id);
  EXPECT_EQ(traced.batches[2].header.first, 0U);
  EXPECT_EQ(traced.batches[2].header.next, 1U);
}

TEST(Batch, HasTheIdsNamesAndTimesThatAnotherTracingLibraryDecides) {
  namespace detail = nopspan::detail;
  constexpr std::uint64_t kLongAgo = 12345;
  detail::TracePlace place;
  place.trace_id[0] = place.span_id = 9;
  const Traced traced([&] {
    detail::SpanState* const span = detail::async_begin_at("first", Context(), {}, place);
    detail::span_started(span);
    detail::FieldSink* const event = detail::point_begin(detail::Point::event, "event", detail::async_context(span));
    detail::point_at(event, kLongAgo);
    detail::point_emit(event);
    detail::span_rename(span, "last");
    detail::async_end(span);
  });
  ASSERT_THAT(traced.names(), ElementsAre("event", "last"));
  EXPECT_EQ(traced.batches[0].entries[0].start_ns, kLongAgo);
  for (const Batch& batch : traced.batches) {
    for (const Entry& entry : batch.entries) EXPECT_EQ(entry.request.trace_id[0], 9);
    for (const Entry& entry : batch.entries) EXPECT_EQ(entry.fixed.span_id, 9U);
  }
}

TEST(Batch, SaysWhatTheRecordSays) {
  const Traced traced([] {
    const ContextScope scope{
        Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=value")};
    Span span{
        "work", [](Fields& f) {
          f.set("engine", "e").set("model", "m").set("tenant", "t").set("input_tokens", 3).set("output_tokens", 4);
          f.link(Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-00000000000000aa-01"));
        }};
    span.first_token();
    span.fail("timeout");
  });
  const Entry& entry = traced.only();
  EXPECT_EQ(entry.engine, "e");
  EXPECT_EQ(entry.model, "m");
  EXPECT_EQ(entry.tenant, "t");
  EXPECT_EQ(entry.error_type, "timeout");
  EXPECT_EQ(entry.tracestate, "vendor=value");
  EXPECT_EQ(entry.fixed.status, NOPSPAN_STATUS_ERROR);
  EXPECT_EQ(entry.fixed.parent_id, 0xb7ad6b7169203331U);
  EXPECT_NE(entry.form.flags & NOPSPAN_FLAG_REMOTE_PARENT, 0U);
  EXPECT_EQ(entry.form.parts, NOPSPAN_PART_USAGE | NOPSPAN_PART_FIRST_TOKEN | NOPSPAN_COUNTS_TOKENS |
                                  NOPSPAN_PART_ERROR_TYPE | NOPSPAN_PART_LINKS | NOPSPAN_PART_ATTRIBUTES);
  ASSERT_THAT(entry.extras, SizeIs(5));
  EXPECT_EQ(entry.extras[0], 3U);
  EXPECT_EQ(entry.extras[1], 4U);
  ASSERT_EQ(entry.links.size(), sizeof(nopspan_link));
  EXPECT_EQ(traced.batches[0].errors, 1U);
  EXPECT_EQ(traced.batches[0].header.open_entries, 1U);  // its root span belongs to another process
}

TEST(Batch, HasTheFlagsOfTheTraceAndWhatALinkHasNoRoomFor) {
  const auto context = [](const char* flags, const char* tracestate) {
    const std::string header = std::string("00-0af7651916cd43dd8448eb211c80319c-00000000000000aa-") + flags;
    return Context::from_traceparent(header.c_str(), tracestate);
  };
  const Traced traced([&] {
    const ContextScope scope{context("03", "")};
    Span span{"work"};
    span.link(context("03", "a=b")).link(Context::make()).link(context("00", ""));
    { Span local{"local"}; }
  });
  ASSERT_THAT(traced.names(), ElementsAre("local", "work"));
  for (const Entry& entry : traced.batches.at(0).entries) {
    EXPECT_EQ(entry.form.flags & (NOPSPAN_FLAG_SAMPLED | NOPSPAN_FLAG_RANDOM),
              NOPSPAN_FLAG_SAMPLED | NOPSPAN_FLAG_RANDOM);
  }
  EXPECT_THAT(traced.batches[0].entries[1].attributes, testing::HasSubstr(std::string("303 a=b\n\n300 ")));
}

TEST(Batch, HasTimesThatAreFarFromThatOfTheRequest) {
  const Traced traced([] {
    const FakeClock clock;
    const Span outer{"outer"};
    { const Span first{"first"}; }
    FakeClock::advance(5'000'000'000);
    { const Span last{"last"}; }
  });
  ASSERT_THAT(traced.names(), ElementsAre("first", "last", "outer"));
  const std::vector<Entry>& entries = traced.batches.at(0).entries;
  EXPECT_EQ(entries[0].form.parts & NOPSPAN_PART_TIMES, 0U);
  EXPECT_EQ(entries[1].start_ns, entries[0].start_ns + 5'000'000'000);
  EXPECT_EQ(entries[1].duration_ns, 0U);
  EXPECT_EQ(entries[2].start_ns, entries[0].start_ns);
  EXPECT_EQ(entries[2].duration_ns, 5'000'000'000U);
}

// Otherwise a BPF program could drop the batch, because the request that is named is not in the sample.
TEST(Batch, SaysWhichRequestsHaveEntriesThatBelongToOthers) {
  const Traced traced([] {
    const FakeClock clock;
    { const Span plain{"plain"}; }
    short_span("linked", [](Fields& f) {
      f.link(Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-00000000000000aa-01"));
    });
    const engine::Member member{};
    short_span(engine::step, [&](auto& m) { m.members(&member, 1); });
  });
  std::map<std::string, bool> others;
  for (const Batch& batch : traced.batches) {
    for (const Entry& entry : batch.entries)
      others[entry.name] = (entry.request.flags & NOPSPAN_REQUEST_OF_OTHERS) != 0;
  }
  EXPECT_EQ(others, (std::map<std::string, bool>{{"engine.step", true}, {"linked", true}, {"plain", false}}));
}

TEST(Batch, HasTheTracestateOfEachEntry) {
  const char* const states[] = {"a=1", "a=2", "", "a=2", "a=2"};
  const Traced traced([&] {
    for (const char* state : states) {
      const ContextScope scope{
          Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", state)};
      nopspan::execute("event", [](Fields&) {});
    }
  });
  std::vector<Entry> entries;
  for (const Batch& batch : traced.batches) entries.insert(entries.end(), batch.entries.begin(), batch.entries.end());
  ASSERT_THAT(entries, SizeIs(5));
  for (std::size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(entries[i].tracestate, states[i]) << i;
  EXPECT_EQ(entries[4].fixed.request, entries[3].fixed.request);
}

TEST(Batch, KeepsAForeignIdVisible) {
  const Traced traced([] {
    const ContextScope scope{Context::with_request_id("order 17")};
    const Span span{"work"};
  });
  EXPECT_EQ(traced.only().foreign_id, "order 17");
}

TEST(Batch, TellsTokensAndToolsOfTheInnermostSpanOnly) {
  const Traced traced([] {
    const Span outer{"outer", [](Fields& f) { f.set("input_tokens", 5).set("tool_name", "find"); }};
    const Span inner{"inner", [](Fields& f) { f.set("input_tokens", 5).set("tool_name", "find"); }};
  });
  ASSERT_THAT(traced.names(), ElementsAre("inner", "outer"));
  constexpr unsigned kBoth = NOPSPAN_COUNTS_TOKENS | NOPSPAN_COUNTS_TOOL;
  EXPECT_EQ(traced.batches[0].entries[0].form.parts & kBoth, kBoth);
  EXPECT_EQ(traced.batches[0].entries[1].form.parts & kBoth, 0U);
  EXPECT_EQ(traced.batches[0].entries[0].text, "find");
}

TEST(Batch, HasTheStatusOfAnErrorThatIsContent) {
  const Traced traced(
      [] { Span{nopspan::llm::image}.with<nopspan::llm::ImageFields>([](auto& m) { m.error("secret"); }); });
  EXPECT_EQ(traced.only().fixed.status, NOPSPAN_STATUS_ERROR);
  EXPECT_THAT(traced.only().attributes, Not(HasSubstr("secret")));
}

// A handler keeps the content.
TEST(Batch, HasNoContentAsTheTypeOfAnError) {
  const Recorder recorder{"work.stop", "llm.chat.stop", "mcp.client.stop"};
  const Traced traced([] {
    Span{"work"}.content("error.type", "secret").fail("");
    Span{nopspan::llm::chat}.content("error.type", "secret").fail("");
    Span{"mcp.client"}.content("rpc.response.status_code", "secret").set("finish_reason", "error");
    nopspan_span_exception(nopspan_request_begin("work"), "a secret", nullptr, nullptr, 0);
  });
  std::vector<std::string> types;
  for (const Batch& batch : traced.batches) {
    for (const Entry& entry : batch.entries) types.push_back(entry.name + ' ' + entry.error_type);
  }
  EXPECT_THAT(types, ElementsAre("work _OTHER", "llm.chat _OTHER", "mcp.client ", "work _OTHER"));
}

TEST(Batch, HasTheContentOfSpansOrEventsAsTheModeSays) {
  using nopspan::ContentMode;
  for (const ContentMode mode :
       {ContentMode::none, ContentMode::spans, ContentMode::events, ContentMode::spans_and_events}) {
    const auto has = [&](ContentMode part) { return (static_cast<unsigned>(mode) & static_cast<unsigned>(part)) != 0; };
    nopspan::capture_content(mode);
    const Traced traced([] {
      const Span span{"work", [](Fields& f) { f.content("prompt", "of the span"); }};
      nopspan::execute("app.event", [](Fields& f) { f.content("prompt", "of the event"); });
    });
    nopspan::capture_content(false);
    std::string all;
    for (const auto& entry : traced.batches.at(0).entries) all += entry.attributes;
    EXPECT_EQ(all.find("of the span") != std::string::npos, has(ContentMode::spans));
    EXPECT_EQ(all.find("of the event") != std::string::npos, has(ContentMode::events));
  }
}

TEST(Batch, NamesTheSpanThatARetryWasGiven) {
  const Traced traced([] {
    AsyncSpan call{"http.call"};
    nopspan::llm::retry(call, [](auto& r) { r.attempt(1); });
    std::thread([&] { nopspan::llm::retry(call.context(), [](auto& r) { r.attempt(2); }); }).join();
    call.end();
  });
  const auto& entries = traced.batches.at(0).entries;
  EXPECT_EQ(entries.at(0).name, "gen_ai.retry");
  EXPECT_EQ(entries.at(0).text, "http.call");
}

TEST(Batch, HasTheFirstTokenOfTheSpanThatTheEventWasGiven) {
  const Traced traced([] {
    AsyncSpan call{"http.call"};
    nopspan::genai::stream_first_token(call, [](auto& e) { e.tokens_so_far(3); });
    call.end();
  });
  const auto& span = traced.only();
  EXPECT_EQ(span.name, "http.call");
  EXPECT_NE(span.form.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN, 0U);
  EXPECT_THAT(span.attributes, HasSubstr("nopspan.tokens_at_first_token"));
}

TEST(Batch, HasTheSameRetryWhicheverFunctionEmitsIt) {
  const Traced traced([] {
    const Span span{"work"};
    nopspan::llm::retry([](auto& r) { r.attempt(2).delay_ms(500).reason("rate_limit"); });
    nopspan::llm::execute("adapter.retry", [](auto& f) {
      f.set("attempt", 2).set("delay_ms", 500).set("reason", "rate_limit").measure("system_time", 1);
    });
    nopspan::genai::retry(2, [](auto& e) { e.delay_ms(500).reason("rate_limit"); });
    nopspan::genai::retry(2, [](auto& e) { e.delay_ms(500.0).reason("rate_limit"); });
  });
  const std::vector<Entry>& entries = traced.entries(5);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(entries[i].fixed.kind, NOPSPAN_ENTRY_RETRY);
    EXPECT_EQ(entries[i].fixed.span_id, entries[4].fixed.span_id);
    EXPECT_THAT(entries[i].extras, ElementsAre(500'000'000U, 2U));
    EXPECT_EQ(entries[i].error_type, "rate_limit");
    EXPECT_EQ(entries[i].name, "gen_ai.retry");
    EXPECT_THAT(entries[i].attributes, AllOf(HasSubstr("retry.attempt"), Not(HasSubstr("system_time"))));
  }
}

TEST(Batch, HasTheEndOfASpanThatAnAgentEmits) {
  for (const Value& duration : {Value(1'000'000), Value(1.0e6)}) {
    const Traced traced([&] {
      const Span around{"around"};
      EXPECT_EQ(nopspan::agent::emit("agent.llm.exception", Value::map({{"duration", duration}}),
                                     Value::map({{"kind", "exit"}})),
                Errc::ok);
    });
    const std::vector<Entry>& entries = traced.entries(2);
    const Entry& entry = entries[0];
    EXPECT_EQ(entry.exception_kind, "exit");
    EXPECT_EQ(entry.duration_ns, 1'000'000U);
    EXPECT_GE(entry.start_ns + entry.duration_ns, entries[1].start_ns);
    EXPECT_LE(entry.start_ns + entry.duration_ns, entries[1].start_ns + entries[1].duration_ns) << "it ends now";
  }
}

// What a tracer reads of a span, except its attributes.
auto facts_of(const Entry& entry) {
  return std::tuple(entry.model, entry.fixed.status, entry.error_type, entry.extras);
}

TEST(Batch, HasTheFactsOfASpanUnderTheirNamesInTheConventions) {
  namespace llm = nopspan::llm;
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const Traced traced([] {
    const Span around{"around"};
    Span{llm::generate}.with<llm::GenerateFields>([](auto& m) {
      m.model("m").input_tokens(1).output_tokens(2).cached_tokens(3).reasoning_tokens(4).http_status(503);
    });
    Span{llm::generate, [](auto& m) { m.set("gen_ai.request.model", "m"); }}
        .set("gen_ai.usage.input_tokens", 1)
        .set("gen_ai.usage.output_tokens", 2)
        .set("gen_ai.usage.cache_read.input_tokens", 3)
        .set("gen_ai.usage.reasoning.output_tokens", 4)
        .set("http.response.status_code", 503);
    const Value usage =
        Value::map({{"input_tokens", 1}, {"output_tokens", 2}, {"cached_tokens", 3}, {"reasoning_tokens", 4}});
    Span{llm::generate, [](auto& m) { m.model("m"); }}.set("usage", usage).set("error.type", "503");
    Span{llm::generate}.set("finish_reason", "error");
    Span{llm::generate}.set("gen_ai.response.finish_reasons", {"error"});
    Span{llm::generate}.set("error.type", "not a type");
  });
  EXPECT_EQ(dropped.times(), 0U);
  const std::vector<Entry>& entries = traced.entries(7);
  EXPECT_EQ(entries[0].model, "m");
  EXPECT_EQ(entries[0].fixed.status, NOPSPAN_STATUS_ERROR);
  EXPECT_EQ(entries[0].error_type, "503");
  EXPECT_THAT(entries[0].extras, ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(facts_of(entries[1]), facts_of(entries[0]));
  EXPECT_THAT(entries[1].attributes, HasSubstr("http.response.status_code"));
  EXPECT_EQ(facts_of(entries[2]), facts_of(entries[0]));
  EXPECT_EQ(entries[3].error_type, "_OTHER");
  EXPECT_EQ(facts_of(entries[4]), facts_of(entries[3]));
  EXPECT_EQ(facts_of(entries[5]), facts_of(entries[3]));
  EXPECT_THAT(entries[5].attributes, Not(HasSubstr("not a type")));
}

TEST(Batch, HasTheLabelsOfGaugesAndTheFlagOfCounters) {
  const nopspan::Stats before = nopspan::stats();
  const Traced traced([] {
    const Span span{"work"};
    nopspan::gauge("waiting", 2, [](auto& g) { g.engine("e").model("m").label("reason", "slots").maximum(8); });
    nopspan::counter("aborted", 17, [](auto& g) { g.engine("e"); });
    nopspan::counter("aborted", -1);
    nopspan::engine::stats([](auto& s) {
      s.engine("e").set("replica", 3).running(4).waiting("adapter", 5).kv_cache_used("host", 6);
      s.kv_cache_total("host", 7).counter("steps{kind=mixed}", 8).gauge("paused", 9);
    });
  });
  const std::vector<Entry>& entries = traced.entries(9);
  EXPECT_EQ(nopspan::stats().values_clamped, before.values_clamped + 1);
  const auto is = [&](std::size_t i, const char* name, std::uint64_t value, std::uint64_t maximum, bool is_counter) {
    EXPECT_EQ(entries[i].fixed.kind, NOPSPAN_ENTRY_GAUGE);
    EXPECT_EQ(entries[i].name, name);
    EXPECT_EQ(entries[i].engine, "e");
    EXPECT_THAT(entries[i].extras, ElementsAre(value, maximum));
    EXPECT_EQ((entries[i].form.flags & NOPSPAN_FLAG_COUNTER) != 0, is_counter);
  };
  is(0, "waiting", 2, 8, false);
  EXPECT_EQ(entries[0].model, "m");
  EXPECT_THAT(entries[0].attributes, AllOf(HasSubstr("reason"), HasSubstr("slots"), Not(HasSubstr("maximum"))));
  is(1, "aborted", 17, 0, true);
  EXPECT_EQ(entries[1].attributes, "");
  is(2, "running", 4, 0, false);
  EXPECT_THAT(entries[2].attributes, AllOf(HasSubstr("replica"), Not(HasSubstr("running"))));
  is(3, "waiting", 5, 0, false);
  EXPECT_THAT(entries[3].attributes, AllOf(HasSubstr("reason"), HasSubstr("adapter"), HasSubstr("replica")));
  is(4, "kv_cache_used", 6, 7, false);
  EXPECT_THAT(entries[4].attributes, AllOf(HasSubstr("tier"), HasSubstr("host")));
  is(5, "kv_cache_total", 7, 0, false);
  is(6, "steps", 8, 0, true);
  EXPECT_THAT(entries[6].attributes, AllOf(HasSubstr("kind"), HasSubstr("mixed")));
  is(7, "paused", 9, 0, false);
}

TEST(Batch, HasTheLabelInTheNameOfAGaugeAndNoMaximumThatIsNegative) {
  const Counted clamped(&nopspan::Stats::values_clamped);
  const Traced traced([] {
    const Span span{"work"};
    nopspan::gauge("waiting{reason=slots}", 2);
    nopspan::counter("aborted{why=client}", 17);
    nopspan::gauge("busy", 3, [](auto& g) { g.maximum(-1); });
  });
  const std::vector<Entry>& entries = traced.entries(4);
  EXPECT_THAT(entries[2].extras, ElementsAre(3U, 0U));
  EXPECT_EQ(clamped.times(), 1U);
  EXPECT_EQ(entries[0].name, "waiting");
  EXPECT_THAT(entries[0].attributes, AllOf(HasSubstr("reason"), HasSubstr("slots")));
  EXPECT_EQ(entries[1].name, "aborted");
  EXPECT_THAT(entries[1].attributes, AllOf(HasSubstr("why"), HasSubstr("client")));
}

TEST(Batch, HasTheReasonOfAnEventAsItsAttributeAlone) {
  const Traced traced([] { engine::preempted([](auto& event) { event.reason("no_blocks"); }); });
  EXPECT_THAT(traced.only().attributes, HasSubstr("no_blocks"));
  EXPECT_EQ(traced.only().error_type, "");  // it is no error
}

TEST(Batch, HasTheIdsOfTheSpanOfAnEvent) {
  const Traced traced([] {
    const Span outer{"outer"};
    AsyncSpan async{"async", Context::current()};
    const Span inner{"inner"};
    outer.event("of.outer");
    async.event("of.async", [](Fields& f) { f.set("key", "k"); });
    async.end();
  });
  ASSERT_THAT(traced.names(), ElementsAre("of.outer", "of.async", "async", "inner", "outer"));
  const std::vector<Entry>& entries = traced.batches[0].entries;
  EXPECT_EQ(entries[0].fixed.kind, NOPSPAN_ENTRY_EVENT);
  EXPECT_EQ(entries[0].fixed.span_id, entries[4].fixed.span_id);
  EXPECT_EQ(entries[0].text, "outer");
  EXPECT_EQ(entries[1].fixed.span_id, entries[2].fixed.span_id);
  EXPECT_THAT(entries[1].attributes, HasSubstr("key"));
}

TEST(Batch, ListsTheHeadersOfAllThreadsFromTheGatesPage) {
  const nopspan_thread* const own = nopspan::detail::thread_state()->batch.header;
  const std::uint64_t before = nopspan_gate.memory_bytes;  // this thread may hold a step of another test
  const Traced traced([] { const Span span{"work"}; });
  bool found = false;
  for (std::uintptr_t at = nopspan_gate.threads; at != 0;) {
    const auto* header = reinterpret_cast<const nopspan_thread*>(at);
    EXPECT_EQ(header->magic, NOPSPAN_THREAD_MAGIC);
    if (header != own) {
      EXPECT_EQ(header->mark, 0U);  // that thread has ended
    }
    found = found || header->sequence_id == traced.batches.at(0).header.sequence_id;
    at = header->next_thread;
  }
  EXPECT_TRUE(found);
  EXPECT_EQ(nopspan_gate.memory_bytes, before);
}

struct Late {
  ~Late() { const Span span{"late"}; }
};

TEST(Batch, IsHandedOverAtOnceByWhatRunsAfterTheThreadsEnd) {
  const Traced traced([] {
    static thread_local std::optional<Late> late;
    late.emplace();  // destroyed after the thread's span state, because that is created later
    { const Span span{"work"}; }
  });
  EXPECT_THAT(traced.names(), ElementsAre("work", "late"));
}

// The destructor of a pthread key runs after the destructors of all thread_local variables.
TEST(Batch, IsHandedOverByADestructorOfAKeyAndLeavesNoMemoryBehind) {
  const std::uint64_t before = nopspan_gate.memory_bytes;
  pthread_key_t key;
  const auto late = [](void*) {
    // So late in a thread's life, glibc never frees the 48 bytes or so that __cxa_thread_atexit() allocates.
    const NoLeakCheck until_the_end;
    const Span span{"late"};
  };
  ASSERT_EQ(pthread_key_create(&key, late), 0);
  const Traced first([&] { pthread_setspecific(key, &key); });
  const Traced second([&] {
    pthread_setspecific(key, &key);
    const Span span{"work"};
  });
  EXPECT_THAT(first.names(), ElementsAre("late"));
  EXPECT_THAT(second.names(), ElementsAre("work", "late"));
  EXPECT_EQ(nopspan_gate.memory_bytes, before);
  pthread_key_delete(key);
}

#if defined(__x86_64__)
struct IdleTap final : nopspan::detail::BatchTap {
  bool take(const nopspan_thread&, const unsigned char*) noexcept override { return true; }
  void note_refused_at_end(const nopspan_thread&, std::uint64_t) noexcept override {}
};

// A signal handler may fork at any instruction of a flush, and its child may have a tap of its own.
TEST(BatchTap, IsNotInUseInAChildThatAFlushHasForked) {
  if (kThreadSanitizer || kAddressSanitizer) GTEST_SKIP() << "its own code would be interrupted too";
  using nopspan::detail::attach_batch_tap, nopspan::detail::detach_batch_tap;
  static pid_t child;
  IdleTap tap;
  nopspan_thread header{};
  nopspan::detail::BatchBuffer batch{};
  batch.header = &header;
  const auto flush = [&] { nopspan::detail::tell_refused_at_end(batch); };
  ASSERT_TRUE(attach_batch_tap(&tap, false));
  bool is_interrupted = true;
  for (unsigned long at = 1; is_interrupted; ++at) {
    child = -1;
    is_interrupted = run_interrupted(
        at, [] { child = fork(); }, flush);
    if (child == 0) _exit(attach_batch_tap(&tap, false) && detach_batch_tap(&tap, 1) ? 0 : 1);
    if (child > 0) {
      EXPECT_EQ(wait_for(child), "") << "in the child of instruction " << at;
    }
  }
  EXPECT_TRUE(detach_batch_tap(&tap, 1));
}
#endif

}  // namespace
