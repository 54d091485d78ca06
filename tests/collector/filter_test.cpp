// SPDX-License-Identifier: Apache-2.0
// Filters: which requests a command selects.
#include "model/filter.h"

#include "command/options.h"
#include "model/source_options.h"

#include <CLI/CLI.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr char kId[] = "AAECAwQFBgcICQoLDA0ODw";

// A span of process 7, in a container.
class FilterTest : public testing::Test {
 protected:
  FilterTest() {
    auto process = std::make_shared<Process>();
    process->pid = 7;
    process->cgroup = "/system.slice/docker-0123456789ab.scope";
    process->container = "0123456789ab";
    process_ = process;
    span_.process = &process_;
    span_.trace_id = trace_id_of(kId);
  }
  bool wants(const Filter& filter) const { return filter.may_want(span_); }

  ProcessPointer process_;
  Entry span_;
};

// The filter that a command line produces.
SourceOptions options_of(std::vector<std::string> words) {
  CLI::App app;
  SourceOptions options;
  add_source_options(app, options);
  std::reverse(words.begin(), words.end());
  app.parse(words);
  return options;
}
Filter filter_of(const std::vector<std::string>& words) { return options_of(words).filter; }

TEST_F(FilterTest, WantsEverythingWhenEmpty) {
  EXPECT_TRUE(Filter().empty());
  EXPECT_TRUE(wants(Filter()));
  EXPECT_TRUE(Filter().may_want(Entry())) << "also entries without a request and a process";
}

TEST_F(FilterTest, FindsARequestByEachFormOfItsId) {
  for (const char* id :
       {kId, "000102030405060708090a0b0c0d0e0f", "00-000102030405060708090a0b0c0d0e0f-1112131415161718-01"}) {
    EXPECT_TRUE(wants({.request = id})) << id;
  }
  EXPECT_FALSE(wants({.request = "another"}));
  span_.trace_id = trace_id_of("order-17");
  span_.foreign_id = "order-17";
  EXPECT_TRUE(wants({.request = "order-17"}));
  EXPECT_FALSE(wants({.request = kId}));
}

TEST_F(FilterTest, TakesNothingWithoutARequestForARequest) {
  span_.trace_id = TraceId();
  EXPECT_FALSE(wants({.request = kId}));
}

TEST_F(FilterTest, KnowsProcesses) {
  EXPECT_TRUE(wants({.pids = {3, 7}}));
  EXPECT_FALSE(wants({.pids = {3}}));
  span_.process = nullptr;
  EXPECT_FALSE(wants({.pids = {7}}));
}

TEST_F(FilterTest, KnowsCgroupsByTheirPath) {
  for (const char* path : {"/sys/fs/cgroup/system.slice/docker-0123456789ab.scope", "/sys/fs/cgroup/system.slice/",
                           "/system.slice", "system.slice", "/", "/sys/fs/cgroup"}) {
    EXPECT_TRUE(wants({.cgroup = path})) << path;
  }
  for (const char* path :
       {"/system", "/system.slice/docker", "/user.slice", "/system.slice/docker-0123456789ab.scope/x"}) {
    EXPECT_FALSE(wants({.cgroup = path})) << path;
  }
}

TEST_F(FilterTest, KnowsContainersByTheBeginningOfTheirId) {
  EXPECT_TRUE(wants({.cgroup = "0123"}));
  EXPECT_FALSE(wants({.cgroup = "1234"}));
  auto outside = std::make_shared<Process>();
  outside->cgroup = "/init.scope";
  process_ = outside;
  EXPECT_FALSE(wants({.cgroup = "0123"}));
}

TEST_F(FilterTest, LeavesTheRestToWhereTheTraceIsComplete) {
  EXPECT_TRUE(wants({.name = "another", .model = "another", .slower_than_ns = 1, .errors = true}));
}

TEST(Sample, TakesAboutOneInN) {
  for (const std::uint32_t one_in : {2U, 10U, 100U}) {
    std::uint32_t taken = 0;
    constexpr std::uint32_t kRequests = 100'000;
    for (std::uint32_t i = 0; i < kRequests; ++i) taken += is_sampled(trace_id_of(std::to_string(i)), one_in) ? 1 : 0;
    EXPECT_NEAR(taken, 1.0 * kRequests / one_in, 0.1 * kRequests / one_in) << one_in;
  }
}

