// SPDX-License-Identifier: Apache-2.0
// A tracing process that does not end when it is asked to.
#include "command/tracing_process.h"

#include "base/failure.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <exception>
#include <optional>
#include <string>
#include <utility>

namespace nopspan::collector {
namespace {

// A child that has sent a message, and was stopped.
class StoppedChild {
 public:
  StoppedChild() {
    int pipe_ends[2] = {-1, -1}, socket_ends[2] = {-1, -1};
    EXPECT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socket_ends), 0);
    messages = OpenFile(pipe_ends[0]);
    control = OpenFile(socket_ends[0]);
    pid = fork();
    if (pid == 0) {
      ByteBuffer bytes;
      message_writer(bytes)->on_gone(1);
      static_cast<void>(write(pipe_ends[1], bytes.at(0), bytes.size()));
      raise(SIGSTOP);
      _exit(0);
    }
    close(pipe_ends[1]);
    close(socket_ends[1]);
    EXPECT_EQ(waitpid(pid, nullptr, WUNTRACED), pid);
  }
  StoppedChild(const StoppedChild&) = delete;
  StoppedChild& operator=(const StoppedChild&) = delete;
  ~StoppedChild() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }

  pid_t pid = -1;
  OpenFile messages, control;
};

// Asks the process to end after its first message, and does not wait for that.
class EndsSoon : public MessageSink {
 public:
  void on_gone(std::uint32_t /*pid*/) override { stop = hurried = true; }
  [[nodiscard]] static std::optional<TracerEnd> end() { return {}; }
  std::atomic<bool> stop = false;
};

TEST(TracingProcess, IsNamedWithARemedyIfItDoesNotEnd) {
  StoppedChild child;
  const std::string pid = std::to_string(child.pid);
  const auto expect_remedy = [&](const std::string& said) {
    EXPECT_NE(said.find("(nopspan-tracer, " + pid + ") has not ended"), std::string::npos) << said;
    EXPECT_NE(said.find("gates of traced programs may stay raised"), std::string::npos) << said;
    EXPECT_NE(said.find("kill -CONT " + pid), std::string::npos) << said;
    EXPECT_NE(said.find("kill -9 " + pid), std::string::npos) << said;
  };
  {
    TracingProcess process(child.pid, std::move(child.messages), std::move(child.control));
    EndsSoon sink;
    process.run(sink, Deadline(0, sink.stop));
    expect_remedy(process.failure({}).what());
  }
  // It had perhaps sent its last message before it was stopped.
  ASSERT_TRUE(source_failure);
  try {
    std::rethrow_exception(std::exchange(source_failure, nullptr));
  } catch (const Failure& failure) {
    expect_remedy(failure.what());
  }
  ends_in_order = hurried = false;
}

}  // namespace
}  // namespace nopspan::collector
