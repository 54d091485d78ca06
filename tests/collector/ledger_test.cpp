// SPDX-License-Identifier: Apache-2.0
// The ledger: what became of every entry, as JSON, as text, and as Prometheus metrics.
#include "model/ledger.h"

#include "metric/ledger_metrics.h"
#include "metric/metric_text.h"

#include <nlohmann/json.hpp>

#include <gmock/gmock.h>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;
using testing::Not;

Counts every_count_another() {
  return {.emitted = 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256 + 512 + 2048 + 8192 + 16384 + 32768,
          .delivered = 2,
          .filtered = 4,
          .ring_full = 8,
          .unreadable = 16,
          .too_large = 32,
          .malformed = 64,
          .missed = 128,
          .discarded = 256,
          .no_memory = 8192,
          .over_limit = 16384,
          .reentrant = 32768,
          .export_dropped = 512,
          .not_in_file = 2048,
          .held_by_killed = 1024,
          .threads_at_attach = 4096,
          .attributes_dropped = 1 << 16,
          .links_dropped = 1 << 17,
          .members_dropped = 1 << 18};
}

ProcessLedger process_ledger(std::uint32_t pid, const std::string& comm, const Counts& counts,
                             std::uint64_t start = 0) {
  auto process = std::make_shared<Process>();
  process->pid = pid;
  process->start_ticks = start;
  process->comm = comm;
  return {process, counts};
}

TEST(Counts, CloseWhenEverythingIsAccountedFor) {
  Counts counts = every_count_another();
  EXPECT_EQ(counts.lost(), 8U + 16 + 32 + 64 + 128 + 256 + 512 + 2048 + 8192 + 16384 + 32768);
  EXPECT_TRUE(counts.is_balanced());
  ++counts.emitted;
  EXPECT_FALSE(counts.is_balanced());
}

TEST(Counts, AreAddedFieldByField) {
  Counts counts = every_count_another();
  counts += every_count_another();
  EXPECT_EQ(counts.emitted, 2 * every_count_another().emitted);
  EXPECT_EQ(counts.ring_full, 16U);
  EXPECT_EQ(counts.held_by_killed, 2048U);
  EXPECT_TRUE(counts.is_balanced());
}

TEST(Counts, DoNotWrapAround) {
  Counts counts, more;
  counts.emitted = more.emitted = UINT64_MAX - 10;
  counts.ring_full = more.ring_full = UINT64_MAX - 10;
  counts += more;
  EXPECT_EQ(counts.emitted, UINT64_MAX);
  EXPECT_EQ(counts.lost(), UINT64_MAX);
}

TEST(CountsAsJson, HaveEveryField) {
  EXPECT_EQ(
      to_json(every_count_another()).dump(),
      R"({"emitted":60414,"delivered":2,"filtered":4,"ring_full":8,"unreadable":16,"too_large":32,"malformed":64,)"
      R"("missed":128,"discarded":256,"no_memory":8192,"over_limit":16384,"reentrant":32768,)"
      R"("export_dropped":512,"not_in_file":2048,"held_by_killed":1024,)"
      R"("threads_at_attach":4096,"attributes_dropped":65536,"links_dropped":131072,"members_dropped":262144,)"
      R"("lost":60408,"balanced":true})");
}

TEST(LedgerAsJson, HasTheTotalAndEachProcess) {
  Ledger ledger{.processes = {process_ledger(7, "server", {.emitted = 3, .delivered = 3})},
                .others = {.emitted = 1, .delivered = 1},
                .others_processes = 2,
                .total = every_count_another()};
  const auto json = to_json(ledger);
  EXPECT_EQ(json["total"]["lost"], 60408);
  EXPECT_EQ(json["processes"].size(), 1U);
  EXPECT_EQ(json["processes"][0]["pid"], 7);
  EXPECT_EQ(json["processes"][0]["comm"], "server");
  EXPECT_EQ(json["processes"][0]["delivered"], 3);
  EXPECT_EQ(json["others"]["processes"], 2);
  EXPECT_EQ(json["others"]["delivered"], 1);
  EXPECT_FALSE(json.contains("damage"));
}

