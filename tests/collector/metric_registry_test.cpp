// SPDX-License-Identifier: Apache-2.0
// The registry of metrics: series, their limits, and what is forgotten.
#include "metric/metric_registry.h"

#include "model/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

// A registry with one family of each type.
struct Registry : MetricRegistry {
  explicit Registry(const MetricLimits& limits = {}, bool by_resource = false) : MetricRegistry(limits, by_resource) {}

  [[nodiscard]] std::vector<MetricPoint> points(const std::string& name) {
    for (const MetricFamilySnapshot& family : snapshot().families) {
      if (family.about->name == name) return family.points;
    }
    throw std::out_of_range(name);
  }
  // Of the series with this value of the first label; NaN if there is none.
  [[nodiscard]] double value(const std::string& name, const std::string& first) {
    for (const MetricPoint& point : points(name)) {
      if (!point.labels->empty() && point.labels->front().second == first) return point.value;
    }
    return std::nan("");
  }

  [[nodiscard]] std::array<std::uint64_t, 3> overflow(const std::string& name) const {
    for (const MetricOverflow& one : overflows()) {
      if (one.family == name) return one.observations;
    }
    return {};
  }

  MetricFamily& calls = counter("calls", "", "", {"name", "status"});
  MetricFamily& times = histogram("times", "s", "", {"name"}, std::array{1.0, 2.0});
  MetricFamily& level = gauge("level", "", "", {"name"});
};

TEST(MetricRegistry, KeepsResourcesApartForOtlp) {
  Process first, second, same;
  first.pid = 1;
  second.pid = 2;
  same.pid = 3;
  first.service_name = second.service_name = same.service_name = "shop";
  second.resource_attributes = "service.version=2";
  for (const bool by_resource : {false, true}) {
    MetricRegistry registry({}, by_resource);
    MetricFamily& calls = registry.counter("calls", "", "", {"name"});
    for (const Process* const process : {&first, &second, &same}) {
      MetricWriter(registry, process->pid, process->pid, process).add(calls, 1, {"a"});
    }
    std::vector<std::pair<std::string, double>> found;
    const MetricSnapshot snapshot = registry.snapshot();
    for (const MetricPoint& point : snapshot.families.back().points) {
      found.emplace_back(point.resource == nullptr ? "any" : point.resource->resource_attributes, point.value);
    }
    const std::vector<std::pair<std::string, double>> any = {{"any", 3}}, apart = {{"", 2}, {"service.version=2", 1}};
    EXPECT_THAT(found, testing::UnorderedElementsAreArray(by_resource ? apart : any));
  }
}

// Each is a pod of a service, with a name of its own.
Process pod(std::uint32_t pid, const std::string& service) {
  Process process;
  process.pid = pid;
  set_service(process, service,
              "service.namespace=shop,deployment.environment.name=a%2Cb,k8s.pod.name=" + std::to_string(pid));
  process.boot_id = "boot";
  process.host = process.container = std::to_string(pid);
  return process;
}

TEST(MetricRegistry, CountsPodsWithoutRoomForTheirService) {
  Registry registry({.most_series = 10}, true);
  for (std::uint32_t pid = 1; pid <= 30; ++pid) {
    const Process process = pod(pid, pid % 2 == 0 ? "even" : "odd");
    MetricWriter writer(registry, process);
    writer.add(registry.calls, 1, {"work"});
    writer.observe(registry.times, 1, {"work"}, nullptr, 3);
  }
  EXPECT_THAT(registry.overflow("calls"), ElementsAre(20, 0, 0));
  EXPECT_THAT(registry.overflow("times"), ElementsAre(60, 0, 0));
  double even = 0;
  std::size_t services = 0;
  for (const MetricPoint& point : registry.points("calls")) {
    ASSERT_NE(point.resource, nullptr);
    EXPECT_EQ(point.labels->front().second, "work");
    if (point.resource->service_name == "even") even += point.value;
    if (resource_value(*point.resource, "k8s.pod.name").empty()) {
      ++services;
      EXPECT_EQ(resource_value(*point.resource, "service.namespace"), "shop");
      EXPECT_EQ(resource_value(*point.resource, "deployment.environment.name"), "a,b");
      EXPECT_EQ(point.resource->container + point.resource->host, "");
      EXPECT_EQ(point.value, 10);
    }
  }
  EXPECT_EQ(even, 15);
  EXPECT_EQ(services, 2U);
}

