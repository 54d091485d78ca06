// SPDX-License-Identifier: Apache-2.0
// Labels other than engine, model and tenant. A process never forgets a label's key, so each test that sets one runs in
// a child.
#include "in_child.h"
#include "in_thread.h"
#include "raised_gate.h"
#include "recorded.h"

#include "state/labels.h"

#include <nopspan/context.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/llm.h>

#include <malloc.h>

#include <atomic>
#include <cstring>
#include <thread>

namespace {

std::vector<std::pair<std::string, std::string>> extra_labels(const Context& context) {
  std::vector<std::pair<std::string, std::string>> labels;
  nopspan::detail::for_each_extra_label(
      nopspan::detail::ContextAccess::head(context),
      [&](std::string_view key, std::string_view value) { labels.emplace_back(key, value); });
  return labels;
}

TEST(Labels, AreInheritedByTheSpansBelow) {
  expect_in_child([] {
    const RaisedGate tracer(RaisedGate::spans);
    const Span outer{"outer", [](Fields& f) { f.label("region", "eu").label("tier", "gold").tenant("a"); }};
    const Span inner{"inner", [](Fields& f) { f.label("tier", "silver"); }};
    const AsyncSpan async{"async", inner.context()};
    for (const Context& context : {inner.context(), async.context(), Context::current()}) {
      EXPECT_THAT(extra_labels(context), ElementsAre(Pair("region", "eu"), Pair("tier", "silver")));
      EXPECT_EQ(context.label("region"), "eu");
      EXPECT_EQ(context.label("tenant"), "a");
    }
    EXPECT_EQ(outer.context().label("tier"), "gold");
    EXPECT_THAT(extra_labels(Context::make()), IsEmpty());
  });
}

TEST(Labels, OfAContextAreReadByTheirKeys) {
  const RaisedGate tracer(RaisedGate::spans);
  const Span span{"work", [](Fields& f) { f.engine("vllm").model("m").label("tenant", "t"); }};
  EXPECT_EQ(span.context().label("engine"), "vllm");
  EXPECT_EQ(span.context().label("model"), "m");
  EXPECT_EQ(span.context().label("tenant"), "t");
  for (const nopspan::Text key : {nopspan::Text("unheard-of"), nopspan::Text(""), nopspan::Text(nullptr)}) {
    EXPECT_TRUE(span.context().label(key).empty());
  }
  EXPECT_TRUE(Context().label("engine").empty());
}

TEST(Labels, WithAKnownKeyAreTheKnownOnes) {
  const RaisedGate tracer(RaisedGate::spans);
  const SpanRecorder recorder("work");
  const Counted overflow(&nopspan::Stats::labels_overflow);
  {
    const Span span{"work", [](Fields& f) { f.label("engine", "e").label("model", "m").label("tenant", "t"); }};
    EXPECT_THAT(extra_labels(span.context()), IsEmpty());
  }
  EXPECT_EQ(overflow.times(), 0U);
  for (const auto& [key, value] : {std::pair("engine", "e"), std::pair("model", "m"), std::pair("tenant", "t")}) {
    EXPECT_THAT(recorder.start(), HasMetadata(key, value));
  }
}

TEST(Labels, AreMetadataOfTheirSpanAndOfTheSpansInside) {
  expect_in_child([] {
    const SpanRecorder outer_recorder("outer");
    const SpanRecorder inner_recorder("inner");
    {
      const Span outer{"outer", [](Fields& f) { f.label("region", "eu"); }};
      const Span inner{"inner"};
    }
    EXPECT_THAT(outer_recorder.start(), HasMetadata("region", "eu"));
    EXPECT_THAT(outer_recorder.stop(), HasMetadata("region", "eu"));
    EXPECT_THAT(inner_recorder.start(), HasMetadata("region", "eu"));
    EXPECT_THAT(inner_recorder.stop(), HasMetadata("region", "eu"));
    EXPECT_EQ(inner_recorder.stop()->context().label("region"), "eu");
  });
}

TEST(Labels, WithAFourthKeyAreMetadataThatIsNotInheritedAndCounted) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    const Counted overflow(&nopspan::Stats::labels_overflow);
    {
      const Span span{"work", [](Fields& f) {
                        f.label("a", "1").label("b", "2").label("a", "3").label("c", "4");
                        EXPECT_EQ(nopspan::stats().labels_overflow, 0U);
                        f.label("d", "5");
                      }};
      EXPECT_THAT(extra_labels(span.context()), ElementsAre(Pair("a", "3"), Pair("b", "2"), Pair("c", "4")));
      EXPECT_TRUE(span.context().label("d").empty());
    }
    EXPECT_EQ(overflow.times(), 1U);
    EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("d", "5"), HasMetadata("a", "3")));
  });
}

