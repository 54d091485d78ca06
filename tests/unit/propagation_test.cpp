// SPDX-License-Identifier: Apache-2.0
// Contexts in the headers of messages: inject() and extract(), W3C Baggage, and the labels that travel in it.
#include "in_child.h"
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/propagation.h>

#include <map>
#include <optional>
#include <unordered_map>

namespace {

using nopspan::extract;
using nopspan::inject;
using nopspan::Text;
using Headers = std::map<std::string, std::string>;
using Lines = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kCallersTraceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

Context with_baggage(const std::string& baggage) { return extract(Headers{{"baggage", baggage}}); }
std::string baggage_of(const Context& context) {
  Headers headers;
  inject(context, headers);
  return headers["baggage"];
}
// What a process that changes nothing sends on.
std::string forwarded(const std::string& baggage) { return baggage_of(with_baggage(baggage)); }

TEST(Inject, WritesTheHeadersThatExtractReads) {
  const Headers headers{
      {"baggage", "tenant=acme,key=value"}, {"traceparent", kCallersTraceparent}, {"tracestate", "congo=1"}};
  const Context context = extract(headers);
  EXPECT_EQ(context.traceparent(), kCallersTraceparent);
  EXPECT_EQ(context.tracestate(), "congo=1");
  EXPECT_EQ(context.label("tenant"), "acme");
  Headers sent;
  inject(context, sent);
  EXPECT_EQ(sent, headers);
}

TEST(Inject, TakesTheCurrentContextIfNoneIsGiven) {
  const ContextScope here{extract(Headers{{"traceparent", kCallersTraceparent}})};
  Headers sent;
  inject(sent);
  EXPECT_THAT(sent, ElementsAre(Pair("traceparent", kCallersTraceparent)));
}

TEST(Inject, TakesTheContextOfASpan) {
  const SpanRecorder recorder("work");
  const Span span{"work"};
  const AsyncSpan child{"work", span};
  Headers of_span;
  Headers of_child;
  inject(span, of_span);
  inject(child, of_child);
  EXPECT_EQ(of_span["traceparent"], std::string(span.context().traceparent()));
  EXPECT_EQ(of_child["traceparent"], std::string(child.context().traceparent()));
}

TEST(Inject, ReplacesTheHeadersOfAnotherContext) {
  std::multimap<std::string, std::string> sent{{"Traceparent", "old"},
                                               {"traceparent", "old"},
                                               {"TraceState", "old=1"},
                                               {"Baggage", "tenant=acme"},
                                               {"Accept", "*"}};
  inject(extract(Headers{{"traceparent", kCallersTraceparent}}), sent);
  EXPECT_THAT(sent, ElementsAre(Pair("Accept", "*"), Pair("traceparent", kCallersTraceparent)));
}

TEST(Inject, RemovesTheTraceOfAnotherContext) {
  Headers sent{{"traceparent", kCallersTraceparent}, {"tracestate", "a=1"}, {"baggage", "tenant=acme"}};
  inject(with_baggage("key=value").with_label("tenant", "globex"), sent);
  EXPECT_EQ(sent["baggage"], "tenant=globex,key=value");
  inject(extract(Headers{{"baggage", "key=value"}}), sent);
  EXPECT_THAT(sent, ElementsAre(Pair("baggage", "key=value")));
}

// erase() returns nothing, as that of some hash maps.
struct ErasingHeaders : std::multimap<std::string, std::string> {
  void erase(const const_iterator& at) { std::multimap<std::string, std::string>::erase(at); }
};

TEST(Inject, TakesAContainerWhoseEraseReturnsNothing) {
  ErasingHeaders sent;
  sent.insert({{"traceparent", "1"}, {"traceparent", "2"}});
  inject(extract(Headers{{"traceparent", kCallersTraceparent}}), sent);
  EXPECT_THAT(sent, ElementsAre(Pair("traceparent", kCallersTraceparent)));
}

TEST(Inject, LeavesTheHeadersAloneForAnEmptyContext) {
  Headers sent{{"baggage", "tenant=acme"}, {"traceparent", kCallersTraceparent}};
  const Headers before = sent;
  inject(Context(), sent);
  EXPECT_EQ(sent, before);
  Headers none;
  inject(Context(), none);
  EXPECT_THAT(none, IsEmpty());
}

template <class C>
class Carrier : public ::testing::Test {};
using Carriers = ::testing::Types<Headers, std::unordered_map<std::string, std::string>,
                                  std::multimap<std::string, std::string>, Lines>;
TYPED_TEST_SUITE(Carrier, Carriers);

TYPED_TEST(Carrier, TakesTheHeadersThereAndBack) {
  TypeParam headers;
  inject(extract(Lines{{"traceparent", kCallersTraceparent}, {"baggage", "tenant=acme"}}), headers);
  EXPECT_EQ(headers.size(), 2U);
  const Context context = extract(headers);
  EXPECT_EQ(context.traceparent(), kCallersTraceparent);
  EXPECT_EQ(context.label("tenant"), "acme");
}

TEST(Inject, TakesCallables) {
  const Headers headers{{"traceparent", kCallersTraceparent}, {"tracestate", "a=1"}, {"baggage", "key=value"}};
  const Context context = extract(headers);
  Lines by_text;
  Headers by_view, by_any;
  inject(context, [&](Text key, Text value) { by_text.emplace_back(key.view(), value.view()); });
  inject(context, [&](std::string_view key, std::string_view value) { by_view[std::string(key)] = value; });
  inject(context, [&](auto key, auto value) { by_any.emplace(key.view(), value.view()); });
  EXPECT_THAT(by_text, ElementsAre(Pair("traceparent", kCallersTraceparent), Pair("tracestate", "a=1"),
                                   Pair("baggage", "key=value")));
  EXPECT_EQ(by_view, headers);
  EXPECT_EQ(by_any, headers);
}

TEST(Extract, TakesACallableThatChanges) {
  const Context context =
      extract([calls = 0](std::string_view) mutable { return ++calls == 1 ? kCallersTraceparent : ""; });
  EXPECT_EQ(context.traceparent(), kCallersTraceparent);
}

TEST(Extract, TakesCallablesThatReturnTexts) {
  const Headers headers{{"traceparent", kCallersTraceparent}, {"baggage", "tenant=acme"}};
  const auto find = [&](std::string_view key) { return headers.find(std::string(key)); };
  const auto check = [](const Context& context) {
    EXPECT_EQ(context.traceparent(), kCallersTraceparent);
    EXPECT_EQ(context.label("tenant"), "acme");
  };
  check(extract([&](Text key) {
    const auto found = find(key.view());
    return found == headers.end() ? std::string() : found->second;
  }));
  check(extract([&](const std::string& key) {
    const auto found = find(key);
    return found == headers.end() ? nullptr : found->second.c_str();
  }));
  check(extract([&](std::string_view key) -> std::optional<std::string> {
    const auto found = find(key);
    if (found == headers.end()) return std::nullopt;
    return found->second;
  }));
}

// A container whose iterator makes pairs of references, as that of std::flat_map does.
struct FlatHeaders {
  using Pair = std::pair<const std::string&, const std::string&>;
  struct At {
    Pair now;
    const FlatHeaders* end;
    Pair operator*() const { return now; }
    const Pair* operator->() const { return &now; }
    At& operator++() {
      end = nullptr;
      return *this;
    }
    bool operator!=(const At& other) const { return end != other.end; }
  };
  std::string key, value;
  [[nodiscard]] At begin() const { return {{key, value}, this}; }
  [[nodiscard]] At end() const { return {{key, value}, nullptr}; }
};

TEST(Extract, TakesPairsOfReferences) {
  EXPECT_EQ(extract(FlatHeaders{"traceparent", kCallersTraceparent}).traceparent(), kCallersTraceparent);
}

TEST(Extract, ComparesKeysWithoutCase) {
  const Context context = extract(Lines{{"TraceParent", kCallersTraceparent}, {"BAGGAGE", "tenant=acme"}});
  EXPECT_EQ(context.traceparent(), kCallersTraceparent);
  EXPECT_EQ(context.label("tenant"), "acme");
}

TEST(Extract, JoinsTheLinesOfAHeader) {
  const Context context = extract(Lines{{"traceparent", kCallersTraceparent},
                                        {"tracestate", "a=1"},
                                        {"baggage", "k=1"},
                                        {"tracestate", "b=2"},
                                        {"baggage", "l=2"}});
  EXPECT_EQ(context.tracestate(), "a=1,b=2");
  EXPECT_EQ(baggage_of(context), "k=1,l=2");
}

TEST(Extract, DropsATraceparentThatComesTwice) {
  const Counted invalid(&nopspan::Stats::invalid_ids);
  EXPECT_TRUE(extract(Lines{{"traceparent", kCallersTraceparent}, {"Traceparent", kCallersTraceparent}}).empty());
  EXPECT_EQ(invalid.times(), 1U);
}

TEST(Extract, CountsLinesOverTheLimit) {
  const Counted dropped(&nopspan::Stats::baggage_dropped);
  Lines lines;
  for (int i = 0; i < 17; ++i) lines.emplace_back("baggage", "k" + std::to_string(i) + "=1");
  EXPECT_THAT(baggage_of(extract(lines)), Not(HasSubstr("k16")));
  EXPECT_EQ(dropped.times(), 1U);
}

TEST(Extract, KeepsBaggageWithoutATraceparent) {
  const Context context = with_baggage("tenant=acme,key=value");
  EXPECT_TRUE(context.empty());
  EXPECT_EQ(baggage_of(context), "tenant=acme,key=value");
  const SpanRecorder recorder("work");
  nopspan::span("work", context, [](Span& span) {
    EXPECT_EQ(span.context().label("tenant"), "acme");
    EXPECT_EQ(baggage_of(span.context()), "tenant=acme,key=value");
  });
  EXPECT_EQ(recorder.start()->parent_id(), 0U);
  EXPECT_NE(recorder.start()->request_id(), "");
}

TEST(Environment, HasTheNamesOfOpenTelemetry) {
  const Headers headers{{"BAGGAGE", "tenant=acme"}, {"TRACEPARENT", kCallersTraceparent}, {"TRACESTATE", "congo=1"}};
  const Context context = extract(headers);
  Headers made{{"PATH", "/bin"}, {"TRACESTATE", "old=1"}};
  nopspan::inject_environment(context, made);
  EXPECT_EQ(made.extract("PATH").mapped(), "/bin");
  EXPECT_EQ(made, headers);
}

// In a child, because the environment belongs to all tests.
TEST(Environment, IsReadByTheProcessThatGotIt) {
  expect_in_child([] {
    const auto set = [](std::string_view name, std::string_view value) {
      value.empty() ? unsetenv(name.data()) : setenv(name.data(), std::string(value).c_str(), 1);
    };
    Headers headers{{"baggage", "tenant=acme"}, {"traceparent", kCallersTraceparent}, {"tracestate", "congo=1"}};
    for (int i = 0; i < 2; ++i) {
      nopspan::inject_environment(extract(headers), set);
      Headers received;
      inject(nopspan::extract_environment(), received);
      EXPECT_EQ(received, headers);
      headers = {{"traceparent", kCallersTraceparent}};
    }
  });
}

TEST(Baggage, IsForwardedThoughNobodyListens) {
  nopspan::span("work", with_baggage("tenant=acme,key=value"),
                [] { EXPECT_EQ(baggage_of(Context::current()), "tenant=acme,key=value"); });
}

TEST(Baggage, CarriesTheLabelsThatTravel) {
  expect_in_child([] {
    const Context context = Context::make()
                                .with_label("engine", "e")
                                .with_label("model", "m")
                                .with_label("tenant", "acme")
                                .with_label("route", "/a b,c;d\\é%\"")
                                .with_label("no token", "x");
    EXPECT_EQ(baggage_of(context), "tenant=acme,route=/a%20b%2Cc%3Bd%5C%C3%A9%25%22");
    const Context there = with_baggage(baggage_of(context));
    EXPECT_EQ(there.label("tenant"), "acme");
    EXPECT_EQ(there.label("route"), "/a b,c;d\\é%\"");
    EXPECT_EQ(there.label("model"), "");
  });
}

TEST(Baggage, MakesLabelsOfDeclaredKeysOnly) {
  expect_in_child([] {
    EXPECT_EQ(with_baggage("route=/a").label("route"), "");
    EXPECT_EQ(forwarded("route=/a"), "route=/a");
    EXPECT_TRUE(nopspan::declare_label("route"));
    EXPECT_EQ(with_baggage("route=/a").label("route"), "/a");
    EXPECT_EQ(forwarded("route=/a"), "route=/a");
    EXPECT_TRUE(nopspan::declare_label("b") && nopspan::declare_label("c"));
    const Counted overflow(&nopspan::Stats::labels_overflow);
    EXPECT_FALSE(nopspan::declare_label("d"));
    EXPECT_EQ(overflow.times(), 1U);
  });
}

TEST(Baggage, IsForwardedUnchanged) {
  for (const char* text : {"key=value", "a=1,b=2,a=3", "key=v;property;other=1", "key=a=b==", "key=", "key=%41%zz%",
                           "engine=e,model=m", "tenant=acme;ttl=5", "tenant=", "tenant=%ff"}) {
    EXPECT_EQ(forwarded(text), text);
  }
  EXPECT_EQ(forwarded(" a=1 ,, \tb = 2\t,"), "a=1,b = 2");
}

TEST(Baggage, WithAValueTooLongForALabelIsForwardedWhole) {
  const std::string value(3000, 'v');
  const Context context = with_baggage("tenant=" + value);
  EXPECT_EQ(context.label("tenant"), std::string(60, 'v') + "…");
  EXPECT_EQ(baggage_of(context), "tenant=" + value);
  EXPECT_EQ(baggage_of(context.with_label("tenant", "acme")), "tenant=acme");
}

TEST(Baggage, SendsTheNewValueOfALabel) {
  const Context context = with_baggage("tenant=acme;ttl=5,key=value");
  EXPECT_EQ(baggage_of(context.with_label("tenant", "globex")), "tenant=globex,key=value");
  EXPECT_EQ(baggage_of(with_baggage("tenant=acme").with_label("tenant", "globex")), "tenant=globex");
}

TEST(Baggage, DoesNotSendALabelThatWasRemoved) {
  for (const std::string& member :
       {std::string("tenant=acme"), std::string("tenant=acme;ttl=5"), "tenant=" + std::string(3000, 'v')}) {
    EXPECT_EQ(baggage_of(with_baggage(member + ",key=value").with_label("tenant", "")), "key=value") << member;
  }
}

TEST(Baggage, SendsTheLabelThatASpanHasSet) {
  const SpanRecorder recorder("work");
  nopspan::span(
      "work", with_baggage("tenant=acme"), [](Fields& f) { f.label("tenant", "globex"); },
      [] { EXPECT_EQ(baggage_of(Context::current()), "tenant=globex"); });
}

TEST(Baggage, ThatIsMalformedIsDroppedByMembers) {
  const std::vector<std::string> malformed{"key",       "=value",     "k y=1",        "key=a b",
                                           "key=\"a\"", "key=a\\b",   "key=\xc3\xa9", "k\xc3\xa9=1",
                                           "key;p=1",   "key=1;p=\"", "key=a\nb",     "k(y)=1"};
  const Counted dropped(&nopspan::Stats::baggage_dropped);
  for (const std::string& text : malformed) EXPECT_EQ(forwarded("a=1," + text + ",b=2"), "a=1,b=2") << text;
  EXPECT_EQ(dropped.times(), malformed.size());
  EXPECT_EQ(forwarded("tenant=acme,tenant=globex"), "tenant=acme");  // which of them a later process takes is not known
  EXPECT_EQ(dropped.times(), malformed.size() + 1);
}

std::string members(int count, const std::string& value) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i > 0 ? ",k" : "k") + std::to_string(100 + i) + "=" + value;
  return list;
}

