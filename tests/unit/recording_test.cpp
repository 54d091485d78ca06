// SPDX-License-Identifier: Apache-2.0
// nopspan::recording, as far as no reader is needed. tests/live/library/test_own_recording.py reads the recordings.
#include "in_child.h"
#include "in_thread.h"
#include "raised_gate.h"
#include "sanitizers.h"

#include <nopspan/detail/gate.h>
#include <nopspan/execute.h>
#include <nopspan/recording.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using nopspan::recording::Options;
using nopspan::recording::Writer;

class OwnRecording : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(folder_), nullptr); }
  void TearDown() override {
    std::remove(path().c_str());
    std::remove(folder_);
  }
  [[nodiscard]] std::string path() const { return std::string(folder_) + "/own.rec"; }
  [[nodiscard]] std::string content() const {
    std::ifstream file(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

 private:
  char folder_[32] = "/tmp/nopspan-recording-XXXXXX";
};

// A number in the last ledger of a recording.
long in_last_ledger(const std::string& recording, const std::string& key) {
  const std::size_t ledger = recording.rfind("{\"total\":");
  const std::size_t at = recording.find("\"" + key + "\":", ledger);
  return at == std::string::npos ? -1 : std::atol(recording.c_str() + at + key.size() + 3);
}

void emit(int count) {
  for (int i = 0; i < count; ++i) {
    const nopspan::Span span{"own.span"};
    nopspan::execute("own.event", [](nopspan::Fields& f) { f.set("n", 1); });
  }
}

TEST_F(OwnRecording, RaisesTheGateWhileItIsOpen) {
  const std::uint64_t before = nopspan::detail::gate();
  Writer writer;
  EXPECT_FALSE(writer.is_open());
  EXPECT_TRUE(writer.close());
  ASSERT_EQ(writer.open(path()), "");
  EXPECT_TRUE(writer.is_open());
  EXPECT_TRUE(nopspan::detail::spans_wanted());
  EXPECT_TRUE(nopspan::detail::points_wanted());
  EXPECT_TRUE(writer.close());
  EXPECT_EQ(nopspan::detail::gate(), before);
}

TEST_F(OwnRecording, HasOneWriterInAProcess) {
  Writer writer, other;
  ASSERT_EQ(writer.open(path()), "");
  EXPECT_EQ(other.open(path() + "2"), "another Writer is open in this process");
  EXPECT_EQ(writer.open(path() + "2"), "this Writer is open");
  other = std::move(writer);
  EXPECT_TRUE(other.is_open());
  emit(3);
  EXPECT_TRUE(other.close());
  EXPECT_EQ(in_last_ledger(content(), "delivered"), 6);
}

TEST_F(OwnRecording, ReplacesAFileOnlyIfAsked) {
  { std::ofstream(path()) << "something else"; }
  Writer writer;
  EXPECT_EQ(writer.open(path()), path() + ": File exists");
  EXPECT_EQ(content(), "something else");
  Options options;
  options.replace = true;
  ASSERT_EQ(writer.open(path(), options), "");
  EXPECT_TRUE(writer.close());
  EXPECT_EQ(content().substr(0, 7), "NOPSPAN");
}

TEST_F(OwnRecording, RefusesAPipeOfAnotherUser) {
  constexpr uid_t kNobody = 65534;
  ASSERT_EQ(mkfifo(path().c_str(), 0666), 0);
  if (chown(path().c_str(), kNobody, kNobody) != 0) GTEST_SKIP() << "needs root";
  Writer writer;
  EXPECT_EQ(writer.open(path()), path() + " belongs to another user, who could read the recording");
  EXPECT_FALSE(writer.is_open());
}

TEST_F(OwnRecording, RefusesASocketOfAnotherUserInASharedFolder) {
  constexpr uid_t kNobody = 65534;
  const std::string folder = path().substr(0, path().rfind('/'));
  ASSERT_EQ(chmod(folder.c_str(), 01777), 0);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path().copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (seteuid(kNobody) != 0) GTEST_SKIP() << "needs root";
  ASSERT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(seteuid(0), 0);
  Writer writer;
  EXPECT_EQ(writer.open("unix:" + path()), path() + ": another user listens there, who could read the recording");
  EXPECT_FALSE(writer.is_open());
  close(listener);
}

// The text of a key in the first ledger of a recording.
std::string text_of(const std::string& recording, const std::string& key) {
  const std::size_t at = recording.find("\"" + key + "\":\"");
  return at == std::string::npos ? "" : recording.substr(at + key.size() + 4, 16);
}

// A file is shared with the process that was copied, unless the copy has another disk.
TEST_F(OwnRecording, OfACopyOfTheProcessIsAnotherOne) {
  Writer writer;
  ASSERT_EQ(writer.open(path()), "");
  emit(1);
  ASSERT_TRUE(wait_until([&] { return writer.statistics().delivered == 2; }));
  emit(1);  // is held, or in the buffer
  nopspan::reseed();
  emit(3);
  std::vector<std::string> files;
  ASSERT_TRUE(wait_until([&] {
    files.clear();
    for (const auto& file : std::filesystem::directory_iterator(std::filesystem::path(path()).parent_path()))
      files.push_back(file.path());
    return files.size() == 2;
  }));
  EXPECT_TRUE(writer.close());
  const std::string first = content();
  const std::string& other_path = files[0] == path() ? files[1] : files[0];
  std::ifstream file(other_path, std::ios::binary);
  const std::string second{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  EXPECT_EQ(other_path, path() + "." + text_of(second, "instance"));
  EXPECT_EQ(text_of(first, "recording").size(), 16U);
  EXPECT_NE(text_of(first, "recording"), text_of(second, "recording"));
  EXPECT_EQ(text_of(first, "instance").size(), 16U);
  EXPECT_NE(text_of(first, "instance"), text_of(second, "instance"));
  EXPECT_EQ(in_last_ledger(second, "delivered"), 6);
  EXPECT_EQ(in_last_ledger(second, "lost"), 0);
  std::filesystem::remove(other_path);
}

// A copy may be copied again. The name of a file has at most 255 bytes.
TEST_F(OwnRecording, OfACopyOfACopyHasANameAsShort) {
  const std::filesystem::path folder = path() + ".folder";
  std::filesystem::create_directory(folder);
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder);
  const std::string name(240, 'r');
  Writer writer;
  ASSERT_EQ(writer.open(name), "");
  std::filesystem::current_path(before);
  constexpr std::uint64_t kMost = 3;
  for (std::uint64_t copies = 0; copies < kMost; ++copies) {
    nopspan::reseed();
    ASSERT_TRUE(wait_until([&] {
      emit(1);
      return writer.statistics().connections == copies + 2;
    }));
  }
  emit(1);
  EXPECT_TRUE(writer.close());
  std::size_t recordings = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const std::string found = file.path().filename();
    EXPECT_LE(found.size(), 255U) << found;
    EXPECT_EQ(found.substr(0, 238), name.substr(0, 238));
    ++recordings;
  }
  EXPECT_EQ(recordings, kMost + 1);
  std::filesystem::remove_all(folder);
}

