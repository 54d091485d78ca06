// SPDX-License-Identifier: Apache-2.0
// The child that reads other processes. What a hostile process can do to it is replaced by work that blocks.
#include "host/process_reader.h"

#include "base/failure.h"
#include "host/process_facts.h"
#include "host/process_memory.h"
#include "sanitizers.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>

namespace nopspan::collector {
namespace {

using Clock = LeftAlone::Clock;

std::uint32_t own_pid() { return static_cast<std::uint32_t>(getpid()); }

Answer echo(std::uint32_t pid, std::string_view request, OpenFile /*file*/) {
  return {0, std::to_string(pid) + " " + std::string(request), OpenFile()};
}

// The pid of the process that does the work.
Answer where(std::uint32_t /*pid*/, std::string_view /*request*/, OpenFile /*file*/) {
  return {0, std::to_string(getpid()), OpenFile()};
}

Answer block(std::uint32_t /*pid*/, std::string_view /*request*/, OpenFile /*file*/) {
  while (true) poll(nullptr, 0, -1);
}

Answer crash(std::uint32_t /*pid*/, std::string_view /*request*/, OpenFile /*file*/) { _exit(1); }

// A process that does nothing until it is ended.
class Sleeper {
 public:
  Sleeper() : pid_(fork()) {
    while (pid_ == 0) pause();
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  ~Sleeper() { end(); }
  void end() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    pid_ = 0;
  }
  [[nodiscard]] std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }

 private:
  pid_t pid_;
};

// Its clock stands still unless a test moves it.
class ProcessReaderTest : public testing::Test {
 protected:
  Clock::time_point now = Clock::now();
  ProcessReader reader{[this] { return now; }};
};

TEST_F(ProcessReaderTest, DoesWorkInAnotherProcess) {
  const Answer answer = reader.run(own_pid(), echo, "text", -1);
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.bytes, std::to_string(own_pid()) + " text");
  EXPECT_EQ(reader.run(0, where, "", -1).bytes, std::to_string(reader.pid()));
}

TEST_F(ProcessReaderTest, PassesMegabytesInBothDirections) {
  const std::string text(5U << 20U, 'x');
  EXPECT_EQ(reader.run(0, echo, text, -1).bytes, "0 " + text);
}

TEST_F(ProcessReaderTest, PassesOpenFilesInBothDirections) {
  const auto same = [](std::uint32_t, std::string_view, OpenFile file) { return Answer{0, "", std::move(file)}; };
  const OpenFile null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Answer answer = reader.run(0, same, "", null.get());
  struct stat before {};
  struct stat after {};
  ASSERT_EQ(fstat(null.get(), &before), 0);
  ASSERT_EQ(fstat(answer.file.get(), &after), 0);
  EXPECT_NE(answer.file.get(), null.get());
  EXPECT_EQ(before.st_rdev, after.st_rdev);
  EXPECT_FALSE(reader.run(0, echo, "", -1).file);
}

TEST_F(ProcessReaderTest, ReplacesAReaderThatBlocks) {
  const Sleeper blocked;
  const Sleeper other;
  const std::uint32_t first = reader.pid();
  EXPECT_EQ(reader.run(blocked.pid(), block, "", -1).error, ETIMEDOUT);
  EXPECT_EQ(reader.run(other.pid(), echo, "", -1).error, 0);
  EXPECT_NE(reader.pid(), first);
  ASSERT_EQ(reader.left_alone().size(), 1U);
  const LeftAlone alone = reader.left_alone().front();
  EXPECT_EQ(alone.pid, blocked.pid());
  EXPECT_EQ(alone.start_ticks, process_state(blocked.pid())->start_ticks);
  EXPECT_EQ(alone.comm, process_state(blocked.pid())->comm);
  EXPECT_EQ(alone.user, getuid());
}

TEST_F(ProcessReaderTest, ReplacesAReaderThatIsStopped) {
  ASSERT_EQ(kill(static_cast<pid_t>(reader.pid()), SIGSTOP), 0);
  EXPECT_EQ(reader.run(own_pid(), echo, std::string(1U << 20U, 'x'), -1).error, ETIMEDOUT);
  EXPECT_EQ(reader.run(0, echo, "", -1).error, 0);
}

TEST_F(ProcessReaderTest, SkipsAReaderThatCameTooLate) {
  const auto spawner = static_cast<pid_t>(process_state(reader.pid())->parent);
  ASSERT_EQ(kill(spawner, SIGSTOP), 0);
  ASSERT_EQ(kill(static_cast<pid_t>(reader.pid()), SIGKILL), 0);
  while (process_state(reader.pid())) std::this_thread::yield();  // it must not answer once more
  EXPECT_EQ(reader.run(0, where, "", -1).error, EIO);
  ASSERT_EQ(kill(spawner, SIGCONT), 0);
  EXPECT_EQ(reader.run(0, where, "", -1).bytes, std::to_string(reader.pid()));
}

