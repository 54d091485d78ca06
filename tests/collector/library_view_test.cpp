// SPDX-License-Identifier: Apache-2.0
// What the memory of a process shows about its copy of the library. The tests read this process's own memory.
#include "host/library_view.h"

#include "temporary_folder.h"

#include <nopspan/detail/gate.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>
#include <nopspan/version.h>

#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <regex>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::Pair;

std::optional<LibraryView> view_own() {
  return view_library(static_cast<std::uint32_t>(getpid()), reinterpret_cast<std::uint64_t>(nopspan_gate_ptr));
}

TEST(LibraryView, HasTheVersion) {
  EXPECT_EQ(view_own()->version, std::to_string(NOPSPAN_VERSION_MAJOR) + "." + std::to_string(NOPSPAN_VERSION_MINOR) +
                                     "." + std::to_string(NOPSPAN_VERSION_PATCH));
}

// Any tracer on this host may have raised counters of the probes.
TEST(LibraryView, TellsWhichPartsOfTheGateAreUp) {
  using testing::_;
  EXPECT_THAT(view_own()->gate.by_name(),
              ElementsAre(Pair(testing::StrEq("spans"), _), Pair(testing::StrEq("batch"), _),
                          Pair(testing::StrEq("span_handlers"), 0), Pair(testing::StrEq("point_handlers"), 0),
                          Pair(testing::StrEq("points"), _)));
  ASSERT_EQ(attach("test", "view.stop", [](const Event&) {}), Errc::ok);
  EXPECT_EQ(view_own()->gate.span_handlers, 1);
  EXPECT_EQ(detach("test"), Errc::ok);
}

TEST(GateCounters, AreTheParts) {
  const GateCounters gate = GateCounters::of(0x5555'4433'2222'1111);
  EXPECT_EQ(gate.spans, 0x1111);
  EXPECT_EQ(gate.batch, 0x2222);
  EXPECT_EQ(gate.span_handlers, 0x33);
  EXPECT_EQ(gate.point_handlers, 0x44);
  EXPECT_EQ(gate.points, 0x5555);
}

TEST(LibraryView, HasTheCountsThatAreNotZero) {
  const std::string seventy(70, 'x');
  ASSERT_EQ(attach("test", "view.stop", [](const Event&) {}), Errc::ok);
  Name::intern(seventy);
  EXPECT_EQ(detach("test"), Errc::ok);
  const auto expected = stats().truncated + stats().names_invalid;
  std::uint64_t sum = 0;
  const auto view = view_own();
  for (const auto& [name, count] : view->counts) sum += count;
  EXPECT_EQ(sum, expected);
}

TEST(LibraryView, HasTheWarningsForWhichThereIsNoLogSink) {
  ASSERT_EQ(attach("view.span", "view.span", [](const Event&) {}), Errc::ok);
  { const Span span{"view.span"}; }
  { const Span span{"llm.rerank"}; }
  EXPECT_EQ(detach("view.span"), Errc::ok);
  EXPECT_THAT(view_own()->warnings,
              ElementsAre(testing::StartsWith("a handler is attached to \"view.span\", but this is a span"),
                          "unknown span name \"rerank\"; valid: chat, generate, image, step, stream, tool; it is "
                          "emitted anyway"));
}

TEST(LibraryView, IsEmptyForWhatCannotBeRead) {
  EXPECT_FALSE(view_library(static_cast<std::uint32_t>(getpid()), 4096));
  EXPECT_EQ(errno, EFAULT);
}

// The collector and the library's header must have the same names in the same order.
TEST(LibraryView, KnowsEveryCountOfTheLibrary) {
  const std::string header = contents_of(NOPSPAN_SOURCE_DIR "/include/nopspan/stats.h");
  const std::regex field("uint64_t (\\w+);");
  std::vector<std::string> names;
  for (std::sregex_iterator it(header.begin(), header.end(), field), end; it != end; ++it) names.push_back((*it)[1]);
  nopspan_gate_page page{};
  std::vector<std::uint64_t> counts(names.size() + 1, 7);
  page.size = sizeof(page);
  page.stats = reinterpret_cast<std::uint64_t>(counts.data());
  page.stats_count = counts.size();
  const auto view = view_library(static_cast<std::uint32_t>(getpid()), reinterpret_cast<std::uint64_t>(&page));
  ASSERT_EQ(view->counts.size(), counts.size());
  for (std::size_t i = 0; i < names.size(); ++i) EXPECT_EQ(view->counts[i].first, names[i]);
  EXPECT_EQ(view->counts.back().first, "count_" + std::to_string(names.size()));
}

class HostileThreads : public testing::Test {
 protected:
  HostileThreads() {
    page.size = sizeof(page);
    page.process_mark = reinterpret_cast<std::uint64_t>(&mark);
  }
  std::uint64_t address_of(const nopspan_thread& thread) { return reinterpret_cast<std::uint64_t>(&thread); }
  LibraryView view() {
    return *view_library(static_cast<std::uint32_t>(getpid()), reinterpret_cast<std::uint64_t>(&page));
  }

  nopspan_gate_page page{};
  std::uint64_t mark = 5;
  nopspan_thread first{.magic = NOPSPAN_THREAD_MAGIC, .mark = 5, .first = 10, .next = 13};
  nopspan_thread second{.magic = NOPSPAN_THREAD_MAGIC, .mark = 5, .first = 1, .next = 2};
};

TEST_F(HostileThreads, AreCountedIfTheyAreOfThisProcess) {
  nopspan_thread ended{.magic = NOPSPAN_THREAD_MAGIC};
  nopspan_thread of_parent{.magic = NOPSPAN_THREAD_MAGIC, .mark = 4, .next = 100};
  page.threads = address_of(first);
  first.next_thread = address_of(ended);
  ended.next_thread = address_of(of_parent);
  of_parent.next_thread = address_of(second);
  EXPECT_EQ(view().threads, 2U);
  EXPECT_EQ(view().held_entries, 4U);
}

TEST_F(HostileThreads, AreNotFollowedForEver) {
  page.threads = address_of(first);
  first.next_thread = address_of(first);
  EXPECT_EQ(view().threads, 1U);
}

TEST_F(HostileThreads, AreNotFollowedIntoOtherMemory) {
  page.threads = address_of(first);
  second.magic = 0;
  for (const std::uint64_t wild : {std::uint64_t{8}, UINT64_MAX, UINT64_MAX - 100, address_of(second)}) {
    first.next_thread = wild;
    EXPECT_EQ(view().threads, 1U);
  }
  page.warnings = UINT64_MAX - 8;
  page.warnings_count = UINT32_MAX;
  page.warning_bytes = UINT32_MAX;
  EXPECT_TRUE(view().warnings.empty());
  page.stats = UINT64_MAX - 8;
  page.stats_count = UINT64_MAX;
  EXPECT_TRUE(view().counts.empty());
}

}  // namespace
}  // namespace nopspan::collector
