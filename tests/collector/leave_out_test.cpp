// SPDX-License-Identifier: Apache-2.0
#include "host/leave_out.h"

#include "base/failure.h"
#include "host/process_facts.h"
#include "temporary_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <string>

namespace nopspan::collector {
namespace {

struct LeaveOutTest : testing::Test {
  void write(const std::string& text) const { write_file(path, text); }
  [[nodiscard]] std::string refusal() const {
    try {
      const LeaveOut left_out(path);
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit_status, Failure::kUsageError);
      return failure.what();
    }
    return "";
  }

  const TemporaryFolder folder;
  const std::string path = folder / "leave-out";
  const std::uint32_t self = static_cast<std::uint32_t>(getpid()), parent = static_cast<std::uint32_t>(getppid());
};

TEST_F(LeaveOutTest, NamesNobodyWithoutAFile) {
  EXPECT_TRUE(LeaveOut("").empty());
  EXPECT_TRUE(LeaveOut(path).empty());
  EXPECT_FALSE(LeaveOut(path).has(self));
}

TEST_F(LeaveOutTest, NamesProcessesAndTheirDescendants) {
  write("# being dumped\n\n  pid " + std::to_string(parent) + " # my parent\n");
  const LeaveOut left_out(path);
  EXPECT_FALSE(left_out.empty());
  EXPECT_TRUE(left_out.has(parent));
  EXPECT_TRUE(left_out.has(self));
  write("pid " + std::to_string(self));
  EXPECT_TRUE(LeaveOut(path).has(self));
  EXPECT_FALSE(LeaveOut(path).has(parent));
}

TEST_F(LeaveOutTest, NamesCgroups) {
  const std::string own = cgroup_of(self);
  if (own.empty()) GTEST_SKIP() << "no cgroup of version 2";
  write("cgroup /");
  EXPECT_TRUE(LeaveOut(path).has(self));
  write("cgroup /sys/fs/cgroup" + own);
  EXPECT_TRUE(LeaveOut(path).has(self));
  write("cgroup " + (own == "/" ? "" : own) + "/below\ncgroup other.slice\ncgroup 0123456789ab");
  EXPECT_FALSE(LeaveOut(path).has(self));
}

TEST_F(LeaveOutTest, FollowsTheFile) {
  LeaveOut left_out(path);
  write("pid " + std::to_string(self) + "\n");
  left_out.read_again();
  EXPECT_TRUE(left_out.has(self));
  testing::internal::CaptureStderr();
  write("pid\n");
  left_out.read_again();
  left_out.read_again();
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "nopspan: --leave-out: " + path +
                ":1: \"pid\" is not \"pid NUMBER\" or \"cgroup NAME\". What it said before holds\n");
  EXPECT_TRUE(left_out.has(self));
  unlink(path.c_str());
  left_out.read_again();
  EXPECT_TRUE(left_out.empty());
}

TEST_F(LeaveOutTest, RefusesWhatItDoesNotUnderstand) {
  for (const char* line : {"4711", "pid", "pid 0", "pid -1", "pid 99999999999", "pid 1 2", "pid1", "cgroup", "Pid 1"}) {
    write("pid 1\n" + std::string(line) + "\n");
    EXPECT_NE(refusal().find(path + ":2: \"" + line + "\" is not"), std::string::npos) << line;
  }
  write(std::string(70'000, '\n'));
  EXPECT_NE(refusal().find("more than 64 KiB"), std::string::npos);
  EXPECT_NE((unlink(path.c_str()), mkfifo(path.c_str(), 0600), refusal()).find("not a regular file"),
            std::string::npos);
}

}  // namespace
}  // namespace nopspan::collector
