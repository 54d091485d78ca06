// SPDX-License-Identifier: Apache-2.0
// Output on a thread of its own: what is written, refused and dropped, and when nothing waits any longer.
#include "base/output.h"
#include "base/text_output.h"

#include "base/open_file.h"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>

namespace nopspan::collector {
namespace {

constexpr std::size_t kPipeBytes = 64U << 10U;

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    reader.reset(ends[0]);
    writer.reset(ends[1]);
  }
  void fill() const {
    EXPECT_EQ(::write(writer.get(), std::string(kPipeBytes, '.').data(), kPipeBytes), static_cast<ssize_t>(kPipeBytes));
  }
  [[nodiscard]] std::string rest() {
    writer.reset();
    std::string text(1U << 20U, '\0');
    std::size_t bytes = 0;
    for (ssize_t now = 1; now > 0; bytes += static_cast<std::size_t>(now)) {
      now = ::read(reader.get(), text.data() + bytes, text.size() - bytes);
    }
    text.resize(bytes);
    return text;
  }

  OpenFile reader, writer;
};

TEST(TextOutput, WritesTextsInTheirOrder) {
  Pipe pipe;
  std::string expected;
  {
    TextOutput output(pipe.writer.get());
    for (int i = 0; i < 100; ++i) {
      expected += std::to_string(i) + "\n";
      EXPECT_TRUE(output.write(std::to_string(i) + "\n"));
    }
    EXPECT_TRUE(output.flush());
    EXPECT_TRUE(output.close());
    EXPECT_EQ(output.lost(), 0U);
  }
  EXPECT_EQ(pipe.rest(), expected);
}

TEST(TextOutput, OfALiveSourceRefusesWhatDoesNotFit) {
  Pipe pipe;
  pipe.fill();
  TextOutput output(pipe.writer.get(), 1000);
  output.set_live();
  std::uint64_t refused = 0;
  for (int i = 0; i < 100; ++i) refused += output.write(std::string(100, 'x')) ? 0 : 1;
  EXPECT_EQ(refused, 90U);
  EXPECT_EQ(output.lost(), refused);
  EXPECT_FALSE(output.close()) << "nobody reads";
  EXPECT_EQ(output.lost(), 100U);
  EXPECT_FALSE(leaves_threads.load()) << "a pipe never blocks the thread";
  EXPECT_EQ(pipe.rest(), std::string(kPipeBytes, '.')) << "no part of a text";
}

TEST(TextOutput, CountsEachOfTheTextsThatAreNotWrittenCompletely) {
  constexpr std::size_t kText = 1000, kTexts = 100, kFits = 16'384;
  Pipe pipe;
  ASSERT_EQ(::fcntl(pipe.writer.get(), F_SETPIPE_SZ, kFits), static_cast<int>(kFits));
  TextOutput output(pipe.writer.get());
  output.set_live();
  for (std::size_t i = 0; i < kTexts; ++i) EXPECT_TRUE(output.write(std::string(kText, 'x')));
  EXPECT_FALSE(output.close()) << "nobody reads";
  const std::size_t written = pipe.rest().size();
  EXPECT_GE(written, kText) << "what fits is written";
  EXPECT_EQ(output.lost(), kTexts - written / kText);
}

TEST(TextOutput, CountsTheTextsThatAFlushDoesNotWaitFor) {
  Pipe pipe;
  pipe.fill();
  TextOutput output(pipe.writer.get());
  output.hurry();
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(output.write(std::string(100, 't')));
  EXPECT_FALSE(output.flush());
  EXPECT_EQ(output.lost(), 99U) << "the text that is being written may still be completed";
  EXPECT_FALSE(output.close());
  EXPECT_EQ(output.lost(), 100U);
}

TEST(TextOutput, AcceptsATextOfAnySizeIfNothingWaits) {
  Pipe pipe;
  TextOutput output(pipe.writer.get(), 10);
  output.set_live();
  EXPECT_TRUE(output.write("longer than the capacity"));
  EXPECT_TRUE(output.close());
  EXPECT_EQ(pipe.rest(), "longer than the capacity");
}

TEST(TextOutput, OfARecordingWaitsForItsReader) {
  Pipe pipe;
  TextOutput output(pipe.writer.get(), 1000);
  std::string read;
  std::thread reader([&] {
    std::string some(1000, '\0');
    while (read.size() < 2 * kPipeBytes) {
      read.append(some, 0, static_cast<std::size_t>(::read(pipe.reader.get(), some.data(), some.size())));
    }
  });
  for (std::size_t bytes = 0; bytes < 2 * kPipeBytes; bytes += 64) EXPECT_TRUE(output.write(std::string(64, 'x')));
  EXPECT_TRUE(output.close());
  reader.join();
  EXPECT_EQ(output.lost(), 0U);
}