TEST(MetricRegistry, CountsServicesWithoutRoomAsOther) {
  Registry registry({.most_series = 10}, true);
  for (std::uint32_t pid = 1; pid <= 30; ++pid) {
    const Process process = pod(pid, std::to_string(pid));
    MetricWriter(registry, process).add(registry.calls, 1, {"work"});
  }
  EXPECT_THAT(registry.overflow("calls"), ElementsAre(10, 10, 0));
  EXPECT_EQ(registry.value("calls", "other"), 10);
}

// After the last snapshot, nobody misses the series of a pod that is gone.
TEST(MetricRegistry, ReleasesSeriesOfPodsThatAreGone) {
  Registry registry({.most_series = 10}, true);
  registry.advance(1000 * kSecond);
  const auto work = [&](std::uint32_t pid) {
    const Process process = pod(pid, "service");
    MetricWriter(registry, process).add(registry.calls, 1, {"work"});
  };
  for (std::uint32_t pid = 1; pid <= 10; ++pid) work(pid);
  for (std::uint64_t second = 1010; second <= 1400; second += 10) registry.advance(second * kSecond);
  EXPECT_THAT(registry.points("calls"), SizeIs(10)) << "which is a snapshot";
  work(1);
  registry.advance(1410 * kSecond);
  EXPECT_THAT(registry.points("calls"), SizeIs(1));
  work(11);
  EXPECT_THAT(registry.overflow("calls"), ElementsAre(0, 0, 0));
}

TEST(MetricRegistry, KeepsCountsUntilTheyAreInASnapshot) {
  Registry registry({}, true);
  const Process process = pod(1, "service");
  MetricWriter(registry, process).add(registry.calls, 1, {"work"});
  for (std::uint64_t minute = 1; minute <= 180; ++minute) registry.advance(minute * 60 * kSecond);
  EXPECT_THAT(registry.points("calls"), SizeIs(1));
  registry.advance(181 * 60 * kSecond);
  EXPECT_THAT(registry.points("calls"), IsEmpty());
}

TEST(MetricRegistry, KeepsServicesOfEqualNamesApart) {
  Registry registry;
  std::uint32_t pid = 0;
  for (const char* const attributes :
       {"", "service.namespace=eu", "service.namespace=us", "deployment.environment.name=eu",
        "deployment.environment=eu", "deployment.environment.name=%01", "team=red"}) {
    Process process;
    process.pid = ++pid;
    set_service(process, "shop", attributes);
    MetricWriter writer(registry, process);
    writer.add(registry.calls, 1, {"a"});
    writer.gauge(registry.level, 1, {"a"}, MetricLabels{{"service.namespace", "claimed"}, {"b", "c"}});
  }
  std::vector<std::pair<std::string, double>> found;
  for (const MetricPoint& point : registry.points("calls")) {
    std::string labels;
    for (const auto& [name, value] : *point.labels) labels += name + "=" + value + ";";
    found.emplace_back(labels, point.value);
  }
  EXPECT_THAT(found, testing::UnorderedElementsAre(Pair("name=a;", 2), Pair("name=a;service.namespace=eu;", 1),
                                                   Pair("name=a;service.namespace=us;", 1),
                                                   Pair("name=a;deployment.environment.name=eu;", 2),
                                                   Pair("name=a;deployment.environment.name=\\x01;", 1)));
  EXPECT_THAT(*registry.points("level").back().labels,
              ElementsAre(Pair("name", "a"), Pair("service.namespace", "us"), Pair("b", "c")));
}

TEST(MetricRegistry, AddsUpBySeries) {
  Registry registry;
  EXPECT_EQ(&registry.family({.name = "calls"}), &registry.calls);
  registry.advance(7 * kSecond);
  {
    MetricWriter writer(registry);
    writer.add(registry.calls, 1, {"a", "ok"});
    writer.add(registry.calls, 2.5, {"a", "ok"});
    writer.add(registry.calls, 1, {"a", "error"});
    writer.add(registry.calls, 1, {"b"});
    writer.add(registry.calls, -1, {"b"});
    writer.add(registry.calls, std::nan(""), {"b"});
    writer.add(registry.calls, std::numeric_limits<double>::infinity(), {"b"});
  }
  EXPECT_EQ(registry.snapshot().unix_ns, 7 * kSecond);
  const auto points = registry.points("calls");
  ASSERT_THAT(points, SizeIs(3));
  EXPECT_THAT(*points[0].labels, ElementsAre(Pair("name", "a"), Pair("status", "error")));
  EXPECT_EQ(points[1].value, 3.5);
  EXPECT_EQ(points[1].start_unix_ns, 7 * kSecond);
  EXPECT_THAT(*points[2].labels, ElementsAre(Pair("name", "b")));
  EXPECT_EQ(points[2].value, 1);
}