// SIGPIPE must not end the program.
TEST_F(OwnRecording, OpensAPipeWithoutAReader) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[0]);
  Writer writer;
  EXPECT_EQ(writer.open("fd:" + std::to_string(ends[1])), "");
  close(ends[1]);
  emit(1);
  EXPECT_FALSE(writer.close());
}

// Nobody reads the pipe, so the Writer's thread waits until it is closed. The program does not.
TEST_F(OwnRecording, OpensAPipeThatIsFull) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK), 0);
  const std::string bytes(4096, 'x');
  while (write(ends[1], bytes.data(), bytes.size()) > 0) {
  }
  Writer writer;
  EXPECT_EQ(writer.open("fd:" + std::to_string(ends[1])), "");
  EXPECT_FALSE(writer.close());
  close(ends[0]);
  close(ends[1]);
}

// The thread of the first recording is in a write() that does not return until the terminal is read.
TEST_F(OwnRecording, IsNotStoppedByAnEarlierOneThatWasStuck) {
  const int reader = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(reader, 0);
  ASSERT_EQ(grantpt(reader) + unlockpt(reader), 0);
  const int terminal = open(ptsname(reader), O_RDWR | O_NOCTTY);  // NOLINT(concurrency-mt-unsafe)
  ASSERT_GE(terminal, 0);
  Options options;
  options.close_timeout_ms = 1;
  Writer stuck, writer;
  ASSERT_EQ(stuck.open("fd:" + std::to_string(terminal), options), "");
  close(terminal);
  emit(10'000);
  EXPECT_FALSE(stuck.close());
  ASSERT_EQ(writer.open(path()), "");
  std::vector<char> bytes(4096);
  while (read(reader, bytes.data(), bytes.size()) > 0) {  // until the first recording is closed
  }
  close(reader);
  emit(1);
  EXPECT_TRUE(writer.close());
  EXPECT_EQ(in_last_ledger(content(), "delivered"), 2);
}

std::atomic<bool> is_interrupted{false}, may_go_on{true};
void wait_in_signal_handler(int /*number*/) {
  is_interrupted = true;
  while (!may_go_on) {
  }
  is_interrupted = false;
}

// In some rounds the signal interrupts the thread while it copies a batch for the Writer, and the Writer is destroyed
// before the copy ends.
TEST_F(OwnRecording, MayBeClosedWhileASignalHandlerRuns) {
  struct sigaction handler = {}, before = {};
  handler.sa_handler = wait_in_signal_handler;
  ASSERT_EQ(sigaction(SIGUSR1, &handler, &before), 0);
  std::atomic<bool> stop{false};
  std::thread thread([&] {
    while (!stop) emit(1);
  });
  Options options;
  options.replace = true;
  for (int i = 0; i < 20; ++i) {
    Writer writer;
    ASSERT_EQ(writer.open(path(), options), "");
    while (writer.statistics().emitted == 0) std::this_thread::yield();
    may_go_on = false;
    pthread_kill(thread.native_handle(), SIGUSR1);
    while (!is_interrupted) std::this_thread::yield();
    writer.close();
    may_go_on = true;
    while (is_interrupted) std::this_thread::yield();
  }
  stop = true;
  thread.join();
  sigaction(SIGUSR1, &before, nullptr);
}

TEST_F(OwnRecording, CountsTheEntriesOfManyThreads) {
  constexpr int kThreads = 8, kSpans = 2000;
  Writer writer;
  Options options;
  options.buffer_bytes = std::size_t{64} << 20U;
  ASSERT_EQ(writer.open(path(), options), "");
  in_threads(kThreads, [](int) { emit(kSpans); });
  EXPECT_TRUE(writer.close());
  EXPECT_EQ(in_last_ledger(content(), "emitted"), 2 * kThreads * kSpans);
  EXPECT_EQ(in_last_ledger(content(), "delivered"), 2 * kThreads * kSpans);
}

TEST_F(OwnRecording, LeavesOutWhatWasWrittenForATracerBefore) {
  const RaisedGate tracer(RaisedGate::batch);
  emit(3);
  Writer writer;
  ASSERT_EQ(writer.open(path()), "");
  emit(2);
  EXPECT_TRUE(writer.close());
  EXPECT_EQ(in_last_ledger(content(), "emitted"), 4);
  EXPECT_EQ(in_last_ledger(content(), "delivered"), 4);
}

// The smallest buffer is often full.
TEST_F(OwnRecording, BalancesWhenItIsOpenedAndClosedWhileThreadsEmit) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (!stop) emit(100);
    });
    threads.emplace_back([&] {
      while (!stop) std::thread([] { emit(10); }).join();
    });
  }
  Options options;
  options.buffer_bytes = 0;
  options.replace = true;
  for (int i = 0; i < 8; ++i) {
    Writer writer;
    ASSERT_EQ(writer.open(path(), options), "");
    writer.close();
    const std::string recording = content();
    const long lost = in_last_ledger(recording, "lost");
    EXPECT_EQ(in_last_ledger(recording, "emitted"), in_last_ledger(recording, "delivered") + lost);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

// While a root span is open, its thread does not flush what ends inside. It is fetched again and again.
TEST_F(OwnRecording, DoesNotRepeatWhatAThreadHolds) {
  Writer writer;
  ASSERT_EQ(writer.open(path()), "");
  const auto arrive = [&writer](std::uint64_t entries) {
    while (writer.statistics().delivered < entries) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  };
  {
    const nopspan::Span root{"own.root"};
    emit(100);
    arrive(200);
    for (std::uint64_t i = 1; i <= 3; ++i) {
      emit(1);
      arrive(200 + 2 * i);
    }
  }
  EXPECT_TRUE(writer.close());
  const std::string recording = content();
  EXPECT_EQ(in_last_ledger(recording, "delivered"), 207);
  // Each chunk has what its entries share, but not the entries before them.
  std::size_t batches = 0;
  for (std::size_t at = 0; (at = recording.find(std::string("NSPF\x09\0\0\0", 8), at)) != std::string::npos; ++at) {
    batches += static_cast<unsigned char>(recording[at + 8]) + 256U * static_cast<unsigned char>(recording[at + 9]);
  }
  EXPECT_GT(batches, 207 * 32U);
  EXPECT_LT(batches, 207 * 64U + 5 * 1024U);
  // The first event of the batch contains the name of all spans, so each chunk has it.
  std::size_t names = 0;
  for (std::size_t at = 0; (at = recording.find("own.span", at)) != std::string::npos; ++at) ++names;
  EXPECT_GE(names, 5U);
}

// The Writer's thread is behind: what they flushed is still in its buffer when it looks for them for the last time.
TEST_F(OwnRecording, CountsThreadsThatEndedBeforeItCloses) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Writer writer;
  Options options;
  options.close_timeout_ms = 60'000;
  ASSERT_EQ(writer.open("fd:" + std::to_string(ends[1]), options), "");
  close(ends[1]);
  constexpr int kThreads = 8, kRounds = 100, kSpans = 50;
  for (int round = 0; round < kRounds; ++round) {
    in_threads(kThreads, [](int) { emit(kSpans); });
  }
  std::string recording;
  std::thread reader([&recording, from = ends[0]] {
    char bytes[4096];
    for (ssize_t got = 0; (got = read(from, bytes, sizeof(bytes))) > 0;) {
      recording.append(bytes, static_cast<std::size_t>(got));
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  const bool is_complete = writer.close();
  reader.join();
  close(ends[0]);
  EXPECT_EQ(in_last_ledger(recording, "emitted"), long{kThreads} * kRounds * kSpans * 2);
  EXPECT_EQ(in_last_ledger(recording, "delivered") + in_last_ledger(recording, "lost"),
            in_last_ledger(recording, "emitted"));
  EXPECT_EQ(is_complete, in_last_ledger(recording, "lost") == 0);
}

// The threads fill the buffer faster than it can be written, also during close().
TEST_F(OwnRecording, HasALedgerAndAnEndIfThreadsNeverPause) {
  std::atomic<bool> stop{false};
  Writer writer;
  Options options;
  options.buffer_bytes = 256U << 10U;
  options.close_timeout_ms = 60'000;
  ASSERT_EQ(writer.open(path(), options), "");
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      while (!stop) emit(100);
    });
  }
  std::uint64_t dropped = 0;
  while ((dropped = writer.statistics().dropped) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  writer.close();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const std::string recording = content();
  const long lost = in_last_ledger(recording, "lost");
  EXPECT_GE(lost, static_cast<long>(dropped)) << "what is lost once stays lost";
  EXPECT_EQ(in_last_ledger(recording, "emitted"), in_last_ledger(recording, "delivered") + lost);
  ASSERT_GT(recording.size(), 32U);
  EXPECT_EQ(recording.substr(recording.size() - 32, 8), std::string("NSPF\6\0\0\0", 8)) << "a chunk `end`";
}

// Begins a process whose main thread opens a Writer, starts a thread that emits 10 spans, and ends. Its main thread is
// one of pthread_create(), because pthread_exit() would end in the catch clauses of GoogleTest.
pid_t begin_without_main_thread(const std::string& target, const Options& options) {
  static Writer writer;
  struct Begin {
    const std::string& target;
    const Options& options;
    pid_t child;
  } begin{target, options, -1};
  pthread_t thread;
  const auto work = [](void* at) -> void* {
    auto& in = *static_cast<Begin*>(at);
    in.child = fork();
    if (in.child != 0) return nullptr;
    if (!writer.open(in.target, in.options).empty()) _exit(3);
    std::thread([] { emit(10); }).detach();
    pthread_exit(nullptr);
  };
  EXPECT_EQ(pthread_create(&thread, nullptr, work, &begin), 0);
  pthread_join(thread, nullptr);
  return begin.child;
}

// Returns the status of the child when it has ended, or -1 if it does not.
template <class Each>
int wait_for_end(pid_t child, Each each) {
  int status = -1;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(90);
  while (waitpid(child, &status, WNOHANG) == 0) {
    each();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (std::chrono::steady_clock::now() < deadline) continue;
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    return -1;
  }
  return status;
}

TEST_F(OwnRecording, EndsWithTheLastThreadOfTheProgram) {
  if (kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "sanitizers do not support a fork() in such a thread";
  const pid_t child = begin_without_main_thread(path(), {});
  EXPECT_EQ(wait_for_end(child, [] {}), 0);
  const std::string recording = content();
  EXPECT_EQ(in_last_ledger(recording, "delivered"), 20);
  ASSERT_GT(recording.size(), 32U);
  EXPECT_EQ(recording.substr(recording.size() - 32, 8), std::string("NSPF\6\0\0\0", 8)) << "a chunk `end`";
}

// Nobody reads the pipe, so the recording cannot be closed in time.
TEST_F(OwnRecording, CanBeEndedBySignalWhenTheProgramHasNoOtherThread) {
  if (kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "sanitizers do not support a fork() in such a thread";
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK), 0);
  const std::string bytes(4096, 'x');
  while (write(ends[1], bytes.data(), bytes.size()) > 0) {
  }
  Options options;
  options.close_timeout_ms = 3'600'000;
  const pid_t child = begin_without_main_thread("fd:" + std::to_string(ends[1]), options);
  const std::string folder = "/proc/" + std::to_string(child);
  const int status = wait_for_end(child, [&] {
    std::ifstream file(folder + "/status");
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (text.find("State:\tZ") == std::string::npos) return;  // of the main thread
    std::error_code gone;
    const std::filesystem::directory_iterator tasks(folder + "/task", gone);
    if (!gone && std::distance(begin(tasks), end(tasks)) == 2) kill(child, SIGTERM);
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
  close(ends[0]);
  close(ends[1]);
}

TEST_F(OwnRecording, IsOpenedAndClosedByAThreadThatIsToBeCancelled) {
  std::atomic<bool> is_complete{false};
  std::thread thread([&] {
    pthread_cancel(pthread_self());
    Writer writer;
    EXPECT_EQ(writer.open(path()), "");
    { const nopspan::Span span{"work"}; }
    is_complete = writer.close();
  });
  thread.join();
  EXPECT_TRUE(is_complete);
}

TEST_F(OwnRecording, OfADeviceThatIsFullBeginsNever) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  Writer writer;
  ASSERT_EQ(writer.open("fd:" + std::to_string(full)), "");
  close(full);
  emit(10'000);
  while (writer.statistics().dropped < 20'000) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(writer.statistics().connections, 0U);
  EXPECT_FALSE(writer.close());
}

TEST_F(OwnRecording, IsNotContinuedByAChild) {
  Writer writer;
  ASSERT_EQ(writer.open(path()), "");
  emit(1);
  while (writer.statistics().bytes == 0) std::this_thread::yield();
  const pid_t child = fork();
  if (child == 0) {
    const bool is_quiet = !nopspan::detail::spans_wanted();
    emit(5);
    const bool has_counts = writer.statistics().bytes > 0;
    const bool is_closed = writer.close();
    _exit((is_quiet ? 0 : 1) + (is_closed ? 0 : 2) + (has_counts ? 4 : 0));
  }
  EXPECT_EQ(wait_for(child), "");
  emit(1);
  EXPECT_TRUE(writer.close());
  EXPECT_EQ(in_last_ledger(content(), "emitted"), 4);
}

// The descriptors of this process, of the first 100.
std::vector<int> descriptors() {
  std::vector<int> found;
  for (int fd = 0; fd < 100; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) found.push_back(fd);
  }
  return found;
}

// Opens a recording, and waits until it has begun: before, its thread may be between its look at the file and its
// write. Returns its descriptor.
int open_and_begin(Writer& writer, const std::string& path) {
  const std::vector<int> before = descriptors();
  EXPECT_EQ(writer.open(path), "");
  while (writer.statistics().connections == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const std::vector<int> after = descriptors();
  EXPECT_EQ(after.size(), before.size() + 1);
  return *std::mismatch(after.begin(), after.end(), before.begin(), before.end()).first;
}

// A program that closes all descriptors, and then opens a file of its own.
TEST_F(OwnRecording, DoesNotUseADescriptorThatIsAnotherFileNow) {
  Writer writer;
  const int number = open_and_begin(writer, path());
  std::FILE* const other = std::tmpfile();
  ASSERT_NE(other, nullptr);
  ASSERT_EQ(dup2(fileno(other), number), number);
  emit(3);
  EXPECT_FALSE(writer.close());
  struct stat facts = {};
  EXPECT_EQ(fstat(number, &facts), 0) << "the other file was closed";
  EXPECT_EQ(facts.st_size, 0);
  close(number);
  std::fclose(other);
}

TEST_F(OwnRecording, DoesNotCloseADescriptorThatIsAnotherFileInAChild) {
  Writer writer;
  const int number = open_and_begin(writer, path());
  std::FILE* const other = std::tmpfile();
  ASSERT_EQ(dup2(fileno(other), number), number);
  const pid_t child = fork();
  if (child == 0) _exit(fcntl(number, F_GETFD) >= 0 ? 0 : 1);
  EXPECT_EQ(wait_for(child), "");
  EXPECT_FALSE(writer.close());
  close(number);
  std::fclose(other);
}

}  // namespace