TEST(Labels, HaveCleanKeysAndValuesOfAtMost63Bytes) {
  expect_in_child([] {
    const RaisedGate tracer(RaisedGate::spans);
    const std::string long_text(100, 'x');
    const Span span{"work", [&](Fields& f) { f.label("a\nb", "c\xff").label(long_text, long_text); }};
    const std::string cut = std::string(60, 'x') + "…";
    EXPECT_THAT(extra_labels(span.context()), ElementsAre(Pair("a?b", "c?"), Pair(cut, cut)));
    EXPECT_EQ(span.context().label("a\nb"), "c?");
    EXPECT_EQ(span.context().label(long_text), cut);
  });
}

TEST(Labels, AreTakenAwayByANullValue) {
  const SpanRecorder recorder("work");
  const Span span{"work", [](Fields& f) { f.tenant("a").set("tenant", Value()); }};
  EXPECT_EQ(span.context().label("tenant"), "");
}

TEST(Labels, AreTakenAwayByNullAndEmptyText) {
  expect_in_child([] {
    const SpanRecorder recorder("inner");
    const Span outer{"outer", [](Fields& f) { f.label("a", "1").label("b", "2"); }};
    {
      const Span inner{"inner", [](Fields& f) { f.label("a", nullptr).label("b", ""); }};
      EXPECT_THAT(extra_labels(inner.context()), IsEmpty());
    }
    EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("a", nullptr), HasMetadata("b", "")));
  });
}

TEST(Labels, WithoutAKeyAreLeftOutAndCounted) {
  const RaisedGate tracer(RaisedGate::spans);
  const Counted left_out(&nopspan::Stats::fields_dropped);
  const Span span{"work", [](Fields& f) { f.label("", "value").label(nullptr, "value"); }};
  EXPECT_EQ(left_out.times(), 2U);
  EXPECT_THAT(extra_labels(span.context()), IsEmpty());
}

TEST(Labels, OfManyValuesBecomeOther) {
  expect_in_child([] {
    const RaisedGate tracer(RaisedGate::spans);
    const Counted overflow(&nopspan::Stats::labels_overflow);
    const Span first{"work", [](Fields& f) { f.label("user", "first"); }};
    for (int i = 0; i < 5000; ++i) {
      const Span span{"work", [&](Fields& f) { f.label("user", "user-" + std::to_string(i)); }};
    }
    const Span last{"work", [](Fields& f) { f.label("user", "last").label("late", "value"); }};
    EXPECT_EQ(last.context().label("user"), "other");
    EXPECT_EQ(first.context().label("user"), "first");
    EXPECT_TRUE(last.context().label("late").empty());  // a key needs a place too
    EXPECT_GE(overflow.times(), 5000U - nopspan::detail::kMaxLabels);
  });
}

TEST(Labels, OfManyTenantsLeaveRoomForModelsAndEngines) {
  expect_in_child([] {
    const RaisedGate tracer(RaisedGate::spans);
    for (int i = 0; i < 5000; ++i) {
      const Span span{"work", [&](Fields& f) { f.tenant("tenant-" + std::to_string(i)); }};
    }
    const Counted overflow(&nopspan::Stats::labels_overflow);
    const Span span{"work", [](Fields& f) { f.model("a-model").engine("an-engine").tenant("a-tenant"); }};
    EXPECT_EQ(span.context().label("model"), "a-model");
    EXPECT_EQ(span.context().label("engine"), "an-engine");
    EXPECT_EQ(span.context().label("tenant"), "other");
    EXPECT_EQ(overflow.times(), 1U);
  });
}

TEST(Labels, TakeNoMemoryFromTheAllocator) {
  expect_in_child([] {
    const auto intern = [](const std::string& text) {
      return nopspan::detail::intern_label(text, nopspan::detail::LabelOf::other);
    };
    intern("first");
    const std::size_t before = mallinfo2().uordblks;
    for (int i = 0; i < 3000; ++i) intern(std::to_string(i));
    EXPECT_EQ(mallinfo2().uordblks, before);
    EXPECT_EQ(nopspan::detail::label(intern("2999")).view(), "2999");
  });
}

