// SPDX-License-Identifier: Apache-2.0
// Recordings that programs send to a Unix socket: several at a time, some of them damaged or foreign.
#include "recording/recording_listener.h"

#include "base/failure.h"
#include "base/unix_socket.h"
#include "kept_entry.h"
#include "recording/recorder.h"
#include "temporary_file.h"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace nopspan::collector;

namespace {

// The bytes of a recording with one span of each of these processes, which may be repeated.
std::string recording_of(const std::vector<ProcessPointer>& processes) {
  const TemporaryFile file;
  std::mt19937_64 random(processes.size());
  LedgerSource source;
  Recorder recorder({file.path()}, source);
  for (const ProcessPointer& process : processes) {
    source.count(process);
    recorder.on_entry(any_span(random, {process}).entry());
  }
  EXPECT_TRUE(recorder.finish());
  return file.bytes();
}
// The same with that many spans of one process.
std::string recording_of(std::uint32_t pid, std::size_t spans) {
  return recording_of(std::vector(spans, make_process(pid)));
}

OpenFile connect_to(const std::string& path) {
  OpenFile file = nopspan::collector::connect_to(*unix_address(path), 0);
  EXPECT_TRUE(file);
  return file;
}

bool send_all(const OpenFile& file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(file.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

class Counted : public Sink {
 public:
  void on_entry(const Entry& /*entry*/) override { ++entries; }
  void on_tick(std::uint64_t /*now_unix_ns*/) override {
    if (source != nullptr) connected = source.load()->writers()->connected;
  }
  std::atomic<const Source*> source = nullptr;
  std::atomic<std::uint64_t> entries = 0, connected = 0;
};

// A listener that runs until the end of the scope, or until stop().
class Running {
 public:
  Running(const std::string& path, const ListenerLimits& limits)
      : listener(path, {}, limits), thread_([this] {
          sink.source = &listener;
          listener.run(sink, until_);
        }) {}
  ~Running() { stop(); }
  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  void wait_for_writers(std::uint64_t connected) const {
    while (sink.connected != connected) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  void wait_for_entries(std::uint64_t entries) const {
    while (sink.entries < entries) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  RecordingListener listener;
  Counted sink;

 private:
  std::atomic<bool> stop_ = false;
  Deadline until_{0, stop_};
  std::thread thread_;
};

class Listener : public testing::Test {
 protected:
  const TemporaryFolder folder;
  const std::string path = folder / "socket";
  // For programs that are all this process, and give way only where a test says so.
  ListenerLimits limits{.header_ns = 60 * kSecond, .of_process = 1000, .silent_ns = 3600 * kSecond};
};

TEST_F(Listener, ReadsManyProgramsAtATimeAndAddsUpTheirLedgers) {
  Running running(path, limits);
  std::vector<std::thread> programs;
  std::vector<std::string> recordings;
  for (std::uint32_t pid = 1; pid <= 100; ++pid) recordings.push_back(recording_of(pid, 10 * pid));
  for (const std::string& recording : recordings) {
    programs.emplace_back([&] { EXPECT_TRUE(send_all(connect_to(path), recording)); });
  }
  for (std::thread& program : programs) program.join();
  running.wait_for_entries(50'500);
  running.stop();
  const Ledger ledger = running.listener.ledger();
  EXPECT_EQ(running.sink.entries, 50'500U);
  EXPECT_EQ(ledger.total.delivered, 50'500U);
  EXPECT_TRUE(ledger.total.is_balanced());
  EXPECT_EQ(ledger.processes.size(), 100U);
  EXPECT_EQ(running.listener.remark(), "");
}

TEST_F(Listener, ReadsWhatWasSentBeforeItStopped) {
  const std::string recording = recording_of(7, 1000);
  Running running(path, limits);
  const OpenFile program = connect_to(path);
  ASSERT_TRUE(send_all(program, recording));
  while (running.sink.entries == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  running.stop();
  EXPECT_EQ(running.sink.entries, 1000U);
  EXPECT_FALSE(send_all(program, recording)) << "the program notices that nobody reads";
}

TEST_F(Listener, ReadsProgramsThatItHasNotAcceptedWhenItStops) {
  RecordingListener listener(path);
  for (std::uint32_t pid = 1; pid <= 3; ++pid) {
    EXPECT_TRUE(send_all(connect_to(path), recording_of(pid, 100)));
  }
  const std::atomic<bool> stop = true;
  Deadline until(0, stop);
  Counted sink;
  listener.run(sink, until);
  EXPECT_EQ(sink.entries, 300U);
  EXPECT_EQ(listener.remark(), "");
}

TEST_F(Listener, SurvivesWhatIsNoRecording) {
  const std::string recording = recording_of(7, 1000);
  Running running(path, limits);
  const OpenFile silent = connect_to(path);
  EXPECT_TRUE(send_all(connect_to(path), "GET / HTTP/1.1\r\n\r\n"));
  std::string damaged = recording;
  damaged[damaged.size() / 2] ^= 1;
  EXPECT_TRUE(send_all(connect_to(path), damaged));
  EXPECT_TRUE(send_all(connect_to(path), std::string_view(recording).substr(0, recording.size() / 2)));
  EXPECT_TRUE(send_all(connect_to(path), recording));
  running.wait_for_entries(1000);
  running.stop();
  const Ledger ledger = running.listener.ledger();
  EXPECT_TRUE(ledger.total.is_balanced());
  EXPECT_EQ(ledger.total.delivered, running.sink.entries);
  EXPECT_EQ(ledger.damage.missing_ends, 1U);
  EXPECT_NE(running.listener.remark().find("2 connections sent no recording"), std::string::npos)
      << running.listener.remark();
}

TEST_F(Listener, ClosesConnectionsThatSendNothing) {
  limits.header_ns = kSecond / 2;
  const std::string recording = recording_of(7, 100);
  Running running(path, limits);
  std::vector<OpenFile> silent;
  for (std::size_t i = 0; i < limits.connections; ++i) silent.push_back(connect_to(path));
  EXPECT_TRUE(send_all(connect_to(path), recording)) << "slow: it had no half second";
  running.wait_for_entries(100);
}

TEST_F(Listener, ReadsProgramsThatFoundNoRoomWhenItStops) {
  RecordingListener listener(path, {}, limits);
  std::vector<OpenFile> idle;
  const std::string header = recording_of(1, 1).substr(0, kFileHeaderBytes);
  for (std::size_t i = 0; i < limits.connections; ++i) {
    idle.push_back(connect_to(path));
    EXPECT_TRUE(send_all(idle.back(), header));
  }
  EXPECT_TRUE(send_all(connect_to(path), recording_of(7, 100)));
  const std::atomic<bool> stop = true;
  Deadline until(0, stop);
  Counted sink;
  listener.run(sink, until);
  EXPECT_EQ(sink.entries, 100U);
}

// The bytes up to the end of the first chunk: a recording that begins, and of which nothing more comes.
std::string begin_of(const std::string& recording) {
  return recording.substr(0, kFileHeaderBytes + chunk_bytes(recording.substr(kFileHeaderBytes, kChunkHeaderBytes)));
}

// Connections that each have sent a chunk, which the listener has read.
std::vector<OpenFile> silent_connections(const Running& running, const std::string& path, std::size_t connections,
                                         const std::string& begin) {
  std::vector<OpenFile> silent;
  while (silent.size() < connections) {
    silent.push_back(connect_to(path));
    EXPECT_TRUE(send_all(silent.back(), begin));
    running.wait_for_writers(silent.size());
  }
  return silent;
}

// Waits until the listener has closed that many of the connections.
void wait_until_closed(const std::vector<OpenFile>& files, std::ptrdiff_t closed) {
  const auto is_closed = [](const OpenFile& file) { return !send_all(file, "x"); };
  while (std::count_if(files.begin(), files.end(), is_closed) < closed) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST_F(Listener, ClosesTheConnectionThatWasSilentLongestIfThereIsNoRoom) {
  const std::string recording = recording_of(7, 100);
  limits.connections = 3;
  limits.silent_ns = 1;
  testing::internal::CaptureStderr();
  Running running(path, limits);
  const auto silent = silent_connections(running, path, 3, begin_of(recording));
  EXPECT_TRUE(send_all(silent[0], recording.substr(begin_of(recording).size())));  // it is not the longest any more
  running.wait_for_entries(100);
  EXPECT_TRUE(send_all(connect_to(path), recording));
  running.wait_for_entries(200);
  wait_until_closed(silent, 1);
  EXPECT_TRUE(send_all(silent[0], "x"));
  running.stop();
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(running.listener.writers()->silent, 1U);
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_NE(said.find("socket: closed a connection of process " + std::to_string(getpid()) + " of user " +
                      std::to_string(geteuid()) + ": it was silent"),
            std::string::npos)
      << said;
  EXPECT_NE(running.listener.remark().find("1 connection closed to make room"), std::string::npos)
      << running.listener.remark();
  EXPECT_TRUE(running.listener.ledger().total.is_balanced());
}

TEST_F(Listener, LetsAProgramWaitWhileTheOthersAreNotSilentForLong) {
  const std::string recording = recording_of(7, 100);
  limits.connections = 2;
  Running running(path, limits);
  auto busy = silent_connections(running, path, 2, begin_of(recording));
  EXPECT_TRUE(send_all(connect_to(path), recording));
  EXPECT_TRUE(send_all(busy[0], recording.substr(begin_of(recording).size())));
  running.wait_for_entries(100);
  EXPECT_EQ(running.sink.entries, 100U) << "the third program still waits";
  busy[0].reset();
  running.wait_for_entries(200);
  running.stop();
  EXPECT_EQ(running.listener.writers()->silent, 0U);
}

TEST_F(Listener, BoundsTheConnectionsOfAProcess) {
  const std::string recording = recording_of(7, 100);
  limits.of_process = ListenerLimits().of_process;
  testing::internal::CaptureStderr();
  Running running(path, limits);
  const auto silent = silent_connections(running, path, limits.of_process, begin_of(recording));
  // They stay open. A connection that ends before the next one is accepted would make room for it.
  std::vector<OpenFile> more;
  for (std::size_t i = 0; i < 10; ++i) EXPECT_TRUE(send_all(more.emplace_back(connect_to(path)), begin_of(recording)));
  EXPECT_TRUE(send_all(connect_to(path), recording));
  running.wait_for_entries(100);
  wait_until_closed(silent, silent.size());
  running.stop();
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_GE(running.listener.writers()->greedy, 1U);
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_NE(said.find("the process has more than 4"), std::string::npos) << said;
}

TEST_F(Listener, BoundsTheProcessesThatConnectionsReport) {
  std::vector<ProcessPointer> processes;
  for (std::uint32_t pid = 1; pid <= 100; ++pid) processes.push_back(make_process(pid));
  const std::string recording = recording_of(processes);
  limits.processes = 10;
  limits.large = 1;
  Running running(path, limits);
  std::vector<OpenFile> programs;
  for (std::uint64_t i = 1; i <= 3; ++i) {
    programs.push_back(connect_to(path));
    EXPECT_TRUE(send_all(programs.back(), recording));
    running.wait_for_entries(100 * i);
  }
  running.stop();
  const Ledger ledger = running.listener.ledger();
  EXPECT_EQ(ledger.total.delivered, 300U);
  EXPECT_TRUE(ledger.total.is_balanced());
  EXPECT_EQ(ledger.processes.size(), 100U) << "all of the first connection";
  EXPECT_EQ(ledger.others.delivered, 2U * 90) << "of the other two";
}

// Processes of another user fill their own places only.
TEST_F(Listener, BoundsTheConnectionsOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string recording = recording_of(7, 100);
  limits.of_user = 2;
  Running running(path, limits);
  ASSERT_EQ(chmod((folder / ".").c_str(), 0711), 0);
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  const auto own = silent_connections(running, path, 3, begin_of(recording));
  const pid_t child = fork();
  if (child == 0) {
    constexpr uid_t kNobody = 65534;
    if (setresuid(kNobody, kNobody, kNobody) != 0) _exit(1);
    std::vector<OpenFile> files;
    for (int i = 0; i < 5; ++i) {
      files.push_back(connect_to(path));
      if (!send_all(files.back(), begin_of(recording))) _exit(2);
    }
    wait_until_closed(files, 3);
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  running.wait_for_writers(3);
  running.stop();
  EXPECT_EQ(running.listener.writers()->greedy, 3U);
}

TEST_F(Listener, TakesOverADeadSocketOnly) {
  {
    Running running(path, limits);
    EXPECT_EQ(mode_of(path), 0600U);
    EXPECT_THROW(RecordingListener second(path), Failure);
    EXPECT_EQ(access(path.c_str(), F_OK), 0) << "the first one still has it";
  }
  write_file(folder / "file", "text");
  EXPECT_THROW(RecordingListener listener(folder / "file"), Failure);
  EXPECT_THROW(RecordingListener listener(folder / std::string(200, 'x')), Failure);
  const pid_t child = fork();
  if (child == 0) {
    const RecordingListener listener(path);
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  ASSERT_EQ(access(path.c_str(), F_OK), 0);
  EXPECT_NO_THROW(RecordingListener listener(path));
}

TEST_F(Listener, LeavesTheSocketOfItsSuccessor) {
  std::optional<Running> first(std::in_place, path, limits);
  first->stop();  // its command may still send what it has read
  const Running second(path, limits);
  first.reset();
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
}

TEST_F(Listener, LetsTheGroupOfASharedFolderConnect) {
  ASSERT_EQ(chmod((folder / ".").c_str(), 02770), 0);
  const RecordingListener listener(path);
  EXPECT_EQ(mode_of(path), 0660U);
}

}  // namespace
