// SPDX-License-Identifier: Apache-2.0
// Filters: which requests a command selects.
#include "model/filter.h"

#include "base/failure.h"
#include "base/text.h"
#include "command/command_run.h"
#include "command/options.h"
#include "invented_spans.h"
#include "kept_entry.h"
#include "model/service.h"
#include "parsed_json.h"

#include <CLI/CLI.hpp>

#include <cmath>
#include <limits>
#include <optional>

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

// ---- Single entries

std::vector<std::string> selected_by(const Filter& filter) {
  static const std::string attributes = text_attribute("route", "/chat") + integer_attribute("http.status_code", 503);
  std::vector<Entry> entries = {invented("llm.chat", "m"), invented("db.query", "n"), invented("llm.retry", "m"),
                                invented("kv_cache", "m"), invented("said", "")};
  entries[0].tenant = "acme";
  entries[0].attributes = attributes;
  entries[0].status = kException;
  entries[0].error_type = "timeout";
  entries[0].duration_ns = 5000;
  entries[1].status = kCancelled;
  entries[1].error_type = "deadline";
  entries[2].kind = Kind::retry;
  entries[2].text = "llm.chat";  // its span
  entries[2].error_type = "timeout";
  entries[2].tenant = "acme";
  entries[3].kind = Kind::gauge;
  entries[4].kind = Kind::event;
  std::vector<std::string> names;
  for (const Entry& entry : entries) {
    if (filter.selects(entry)) names.emplace_back(entry.name);
  }
  return names;
}

TEST(SelectedEntries, AreAllWithoutAFilter) { EXPECT_EQ(selected_by({}).size(), 5U); }

TEST(SelectedEntries, SatisfyEachConditionThemselves) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(selected_by({.name = "llm.chat"}), (Names{"llm.chat", "llm.retry"})) << "and the retries of such spans";
  EXPECT_EQ(selected_by({.model = "n"}), Names{"db.query"});
  EXPECT_EQ(selected_by({.tenant = "acme"}), (Names{"llm.chat", "llm.retry"}));
  EXPECT_EQ(selected_by({.model = "nosuch"}), Names{}) << "not even retries and gauges";
  EXPECT_EQ(selected_by({.tenant = "nosuch"}), Names{});
  EXPECT_EQ(selected_by({.where = {{"route", "/chat"}}}), Names{"llm.chat"});
  EXPECT_EQ(selected_by({.where = {{"route", "/chat"}, {"http.status_code", "503"}}}), Names{"llm.chat"});
  EXPECT_EQ(selected_by({.where = {{"route", "/chat"}, {"http.status_code", "50"}}}), Names{});
  EXPECT_EQ(selected_by({.where = {{"tenant", "acme"}, {"model", "m"}}}), (Names{"llm.chat", "llm.retry"}));
  EXPECT_EQ(selected_by({.slower_than_ns = 5000}), Names{"llm.chat"});
  EXPECT_EQ(selected_by({.slower_than_ns = 1}), (Names{"llm.chat", "db.query"})) << "spans only";
  EXPECT_EQ(selected_by({.errors = true}), Names{"llm.chat"});
  EXPECT_EQ(selected_by({.error_type = "timeout"}), Names{"llm.chat"});
  EXPECT_EQ(selected_by({.error_type = "rate_limit"}), Names{});
  EXPECT_EQ(selected_by({.error_type = "deadline"}), Names{}) << "of a span that was cancelled";
  EXPECT_EQ(selected_by({.slower_than_ns = 5001, .errors = true}), Names{});
}