TEST(Labels, AreWholeWhereverTheyAreReadByTheirNumber) {
  using namespace nopspan::detail;
  expect_in_child([] {
    std::atomic<bool> done{false};
    std::thread reader([&] {
      while (!done) {
        for (const nopspan_label& entry : label_table) {
          const unsigned size = __atomic_load_n(&entry.size, __ATOMIC_ACQUIRE);
          if (size == 0) continue;
          ASSERT_EQ(size, std::strlen(entry.text));
          ASSERT_EQ(entry.number, &entry - label_table);
        }
      }
    });
    in_threads(4, [](int) {
      for (int i = 0; i < 3000; ++i) {
        const std::string text = std::string(static_cast<std::size_t>(i) % 50, 'x') + std::to_string(i);
        ASSERT_EQ(label(intern_label(text, LabelOf::model)).view(), text);
      }
    });
    done = true;
    reader.join();
  });
}

TEST(Labels, OfAnEventAreItsOwn) {
  expect_in_child([] {
    const Recorder recorder{"a.b"};
    const Span span{"work"};
    nopspan::execute("a.b", [](Fields& f) { f.label("region", "eu"); });
    ASSERT_EQ(recorder.size(), 1U);
    EXPECT_EQ(recorder.events()[0]->context().label("region"), "eu");
    EXPECT_TRUE(span.context().label("region").empty());
  });
}

TEST(Labels, AreSetInAChainOfACataloguesBuilder) {
  expect_in_child([] {
    const RaisedGate tracer(RaisedGate::spans);
    const Span chat{nopspan::llm::chat, [](auto& m) { m.label("region", "eu").chat_result(1).model("m"); }};
    EXPECT_EQ(chat.context().label("region"), "eu");
    const Span request{nopspan::engine::request,
                       [](auto& m) { m.label("region", "us").output_tokens(1).label("tier", "gold"); }};
    EXPECT_THAT(extra_labels(request.context()), ElementsAre(Pair("region", "us"), Pair("tier", "gold")));
  });
}

TEST(Labels, HaveThreeKeysHoweverManyThreadsAskForThem) {
  expect_in_child([] {
    const RaisedGate tracer(RaisedGate::spans);
    std::atomic<int> inherited{0};
    in_threads(8, [&inherited](int t) {
      for (int i = 0; i < 8; ++i) {
        const std::string key = "key-" + std::to_string((i + t) % 8);
        const Span span{"work", [&](Fields& f) { f.label(key, key); }};
        if (span.context().label(key) == key) ++inherited;
      }
    });
    EXPECT_EQ(inherited, 3 * 8);
  });
}

TEST(Labels, OfNumbersAreTheirDigits) {
  const SpanRecorder recorder("work");
  const nopspan::Span outer{"outer", [](nopspan::Fields& f) { f.tenant("acme"); }};
  const nopspan::Span span{"work", [](nopspan::Fields& f) { f.set("tenant", 7).set("model", -1L).set("engine", 2U); }};
  EXPECT_EQ(span.context().label("tenant"), "7");
  EXPECT_EQ(span.context().label("model"), "-1");
  EXPECT_EQ(span.context().label("engine"), "2");
}

TEST(Labels, OfOtherTypesAreNoneAndCounted) {
  const SpanRecorder recorder("work");
  const nopspan::Span outer{"outer", [](nopspan::Fields& f) { f.tenant("acme").engine("e").model("m"); }};
  const Counted clamped(&nopspan::Stats::values_clamped);
  const nopspan::Span span{"work", [](nopspan::Fields& f) {
                             f.set("tenant", true).set("engine", 0.5).set("model", nopspan::Value::list({"m"}));
                           }};
  for (const char* key : {"tenant", "engine", "model"}) EXPECT_EQ(span.context().label(key), "") << key;
  EXPECT_EQ(clamped.times(), 3U);
}

TEST(Labels, OfOtherTypesAreNoneAlsoIfNobodyGetsTheFields) {
  const SpanRecorder recorder("outer");
  const nopspan::Span outer{"outer", [](nopspan::Fields& f) { f.tenant("acme").engine("e"); }};
  nopspan::Span inner{"inner"};
  inner.set("tenant", true).set("engine", 0.5);
  EXPECT_EQ(inner.context().label("tenant"), "");
  EXPECT_EQ(inner.context().label("engine"), "");
}

TEST(Labels, ThatNopspanKnowsAreTakenAwayByNullToo) {
  const SpanRecorder recorder("inner");
  const nopspan::Span outer{"outer", [](nopspan::Fields& f) { f.tenant("acme").engine("e").model("m"); }};
  const nopspan::Span inner{
      "inner", [](nopspan::Fields& f) { f.label("tenant", nullptr).set("engine", nullptr).label("model", ""); }};
  for (const char* key : {"tenant", "engine", "model"}) EXPECT_EQ(inner.context().label(key), "") << key;
}

}  // namespace