TEST(TextOutput, OfARecordingStopsWaitingAtASignal) {
  Pipe pipe;
  pipe.fill();
  std::atomic<bool> interrupted = false;
  TextOutput output(pipe.writer.get(), 1000, interrupted);
  std::atomic<int> written = 0;
  std::thread user([&] {
    while (written < 10) std::this_thread::yield();
    interrupted = true;
  });
  for (; written < 20; ++written) EXPECT_TRUE(output.write(std::string(100, 'x')));
  EXPECT_TRUE(interrupted) << "the eleventh waited";
  user.join();
  EXPECT_FALSE(output.flush());
  EXPECT_FALSE(output.close());
  EXPECT_EQ(output.lost(), 20U);
}

TEST(TextOutput, OfARecordingStopsWaitingAtTheDeadline) {
  Pipe pipe;
  pipe.fill();
  TextOutput output(pipe.writer.get(), 1000);
  const std::atomic<bool> stop = false;
  Deadline soon(1'000'000, stop);
  soon.begin();
  output.set_deadline(&soon);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(output.write(std::string(100, 'x')));
  EXPECT_TRUE(soon.has_expired());
  output.hurry();
  EXPECT_FALSE(output.close());
}

// Reads slowly, but reads.
std::thread slow_reader(const Pipe& pipe) {
  return std::thread([&] {
    std::string some(4096, '\0');
    for (std::size_t bytes = 0; bytes < 2 * kPipeBytes;) {
      std::this_thread::sleep_for(Output::kPatience / 8);
      bytes += static_cast<std::size_t>(::read(pipe.reader.get(), some.data(), some.size()));
    }
  });
}

TEST(TextOutput, FlushesToAReaderThatIsSlowButReads) {
  Pipe pipe;
  TextOutput output(pipe.writer.get());
  output.set_live();
  for (std::size_t bytes = 0; bytes < 2 * kPipeBytes; bytes += 64) EXPECT_TRUE(output.write(std::string(64, 'x')));
  std::thread reader = slow_reader(pipe);
  EXPECT_TRUE(output.close());
  reader.join();
  EXPECT_EQ(output.lost(), 0U);
}

TEST(Writing, DoesNotWaitForAFileThatIsNotOpen) { EXPECT_EQ(Writing().write(-1, "text").error, EBADF); }

TEST(Writing, FillsAPipeThatDoesNotBlockInOneCall) {
  Pipe pipe;
  ASSERT_EQ(::fcntl(pipe.writer.get(), F_SETFL, O_NONBLOCK), 0);
  const std::string begin = "not empty", large(kPipeBytes / 2, 'x');
  EXPECT_EQ(::write(pipe.writer.get(), begin.data(), begin.size()), static_cast<ssize_t>(begin.size()));
  Writing writing;
  EXPECT_EQ(writing.write(pipe.writer.get(), large).bytes, large.size());
  EXPECT_EQ(writing.progress(), 1U);
  EXPECT_EQ(pipe.rest(), begin + large);
}

TEST(Writing, WaitsForTheReaderOfAPipeThatDoesNotBlock) {
  Pipe pipe;
  ASSERT_EQ(::fcntl(pipe.writer.get(), F_SETFL, O_NONBLOCK), 0);
  const std::string large(3 * kPipeBytes, 'x');
  std::thread writer([&] {
    Writing writing;
    EXPECT_EQ(writing.write(pipe.writer.get(), large).bytes, large.size());
  });
  std::string read(large.size(), '\0');
  for (std::size_t bytes = 0; bytes < read.size();) {
    const ssize_t now = ::read(pipe.reader.get(), read.data() + bytes, read.size() - bytes);
    ASSERT_GT(now, 0);
    bytes += static_cast<std::size_t>(now);
  }
  writer.join();
  EXPECT_EQ(read, large);
}

TEST(TextOutput, WritesALastTextAfterAFlushThatGaveUp) {
  Pipe pipe;
  TextOutput output(pipe.writer.get());
  output.set_live();
  const std::string large(kPipeBytes + 100, 'x');
  EXPECT_TRUE(output.write(large));
  EXPECT_TRUE(output.write("dropped"));
  EXPECT_FALSE(output.flush());
  EXPECT_EQ(output.lost(), 1U) << "the text that is being written may still be completed";
  EXPECT_TRUE(output.write("the end"));
  std::string read(kPipeBytes, '\0');
  EXPECT_EQ(::read(pipe.reader.get(), read.data(), read.size()), static_cast<ssize_t>(read.size()));
  EXPECT_FALSE(output.close()) << "because of the text that was dropped";
  EXPECT_EQ(output.lost(), 1U);
  EXPECT_EQ(read + pipe.rest(), large + "the end");
}