TEST(LedgerAsJson, HasTheDamageWhichSumsAddUp) {
  Ledger ledger{.damage = {.skipped_bytes = 1000, .broken_chunks = 2, .missing_ends = 1, .repeated_parts = 3}};
  const auto json = to_json(ledger);
  EXPECT_EQ(json["damage"].dump(), R"({"skipped_bytes":1000,"broken_chunks":2,"missing_ends":1,"repeated_parts":3})");
  EXPECT_EQ(ledger_of(json).damage, ledger.damage);
  LedgerSum sum;
  sum.add(ledger);
  sum.add(ledger_of(json));
  EXPECT_EQ(sum.ledger().damage.skipped_bytes, 2000U);
}

TEST(LedgerAsJson, CountsWhatItDoesNotNameOfWhatWasNotAttachedTo) {
  Ledger ledger, more;
  for (std::uint32_t pid = 1; pid <= Ledger::kMostUnattached; ++pid) ledger.unattached.push_back({"/lib", pid, "", ""});
  EXPECT_FALSE(to_json(ledger).contains("unattached_others"));
  EXPECT_THAT(to_text(ledger), HasSubstr("  not attached to in 251 others\n"));
  more.unattached = {{"/lib", 1, "", ""}, {"/lib", 1000, "", ""}, {"/lib", 1001, "", ""}};
  ledger.add_unattached(more);
  ledger.add_unattached(more);
  EXPECT_EQ(ledger.unattached.size(), Ledger::kMostUnattached);
  EXPECT_EQ(to_json(ledger)["unattached_others"], 2);
  LedgerSum sum;
  sum.add(ledger_of(to_json(ledger)));
  EXPECT_EQ(sum.ledger().unattached_others, 2U);
  EXPECT_THAT(to_text(ledger), HasSubstr("  not attached to in at least 253 others\n"));
}

TEST(LedgerAsJson, HasWhatWasNotAttachedTo) {
  Ledger ledger{
      .unattached = {{"/lib/libnopspan.so", 7, "hostile", "its semaphore"}, {"/bin/server", 0, "", "no permission"}}};
  const auto json = to_json(ledger);
  EXPECT_EQ(json["unattached"][0].dump(),
            R"({"pid":7,"comm":"hostile","path":"/lib/libnopspan.so","why":"its semaphore"})");
  EXPECT_EQ(to_json(ledger.unattached), json["unattached"]);
  EXPECT_EQ(ledger_of(json).unattached, ledger.unattached);
  LedgerSum sum;
  sum.add(ledger);
  sum.add(ledger_of(json));
  EXPECT_EQ(sum.ledger().unattached, ledger.unattached) << "each is named once";
  EXPECT_THAT(to_text(ledger), HasSubstr("  not attached to /lib/libnopspan.so in process 7 (hostile): its semaphore\n"
                                         "  not attached to /bin/server: no permission\n"));
}

TEST(Ledger, MovesWhatArrivedBeforeItsProcessWasExamined) {
  Ledger ledger;
  ledger.processes = {process_ledger(7, "other", {.emitted = 5, .delivered = 5}, 100),
                      process_ledger(8, "this", {.emitted = 10, .delivered = 10}, 200)};
  ledger.total = {.emitted = 15, .delivered = 15};
  ledger.move_delivered(process_ledger(8, "", {}).process, &Counts::filtered, 4);
  EXPECT_EQ(ledger.processes[0].counts.delivered, 5U);
  EXPECT_EQ(ledger.processes[1].counts.delivered, 6U);
  EXPECT_EQ(ledger.processes[1].counts.filtered, 4U);
  EXPECT_EQ(ledger.total.delivered, 11U);
  ledger.move_delivered(process_ledger(8, "later", {}, 300).process, &Counts::filtered, 4);
  EXPECT_EQ(ledger.total.delivered, 11U) << "another process with the same pid";
}

TEST(LedgerSum, HasARowForEachProcessUpToABound) {
  LedgerSum sum(2);
  Ledger ledger{.others = {.emitted = 1, .delivered = 1}, .others_processes = 1};
  for (std::uint32_t pid = 1; pid <= 4; ++pid) {
    const std::uint64_t entries = std::uint64_t{10} * pid;
    ledger.processes.push_back(process_ledger(pid, "p", {.emitted = entries, .delivered = entries}));
  }
  sum.add(ledger);
  const Ledger all = sum.ledger();
  ASSERT_EQ(all.processes.size(), 2U);
  EXPECT_EQ(all.processes[1].counts.delivered, 20U);
  EXPECT_EQ(all.others.delivered, 1U + 30 + 40);
  EXPECT_EQ(all.others_processes, 3U);
  EXPECT_EQ(all.total.delivered, 101U);
  EXPECT_TRUE(all.total.is_balanced());
}