// tests/live/collector/test_trace.py compares this with the library.
TEST(SelectedEntries, AreFoundByATextThatTheLibraryTruncates) {
  const std::string text(64, 'x'), recorded = std::string(60, 'x') + "…";
  const Filter filter = filter_of({"--name", text, "--model", text, "--tenant", text, "--error", text});
  for (const std::string& wanted : {filter.name, filter.model, filter.tenant, filter.error_type}) {
    EXPECT_EQ(wanted, recorded);
  }
  EXPECT_EQ(filter_of({"--name", text.substr(1)}).name, text.substr(1));
  EXPECT_EQ(filter_of({"--name", std::string(59, 'x') + "äxx"}).name, std::string(59, 'x') + "äxx");
  EXPECT_EQ(filter_of({"--name", std::string(59, 'x') + "äxxx"}).name, std::string(59, 'x') + "…");
  Entry entry = invented("llm.chat", "m");
  const Filter where = filter_of({"--where", "route=" + text});
  for (const std::string& value : {text, recorded}) {  // of an attribute, and of a label
    const std::string attributes = text_attribute("route", value);
    entry.attributes = attributes;
    EXPECT_TRUE(where.selects(entry)) << value;
  }
  const std::string other = text_attribute("route", std::string(60, 'y') + "…");
  entry.attributes = other;
  EXPECT_FALSE(where.selects(entry));
}

TEST(LabelsAndAttributes, AreWrittenAsTheOtherCommandsPrintThem) {
  for (const double value :
       {0.7, 1.0, -0.0, 1e22, 123456789012345680.0, 5e-324, -std::numeric_limits<double>::max(),
        std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), std::nan("")}) {
    const std::string attributes = real_attribute("temperature", value);
    bool malformed = false;
    const auto printed = attributes_json(attributes, kSpanAttributes, malformed)["temperature"];
    Entry entry = invented("llm.chat", "m");
    entry.attributes = attributes;
    NumberText number;
    EXPECT_EQ(label_or_attribute(entry, "temperature", number),
              printed.is_string() ? printed.get<std::string>() : printed.dump());
  }
}

TEST(LabelsAndAttributes, AreThoseThatTheOtherCommandsPrintIfAKeyIsRepeated) {
  const std::string attributes =
      text_attribute("xroute", "/x") + text_attribute("route", "/first") + text_attribute("route", "/second");
  bool malformed = false;
  EXPECT_EQ(attributes_json(attributes, kSpanAttributes, malformed)["route"], "/first");
  Entry entry = invented("llm.chat", "m");
  entry.attributes = attributes;
  NumberText number;
  EXPECT_EQ(label_or_attribute(entry, "route", number), "/first");
}

TEST(LabelsAndAttributes, IncludeTheResourceOfTheProcess) {
  Process process;
  process.comm = "server";
  process.host = "node-1";
  process.container = "4f5e6d";
  const auto value = [&](const char* key, std::string_view attributes = {}) {
    const ProcessPointer pointer = std::make_shared<const Process>(process);
    Entry entry = invented("llm.chat", "m");
    entry.process = &pointer;
    entry.attributes = attributes;
    NumberText number;
    return std::string(label_or_attribute(entry, key, number));
  };
  EXPECT_EQ(value("service.name"), "server");
  EXPECT_EQ(value("service.version"), "");
  EXPECT_EQ(value("host"), "node-1");
  EXPECT_EQ(value("container.id"), "4f5e6d");
  set_service(process, "checkout",
              "service.name=other,service.version=1.5.0,team=a%2Cb,host.name=node-17,x%00y=z,last=");
  EXPECT_EQ(value("service.name"), "checkout");
  EXPECT_EQ(value("service.version"), "1.5.0");
  EXPECT_EQ(value("team"), "a,b");
  EXPECT_EQ(value("host"), "node-17") << "what it declares counts";
  EXPECT_EQ(value("host.name"), "node-17");
  EXPECT_EQ(value("container.id"), "4f5e6d");
  EXPECT_EQ(value("y"), "") << "no value is taken for a key";
  EXPECT_EQ(value("last"), "");
  const std::string own = text_attribute("team", "of the span");
  EXPECT_EQ(value("team", own), "of the span");
  const ProcessPointer kept = with_short_texts([&] {
    process.cgroup = std::string(2000, 'x');
    return std::make_shared<const Process>(process);
  }());
  EXPECT_EQ(kept->declared, "") << "of many processes no more than short texts are kept";
  set_service(process, "", "team=a,malformed");
  EXPECT_EQ(value("team"), "");
}