TEST(MetricRegistry, DistinguishesLabelsThatAreEqualWhenJoined) {
  Registry registry;
  MetricWriter(registry).add(registry.calls, 1, {"ab", "c"});
  MetricWriter(registry).add(registry.calls, 1, {"a", "bc"});
  MetricWriter(registry).add(registry.calls, 1, {"", "abc"});
  EXPECT_THAT(registry.points("calls"), SizeIs(3));
}

TEST(MetricRegistry, CountsObservationsInBuckets) {
  Registry registry;
  Exemplar first, last, late;
  first.span_id = 1, last.span_id = 2, late.span_id = 3;
  first.unix_ns = kSecond, last.unix_ns = 3 * kSecond, late.unix_ns = 2 * kSecond;
  for (const double value : {0.5, 1.0, 1.5, 2.0, 3.0})
    MetricWriter(registry).observe(registry.times, value, {"a"}, &first);
  MetricWriter(registry).observe(registry.times, 4, {"a"}, &last, 9);
  MetricWriter(registry).observe(registry.times, 4, {"a"}, &late);
  MetricWriter(registry).observe(registry.times, std::nan(""), {"a"});
  const MetricPoint point = registry.points("times").at(0);
  EXPECT_THAT(point.buckets, ElementsAre(2, 2, 11));
  EXPECT_EQ(point.count, 15U);
  EXPECT_EQ(point.value, 48);
  ASSERT_THAT(point.exemplars, SizeIs(3));
  EXPECT_EQ(point.exemplars[0].second.value, 0.5);
  EXPECT_EQ(point.exemplars[2].second.span_id, 2U);
  EXPECT_EQ(point.exemplars[2].second.value, 4);
}