TEST(Sample, TakesAllOfOneInOneAndWhatIsInNoRequest) {
  EXPECT_TRUE(is_sampled(trace_id_of(kId), 1));
  EXPECT_TRUE(is_sampled(trace_id_of(kId), 0));
  EXPECT_TRUE(is_sampled(TraceId(), 1000));
}

TEST(Sample, IsTheOneThatIsPromised) {
  // Other hosts and BPF programs rely on this formula: ((low ^ high) * constant >> 32) % N over little-endian halves.
  const TraceId id = trace_id_of("01000000000000000000000000000000");
  EXPECT_TRUE(is_sampled(id, 6364136223846793005U >> 32U));
  EXPECT_FALSE(is_sampled(id, (6364136223846793005U >> 32U) - 1));
}

TEST(FilterOptions, AreUnderstood) {
  const Filter filter = filter_of({"--request", "a", "--name", "llm.chat", "--model", "m", "--pid", "1", "--pid", "2,3",
                                   "--cgroup", "/x", "--slower-than", "250ms", "--errors", "--sample", "10"});
  EXPECT_EQ(filter.request, "a");
  EXPECT_EQ(filter.name, "llm.chat");
  EXPECT_EQ(filter.model, "m");
  EXPECT_EQ(filter.pids, (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_EQ(filter.cgroup, "/x");
  EXPECT_EQ(filter.slower_than_ns, 250'000'000U);
  EXPECT_TRUE(filter.errors);
  EXPECT_EQ(filter.sample_one_in, 10U);
  EXPECT_FALSE(filter.empty());
}

TEST(FilterOptions, NameACgroupAsTheKernelDoes) {
  for (const char* path : {"/x/y", "x/y", "x/y/", "./x/y", "//x//y", "x/./y", "x/z/../y", "/sys/fs/cgroup/x/y/"})
    EXPECT_EQ(filter_of({"--cgroup", path}).cgroup, "/x/y") << path;
  for (const char* path : {"/", ".", "..", "//", "/sys/fs/cgroup", "/sys/fs/cgroup/"})
    EXPECT_EQ(filter_of({"--cgroup", path}).cgroup, "/") << path;
  for (const char* other : {"x", "0123456789ab", "sys"}) EXPECT_EQ(filter_of({"--cgroup", other}).cgroup, other);
}

TEST(FilterOptions, RefuseWhatMakesNoSense) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{"--pid", "0"},
                                                                                     {"--pid", "-1"},
                                                                                     {"--pid", "x"},
                                                                                     {"--pid", ""},
                                                                                     {"--pid", "99999999999"},
                                                                                     {"--sample", "0"},
                                                                                     {"--sample", "1.5"},
                                                                                     {"--slower-than", "soon"},
                                                                                     {"--request"}}) {
    EXPECT_THROW(filter_of(words), CLI::ParseError) << words.front() << (words.size() > 1 ? " " + words[1] : "");
  }
}

TEST(SourceOptions, AreUnderstood) {
  const SourceOptions options =
      options_of({"--buffer", "64M", "--max-age", "5s", "--duration", "1m", "--binary", "/bin/true"});
  EXPECT_EQ(options.buffer_bytes, 64U << 20U);
  EXPECT_EQ(options.max_age_ns, 5'000'000'000U);
  EXPECT_EQ(options.duration_ns, 60'000'000'000U);
  EXPECT_EQ(options.binary, "/bin/true");
}

TEST(SourceOptions, OfAKernelMakeNoSenseForARecording) {
  EXPECT_EQ(options_of({"--from", "x.rec", "--duration", "1s"}).from, "x.rec");
  EXPECT_THROW(options_of({"--from", "x.rec", "--buffer", "1M"}), CLI::ExcludesError);
  EXPECT_THROW(options_of({"--from", "x.rec", "--max-age", "5s"}), CLI::ExcludesError);
  EXPECT_THROW(options_of({"--from", "x.rec", "--binary", "/bin/true"}), CLI::ExcludesError);
  EXPECT_THROW(options_of({"--from", "x.rec", "--metrics", "x.prom"}), CLI::ExcludesError);
}

}  // namespace
}  // namespace nopspan::collector
