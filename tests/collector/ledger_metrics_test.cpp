// SPDX-License-Identifier: Apache-2.0
// The ledger as Prometheus metrics: every number is exported, and no counter decreases.
#include "model/ledger_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;
using testing::Not;

ProcessLedger process_ledger(std::uint32_t pid, std::uint64_t start, const std::string& comm, std::uint64_t delivered) {
  auto process = std::make_shared<Process>();
  process->pid = pid;
  process->start_ticks = start;
  process->comm = comm;
  return {process, {.emitted = delivered, .delivered = delivered}};
}

std::string delivered_of(const std::string& pid, const std::string& comm, std::uint64_t delivered) {
  return "\nnopspan_entries_delivered_total{pid=\"" + pid + "\",comm=\"" + comm + "\"} " + std::to_string(delivered) +
         "\n";
}

TEST(LedgerMetrics, HaveEveryCount) {
  Ledger ledger;
  auto process = std::make_shared<Process>();
  process->pid = 7;
  process->comm = "server";
  ledger.processes.push_back({process,
                              {.emitted = 1022,
                               .delivered = 2,
                               .filtered = 4,
                               .ring_full = 8,
                               .unreadable = 16,
                               .too_large = 32,
                               .malformed = 64,
                               .missed = 128,
                               .discarded = 256,
                               .export_dropped = 512,
                               .held_by_killed = 1024}});
  ledger.others_processes = 2;
  const std::string text = LedgerMetrics(4096).text(ledger, 3);
  const std::string server = "{pid=\"7\",comm=\"server\"} ", lost = "{pid=\"7\",comm=\"server\",reason=\"";
  for (const std::string& line : std::vector<std::string>{
           "nopspan_entries_emitted_total" + server + "1022", "nopspan_entries_delivered_total" + server + "2",
           "nopspan_entries_filtered_total" + server + "4", "nopspan_entries_lost_total" + lost + "ring_full\"} 8",
           "nopspan_entries_lost_total" + lost + "unreadable\"} 16",
           "nopspan_entries_lost_total" + lost + "too_large\"} 32",
           "nopspan_entries_lost_total" + lost + "malformed\"} 64",
           "nopspan_entries_lost_total" + lost + "missed\"} 128",
           "nopspan_entries_lost_total" + lost + "discarded\"} 256",
           "nopspan_entries_lost_total" + lost + "export_dropped\"} 512",
           "nopspan_entries_held_by_killed_total" + server + "1024", "nopspan_processes_total 3",
           "nopspan_metrics_failed_writes_total 3", "nopspan_buffer_bytes 4096"}) {
    EXPECT_THAT(text, HasSubstr("\n" + line + "\n"));
  }
  EXPECT_THAT(text, HasSubstr("# TYPE nopspan_entries_lost_total counter\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE nopspan_buffer_bytes gauge\n"));
}

TEST(LedgerMetrics, HaveWholeNumbersWhereTheyAreLarge) {
  Ledger ledger;
  ledger.others.delivered = 9'007'199'254'740'992;  // 2^53
  EXPECT_THAT(LedgerMetrics(0).text(ledger, 0), HasSubstr(delivered_of("other", "other", 9'007'199'254'740'992)));
}

TEST(LedgerMetrics, TellNothingOfABufferWhereThereIsNone) {
  EXPECT_THAT(LedgerMetrics(0).text({}, 0), Not(HasSubstr("nopspan_buffer_bytes")));
}

// A process may have any name, but a row must stay on one line.
TEST(LedgerMetrics, AreNotBrokenByACommandsName) {
  Ledger ledger;
  ledger.processes.push_back(process_ledger(7, 1, "a\"b\\c\nd\xff", 5));
  EXPECT_THAT(LedgerMetrics(0).text(ledger, 0), HasSubstr(delivered_of("7", R"(a\"b\\c\\x0ad\\xff)", 5)));
}

// Two rows with equal labels would make the whole file invalid.
TEST(LedgerMetrics, HaveOneRowOfTwoProcessesThatHadTheSamePid) {
  Ledger ledger;
  ledger.processes.push_back(process_ledger(7, 1, "server", 5));
  ledger.processes.push_back(process_ledger(7, 2, "server", 20));
  EXPECT_THAT(LedgerMetrics(0).text(ledger, 0), HasSubstr(delivered_of("7", "server", 25)));
}

TEST(LedgerMetrics, BoundTheirRows) {
  Ledger ledger;
  constexpr std::uint32_t kMost = LedgerMetrics::kMostProcesses;
  ledger.others.delivered = 1000;
  for (std::uint32_t pid = 1; pid <= kMost + 2; ++pid) ledger.processes.push_back(process_ledger(pid, pid, "a", 10));
  const std::string text = LedgerMetrics(0).text(ledger, 0);
  EXPECT_THAT(text, HasSubstr(delivered_of(std::to_string(kMost), "a", 10)));
  EXPECT_THAT(text, Not(HasSubstr("pid=\"" + std::to_string(kMost + 1) + "\"")));
  EXPECT_THAT(text, HasSubstr(delivered_of("other", "other", 1020)));
}

TEST(LedgerMetrics, LeaveAmongTheOthersWhoWasThere) {
  constexpr std::uint32_t kMost = LedgerMetrics::kMostProcesses;
  LedgerMetrics metrics(0);
  Ledger ledger;
  for (std::uint32_t pid = 1; pid <= kMost + 1; ++pid) ledger.processes.push_back(process_ledger(pid, pid, "a", 10));
  metrics.text(ledger, 0);
  // The first process's row is free now. A new process gets it, but not the process that was counted among the others.
  ledger.others.delivered = 10;
  ledger.processes.erase(ledger.processes.begin());
  ledger.processes.push_back(process_ledger(999, 999, "next", 7));
  const std::string text = metrics.text(ledger, 0);
  EXPECT_THAT(text, HasSubstr(delivered_of("other", "other", 20)));
  EXPECT_THAT(text, HasSubstr(delivered_of("999", "next", 7)));
}

}  // namespace
}  // namespace nopspan::collector