// ---- Filters that match nothing

// A source that ticks for some time, and perhaps has something.
struct Ticks : Source {
  void run(Sink& sink, Deadline& /*until*/) override {
    if (has_entry) sink.on_entry(invented("a", ""));
    batches = sink.batches();
    EntryBatch batch;
    batch.entries = 2;
    if (has_batch) batches->on_batch(batch);
    for (std::uint64_t i = 0; i <= 10 * seconds; ++i) sink.on_tick(kNoon + i * kSecond / 10);
  }
  [[nodiscard]] Ledger ledger() const override { return {}; }
  [[nodiscard]] std::optional<TimeRange> times() const override { return TimeRange{kNoon, kNoon + seconds * kSecond}; }

  std::uint64_t seconds = 6;
  bool has_entry = false, has_batch = false;
  BatchSink* batches = nullptr;
};

struct Nowhere : Sink {
  void on_entry(const Entry& /*entry*/) override {}
  void on_tick(std::uint64_t /*now_unix_ns*/) override {}
};

// What is on stderr after a run.
std::string said(CommandRun& run, std::uint64_t seconds, bool has_entry = false,
                 std::function<bool()> has_matched = nullptr) {
  Nowhere nowhere;
  Ticks source;
  source.seconds = seconds;
  source.has_entry = has_entry;
  testing::internal::CaptureStderr();
  run.run(
      source, nowhere, [] { return Ledger(); }, std::move(has_matched));
  EXPECT_EQ(source.batches, nullptr);
  return testing::internal::GetCapturedStderr();
}

TEST(CommandRun, SaysOnceThatNothingHasMatchedForFiveSeconds) {
  const SourceOptions options;
  CommandRun run(options, {.request = "zzz", .errors = true});
  EXPECT_EQ(said(run, 4), "");
  EXPECT_EQ(said(run, 20), "nopspan: nothing has matched --request zzz --errors for 5 s\n");
  EXPECT_EQ(said(run, 20), "");
  EXPECT_EQ(run.exit_status(), 0) << "of a live source";
}

TEST(CommandRun, SaysNothingIfSomethingMatchedOrThereIsNoFilter) {
  const SourceOptions options;
  CommandRun all(options, {});
  EXPECT_EQ(said(all, 6), "");
  CommandRun matched(options, {.name = "a"});
  EXPECT_EQ(said(matched, 6, true), "");
  CommandRun traces(options, {.name = "a"});
  EXPECT_EQ(said(traces, 6, false, [] { return true; }), "");
}

TEST(CommandRun, SaysOnceWhichKeysNoEntryHas) {
  const SourceOptions options;
  const Grouping by = parse_grouping("name,modle,host,metohd");
  CommandRun run(options, {.where = {{"tennant", "acme"}, {"proces", "x"}}}, by, {"no\x1bsuch"});
  EXPECT_EQ(said(run, 6, true),
            "nopspan: no entry has had the key tennant for 5 s; did you mean tenant?\n"
            "nopspan: no entry has had the key proces for 5 s\n"
            "nopspan: no entry has had the key modle for 5 s; did you mean model?\n"
            "nopspan: no entry has had the key metohd for 5 s\n"
            "nopspan: no entry has had the key no\\x1bsuch for 5 s\n");
  EXPECT_EQ(said(run, 6, true), "");
  EXPECT_EQ(run.exit_status(), 0) << "of a live source";
  CommandRun grouped(options, {}, parse_grouping("proces"));
  EXPECT_EQ(said(grouped, 6, true), "nopspan: no entry has had the key proces for 5 s; did you mean process?\n");
  CommandRun known(options, {.where = {{"model", "m"}}}, parse_grouping("service.name,host"));
  EXPECT_EQ(said(known, 6, true), "nopspan: no entry has had the key model for 5 s\n") << "this entry has no model";
  CommandRun nothing(options, {}, by);
  EXPECT_EQ(said(nothing, 6), "") << "without an entry, no key is known to be wrong";
}

