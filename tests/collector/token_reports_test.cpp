// SPDX-License-Identifier: Apache-2.0
// Tokens that a client and its server report for the same call are counted once, at the innermost span.
#include "top/token_reports.h"

#include "invented_spans.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

struct Span {
  std::uint64_t id, parent;
  std::uint64_t tokens = 0;  // 0: it does not report any
  unsigned char trace = 1;
};

// Takes spans, and has the ids whose tokens were taken back.
struct Reports : TokenReports {
  Reports() : TokenReports([this](const Counted& tokens) { taken_back_.push_back(tokens.rows[0]); }) {}

  // The row of a span is its id.
  void tell(const Span& span) {
    Entry entry = invented("a", "m");
    entry.trace_id.bytes[0] = span.trace;
    entry.span_id = span.id;
    entry.parent_id = span.parent;
    entry.has_usage = entry.counts_tokens = span.tokens != 0;
    entry.usage.input = span.tokens;
    const std::vector<std::uint64_t> rows = {span.id};
    add(entry, &rows, 0);
  }

  const std::vector<std::uint64_t>& taken_back() {
    settle();
    return taken_back_;
  }

 private:
  std::vector<std::uint64_t> taken_back_;
};

// The client's call 10 is in its request 1. Between it and the server's 30 are a span of each process. A second call at
// the same time, 11, goes to a server that is not traced.
const std::vector<Span> kCalls = {{30, 21, 7}, {21, 20}, {20, 10}, {10, 1, 7}, {11, 1, 5}, {1, 0}};

TEST(TokenReports, TakesBackTheOuterOneInWhateverOrderTheProcessesArrive) {
  std::mt19937 random(1);
  std::vector<Span> order = kCalls;
  for (int i = 0; i < 50; ++i) {
    Reports reports;
    for (const Span& span : order) reports.tell(span);
    EXPECT_THAT(reports.taken_back(), ElementsAre(10U));
    std::shuffle(order.begin(), order.end(), random);
  }
}

TEST(TokenReports, CountsEachCallOfManyAtTheServerOnly) {
  Reports reports;
  // Request 1 calls two servers at the same time, and each call is repeated once.
  for (const std::uint64_t call : {10U, 11U}) {
    for (const std::uint64_t attempt : {1U, 2U}) {
      reports.tell({100 * call + 10 * attempt, 100 * call + attempt, 7});
      reports.tell({100 * call + attempt, call});
    }
    reports.tell({call, 1, 7});
  }
  EXPECT_THAT(reports.taken_back(), ElementsAre(10U, 11U));
}

TEST(TokenReports, CountsTheInnermostOfThreeProcesses) {
  Reports reports;
  reports.tell({30, 20, 7});
  reports.tell({20, 10, 7});
  reports.tell({10, 0, 7});
  EXPECT_THAT(reports.taken_back(), ElementsAre(20U, 10U));
}

TEST(TokenReports, TakesBackACallThatEndsLongAfterItsServer) {
  Reports reports;
  reports.tell({30, 20, 7});
  for (std::uint64_t i = 0; i < 1'000'000; ++i) reports.tell({1000 + i, 999, i % 2, 2});
  reports.tell({20, 10});
  reports.tell({10, 0, 7});
  EXPECT_THAT(reports.taken_back(), ElementsAre(10U));
}

TEST(TokenReports, TakesBackACallAsSoonAsTheSpanBetweenHasArrived) {
  Reports reports;
  reports.tell({30, 20, 7});
  reports.tell({10, 0, 7});
  EXPECT_THAT(reports.taken_back(), IsEmpty());
  reports.tell({20, 10});  // by another thread of the client
  EXPECT_THAT(reports.taken_back(), ElementsAre(10U));
}

TEST(TokenReports, RemembersTheSpansBetweenAmongThousandsOfOthers) {
  Reports reports;
  std::mt19937_64 ids(1);
  std::vector<Span> spans_between, servers;
  for (unsigned call = 0; call < 1000; ++call) {
    const std::uint64_t client = ids(), between = ids();
    reports.tell({client, 0, 7});
    spans_between.push_back({between, client});
    servers.push_back({ids(), between, 7});
  }
  for (const Span& span : spans_between) reports.tell(span);
  for (unsigned i = 0; i < 20'000; ++i) reports.tell({ids(), ids(), 0, 2});
  for (const Span& span : servers) reports.tell(span);
  EXPECT_THAT(reports.taken_back(), SizeIs(1000));
}

TEST(TokenReports, LeavesSpansOfOtherRequestsAlone) {
  Reports reports;
  reports.tell({10, 0, 7, 1});
  reports.tell({30, 10, 7, 2});
  reports.tell({31, 11, 7, 2});
  reports.tell({11, 0, 7, 1});
  EXPECT_THAT(reports.taken_back(), IsEmpty()) << "10 and 11 of request 2 are other spans";
}

TEST(TokenReports, CountsTheOuterOneIfTheInnerOneReportsNoTokens) {
  Reports reports;
  Entry failed = invented("engine.request", "m");
  failed.trace_id.bytes[0] = 1;
  failed.span_id = 30;
  failed.parent_id = 10;
  failed.has_usage = failed.counts_tokens = true;
  const std::vector<std::uint64_t> rows = {30};
  reports.add(failed, &rows, 0);
  reports.tell({10, 0, 7});
  EXPECT_THAT(reports.taken_back(), IsEmpty());
}

TEST(TokenReports, EndsIfParentsFormACircle) {
  Reports reports;
  reports.tell({12, 11});
  reports.tell({11, 12});
  reports.tell({10, 11, 7});
  reports.tell({13, 13, 7});
  EXPECT_THAT(reports.taken_back(), ElementsAre(13U)) << "it is in itself";
}

TEST(TokenReports, ForgetsTheOldestReports) {
  Reports reports;
  reports.tell({10, 0, 7});
  reports.tell({11, 0, 7, 3});
  for (std::uint64_t i = 0; i < TokenReports::kMost - 1; ++i) reports.tell({1000 + i, 999, 1, 2});
  reports.tell({30, 10, 7});
  reports.tell({31, 11, 7, 3});
  EXPECT_THAT(reports.taken_back(), IsEmpty());
  reports.tell({40, 31, 7, 3});
  EXPECT_THAT(reports.taken_back(), ElementsAre(31U)) << "what is left is intact";
}

}  // namespace
}  // namespace nopspan::collector