TEST(LedgerSum, KnowsAProcessByItsHostItsPidItsStartAndItsInstance) {
  LedgerSum sum;
  const auto add = [&sum](std::uint32_t pid, std::uint64_t start_ticks, const std::string& host,
                          std::uint64_t instance = 0) {
    Process process = *process_ledger(pid, "p", {}, start_ticks).process;
    process.host = host;
    process.instance = instance;
    Ledger ledger;
    ledger.processes = {{std::make_shared<const Process>(std::move(process)), {.emitted = 2, .delivered = 2}}};
    sum.add(ledger);
  };
  add(7, 100, "host1");
  add(7, 100, "host1");  // the same process at another time
  add(7, 100, "host2");  // the same numbers on another host are another process
  add(7, 300, "host1");  // a reused pid is another process
  add(9, 0, "host1");
  add(9, 0, "host1");  // without a start time, this may be another process
  add(8, 100, "host1", 1);
  add(8, 100, "host1", 1);
  add(8, 100, "host1", 2);  // a copy is another process
  std::vector<std::string> all;
  for (const auto& [process, counts] : sum.ledger().processes) {
    all.push_back(process->host + " " + std::to_string(process->pid) + " " + std::to_string(process->start_ticks) +
                  ": " + std::to_string(counts.delivered));
  }
  EXPECT_THAT(all, testing::ElementsAre("host1 7 100: 4", "host1 7 300: 2", "host1 8 100: 4", "host1 8 100: 2",
                                        "host1 9 0: 2", "host1 9 0: 2", "host2 7 100: 2"));
}

TEST(LedgerSum, LeavesOutProcessesOfWhichThereIsNoEntry) {
  LedgerSum sum;
  const ProcessPointer process = process_ledger(1, "p", {}).process;
  sum.of(process).filtered = 0;
  EXPECT_TRUE(sum.ledger().processes.empty());
  sum.of(process) = {.emitted = 1, .filtered = 1};
  EXPECT_EQ(sum.ledger().processes.size(), 1U);
}

TEST(LedgerSum, AddsUpIfAProcessHasThreadsAndNoEntry) {
  LedgerSum sum;
  Ledger ledger{.processes = {process_ledger(1, "idle", {.threads_at_attach = 3}),
                              process_ledger(2, "busy", {.emitted = 1, .delivered = 1, .threads_at_attach = 4})}};
  sum.add(ledger);
  EXPECT_EQ(sum.ledger().total.threads_at_attach, 7U);
}

TEST(Ledger, TellsWhatOfTheTotalNoProcessHas) {
  Ledger ledger{.processes = {process_ledger(1, "p", {.emitted = 5, .delivered = 2, .missed = 3})},
                .total = {.emitted = 9, .delivered = 1, .missed = 7}};
  const Counts rest = ledger.rest();
  EXPECT_EQ(rest.emitted, 4U);
  EXPECT_EQ(rest.delivered, 0U);  // this total is inconsistent
  EXPECT_EQ(rest.missed, 4U);
}

TEST(LedgerAsText, IsALineWhenAllIsWell) {
  Ledger ledger{.processes = {process_ledger(7, "server", {.emitted = 3, .delivered = 3})},
                .total = {.emitted = 3, .delivered = 3}};
  EXPECT_EQ(to_text(ledger), "3 entries from 1 process: 3 delivered, none lost\n");
  ledger.total = {.emitted = 1, .filtered = 1};
  EXPECT_EQ(to_text(ledger), "1 entry from 1 process: 0 delivered, 1 filtered out, none lost\n");
  EXPECT_EQ(to_text(Ledger()), "0 entries from 0 processes: 0 delivered, none lost\n");
}

TEST(LedgerAsText, TellsHowManyThreadsWereRunningAtTheAttach) {
  Ledger ledger{.processes = {process_ledger(7, "server", {.emitted = 3, .delivered = 3, .threads_at_attach = 12})}};
  ledger.total = ledger.processes[0].counts;
  EXPECT_EQ(
      to_text(ledger_of(to_json(ledger))),
      "3 entries from 1 process: 3 delivered, none lost\n"
      "  12 threads were running at the attach: spans that had begun by then may be missing, and are not counted\n");
}