TEST(AskedKeys, RemembersABoundedNumberOfKeys) {
  for (const int others : {100, 300}) {
    AskedKeys keys({}, parse_grouping("color"), {});
    for (int i = 0; i <= others; ++i) {
      const std::string attributes = text_attribute(i < others ? "other" + std::to_string(i) : "colour", "x");
      Entry entry = invented("a", "");
      entry.attributes = attributes;
      keys.see(entry);
    }
    EXPECT_EQ(keys.text("", ""), others == 100 ? "nopspan:  color; did you mean colour?\n" : "nopspan:  color\n");
  }
}

TEST(CommandRun, TakesNoStepForAMatchOfARequest) {
  const SourceOptions options;
  CommandRun run(options, {.request = "zzz"});
  EXPECT_EQ(said(run, 6, true), "nopspan: nothing has matched --request zzz for 5 s\n");
}

TEST(CommandRun, PassesWholeBatchesOnToASinkThatTakesThem) {
  struct Batches : Nowhere, BatchSink {
    BatchSink* batches() override { return this; }
    void on_batch(const EntryBatch& batch) override { entries += batch.entries; }
    std::uint64_t entries = 0;
  } sink;
  const SourceOptions options;
  CommandRun run(options, {.pids = {4711}});
  Ticks source;
  source.has_batch = true;
  testing::internal::CaptureStderr();
  run.run(source, sink, [] { return Ledger(); });
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "something has matched";
  EXPECT_EQ(sink.entries, 2U);
}

TEST(CommandRun, FailsIfNothingInARecordingMatches) {
  SourceOptions options;
  options.from = "x.rec";
  bool has_matched = false;
  CommandRun run(options, {.tenant = "zzz"});
  EXPECT_EQ(said(run, 20, false, [&] { return has_matched; }), "") << "the time of a recording is not the user's";
  testing::internal::CaptureStderr();
  EXPECT_EQ(run.exit_status(), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "nopspan: nothing in x.rec matches --tenant zzz\n");
  has_matched = true;
  EXPECT_EQ(run.exit_status(), 0);
  CommandRun empty(options, {.since = "14:05"});
  said(empty, 1);
  testing::internal::CaptureStderr();
  EXPECT_EQ(empty.exit_status(), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "nopspan: nothing in x.rec matches --since 14:05; it was recorded from " + date_text(kNoon) + " to " +
                date_text(kNoon + kSecond) + "\n");
  said(empty, 1, true);
  testing::internal::CaptureStderr();
  EXPECT_EQ(empty.exit_status(), 0);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "nopspan: no entry in x.rec is outside --since 14:05; it was recorded from " + date_text(kNoon) + " to " +
                date_text(kNoon + kSecond) + "\n");
}

constexpr std::uint64_t kTime = 1'790'000'000 * kSecond;  // 2026-09-21T14:13:20Z