TEST(Baggage, HasSixtyFourMembersAndNoMore) {
  const Counted dropped(&nopspan::Stats::baggage_dropped);
  EXPECT_EQ(forwarded(members(64, "v")), members(64, "v"));
  EXPECT_EQ(dropped.times(), 0U);
  EXPECT_EQ(forwarded(members(66, "v")), members(64, "v"));
  EXPECT_EQ(dropped.times(), 2U);
}

TEST(Baggage, HasAsManyBytesAsTheSpecificationWantsAndNoMore) {
  const Counted dropped(&nopspan::Stats::baggage_dropped);
  const std::string most = "key=" + std::string(8188, 'v');
  EXPECT_EQ(forwarded(most), most);
  EXPECT_EQ(dropped.times(), 0U);
  EXPECT_EQ(forwarded(most + "v,a=1"), "a=1");
  EXPECT_EQ(dropped.times(), 1U);
  EXPECT_EQ(baggage_of(with_baggage(most).with_label("tenant", "acme")), "tenant=acme");
  EXPECT_EQ(dropped.times(), 2U);
}

TEST(Baggage, OverTheLimitOfTheStoreIsLostAndCounted) {
  expect_in_child([] {
    const Counted evicted(&nopspan::Stats::tracestate_evicted);
    const std::string large = "key=" + std::string(8000, 'v');
    const Headers small{{"traceparent", kCallersTraceparent}, {"tracestate", "a=1"}, {"baggage", "tenant=acme,key=1"}};
    const Context oldest_small = extract(small);
    const Context oldest_large = with_baggage("tenant=acme," + large);
    for (int i = 0; i < 419; ++i) EXPECT_EQ(forwarded(large), large);
    EXPECT_EQ(baggage_of(oldest_large), "tenant=acme," + large);
    EXPECT_EQ(evicted.times(), 0U);
    EXPECT_EQ(forwarded(large), large);
    EXPECT_EQ(baggage_of(oldest_large), "tenant=acme");
    EXPECT_EQ(evicted.times(), 1U);
    for (int i = 0; i < 32767; ++i) static_cast<void>(extract(small));
    EXPECT_EQ(baggage_of(oldest_small), "tenant=acme,key=1");  // large ones do not take its place
    EXPECT_EQ(oldest_small.tracestate(), "a=1");
    EXPECT_EQ(evicted.times(), 1U);
    static_cast<void>(extract(small));
    EXPECT_EQ(baggage_of(oldest_small), "tenant=acme");
    EXPECT_EQ(oldest_small.tracestate(), "");
    EXPECT_EQ(oldest_small.traceparent(), kCallersTraceparent);
    EXPECT_GT(evicted.times(), 1U);
  });
}

TEST(Baggage, IsWholeWhoeverStoresMeanwhile) {
  in_threads(4, [](int t) {
    const std::string mine = "k=" + std::string(2000, static_cast<char>('a' + t));
    for (int i = 0; i < 3000; ++i) {
      const std::string back = forwarded(mine);
      ASSERT_TRUE(back == mine || back.empty()) << back;  // it may have been evicted in between
    }
  });
}

TEST(WithLabel, ChangesACopy) {
  const Context context = Context::make();
  const Context changed = context.with_label("tenant", "acme");
  EXPECT_EQ(changed.label("tenant"), "acme");
  EXPECT_EQ(changed.request_id(), context.request_id());
  EXPECT_EQ(context.label("tenant"), "");
  EXPECT_EQ(changed.with_label("tenant", nullptr).label("tenant"), "");
  EXPECT_EQ(context.with_label("", "x").traceparent(), context.traceparent());
}

}  // namespace
