// SPDX-License-Identifier: Apache-2.0
// Attachments with a kernel that refuses what a test wants it to refuse. This program is the file with probes.
#include "live/attachments.h"

#include "host/obstacles.h"
#include "stream/clock_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kHour = 3'600'000'000'000;

struct AttachmentsTest : testing::Test {
  // Attaches to everything that is due.
  std::vector<int> attach(std::uint64_t later_ns = 0) {
    std::vector<int> fresh;
    for (const auto& target :
         attachments.set(attachments.targets_for(found, mappers, others, monotonic_now() + later_ns))) {
      fresh.push_back(target.pid);
    }
    return fresh;
  }
  OpenFile open_link(int pid, WhyNot& why_not) {
    asked.push_back(pid);
    if (slow == pid) std::this_thread::sleep_for(std::chrono::milliseconds(60));
    if (const auto refused = errors.find(pid); refused != errors.end()) {
      why_not = why_not_attached(refused->second);
      return {};
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return {};
    links[pid] = OpenFile(ends[0]);
    return OpenFile(ends[1]);
  }
  // Whether anybody has the last link that was made.
  [[nodiscard]] bool has_link(int pid) const {
    pollfd end{links.at(pid).get(), 0, 0};
    return poll(&end, 1, 0) == 0;
  }
  [[nodiscard]] bool is_attached(int pid) const { return attachments.is_attached(*found.file, pid); }

  Host::Found found{ProbeFile::read(open_regular("/proc/self/exe")), "/file", 0, {}};
  std::vector<Host::Mapper> mappers = {{10, 1, 0, "ten"}, {11, 1, 0, "eleven"}};
  Attachments::Others others;
  std::map<int, int> errors;  // by pid; -1 for all together
  int slow = 0;               // attaching to it takes longer than set() may
  std::vector<int> asked, held;
  std::map<int, OpenFile> links;
  Attachments attachments{[this](const ProbeFile&, int pid, WhyNot& why_not) { return open_link(pid, why_not); },
                          [this](const ProbeFile&, int pid, WhyNot&) {
                            held.push_back(pid);
                            return OpenFile(open("/dev/null", O_RDONLY | O_CLOEXEC));
                          }};
};

TEST_F(AttachmentsTest, AttachesToAllProcessesTogether) {
  EXPECT_EQ(attach(), std::vector{-1});
  EXPECT_EQ(asked, std::vector{-1});
  EXPECT_TRUE(attachments.is_traced(*found.file, 10));
  EXPECT_FALSE(attachments.has_alone());
  EXPECT_TRUE(attachments.unattached().unattached.empty());
}

TEST_F(AttachmentsTest, AttachesToEachProcessAloneIfOneStandsInTheWay) {
  errors = {{-1, EINVAL}, {11, EINVAL}};
  EXPECT_EQ(attach(), std::vector<int>());
  EXPECT_EQ(attachments.apart(), 1U);
  EXPECT_FALSE(attachments.has_failed({}));
  EXPECT_EQ(attach(), std::vector{10});
  mappers.push_back({12, 1, 0, "new"});
  EXPECT_EQ(attach(), std::vector{12});
  ASSERT_EQ(attachments.unattached().unattached.size(), 1U);
  const Unattached one = attachments.unattached().unattached.front();
  EXPECT_EQ(std::tuple(one.pid, one.comm, one.path), std::tuple(11U, "eleven", "/file"));
  EXPECT_NE(one.why.find("negative"), std::string::npos);
  EXPECT_FALSE(attachments.has_failed({}));
  EXPECT_TRUE(attachments.has_failed({10, 11}));
}

TEST_F(AttachmentsTest, SaysThatAProcessIsLeftToTheNextCall) {
  errors = {{-1, EINVAL}, {10, EINVAL}};
  slow = 10;
  EXPECT_EQ(attach(), std::vector<int>());
  EXPECT_FALSE(attachments.is_behind());
  EXPECT_EQ(attach(), std::vector<int>()) << "the refusal took the time";
  EXPECT_TRUE(attachments.is_behind());
  EXPECT_EQ(attach(), std::vector{11});
  EXPECT_FALSE(attachments.is_behind());
}

TEST_F(AttachmentsTest, AttachesTogetherAgainBeforeItDetachesFromEach) {
  errors = {{-1, EINVAL}, {11, EINVAL}};
  attach();
  attach();
  attach(kHour);
  EXPECT_FALSE(is_attached(-1)) << "11 still stands in the way";
  errors.clear();
  mappers.pop_back();
  EXPECT_EQ(attach(), std::vector<int>()) << "there is a pause";
  EXPECT_EQ(attach(kHour), std::vector{-1});
  EXPECT_TRUE(is_attached(10));
  attach();
  EXPECT_TRUE(is_attached(-1));
  EXPECT_FALSE(is_attached(10));
  EXPECT_EQ(attachments.apart(), 0U);
  EXPECT_EQ(attachments.unattached().unattached.size(), 1U) << "what 11 emitted is still in no count";
}

TEST_F(AttachmentsTest, KeepsTheLinksToEachIfItFailsAgain) {
  errors = {{-1, EINVAL}};
  attach();
  attach();
  attach(kHour);
  EXPECT_EQ(asked.back(), -1);
  EXPECT_TRUE(is_attached(10));
  EXPECT_TRUE(is_attached(11));
}

TEST_F(AttachmentsTest, DoesNotAskForAProcessWithManyMappings) {
  mappers[1].mappings = kMostMappings + 1;
  EXPECT_EQ(attach(), std::vector{10});
  EXPECT_EQ(asked, std::vector{10});
  ASSERT_EQ(attachments.unattached().unattached.size(), 1U);
  EXPECT_EQ(attachments.unattached().unattached.front().pid, 11U);
  // It has unmapped them, so nothing stands in the way.
  mappers[1].mappings = kMostMappings;
  EXPECT_EQ(attach(), std::vector{-1});
  EXPECT_TRUE(is_attached(10));
}

TEST_F(AttachmentsTest, DoesNotAskForAProcessWhereTheKernelWouldSearchLong) {
  mappers[1].mappings = 60;
  mappers[1].all_mappings = 60'000;
  EXPECT_EQ(attach(), std::vector{10});
  ASSERT_EQ(attachments.unattached().unattached.size(), 1U);
  EXPECT_NE(attachments.unattached().unattached.front().why.find("60 times among 60000 mappings"), std::string::npos);
}

TEST_F(AttachmentsTest, AttachesToEachAloneIfTheKernelWouldSearchLongInAllTogether) {
  const Host::Mapper costly{0, 5, 0, "costly", 60'000};
  for (std::uint32_t pid = 12; mappers.size() < 7; ++pid) (mappers.emplace_back(costly)).pid = pid;
  EXPECT_EQ(attach(), std::vector{-1});
  attachments.set({});
  while (mappers.size() < 12) (mappers.emplace_back(costly)).pid = 10 + static_cast<std::uint32_t>(mappers.size());
  EXPECT_EQ(attach().size(), 12U) << "each of them is attached to";
}

TEST_F(AttachmentsTest, AttachesToEachAloneUntilAllAreCounted) {
  others.have_uncounted = true;
  EXPECT_EQ(attach(), (std::vector{10, 11}));
  others.have_uncounted = false;
  EXPECT_EQ(attach(), std::vector{-1});
  EXPECT_EQ(attach(), std::vector<int>());
  EXPECT_FALSE(is_attached(10));
}

TEST_F(AttachmentsTest, AttachesToEachAloneBeforeItDetachesFromAProcessThatIsLeftOut) {
  mappers.push_back({12, 1, 0, "left out later"});
  EXPECT_EQ(attach(), std::vector{-1});
  mappers.pop_back();
  others.are_not_wanted = true;
  EXPECT_EQ(attach(), (std::vector{10, 11}));
  EXPECT_TRUE(is_attached(-1));
  EXPECT_EQ(attach(), std::vector<int>());
  EXPECT_FALSE(is_attached(-1));
  EXPECT_TRUE(is_attached(10));
  mappers.push_back({13, 1, 0, "new"});
  EXPECT_EQ(attach(), std::vector{13});
  others.are_not_wanted = false;
  EXPECT_EQ(attach(), std::vector{-1}) << "nobody is left out any more";
  attach();
  EXPECT_FALSE(is_attached(10));
}

TEST_F(AttachmentsTest, DetachesFromAProcessThatIsLeftOutEvenIfAnotherCannotBeAttachedToAlone) {
  attach();
  mappers.pop_back();
  others.are_not_wanted = true;
  errors = {{10, EINVAL}};
  attach();
  attach();
  EXPECT_FALSE(is_attached(-1));
  EXPECT_EQ(attachments.unattached().unattached.size(), 1U);
}

TEST_F(AttachmentsTest, AttachesToEachAloneIfAllHaveManyMappings) {
  while (mappers.size() * kMostMappings <= Attachments::kMostTogether) mappers.push_back(mappers.back());
  for (std::uint32_t i = 0; i < mappers.size(); ++i) mappers[i] = {10 + i, kMostMappings, 0, "many"};
  EXPECT_GE(attach().size(), 1U);
  EXPECT_EQ(asked.front(), 10);
}

TEST_F(AttachmentsTest, DoesNotAskAtAllForTooManyMappings) {
  mappers.push_back({12, Attachments::kMostAtAll, 0, "most"});
  EXPECT_EQ(attach(), std::vector<int>());
  EXPECT_EQ(asked, std::vector<int>());
  EXPECT_EQ(attachments.unattached().unattached.size(), 3U);
  EXPECT_TRUE(attachments.has_failed({}));
  mappers.pop_back();
  EXPECT_EQ(attach(), std::vector{-1});
  EXPECT_FALSE(attachments.has_failed({}));
}

TEST_F(AttachmentsTest, DoesNotTryEachProcessWithoutPermission) {
  errors = {{-1, EPERM}};
  attach();
  attach();
  EXPECT_EQ(asked, std::vector{-1});
  EXPECT_TRUE(attachments.has_failed({}));
  ASSERT_EQ(attachments.unattached().unattached.size(), 1U);
  EXPECT_EQ(attachments.unattached().unattached.front().pid, 0U);
}

TEST_F(AttachmentsTest, CountsTheProcessesThatItDoesNotName) {
  errors = {{-1, EINVAL}};
  for (std::uint32_t pid = 12; mappers.size() < Ledger::kMostUnattached + 3; ++pid) mappers.push_back({pid, 1, 0, ""});
  for (const Host::Mapper& mapper : mappers) errors[static_cast<int>(mapper.pid)] = EINVAL;
  do attach(kHour);
  while (attachments.is_behind() || asked.size() <= mappers.size());
  EXPECT_EQ(attachments.unattached().unattached.size(), Ledger::kMostUnattached);
  EXPECT_EQ(attachments.unattached().unattached_others, 3U);
}

TEST_F(AttachmentsTest, SaysNothingOfAProcessThatHasEnded) {
  errors = {{-1, EINVAL}, {11, ESRCH}};
  attach();
  attach();
  EXPECT_TRUE(attachments.unattached().unattached.empty());
}

TEST_F(AttachmentsTest, AttachesAgainToAProcessThatExecutesAnotherProgram) {
  errors = {{-1, EINVAL}};
  mappers[0].program = 1;
  attach();
  EXPECT_EQ(attach(), (std::vector{10, 11}));
  mappers[0].program = 2;
  EXPECT_EQ(attach(), std::vector{10});
  mappers[0].program = 0;  // it is not known for a while
  EXPECT_EQ(attach(), std::vector<int>());
  mappers[0].program = 2;
  EXPECT_EQ(attach(), std::vector<int>());
}

TEST_F(AttachmentsTest, KeepsTheLinkToAFormerProgramUntilThereIsAnother) {
  errors = {{-1, EINVAL}};
  mappers[0].program = 1;
  attach();
  attach();
  mappers[0].program = 2;
  errors[10] = EINVAL;
  EXPECT_EQ(attach(), std::vector<int>());
  EXPECT_TRUE(has_link(10));
  EXPECT_TRUE(attachments.has_failed({10}));
  errors.erase(10);
  EXPECT_EQ(attach(), std::vector<int>()) << "there is a pause";
  EXPECT_TRUE(is_attached(10));
  // To close it would stop all forks, so it stays although nothing else is attached to the program.
  mappers[0].program = 3;
  mappers[0].mappings = 50'000;
  attach();
  EXPECT_TRUE(has_link(10));
  EXPECT_NE(attachments.unattached().unattached.front().why.find("50000 times"), std::string::npos);
}

TEST_F(AttachmentsTest, KeepsALinkOnWhichAHeldProcessDepends) {
  attach();
  // It has made more mappings than can be held at once.
  mappers[1] = {static_cast<std::uint32_t>(getpid()), 50'000, 0, "grown"};
  attach();
  EXPECT_EQ(held, std::vector<int>());
  attachments.set({});  // the file is gone, or nobody maps it as far as can be seen
  EXPECT_FALSE(is_attached(-1));
  EXPECT_TRUE(has_link(-1));
}

TEST_F(AttachmentsTest, KnowsTwoFilesWithTheSamePath) {
  const Host::Found other{ProbeFile::read(open_regular(NOPSPAN_LIBRARY)), found.path, 0, {}};
  const auto attach_to_both = [&] {
    auto targets = attachments.targets_for(found, mappers, {}, monotonic_now() + kHour);
    const auto of_other = attachments.targets_for(other, {}, {}, monotonic_now() + kHour);
    targets.insert(targets.end(), of_other.begin(), of_other.end());
    attachments.set(targets);
  };
  attach();
  errors = {{-1, EPERM}};
  attach_to_both();
  EXPECT_TRUE(attachments.has_failed({})) << "the other file";
  attachments.set({});
  errors.clear();
  attach();
  EXPECT_TRUE(attachments.has_failed({}));
}

TEST_F(AttachmentsTest, HasNotFailedIfAFileWasAttachedToBefore) {
  attach();
  attachments.set({});  // nobody maps it any more
  errors = {{-1, EPERM}};
  attach();
  EXPECT_EQ(attachments.unattached().unattached.size(), 1U);
  EXPECT_FALSE(attachments.has_failed({}));
}

TEST_F(AttachmentsTest, SaysWhenItIsAttachedAfterAFailure) {
  errors = {{-1, EMFILE}};
  testing::internal::CaptureStderr();
  attach();
  errors.clear();
  while (attach().empty()) {
  }
  EXPECT_TRUE(testing::internal::GetCapturedStderr().ends_with("nopspan: attached to /file now\n"));
  EXPECT_FALSE(attachments.has_failed({}));
}

// A user makes a file come and go by opening it for writing.
TEST_F(AttachmentsTest, SaysTheSameOnceIfTheFileComesAndGoes) {
  errors = {{-1, EINVAL}, {10, EINVAL}};
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    attach();
    attach();
    attachments.set({});
  }
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2) << said;
}

TEST_F(AttachmentsTest, LooksOnceAtEachOfManyProcessesThatMapTheFileOften) {
  attach();
  mappers.clear();
  for (int i = 0; i < 70; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      while (true) pause();
    }
    mappers.push_back({static_cast<std::uint32_t>(child), kMostMappings + 1, 0, "grown"});
  }
  for (int i = 0; i < 3; ++i) attach();
  EXPECT_EQ(held.size(), 64U);
  EXPECT_FALSE(attachments.is_due(attachments.targets_for(found, mappers, {}, monotonic_now()), monotonic_now()));
  for (const Host::Mapper& mapper : mappers) kill(static_cast<pid_t>(mapper.pid), SIGKILL);
  for (const Host::Mapper& mapper : mappers) waitpid(static_cast<pid_t>(mapper.pid), nullptr, 0);
}

TEST_F(AttachmentsTest, HoldsAProcessThatMapsTheFileOftenAfterTheAttach) {
  attach();
  mappers[1] = {static_cast<std::uint32_t>(getpid()), kMostMappings + 1, 0, "grown"};
  attach();
  attach();
  EXPECT_EQ(held, std::vector{static_cast<int>(getpid())});
  EXPECT_EQ(asked, std::vector{-1}) << "nothing else changes";
}

}  // namespace
}  // namespace nopspan::collector