TEST(FilterOptions, KnowTimes) {
  setenv("TZ", "UTC-1", 1);  // one hour ahead of UTC. NOLINT: no other thread runs
  tzset();
  // Of a recording that ends then.
  const auto since = [](const std::string& text) {
    Filter filter = options_of({"--from", "x.rec", "--since", text}).filter;
    filter.set_times(kTime - 3600 * kSecond, kTime);
    return filter.since_unix_ns;
  };
  EXPECT_EQ(since("2026-09-21T14:13:20Z"), kTime);
  EXPECT_EQ(since("2026-09-21T16:13:20.5+02:00"), kTime + kSecond / 2);
  EXPECT_EQ(since("2026-09-21 15:13:20.25"), kTime + kSecond / 4);
  EXPECT_EQ(since("2026-09-21T15:13"), kTime - 20 * kSecond);
  EXPECT_EQ(since("10m"), kTime - 600 * kSecond);
  EXPECT_EQ(since("15:13"), kTime - 20 * kSecond);
  EXPECT_EQ(since("15:14"), kTime - 20 * kSecond + 60 * kSecond - 86'400 * kSecond) << "the day before";
  EXPECT_EQ(since("14:13Z"), kTime - 20 * kSecond);
  EXPECT_EQ(since("00:13-14:00"), kTime - 20 * kSecond);
  EXPECT_EQ(since("2600-01-01T00:00"), UINT64_MAX) << "later than 64 bits can hold";
  for (const char* wrong : {"", "x", "10", "2026-09-21", "2026-09-21T14:13:20ZZ", "2026-09-21T14:13:20+2", "25:00",
                            "2026-02-30T10:00", "14:05.5e9", "-1m", "1790000000000d"}) {
    EXPECT_THROW(since(wrong), CLI::ValidationError) << wrong;
  }
  EXPECT_THROW(options_of({"--since", "10m"}), CLI::RequiresError);
  const Filter both = options_of({"--from", "x.rec", "--since", "14:05", "--until", "14:10"}).filter;
  EXPECT_FALSE(both.empty());
  EXPECT_EQ(to_text(both), "--since 14:05 --until 14:10");
}

TEST(FilterOptions, KnowThatADayMayHave25Hours) {
  setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);  // NOLINT: no other thread runs
  tzset();
  constexpr std::uint64_t kEnd = 1'792'967'400 * kSecond;  // 2026-10-25T23:30:00+01:00
  Filter filter{.since = "23:45"};
  filter.set_times(kEnd - kSecond, kEnd);
  EXPECT_EQ(filter.since_unix_ns, kEnd - (24 * 60 + 45) * 60 * kSecond) << "in summer time";
  Filter until{.until = "00:30"};  // from an hour before midnight in summer time to 23:30 in winter time
  until.set_times(kEnd - 25 * 3600 * kSecond, kEnd);
  EXPECT_EQ(until.until_unix_ns, kEnd - 24 * 3600 * kSecond);
  Filter next{.until = "23:45"};
  next.set_times(kEnd - 3600 * kSecond, kEnd);
  EXPECT_EQ(next.until_unix_ns, kEnd + 15 * 60 * kSecond);
}

TEST(FilterOptions, SelectTheTimeOfDayThatIsInTheRecording) {
  setenv("TZ", "UTC", 1);  // NOLINT: no other thread runs
  tzset();
  constexpr std::uint64_t kMidnight = kTime - (14 * 3600 + 13 * 60 + 20) * kSecond, kHour = 3600 * kSecond;
  // From 22:00 to 01:00.
  const auto times = [](Filter filter) {
    filter.set_times(kMidnight - 2 * kHour, kMidnight + kHour);
    return std::pair(filter.since_unix_ns, filter.until_unix_ns);
  };
  EXPECT_EQ(times({}), std::pair(std::uint64_t{0}, UINT64_MAX));
  EXPECT_EQ(times({.since = "23:00", .until = "00:30"}), std::pair(kMidnight - kHour, kMidnight + kHour / 2));
  EXPECT_EQ(times({.since = "23:00", .until = "02:00"}), std::pair(kMidnight - kHour, kMidnight + 2 * kHour));
  EXPECT_EQ(times({.until = "02:00"}), std::pair(std::uint64_t{0}, kMidnight + 2 * kHour));
  EXPECT_EQ(times({.since = "2h", .until = "1h"}), std::pair(kMidnight - kHour, kMidnight));
  const auto are_idle = [](const Filter& filter) {
    return filter.has_idle_times(kMidnight - 2 * kHour, kMidnight + kHour);
  };
  EXPECT_TRUE(are_idle({.since = "21:00"}));
  EXPECT_TRUE(are_idle({.since = "21:00", .until = "01:30"}));
  EXPECT_FALSE(are_idle({.since = "21:00", .until = "00:30"}));
  EXPECT_FALSE(are_idle({.since = "23:00", .until = "01:30"}));
  EXPECT_FALSE(are_idle({.since = "30h"})) << "the last 30 hours are all that there is";
  EXPECT_FALSE(are_idle({}));
  EXPECT_FALSE(are_idle({.since = "2026-09-21T00:30Z", .until = "1h"}))
      << "in this order only for a pipe, which ends now";
  EXPECT_EQ(times({.since = "40000d"}).first, 0U) << "the clock does not go back so far";
  try {
    times({.since = "1h", .until = "2h"});
    FAIL();
  } catch (const Failure& failure) {
    EXPECT_STREQ(failure.what(), "--until 2h is not later than --since 1h");
    EXPECT_EQ(failure.exit_status, 2);
  }
}

