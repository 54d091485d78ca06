// SPDX-License-Identifier: Apache-2.0
// W3C Trace Context: traceparent (https://www.w3.org/TR/trace-context/, "Traceparent Header", "Versioning of
// traceparent").
#include "recorded.h"

#include <nopspan/context.h>
#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <string>

namespace {

const std::string kTraceId = "0af7651916cd43dd8448eb211c80319c";
const std::string kParentId = "b7ad6b7169203331";
const std::string kHeader = "00-" + kTraceId + "-" + kParentId + "-01";
constexpr std::uint64_t kParent = 0xb7ad6b7169203331;

TEST(Traceparent, NamesTraceParentAndSampling) {
  const Context context = Context::from_traceparent(kHeader);
  EXPECT_EQ(context.trace_id(), kTraceId);
  EXPECT_EQ(context.span_id(), kParent);
  EXPECT_TRUE(context.sampled());
  EXPECT_EQ(context.root_id(), 0U);
  EXPECT_EQ(context.request_id().size(), 22U);
  EXPECT_FALSE(Context::from_traceparent("00-" + kTraceId + "-" + kParentId + "-00").sampled());
}

TEST(Traceparent, GoesOutAsItCameInWithTheGateDown) {
  for (const char* flags : {"00", "01", "02", "03", "09", "ff"}) {
    const std::string header = "00-" + kTraceId + "-" + kParentId + "-" + flags;
    const ContextScope here{Context::from_traceparent(header)};
    const Span untraced{"work"};
    EXPECT_EQ(Context::current().traceparent(), header);
    EXPECT_EQ(untraced.context().traceparent(), header);
  }
}

TEST(Traceparent, IsTheParentOfSpans) {
  const SpanRecorder recorder("work");
  {
    const ContextScope here{Context::from_traceparent(kHeader)};
    const Span span{"work"};
    EXPECT_EQ(span.context().trace_id(), kTraceId);
    const std::string out = span.context().traceparent();
    EXPECT_EQ(out.substr(0, 36), "00-" + kTraceId + "-");
    EXPECT_EQ(out.substr(52), "-01");
    EXPECT_EQ(std::stoull(out.substr(36, 16), nullptr, 16), id_of(span));
    EXPECT_NE(id_of(span), kParent);
  }
  EXPECT_EQ(recorder.start()->parent_id(), kParent);
  EXPECT_NE(recorder.start()->flags() & NOPSPAN_FLAG_REMOTE_PARENT, 0U);
  EXPECT_NE(recorder.start()->flags() & NOPSPAN_FLAG_SAMPLED, 0U);
  EXPECT_FALSE(recorder.start()->is_orphan());
  EXPECT_EQ(recorder.start()->context().root_id(), recorder.start()->span_id());
}

TEST(Traceparent, OfASpanInsideIsNotRemote) {
  const Recorder recorder{"inner.start"};
  {
    const ContextScope here{Context::from_traceparent(kHeader)};
    const Span outer{"outer"};
    const Span inner{"inner"};
  }
  EXPECT_EQ(recorder.events().at(0)->flags() & NOPSPAN_FLAG_REMOTE_PARENT, 0U);
}

TEST(Traceparent, OfASpanKeepsOnlyTheFlagsThatAreDefined) {
  const SpanRecorder recorder("work");
  const ContextScope here{Context::from_traceparent("00-" + kTraceId + "-" + kParentId + "-ff")};
  const Span span{"work"};
  EXPECT_EQ(std::string(span.context().traceparent()).substr(53), "03");  // sampled and random
}

TEST(Traceparent, OfARequestWithoutASpanHasAParentThatIsNotZeroAndStaysTheSame) {
  const Context context = Context::make();
  const std::string header = context.traceparent();
  EXPECT_EQ(header, std::string(context.traceparent()));
  EXPECT_EQ(header.size(), 55U);
  const Context back = Context::from_traceparent(header);
  EXPECT_EQ(back.trace_id(), context.trace_id());
  EXPECT_NE(back.span_id(), 0U);
  EXPECT_TRUE(back.sampled());
  // The half of the trace id that becomes the parent id may itself be zero.
  EXPECT_FALSE(
      Context::from_traceparent(Context::with_request_id("0af7651916cd43dd0000000000000000").traceparent()).empty());
}

TEST(Traceparent, OfALaterVersionIsReadAsFarAsItIsKnown) {
  const std::string known = kTraceId + "-" + kParentId + "-01";
  for (const std::string& header : {"01-" + known, "01-" + known + "-", "cc-" + known + "-what-the-future-will-be-like",
                                    "fe-" + known + "-" + std::string(500, 'x')}) {
    const Context context = Context::from_traceparent(header);
    EXPECT_EQ(context.trace_id(), kTraceId) << header;
    EXPECT_EQ(context.span_id(), kParent) << header;
    EXPECT_TRUE(context.sampled()) << header;
    // "Vendors MUST use these fields to construct the new traceparent according to the highest version known."
    EXPECT_EQ(context.traceparent(), kHeader) << header;
  }
  // In later versions, only this flag bit is known.
  EXPECT_EQ(Context::from_traceparent("01-" + kTraceId + "-" + kParentId + "-ff").traceparent(), kHeader);
}

TEST(Traceparent, ThatIsMalformedIsIgnoredAndCounted) {
  const std::string zeros(32, '0');
  const std::vector<std::string> malformed{
      "00",
      "garbage",
      "ff-" + kTraceId + "-" + kParentId + "-01",                   // forbidden version
      "00-" + kTraceId + "-" + kParentId + "-01-what-comes-after",  // version 00 is exactly this long
      "00-" + kTraceId + "-" + kParentId + "-01.",
      "00-" + kTraceId + "-" + kParentId + "-01-",
      "01-" + kTraceId + "-" + kParentId + "-01.what",  // a later version continues with a dash
      "cc-" + kTraceId + "-" + kParentId + "-0",        // shorter than 55
      "00-" + kTraceId + "-" + kParentId + "-1",
      "00-" + kTraceId + "-" + kParentId,
      "00-" + kTraceId + "-" + kParentId + "-0x",
      "00-" + kTraceId + "-" + kParentId + "-.0",
      "00-" + kTraceId + "-" + kParentId + "-0A",  // upper case
      "0A-" + kTraceId + "-" + kParentId + "-01",
      "00-0AF7651916CD43DD8448EB211C80319C-" + kParentId + "-01",
      "00-" + kTraceId + "-B7AD6B7169203331-01",
      "00-" + zeros + "-" + kParentId + "-01",  // all zero
      "00-" + kTraceId + "-0000000000000000-01",
      "00-.af7651916cd43dd8448eb211c80319c-" + kParentId + "-01",  // not a hexadecimal digit
      "00-" + kTraceId + "-b7ad6b716920333g-01",
      ".0-" + kTraceId + "-" + kParentId + "-01",
      "00_" + kTraceId + "-" + kParentId + "-01",  // the dashes
      "00-" + kTraceId + "_" + kParentId + "-01",
      "00-" + kTraceId + "-" + kParentId + "_01",
      "000-" + kTraceId + "-" + kParentId + "-01",  // lengths
      "00-" + kTraceId + "0-" + kParentId + "-01",
      "00-" + kTraceId.substr(1) + "-0" + kParentId + "-01",
      " " + kHeader,
      kHeader + " ",
      kHeader + std::string(1, '\0'),
  };
  const Counted invalid(&nopspan::Stats::invalid_ids);
  for (const std::string& header : malformed) {
    EXPECT_TRUE(Context::from_traceparent(header, "a=1").empty()) << header;
  }
  EXPECT_EQ(invalid.times(), malformed.size());
}

TEST(Traceparent, ThatIsNotThereIsNoMistake) {
  const Counted invalid(&nopspan::Stats::invalid_ids);
  EXPECT_TRUE(Context::from_traceparent("", "a=1").empty());
  EXPECT_TRUE(Context::from_traceparent(nullptr).empty());
  EXPECT_EQ(invalid.times(), 0U);
}

TEST(Traceparent, ThatIsMalformedTakesItsTracestateWithIt) {
  const Context context = Context::from_traceparent("nonsense", "congo=t61rcWkgMzE");
  EXPECT_TRUE(context.tracestate().empty());
  EXPECT_TRUE(context.traceparent().empty());
}

}  // namespace