TEST_F(ProcessReaderTest, LeavesAProcessAloneThatBlocked) {
  const Sleeper blocked;
  EXPECT_EQ(reader.run(blocked.pid(), block, "", -1).error, ETIMEDOUT);
  EXPECT_EQ(reader.run(blocked.pid(), echo, "", -1).error, EAGAIN);
  EXPECT_EQ(reader.left_alone().front().times, 1U) << "it was not tried again";
  int error = 0;
  // The reader that was killed may take a moment to end. Until then the process is left alone.
  do {
    now += std::chrono::seconds(1);
    error = reader.run(blocked.pid(), echo, "", -1).error;
  } while (error != 0);
  EXPECT_EQ(reader.run(blocked.pid(), block, "", -1).error, ETIMEDOUT);
  EXPECT_EQ(reader.left_alone().front().until, now + std::chrono::seconds(2));
}

TEST_F(ProcessReaderTest, WaitsForWorkThatNeedsTheCpuForLonger) {
  const auto busy = [](std::uint32_t, std::string_view, OpenFile) {
    timespec used{};
    do {
      clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (used.tv_sec == 0 && used.tv_nsec < 200'000'000);
    return Answer{0, "done", OpenFile()};
  };
  const Answer answer = reader.run(own_pid(), busy, "", -1);
  // More than a second on a machine that is very busy.
  if (answer.error == ETIMEDOUT) GTEST_SKIP() << "this machine is too busy";
  EXPECT_EQ(answer.bytes, "done");
}

TEST_F(ProcessReaderTest, EndsWorkThatNeverEnds) {
  const auto endless = [](std::uint32_t, std::string_view, OpenFile) -> Answer {
    while (true) getppid();
  };
  EXPECT_EQ(reader.run(0, endless, "", -1).error, ETIMEDOUT);
}

TEST_F(ProcessReaderTest, SurvivesAReaderThatSomebodyKilled) {
  ASSERT_EQ(kill(static_cast<pid_t>(reader.pid()), SIGKILL), 0);
  EXPECT_EQ(reader.restarts(), 0U);
  testing::internal::CaptureStderr();
  EXPECT_EQ(reader.run(own_pid(), echo, "", -1).error, 0);
  EXPECT_TRUE(reader.left_alone().empty());
  EXPECT_EQ(reader.restarts(), 1U);
  ASSERT_EQ(kill(static_cast<pid_t>(reader.pid()), SIGKILL), 0);
  EXPECT_EQ(reader.run(own_pid(), echo, "", -1).error, 0);
  EXPECT_EQ(reader.restarts(), 2U);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("(nopspan-reader) was killed or crashed, and is replaced. It was asked to read process " +
                      std::to_string(own_pid())),
            std::string::npos)
      << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << "it is said once";
}

TEST_F(ProcessReaderTest, SaysThatTheSpawnerWasKilled) {
  ASSERT_EQ(kill(static_cast<pid_t>(process_state(reader.pid())->parent), SIGKILL), 0);
  while (const auto state = process_state(reader.pid()))
    if (state->state == 'Z') break;
  try {
    reader.run(own_pid(), echo, "", -1);
    FAIL();
  } catch (const Failure& failure) {
    EXPECT_THAT(failure.what(), testing::HasSubstr("was killed"));
  }
}

TEST_F(ProcessReaderTest, IsKilledFirstIfMemoryIsShort) {
  const auto score = [](std::uint32_t, std::string_view, OpenFile) {
    return Answer{0, read_small_file("/proc/self/oom_score_adj"), OpenFile()};
  };
  EXPECT_EQ(reader.run(0, score, "", -1).bytes, "1000\n");
}

TEST_F(ProcessReaderTest, LeavesOnlyTheFolderAloneOfAPathThatBlocked) {
  EXPECT_EQ(reader.run(0, block, "/srv/eve/libraries/a.so", -1).error, ETIMEDOUT);
  EXPECT_EQ(reader.run(0, echo, "/srv/eve/libraries/b.so", -1).error, EAGAIN);
  EXPECT_EQ(reader.run(0, echo, "/usr/lib/a.so", -1).error, 0);
}