TEST(FilterOptions, AreUnderstood) {
  const Filter filter = filter_of(
      {"--request", "a",        "--name",     "llm.chat",      "--model", "m",        "--pid",    "1",  "--pid",
       "2,3",       "--cgroup", "/x",         "--slower-than", "250ms",   "--errors", "--sample", "10", "--tenant",
       "acme",      "--where",  "route=/a=b", "--where",       "n=1",     "--error",  "timeout"});
  EXPECT_EQ(filter.request, "a");
  EXPECT_EQ(filter.name, "llm.chat");
  EXPECT_EQ(filter.model, "m");
  EXPECT_EQ(filter.pids, (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_EQ(filter.cgroup, "/x");
  EXPECT_EQ(filter.slower_than_ns, 250'000'000U);
  EXPECT_TRUE(filter.errors);
  EXPECT_EQ(filter.sample_one_in, 10U);
  EXPECT_EQ(filter.tenant, "acme");
  ASSERT_EQ(filter.where.size(), 2U);
  EXPECT_EQ(filter.where[0].key, "route");
  EXPECT_EQ(filter.where[0].value, "/a=b");
  EXPECT_EQ(filter.error_type, "timeout");
  EXPECT_FALSE(filter.empty());
  EXPECT_EQ(
      to_text(filter),
      "--request a --name llm.chat --model m --tenant acme --where route=/a=b --where n=1 --pid 1 --pid 2 --pid 3 "
      "--cgroup /x --slower-than 250ms --errors --error timeout --sample 10");
  for (const char* option : {"--tenant", "--error"}) EXPECT_FALSE(filter_of({option, "x"}).empty());
  EXPECT_FALSE(filter_of({"--where", "a=b"}).empty());
  EXPECT_FALSE(filter_of({"--sampled-only"}).empty());
  EXPECT_EQ(to_text(filter_of({"--sample", "2", "--sampled-only"})), "--sample 2 --sampled-only");
}

TEST(FilterOptions, RefuseTooManyConditions) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < Filter::kMostConditions; ++i) words.insert(words.end(), {"--where", "a=b"});
  EXPECT_EQ(filter_of(words).where.size(), Filter::kMostConditions);
  words.insert(words.end(), {"--where", "a=b"});
  EXPECT_THROW(filter_of(words), CLI::ParseError);
}

TEST(FilterOptions, NameACgroupAsTheKernelDoes) {
  for (const char* path : {"/x/y", "x/y", "x/y/", "./x/y", "//x//y", "x/./y", "x/z/../y", "/sys/fs/cgroup/x/y/"})
    EXPECT_EQ(filter_of({"--cgroup", path}).cgroup, "/x/y") << path;
  for (const char* path : {"/", ".", "..", "//", "/sys/fs/cgroup", "/sys/fs/cgroup/"})
    EXPECT_EQ(filter_of({"--cgroup", path}).cgroup, "/") << path;
  for (const char* other : {"x", "0123456789ab", "sys"}) EXPECT_EQ(filter_of({"--cgroup", other}).cgroup, other);
}

TEST(FilterOptions, RefuseWhatMakesNoSense) {
  for (const std::string words :
       {"--pid 0", "--pid -1", "--pid x", "--pid ", "--pid 99999999999", "--where x", "--where =x",
        "--where x=", "--tenant ", "--error ", "--sample 0", "--sample 1.5", "--slower-than soon"}) {
    const std::size_t space = words.find(' ');
    EXPECT_THROW(filter_of({words.substr(0, space), words.substr(space + 1)}), CLI::ParseError) << words;
  }
  EXPECT_THROW(filter_of({"--request"}), CLI::ParseError);
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
