// SPDX-License-Identifier: Apache-2.0
// What tracers can read of a span while it is open: struct nopspan_open in nopspan/probes.h.
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/detail/gate.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <nopspan/probes.h>

#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace {

class OpenSpan : public ::testing::Test {
 protected:
  OpenSpan() { nopspan::keep_open_spans(true); }
  ~OpenSpan() override { nopspan::keep_open_spans(false); }

  // Calls `each(const nopspan_open&)` for all open spans.
  template <class Each>
  static void for_each_open(const Each& each) {
    const auto* const page = reinterpret_cast<const nopspan_gate_page*>(nopspan_gate_ptr);
    const auto* slab = reinterpret_cast<const nopspan_slab*>(page->open_slabs);
    for (unsigned i = 0; i < page->open_slabs_count && slab->spans != 0; ++i, ++slab) {
      for (unsigned bit = 0; bit < 64; ++bit) {
        const auto* span = reinterpret_cast<const nopspan_open*>(slab->spans + std::size_t{bit} * page->open_bytes);
        if ((slab->free >> bit & 1U) == 0 && span->state == NOPSPAN_OPEN) each(*span);
      }
    }
  }

  static const nopspan_open* find(std::uint64_t span_id) {
    const nopspan_open* found = nullptr;
    for_each_open([&](const nopspan_open& span) {
      if (span.span_id == span_id) found = &span;
    });
    return found;
  }
};

TEST_F(OpenSpan, IsNotOpenOnceAnotherThreadHasEndedIt) {
  std::optional<Span> span(std::in_place, "work");
  const std::uint64_t id = span->context().span_id();
  EXPECT_NE(find(id), nullptr);
  std::thread([&] { span.reset(); }).join();
  EXPECT_EQ(find(id), nullptr);
}

TEST_F(OpenSpan, HasAnotherGenerationOnceItHasAnotherRequestId) {
  unsigned before = 0;
  const Span span{nopspan::agent::llm, [&](auto& m) {
                    const nopspan_open* const open = find(Context::current().span_id());
                    ASSERT_NE(open, nullptr);
                    before = open->generation;
                    m.trace_id("order-7");
                  }};
  const nopspan_open* const open = find(span.context().span_id());
  ASSERT_NE(open, nullptr);
  EXPECT_STREQ(open->foreign_id, "order-7");
  EXPECT_NE(open->generation, before);
}

TEST_F(OpenSpan, HasNoTimeOfItsFirstTokenBeforeThatCame) {
  for (int use = 0; use < 2; ++use) {  // the second span is in the memory of the first
    AsyncSpan span{"work", Context::make(), nopspan::SpanOptions{nopspan::SpanKind::internal, 1000}};
    const nopspan_open* const open = find(span.context().span_id());
    ASSERT_NE(open, nullptr);
    EXPECT_EQ(open->first_token_ns, 0U);
    span.first_token();
    EXPECT_NE(open->first_token_ns, 0U);
  }
}

TEST_F(OpenSpan, HasAnotherGenerationInMemoryThatWasReturnedToTheKernel) {
  std::map<const nopspan_open*, unsigned> generations[2];
  for (auto& generation : generations) {
    std::vector<AsyncSpan> spans;  // more than the library keeps
    std::thread([&] {
      for (int i = 0; i < 6000; ++i) spans.emplace_back("work", Context());
    }).join();
    for_each_open([&](const nopspan_open& span) { generation[&span] = span.generation; });
    std::thread([&] { spans.clear(); }).join();
  }
  unsigned same = 0;
  for (const auto& [span, generation] : generations[0]) {
    const auto again = generations[1].find(span);
    if (again != generations[1].end() && again->second == generation) ++same;
  }
  EXPECT_EQ(same, 0U);
}

}  // namespace
