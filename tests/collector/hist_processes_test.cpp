// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_processes.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

Counts hits_of(std::uint64_t hits) { return {.emitted = hits, .delivered = hits}; }

// A host whose kernel has counted, and what its /proc tells.
class HistProcessesTest : public testing::Test {
 protected:
  void runs(std::uint32_t pid, std::uint64_t start_ticks, const std::string& command) {
    auto process = std::make_shared<Process>();
    process->pid = pid;
    process->start_ticks = start_ticks;
    process->command = command;
    running_[pid] = process;
  }

  void look() {
    processes_.look_at(hits_, [this](std::uint32_t pid) {
      if (const auto found = running_.find(pid); found != running_.end()) return found->second;
      auto unknown = std::make_shared<Process>();
      unknown->pid = pid;
      return ProcessPointer(unknown);
    });
  }

  // "command pid: hits" of each process, and of the others together.
  [[nodiscard]] std::vector<std::string> told() const {
    const Ledger ledger = processes_.ledger();
    EXPECT_TRUE(ledger.total.closes());
    std::vector<std::string> all;
    for (const auto& [process, counts] : ledger.processes) {
      EXPECT_TRUE(counts.closes());
      all.push_back(process->command + " " + std::to_string(process->pid) + ": " + std::to_string(counts.delivered));
    }
    if (!ledger.others.empty()) {
      all.push_back(std::to_string(ledger.others_processes) + " others: " + std::to_string(ledger.others.delivered));
    }
    return all;
  }

  using Told = std::vector<std::string>;
  std::map<std::uint32_t, ProcessPointer> running_;
  HistHits hits_;
  HistProcesses processes_;
};

TEST_F(HistProcessesTest, AreNamedAsProcTellsOrElseAsTheKernelSaw) {
  runs(70, 1, "server");
  hits_.processes = {{7, 70, "thread", hits_of(3)}, {8, 80, "canary", hits_of(1)}};
  look();
  EXPECT_EQ(told(), (Told{"server 70: 3", "canary 80: 1"}));
  EXPECT_EQ(processes_.ledger().total.delivered, 4U);
}

TEST_F(HistProcessesTest, AreTheSameAfterTheyExecutedAnotherProgramOrEnded) {
  runs(7, 1, "sh");
  hits_.processes = {{7, 7, "sh", hits_of(3)}};
  look();
  runs(7, 1, "server");
  hits_.processes[0].counts = hits_of(5);
  look();
  EXPECT_EQ(told(), Told{"server 7: 5"});
  running_.clear();
  hits_.processes[0].counts = hits_of(6);
  look();
  EXPECT_EQ(told(), Told{"server 7: 6"});
}

TEST_F(HistProcessesTest, KeepWhatWasCountedBeforeAnotherOneGotTheirNumber) {
  runs(7, 1, "first");
  hits_.processes = {{7, 7, "first", hits_of(3)}};
  look();
  runs(7, 2, "plain");  // it has no span
  look();
  look();
  EXPECT_EQ(told(), Told{"first 7: 3"});
  runs(7, 3, "third");
  hits_.processes[0].counts = hits_of(10);
  look();
  EXPECT_EQ(told(), (Told{"first 7: 3", "third 7: 7"}));
  EXPECT_EQ(processes_.ledger().total.delivered, 10U);
}

TEST_F(HistProcessesTest, AreOthersWhereTheyHaveNoNumberHereOrFoundNoRoom) {
  runs(7, 1, "server");
  hits_.processes = {{7, 7, "server", hits_of(3)}, {8, 0, "elsewhere", hits_of(4)}, {9, 0, "elsewhere", hits_of(5)}};
  hits_.others = hits_of(6);
  look();
  look();  // nothing is added twice
  EXPECT_EQ(told(), (Told{"server 7: 3", "2 others: 15"}));
}

TEST_F(HistProcessesTest, AreOthersWhenVeryManyHadOneNumber) {
  constexpr std::uint64_t kAll = HistProcesses::kMostEnded + 3;
  for (std::uint64_t i = 1; i <= kAll; ++i) {
    runs(7, i, "short");
    hits_.processes = {{7, 7, "short", hits_of(i)}};
    look();
  }
  const Ledger ledger = processes_.ledger();
  EXPECT_EQ(ledger.processes.size(), HistProcesses::kMostEnded + 1);
  EXPECT_EQ(ledger.others.delivered, 2U);
  EXPECT_EQ(ledger.others_processes, 2U);
  EXPECT_EQ(ledger.total.delivered, kAll);
}

}  // namespace
}  // namespace nopspan::collector