TEST(MetricRegistry, KeepsTheFirstExemplarOfAMillisecond) {
  Registry registry;
  const auto observe = [&](double value, std::uint64_t unix_ns) {
    Exemplar exemplar;
    exemplar.unix_ns = unix_ns;
    MetricWriter(registry).observe(registry.times, value, {"a"}, &exemplar);
    return registry.points("times").at(0);
  };
  observe(3, 100'000'000'000);
  EXPECT_EQ(observe(4, 100'000'999'999).exemplars.at(0).second.value, 3);
  // Another bucket of the same millisecond has an exemplar of its own.
  EXPECT_EQ(observe(0.5, 100'000'999'999).exemplars.at(0).second.value, 0.5);
  // The clock was set back.
  EXPECT_EQ(observe(0.25, 50'000'000'000).exemplars.at(0).second.value, 0.25);
}

TEST(MetricRegistry, CountsWhatHasNoRoomAsOther) {
  Registry registry({.most_series = 10});
  for (int i = 0; i < 15; ++i) {
    const std::string name = std::to_string(i);
    MetricWriter writer(registry);
    writer.add(registry.calls, 2, {name, "ok"});
    writer.observe(registry.times, 1, {name}, nullptr, 3);
    writer.gauge(registry.level, 1, {name});
  }
  EXPECT_THAT(registry.points("calls"), SizeIs(11));
  EXPECT_EQ(registry.value("calls", "other"), 10);
  EXPECT_EQ(registry.value("times", "other"), 15);
  EXPECT_THAT(registry.points("level"), SizeIs(10));
  EXPECT_THAT(registry.overflow("calls"), ElementsAre(0, 5, 0));
  EXPECT_THAT(registry.overflow("times"), ElementsAre(0, 15, 0));
  EXPECT_THAT(registry.overflow("level"), ElementsAre(0, 0, 5));
}

// A stranger who claims many processes has the share of one.
TEST(MetricRegistry, GivesProcessesOfOneClaimerOneShare) {
  Registry registry({.most_series = 10, .keep_gauge_ns = 5 * kSecond});
  registry.advance(kSecond);
  for (std::uint64_t process = 1; process <= 100; ++process) {
    MetricWriter writer(registry, process, 7);
    writer.add(registry.calls, 1, {"claimed" + std::to_string(process)});
    if (process <= 2) writer.gauge(registry.level, 1, {std::to_string(process)});
  }
  MetricWriter(registry, 101).add(registry.calls, 1, {"two"});
  EXPECT_EQ(registry.value("calls", "two"), 1);
  EXPECT_EQ(registry.value("calls", "other"), 95);
  // The gauge of a process that has ended is forgotten, although its claimer still sends.
  registry.advance(20 * kSecond);
  MetricWriter(registry, 2, 7).gauge(registry.level, 1, {"2"});
  registry.advance(40 * kSecond);
  MetricWriter(registry, 2, 7).gauge(registry.level, 1, {"2"});
  registry.advance(41 * kSecond);
  EXPECT_THAT(registry.points("level"), SizeIs(1));
}

// Processes with ids in their names leave room for others.
TEST(MetricRegistry, KeepsTheLastQuarterForProcessesWithFewSeries) {
  Registry registry({.most_series = 160});
  for (std::uint64_t process = 1; process <= 4; ++process) {
    for (int i = 0; i < 200; ++i) {
      MetricWriter(registry, process).add(registry.calls, 1, {std::to_string(process) + " " + std::to_string(i)});
    }
  }
  EXPECT_THAT(registry.points("calls"), SizeIs(80 + 40 + 10 + 10 + 1));
  for (int i = 0; i < 5; ++i) MetricWriter(registry, 5).add(registry.calls, 1, {"usual " + std::to_string(i)});
  EXPECT_EQ(registry.value("calls", "usual 4"), 1);
}

TEST(MetricRegistry, BoundsTheBytesOfLabels) {
  Registry registry({.most_series = 2000});
  const std::string text(250, 'x');
  for (int i = 0; i < 2000; ++i) {
    MetricWriter(registry, static_cast<std::uint64_t>(i % 40) + 1)
        .add(registry.calls, 1, {text + std::to_string(i), text});
  }
  const std::vector<MetricPoint> points = registry.points("calls");
  EXPECT_LT(points.size(), 2000U * 160 / 500 + 2);
  EXPECT_GT(points.size(), 500U);
  EXPECT_EQ(registry.value("calls", "other"), 2000 - static_cast<double>(points.size() - 1));
}

TEST(MetricRegistry, ASeriesNamedOtherIsNotThereTwice) {
  Registry registry({.most_series = 1});
  MetricWriter(registry).add(registry.calls, 1, {"other", "other"});
  MetricWriter(registry).add(registry.calls, 1, {"a"});
  EXPECT_THAT(registry.points("calls"), SizeIs(1));
  EXPECT_EQ(registry.value("calls", "other"), 2);
}

TEST(MetricRegistry, ForgetsSeriesThatDoNotChange) {
  Registry registry({.keep_ns = 100 * kSecond, .keep_gauge_ns = 50 * kSecond});
  registry.advance(1000 * kSecond);
  MetricWriter(registry).add(registry.calls, 5, {"a"});
  MetricWriter(registry).add(registry.calls, 5, {"b"});
  MetricWriter(registry).gauge(registry.level, 5, {"a"});
  registry.advance(1060 * kSecond);
  EXPECT_THAT(registry.points("level"), IsEmpty());
  MetricWriter(registry).add(registry.calls, 1, {"b"});
  registry.advance(1120 * kSecond);
  EXPECT_TRUE(std::isnan(registry.value("calls", "a")));
  EXPECT_EQ(registry.value("calls", "b"), 6);
  MetricWriter(registry).add(registry.calls, 1, {"a"});
  const MetricPoint point = registry.points("calls").at(0);
  EXPECT_EQ(point.value, 1);
  EXPECT_EQ(point.start_unix_ns, 1120 * kSecond);
}

TEST(MetricRegistry, KeepsGaugesAsLongAsTheirProcessReportsAnything) {
  Registry registry({.keep_gauge_ns = 50 * kSecond});
  registry.advance(1000 * kSecond);
  MetricWriter(registry, 1).gauge(registry.level, 1, {"one"});
  MetricWriter(registry, 2).gauge(registry.level, 2, {"two"});
  for (std::uint64_t second = 1040; second <= 1200; second += 40) {
    registry.advance(second * kSecond);
    MetricWriter(registry, 1).add(registry.calls, 1, {"a"});
  }
  EXPECT_EQ(registry.value("level", "one"), 1);
  EXPECT_TRUE(std::isnan(registry.value("level", "two")));
  registry.advance(1260 * kSecond);
  EXPECT_TRUE(std::isnan(registry.value("level", "one")));
}

TEST(MetricRegistry, ForgetsSoonerIfItIsFull) {
  Registry registry({.most_series = 2});
  registry.advance(1000 * kSecond);
  MetricWriter(registry, 1).add(registry.calls, 1, {"a"});
  MetricWriter(registry, 2).add(registry.calls, 1, {"b"});
  for (std::uint64_t second = 1050; second <= 1400; second += 50) registry.advance(second * kSecond);
  MetricWriter(registry, 1).add(registry.calls, 1, {"c"});
  EXPECT_EQ(registry.value("calls", "c"), 1);
}

TEST(MetricRegistry, KeepsEverythingIfTheClockIsSet) {
  for (const std::uint64_t set_to : {1000U, 1'000'000U, 2'000'000U}) {
    Registry registry({.keep_ns = 100 * kSecond});
    registry.advance(1'000'000 * kSecond);
    MetricWriter(registry).add(registry.calls, 1, {"a"});
    registry.advance(set_to * kSecond);
    EXPECT_EQ(registry.value("calls", "a"), 1) << set_to;
    for (std::uint64_t second = 0; second <= 120; ++second) registry.advance((set_to + second) * kSecond);
    EXPECT_TRUE(std::isnan(registry.value("calls", "a"))) << "it has the same age after " << set_to;
  }
}

TEST(MetricRegistry, ATotalThatFallsBeginsAgain) {
  Registry registry;
  registry.advance(1000 * kSecond);
  MetricWriter(registry).total(registry.calls, 100, {"a"});
  registry.advance(1001 * kSecond);
  MetricWriter(registry).total(registry.calls, 120, {"a"});
  EXPECT_EQ(registry.points("calls").at(0).start_unix_ns, 1000 * kSecond);
  MetricWriter(registry).total(registry.calls, 3, {"a"});
  EXPECT_EQ(registry.value("calls", "a"), 3);
  EXPECT_EQ(registry.points("calls").at(0).start_unix_ns, 1001 * kSecond);
}

TEST(MetricRegistry, IgnoresValuesThatAreLate) {
  Registry registry;
  MetricWriter(registry).gauge(registry.level, 1, {"a"}, {}, 100 * kSecond);
  MetricWriter(registry).gauge(registry.level, 2, {"a"}, {}, 99 * kSecond);
  EXPECT_EQ(registry.value("level", "a"), 1);
  // The clock was set back.
  MetricWriter(registry).gauge(registry.level, 3, {"a"}, {}, 50 * kSecond);
  EXPECT_EQ(registry.value("level", "a"), 3);
}

TEST(MetricRegistry, RepairsAndBoundsLabels) {
  Registry registry;
  const std::string longest = std::string(255, 'x') + "\xc3\xa4";
  const MetricLabels more = {{"a.b", "1"}, {"a_b", "2"}, {"name", "3"}, {"empty", ""}, {"bad", "\xff"}};
  MetricWriter(registry).gauge(registry.level, 1, {longest}, more);
  EXPECT_THAT(*registry.points("level").at(0).labels,
              ElementsAre(Pair("name", std::string(255, 'x')), Pair("a.b", "1"), Pair("bad", "\\xff")));
}

TEST(MetricRegistry, HasNoTwoSeriesThatLookTheSame) {
  Registry registry;
  const auto set = [&](const std::string& value, const std::string& first, const std::string& second) {
    const MetricLabels more = {{first, "1"}, {second, value}};
    MetricWriter(registry).gauge(registry.level, 1, {value}, more);
  };
  set("\xff", "a.b", "a_b");
  set("\\xff", "a_b", "a.b");
  set("\\xff", "a-b", "name");
  EXPECT_THAT(registry.points("level"), SizeIs(1));
}

TEST(MetricRegistry, AddsUpWhatLooksTheSame) {
  Registry registry;
  const std::string_view null("a\0b", 3);
  for (const std::string_view name : {null, std::string_view("a\\x00b")})
    MetricWriter(registry).add(registry.calls, 1, {name});
  EXPECT_EQ(registry.value("calls", "a\\x00b"), 2);
  MetricWriter(registry).forget(registry.calls, {null});
  EXPECT_THAT(registry.points("calls"), SizeIs(0));
}

TEST(MetricRegistry, IsWrittenAndReadByManyThreads) {
  Registry registry;
  constexpr int kEach = 2000;
  std::atomic<bool> is_done = false;
  std::thread reader([&] {
    double last = 0;
    while (!is_done) {
      for (const MetricPoint& point : registry.points("calls")) {
        EXPECT_GE(point.value, last);
        last = point.value;
      }
    }
  });
  std::vector<std::thread> writers;
  for (int thread = 0; thread < 4; ++thread) {
    writers.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) MetricWriter(registry).add(registry.calls, 1, {"a"});
    });
  }
  for (std::thread& writer : writers) writer.join();
  is_done = true;
  reader.join();
  EXPECT_EQ(registry.value("calls", "a"), 4 * kEach);
}

}  // namespace
}  // namespace nopspan::collector
