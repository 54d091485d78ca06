// SPDX-License-Identifier: Apache-2.0
// Reads memory and files of other processes in a child process. Such a read may block forever: the memory may be a
// mapped file on FUSE whose server never answers, and then not even SIGKILL ends the read. A child that blocks for
// 100 ms is killed and replaced, and the process that it read is left alone for a while.
#pragma once

#include "base/open_file.h"
#include "host/left_alone.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The process that a read is about.
struct Target {
  // A pid alone means the process that has it now. 0 means none: the read is about a path.
  Target(std::uint32_t number, std::uint64_t ticks = 0) : pid(number), start_ticks(ticks) {}  // NOLINT: implicit

  std::uint32_t pid;
  std::uint64_t start_ticks;  // if it is not 0, another process with this pid is not read
};

struct Answer {
  int error = 0;  // an errno value. ESRCH: the process is gone. ETIMEDOUT: the read blocked. ECHILD: none of
                  // its threads can be read (ProcessState::hides_threads). EAGAIN: it is left alone
  std::string bytes;
  OpenFile file;
};

// What to do in the child. Also called in this process if no child was started. `thread` is the process's
// thread_to_read(). If the work answers ESRCH and another thread can be read, it is called again. `file` may be empty.
using ReaderWork = Answer (*)(std::uint32_t thread, std::string_view request, OpenFile file);

// Does the work in the child of the program, or directly if start_process_reader() was not called. Not thread-safe.
Answer read_process(const Target& target, ReaderWork work, std::string_view request = {}, int file = -1);
// Throws Failure if this program cannot open so many more files.
void require_descriptors(std::size_t files);
// Starts the child. Must be called before the program makes a thread. Later calls have no effect. Throws Failure.
void start_process_reader();
// The processes that were left alone since the start. From any thread.
std::vector<LeftAlone> processes_left_alone();
// How often the child was killed by others or crashed, and was replaced. From any thread.
std::uint64_t reader_restarts();
// Whether a read blocked, so that the process, or the folder of the path, is left alone.
inline bool has_blocked(const Answer& answer) { return answer.error == ETIMEDOUT || answer.error == EAGAIN; }
// Describes an Answer's error for people.
std::string read_error_text(int error);

// The children. A *spawner*, which has only one thread, forks *readers* on request, because a fork in a program with
// threads is not safe. They end when this object is destroyed or this process ends. They are never waited for.
// If the spawner was killed, run() throws Failure.
class ProcessReader {
 public:
  using Clock = LeftAlone::Clock;

  explicit ProcessReader(std::function<Clock::time_point()> now = Clock::now);
  Answer run(const Target& wanted, ReaderWork work, std::string_view request, int file);
  [[nodiscard]] std::vector<LeftAlone> left_alone() const;  // from any thread
  // How often a reader ended that this object had not killed. From any thread.
  [[nodiscard]] std::uint64_t restarts() const { return restarts_; }
  // The reader in use. 0 if none is.
  [[nodiscard]] std::uint32_t pid() const { return reader_.pid; }

 private:
  enum class Outcome : std::uint8_t { done, ended, blocked };
  struct Reader {
    std::uint32_t pid = 0;
    OpenFile socket, process;  // `process` is a pidfd
    LeftAlone target;          // what it was reading when it was killed
  };

  bool is_left_alone(const Target& target);
  bool next_reader(int most_milliseconds);
  Outcome exchange(const Target& target, ReaderWork work, std::string_view request, int file, Answer& answer);
  Outcome transfer(bool is_send, char* bytes, std::size_t size);
  bool wait(short events);
  bool makes_progress();
  // Returns how it is left alone.
  LeftAlone leave_alone(const Target& target, const char* why);
  void give_up(const Target& target, const char* why);
  void note_restart(const Target& target);

  std::function<Clock::time_point()> now_;
  OpenFile spawner_;
  std::uint32_t births_ = 0;  // requests to the spawner
  Reader reader_;
  std::vector<Reader> killed_;  // may still be blocked
  mutable std::mutex mutex_;    // for left_alone_
  LeftAloneList left_alone_;
  std::atomic<std::uint64_t> restarts_ = 0;
  int pauses_ = 0;             // in the current request
  std::string last_switches_;  // of the reader, when it was last seen to block
};

}  // namespace nopspan::collector