TEST(LedgerAsText, TellsEachLossAndItsReason) {
  Ledger ledger{.total = every_count_another()};
  const std::string text = to_text(ledger);
  EXPECT_NE(text.find("2 delivered, 4 filtered out, 60408 lost\n"), std::string::npos) << text;
  for (const char* count :
       {"\n  8 ", "\n  16 ", "\n  32 ", "\n  64 ", "\n  128 ", "\n  256 ", "\n  512 ", "\n  2048 ", "\n  8192 ",
        "\n  16384 ", "\n  32768 ",
        "\n  65536 attributes, 131072 links, 262144 members of entries dropped by the library", "at most 1024 more"}) {
    EXPECT_NE(text.find(count), std::string::npos) << count << " in " << text;
  }
  EXPECT_EQ(text.find("do not balance"), std::string::npos);
}

TEST(LedgerAsText, NeverSaysThatADamagedRecordingLostNothing) {
  Ledger ledger{.total = {.emitted = 3, .delivered = 3}};
  ledger.damage.missing_ends = 1;
  const std::string more =
      ", more may be missing: the recording is damaged, has no end, was not read to its end or repeats a part\n";
  EXPECT_EQ(
      to_text(ledger),
      "3 entries from 0 processes: 3 delivered, more may be missing: there is no end, or it was not read to its end\n");
  ledger.damage.broken_chunks = 1;
  EXPECT_EQ(to_text(ledger), "3 entries from 0 processes: 3 delivered" + more);
  ledger.total = {.emitted = 3, .delivered = 1, .not_in_file = 2};
  EXPECT_THAT(to_text(ledger), HasSubstr("1 delivered, 2 lost" + more));
}

TEST(LedgerAsText, SaysWhenItDoesNotClose) {
  Ledger ledger{.total = {.emitted = 5, .delivered = 3}};
  EXPECT_NE(to_text(ledger).find("the counts do not balance: 5 emitted, but 3 delivered, filtered out or lost"),
            std::string::npos);
}

TEST(LedgerAsText, NamesTheProcessesThatLostMostAsPlainText) {
  Ledger ledger;
  for (std::uint32_t i = 1; i <= 9; ++i) {
    ledger.processes.push_back(
        process_ledger(i, i == 8 ? "" : "p\x1b" + std::to_string(i), {.emitted = i, .ring_full = i}));
    ledger.total += ledger.processes.back().counts;
  }
  EXPECT_NE(
      to_text(ledger).find("  lost by process: 9 p\\x1b9 9, 8 (unknown) 8, 7 p\\x1b7 7, 6 p\\x1b6 6, 5 p\\x1b5 5, …\n"
                           "  without process 9: 36 of 36 entries lost\n"),
      std::string::npos)
      << to_text(ledger);
}

struct Metered {
  // The ledger's total is the sum of its processes.
  std::string text(Ledger ledger) {
    for (const ProcessLedger& one : ledger.processes) ledger.total += one.counts;
    metrics.write(ledger);
    return prometheus_text(registry.snapshot());
  }

  MetricRegistry registry;
  LedgerMetrics metrics{registry};
};

std::string lost_of(const std::string& pid, const std::string& comm, const std::string& reason, std::uint64_t lost) {
  return "\nnopspan_process_lost_total{pid=\"" + pid + "\",comm=\"" + comm + "\",reason=\"" + reason + "\"} " +
         std::to_string(lost) + "\n";
}