TEST(TextOutput, ReportsWhyNothingIsWritten) {
  const OpenFile full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  TextOutput output(full.get());
  EXPECT_TRUE(output.write("first"));
  EXPECT_TRUE(output.flush());
  EXPECT_EQ(output.error(), ENOSPC);
  EXPECT_FALSE(output.write("second"));
  EXPECT_TRUE(output.close());
  EXPECT_EQ(output.lost(), 2U);
  TextOutput closed(1 << 20);
  EXPECT_TRUE(closed.write("text"));
  EXPECT_TRUE(closed.close());
  EXPECT_EQ(closed.error(), EBADF);
}

// With the death tests, which run first: ThreadSanitizer ends a child that starts a thread if other tests have left one
// in its parent.
TEST(TextOutputDeathTest, IsWrittenByAForkedProcessAfterARest) {
  Pipe pipe;
  TextOutput output(pipe.writer.get());
  output.rest();
  EXPECT_TRUE(output.write("before\n"));
  output.rest();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(60);  // close() would wait forever for a thread that was not copied
    _exit(output.write("in the child\n") && output.close() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(output.write("after\n"));
  EXPECT_TRUE(output.close());
  EXPECT_EQ(output.lost(), 0);
  EXPECT_EQ(pipe.rest(), "before\nin the child\nafter\n");
}

// The reader of a socket that is full stops the thread in write(), where nothing can reach it.
TEST(TextOutputDeathTest, LeavesAThreadThatTheKernelDoesNotReturn) {
  const auto run = [] {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) ::_exit(1);
    TextOutput output(ends[1]);
    output.set_live();
    output.write(std::string(8U << 20U, 'x'));
    const bool is_written = output.close();
    ::_exit(!is_written && output.lost() == 1 && leaves_threads.load() ? 0 : 1);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "");
}

struct Counted {
  std::atomic<int> written = 0, settled = 0, dropped = 0;
};

class CountedBlock : public Output::Block {
 public:
  CountedBlock(Counted& counted, int fd) : counted_(counted), fd_(fd) {}
  bool write(Writing& writing) override {
    ++counted_.written;
    return writing.write(fd_, std::string(kPipeBytes, 'x')).error == 0;
  }
  void settle(bool is_written) override {
    ++counted_.settled;
    if (!is_written) ++counted_.dropped;
  }

 private:
  Counted& counted_;
  const int fd_;
};

TEST(Output, SettlesEachBlockOnce) {
  Pipe pipe;
  Counted counted;
  Output output;
  output.set_live();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(output.post(std::make_unique<CountedBlock>(counted, pipe.writer.get()), 1));
  EXPECT_FALSE(output.flush());
  EXPECT_EQ(counted.settled, 4) << "one fits into the pipe, one is being written, three are dropped";
  EXPECT_FALSE(output.close());
  EXPECT_FALSE(output.close());
  EXPECT_EQ(counted.written, 2);
  EXPECT_EQ(counted.settled, 5);
  EXPECT_EQ(counted.dropped, 4);
  EXPECT_FALSE(output.post(std::make_unique<CountedBlock>(counted, pipe.writer.get()), 1)) << "it is closed";
}

// Counts how often the thread has written everything that there was, so that it must be woken again.
class SmallBlock : public Output::Block {
 public:
  SmallBlock(std::atomic<int>& unwritten, std::atomic<int>& last) : unwritten_(unwritten), last_(last) {}
  bool write(Writing&) override {
    if (--unwritten_ == 0) ++last_;
    return true;
  }
  void settle(bool) override {}

 private:
  std::atomic<int>& unwritten_;
  std::atomic<int>& last_;
};

TEST(Output, WritesSmallBlocksTogether) {
  using Clock = std::chrono::steady_clock;
  std::atomic<int> unwritten = 0, last = 0;
  Output output;
  output.set_live();
  const Clock::time_point began = Clock::now();
  constexpr int kBlocks = 1000;
  for (int i = 0; i < kBlocks; ++i) {
    ++unwritten;
    EXPECT_TRUE(output.post(std::make_unique<SmallBlock>(unwritten, last), 100));
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  EXPECT_TRUE(output.close());
  EXPECT_EQ(unwritten, 0);
  EXPECT_LE(last, 2 + (Clock::now() - began) / std::chrono::milliseconds(10));
}

}  // namespace
}  // namespace nopspan::collector
