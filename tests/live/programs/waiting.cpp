// SPDX-License-Identifier: Apache-2.0
// Spans that compute and wait. The program measures each itself, just outside and just inside the span: wall clock time
// and context switches of its thread.
//
// Takes commands (commands.h). `run FILE` writes one JSON object per line to FILE. `open NAME [TENANT]`, `close` and
// `sleep MS` do what they say. `thread` and `exec` leave a span open.
#include "commands.h"

#include <nopspan/span.h>
#include <nopspan/types.h>

#include <poll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using nopspan::AsyncSpan;
using nopspan::Span;

constexpr int kThreads = 3;
constexpr std::uint64_t kMs = 1'000'000;

std::uint64_t read_clock(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

// The calling thread's totals at one moment.
struct Reading {
  std::int64_t wall_ns = 0;
  std::int64_t asleep = 0;    // how often the thread waited
  std::int64_t runnable = 0;  // how often the thread was preempted

  static Reading now() {
    rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return {static_cast<std::int64_t>(read_clock(CLOCK_MONOTONIC)), usage.ru_nvcsw, usage.ru_nivcsw};
  }
  Reading operator-(const Reading& other) const {
    return {wall_ns - other.wall_ns, asleep - other.asleep, runnable - other.runnable};
  }
  void add(const Reading& other) {
    wall_ns += other.wall_ns;
    asleep += other.asleep;
    runnable += other.runnable;
  }
};

// The sums over the spans inside a span, which do not count as the span's own.
struct Children {
  Reading least, most;
};

class Book {
 public:
  explicit Book(const std::string& file) : file_(file) {}
  void write(const char* name, const Reading& least, const Reading& most) {
    const std::lock_guard<std::mutex> lock(mutex_);
    file_ << R"({"name": ")" << name << '"';
    write("least", least);
    write("most", most);
    file_ << "}\n";
  }

 private:
  void write(const char* key, const Reading& reading) {
    file_ << R"(, ")" << key << R"(": {"wall_ns": )" << reading.wall_ns << R"(, "asleep": )" << reading.asleep
          << R"(, "runnable": )" << reading.runnable << '}';
  }
  std::mutex mutex_;
  std::ofstream file_;
};

thread_local Children* around = nullptr;

// Makes a span around `work` and records it in the book. The span's own numbers, without those of its children, are
// between `least` and `most`.
void measured(Book& book, const char* name, const std::function<void()>& work) {
  Children children;
  Children* const outer = around;
  around = &children;
  const Reading before = Reading::now();
  Reading begun, over;
  {
    const Span span{nopspan::Name::intern(name)};
    begun = Reading::now();
    work();
    over = Reading::now();
  }
  const Reading after = Reading::now();
  around = outer;
  if (outer != nullptr) {
    outer->least.add(over - begun);
    outer->most.add(after - before);
  }
  book.write(name, over - begun - children.most, after - before - children.least);
}

void compute(std::uint64_t ns) {
  const std::uint64_t begin = read_clock(CLOCK_THREAD_CPUTIME_ID);
  while (read_clock(CLOCK_THREAD_CPUTIME_ID) - begin < ns) {
  }
}

// Functions that a test looks for in stacks. They must be neither inlined nor replaced by tail calls.
__attribute__((noinline)) void sleep_for(std::uint64_t ns) {
  const timespec time{static_cast<time_t>(ns / 1'000'000'000U), static_cast<long>(ns % 1'000'000'000U)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
  asm volatile("");
}
extern "C" __attribute__((noinline)) void waiting_sleeps(std::uint64_t ns) {
  sleep_for(ns);
  asm volatile("");
}
__attribute__((noinline)) void poll_for(int ms) {
  poll(nullptr, 0, ms);
  asm volatile("");
}
extern "C" __attribute__((noinline)) void waiting_polls(int ms) {
  poll_for(ms);
  asm volatile("");
}

// test_offcpu_bt.py has the same times.
void thread(Book& book) {
  measured(book, "wait.outer", [&] {
    compute(20 * kMs);
    measured(book, "wait.computes", [] { compute(60 * kMs); });
    measured(book, "wait.sleeps", [] { waiting_sleeps(100 * kMs); });
    measured(book, "wait.polls", [] { waiting_polls(80); });
    // An AsyncSpan is not bound to a thread. What the thread does belongs to its scoped spans nevertheless.
    AsyncSpan asynchronous{"wait.async"};
    measured(book, "wait.often", [] {
      for (int i = 0; i < 20; ++i) sleep_for(kMs);
    });
    waiting_sleeps(30 * kMs);
    asynchronous.end();
  });
  // Outside of any span.
  sleep_for(50 * kMs);
  compute(10 * kMs);
}

// Threads that live until the program ends, because bpftrace 0.17 resolves the stacks of living threads only.
class Workers {
 public:
  ~Workers() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    for (std::thread& each : threads_) each.join();
  }
  // Runs `work` on several threads, and waits until all are done.
  void run(const std::function<void()>& work) {
    int left = kThreads;
    for (int i = 0; i < kThreads; ++i) {
      threads_.emplace_back([&] {
        work();
        std::unique_lock<std::mutex> lock(mutex_);
        --left;
        changed_.notify_all();
        changed_.wait(lock, [&] { return over_; });
      });
    }
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return left == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::vector<std::thread> threads_;
};

// A span that is still open when its thread or program ends.
void leave_open(const char* name) { (void)std::make_unique<Span>(nopspan::Name::intern(name)).release(); }

}  // namespace

int main(int, char** arguments) {
  std::vector<std::unique_ptr<Span>> open;
  Workers workers;
  Commands commands;
  commands["run"] = [&](std::istringstream& a) {
    Book book(word(a));
    workers.run([&] { thread(book); });
    return "done";
  };
  commands["open"] = [&](std::istringstream& a) {
    const nopspan::Name name = nopspan::Name::intern(word(a));
    open.push_back(std::make_unique<Span>(name, [&](nopspan::Fields& f) { f.tenant(word(a)); }));
    return "open";
  };
  commands["close"] = [&](std::istringstream&) {
    open.pop_back();
    return "closed";
  };
  commands["sleep"] = [](std::istringstream& a) {
    std::uint64_t ms = 0;
    a >> ms;
    waiting_sleeps(ms * kMs);
    return "slept";
  };
  commands["thread"] = [](std::istringstream&) {
    std::thread([] { leave_open("left.by_thread"); }).join();
    return "done";
  };
  commands["exec"] = [&](std::istringstream&) -> std::string {
    leave_open("left.by_exec");
    execv("/proc/self/exe", arguments);
    return "exec failed";
  };
  return serve(commands);
}