TEST(LedgerMetrics, HaveEveryCountOfTheHostAndTheLossesOfAProcess) {
  Ledger ledger{.processes = {process_ledger(7, "server", every_count_another())}, .others_processes = 2};
  const std::string text = Metered().text(ledger);
  const std::pair<const char*, int> losses[] = {{"ring_full", 8},        {"unreadable", 16},    {"too_large", 32},
                                                {"malformed", 64},       {"missed", 128},       {"discarded", 256},
                                                {"no_memory", 8192},     {"over_limit", 16384}, {"reentrant", 32768},
                                                {"export_dropped", 512}, {"not_in_file", 2048}};
  for (const auto& [reason, count] : losses) {
    EXPECT_THAT(text, HasSubstr("\nnopspan_entries_lost_total{reason=\"" + std::string(reason) + "\"} " +
                                std::to_string(count) + "\n"));
    EXPECT_THAT(text, HasSubstr(lost_of("7", "server", reason, static_cast<std::uint64_t>(count))));
  }
  EXPECT_THAT(text, HasSubstr(lost_of("7", "server", "link", 131072)));
  for (const char* const line :
       {"entries_emitted_total 60414", "entries_delivered_total 2", "entries_filtered_total 4",
        "entries_held_by_killed_total 1024", "processes_total 3", R"(parts_dropped_total{part="link"} 131072)"}) {
    EXPECT_THAT(text, HasSubstr("\nnopspan_" + std::string(line) + "\n"));
  }
  EXPECT_THAT(text, HasSubstr("# TYPE nopspan_entries_lost_total counter\n"));
}

// Many hosts have many processes, and readers of metrics pay for each series.
TEST(LedgerMetrics, HaveNoSeriesOfAProcessThatLostNothing) {
  Ledger ledger{.processes = {process_ledger(7, "server", {.emitted = 5, .delivered = 5})}};
  const std::string text = Metered().text(ledger);
  EXPECT_THAT(text, Not(HasSubstr("pid=")));
  EXPECT_THAT(text, HasSubstr("\nnopspan_entries_lost_total{reason=\"ring_full\"} 0\n")) << "for rates";
}

TEST(LedgerMetrics, HaveWholeNumbersWhereTheyAreLarge) {
  Ledger ledger;
  ledger.total.delivered = 9'007'199'254'740'992;  // 2^53
  EXPECT_THAT(Metered().text(ledger), HasSubstr("\nnopspan_entries_delivered_total 9007199254740992\n"));
}

// A process may have any name, but a row must stay on one line.
TEST(LedgerMetrics, AreNotBrokenByACommandsName) {
  Ledger ledger{.processes = {process_ledger(7, "a\"b\\c\nd\xff", {.emitted = 5, .missed = 5}, 1)}};
  EXPECT_THAT(Metered().text(ledger), HasSubstr(lost_of("7", R"(a\"b\\c\\x0ad\\xff)", "missed", 5)));
}

// Two rows with equal labels would make the whole file invalid.
TEST(LedgerMetrics, HaveOneRowOfTwoProcessesThatHadTheSamePid) {
  Ledger ledger{.processes = {process_ledger(7, "server", {.emitted = 5, .missed = 5}, 1),
                              process_ledger(7, "server", {.emitted = 20, .missed = 20}, 2)}};
  EXPECT_THAT(Metered().text(ledger), HasSubstr(lost_of("7", "server", "missed", 25)));
}

TEST(LedgerMetrics, BoundTheirRowsAndKeepThem) {
  Metered metered;
  Ledger ledger;
  constexpr std::uint32_t kMost = LedgerMetrics::kMostProcesses;
  for (std::uint32_t pid = 1; pid <= kMost + 1; ++pid) {
    ledger.processes.push_back(process_ledger(pid, "a", {.emitted = 10, .missed = 10}, pid));
  }
  const std::string last = std::to_string(kMost), other = std::to_string(kMost + 1);
  std::string text = metered.text(ledger);
  EXPECT_THAT(text, HasSubstr(lost_of(last, "a", "missed", 10)));
  EXPECT_THAT(text, Not(HasSubstr("pid=\"" + other + "\"")));
  std::swap(ledger.processes[kMost - 1], ledger.processes[kMost]);
  EXPECT_THAT(metered.text(ledger), HasSubstr(lost_of(last, "a", "missed", 10)));
  ledger.processes.erase(ledger.processes.begin());
  ledger.processes[0].counts = {.emitted = 10, .delivered = 9, .ring_full = 1};  // what was missing has arrived
  text = metered.text(ledger);
  EXPECT_THAT(text, Not(HasSubstr("pid=\"1\"")));
  EXPECT_THAT(text, Not(HasSubstr("pid=\"2\",comm=\"a\",reason=\"missed\"")));
  EXPECT_THAT(text, HasSubstr(lost_of(other, "a", "missed", 10)));
}

}  // namespace
}  // namespace nopspan::collector