// The program and its children are stopped and continued, as a terminal does.
TEST(ProcessReader, DoesNotBlameAProcessIfTheProgramWasStopped) {
  const auto slow = [](std::uint32_t, std::string_view, OpenFile has_begun) {
    send(has_begun.get(), "", 1, 0);
    for (int i = 0; i < 40; ++i) poll(nullptr, 0, 10);
    return Answer{0, "done", OpenFile()};
  };
  std::array<int, 2> ends{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const OpenFile begun(ends[0]);
  const OpenFile theirs(ends[1]);
  const pid_t program = fork();
  if (program == 0) {
    setpgid(0, 0);
    ProcessReader reader;
    _exit(reader.run(own_pid(), slow, "", theirs.get()).error);
  }
  char byte = 0;
  ASSERT_EQ(recv(begun.get(), &byte, 1, 0), 1);
  ASSERT_EQ(kill(-program, SIGSTOP), 0);
  int status = -1;
  ASSERT_EQ(waitpid(program, &status, WUNTRACED), program);
  // This test is about time that passes.
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  ASSERT_EQ(kill(-program, SIGCONT), 0);
  ASSERT_EQ(waitpid(program, &status, 0), program);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ProcessReader, RefusesAnAnswerOfTheWrongLength) {
  const std::array<MemoryRange, 2> ranges{MemoryRange{0, 8}, MemoryRange{0, 4}};
  std::string bytes;
  EXPECT_FALSE(take_ranges({0, std::string(11, 'x'), OpenFile()}, ranges, bytes));
  EXPECT_EQ(errno, EBADMSG);
  EXPECT_FALSE(take_ranges({EFAULT, std::string(12, 'x'), OpenFile()}, ranges, bytes));
  EXPECT_TRUE(take_ranges({0, std::string(12, 'x'), OpenFile()}, ranges, bytes));
}

TEST_F(ProcessReaderTest, LeavesAProcessAloneThatCrashesItsReader) {
  EXPECT_EQ(reader.run(own_pid(), crash, "", -1).error, ETIMEDOUT);
  ASSERT_EQ(reader.left_alone().size(), 1U);
  EXPECT_NE(reader.left_alone().front().why.find("crashed"), std::string::npos);
  EXPECT_EQ(reader.restarts(), 2U) << "it was tried twice";
  EXPECT_EQ(reader.run(0, echo, "", -1).error, 0);
}

TEST_F(ProcessReaderTest, BoundsTheMemoryOfAReader) {
  if (kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "the program ends when it has no memory";
  const auto greedy = [](std::uint32_t, std::string_view, OpenFile) {
    return Answer{0, std::string(std::size_t{1} << 30U, 'x'), OpenFile()};
  };
  EXPECT_EQ(reader.run(0, greedy, "", -1).error, ENOMEM);
}

TEST_F(ProcessReaderTest, DoesNotReadAnotherProcessWithTheSamePid) {
  Sleeper sleeper;
  const std::uint64_t start_ticks = process_state(sleeper.pid())->start_ticks;
  EXPECT_EQ(reader.run({sleeper.pid(), start_ticks}, echo, "", -1).error, 0);
  EXPECT_EQ(reader.run({sleeper.pid(), start_ticks + 1}, echo, "", -1).error, ESRCH);
  const std::uint32_t pid = sleeper.pid();
  sleeper.end();
  EXPECT_EQ(reader.run({pid, start_ticks}, echo, "", -1).error, ESRCH);
}

TEST_F(ProcessReaderTest, DiscardsWhatWasReadOfAProcessThatEndedMeanwhile) {
  const auto wait_for_its_end = [](std::uint32_t pid, std::string_view, OpenFile has_begun) {
    send(has_begun.get(), "", 1, 0);
    while (process_state(pid) && process_state(pid)->state != 'Z') {
    }
    return Answer{0, "text", OpenFile()};
  };
  const Sleeper sleeper;
  std::array<int, 2> ends{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const OpenFile begun(ends[0]);
  const OpenFile theirs(ends[1]);
  std::thread killer([&] {
    char byte = 0;
    if (recv(begun.get(), &byte, 1, 0) == 1) kill(static_cast<pid_t>(sleeper.pid()), SIGKILL);
  });
  const Answer answer = reader.run(sleeper.pid(), wait_for_its_end, "", theirs.get());
  killer.join();
  EXPECT_EQ(answer.error, ESRCH);
  EXPECT_EQ(answer.bytes, "");
}

TEST(ProcessReader, EndsItsChildrenWithTheProgram) {
  std::uint32_t child = 0;
  {
    ProcessReader reader;
    child = reader.pid();
  }
  // Gone, or a zombie that nobody has waited for.
  while (true) {
    const auto state = process_state(child);
    if (!state || state->state == 'Z') break;
  }
}

TEST(ProcessReader, DoesTheWorkItselfIfNoChildWasStarted) {
  EXPECT_EQ(read_process(own_pid(), where).bytes, std::to_string(getpid()));
  start_process_reader();
  EXPECT_NE(read_process(own_pid(), where).bytes, std::to_string(getpid()));
  EXPECT_TRUE(processes_left_alone().empty());
}

}  // namespace
}  // namespace nopspan::collector
