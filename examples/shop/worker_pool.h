// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nopspan/coroutine.h>
#include <nopspan/span.h>

#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <exception>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace shop {

// Threads that run jobs in the order in which they are due.
class WorkerPool {
 public:
  using Clock = std::chrono::steady_clock;

  explicit WorkerPool(int workers) {
    for (int i = 0; i < workers; ++i) workers_.emplace_back([this] { work(); });
  }

  // Runs the jobs that still wait.
  ~WorkerPool() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  // Runs `job` on a worker after `delay`.
  void submit(std::function<void()> job, Clock::duration delay = {}) {
    const Clock::time_point due = Clock::now() + delay;
    job = nopspan::wrap([due, job = std::move(job)] {
      nopspan::complete("pool.queue", nopspan::Context::current(), due, Clock::now() - due);
      job();
    });
    {
      const std::lock_guard lock(mutex_);
      jobs_.emplace(due, std::move(job));
    }
    changed_.notify_one();
  }

  // `co_await pool.worker(delay)` continues the coroutine on a worker after `delay`. No thread waits for that.
  auto worker(Clock::duration delay = {}) {
    struct Awaiter : std::suspend_always {
      WorkerPool& pool;
      Clock::duration delay;
      void await_suspend(std::coroutine_handle<> coroutine) { pool.submit(coroutine, delay); }
    };
    return Awaiter{{}, *this, delay};
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (!ending_ || !jobs_.empty()) {
      if (jobs_.empty()) {
        changed_.wait(lock);
      } else if (const Clock::time_point due = jobs_.begin()->first; due > Clock::now()) {
        changed_.wait_until(lock, due);
      } else {
        const auto job = jobs_.extract(jobs_.begin());
        lock.unlock();
        job.mapped()();
        lock.lock();
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::function<void()>> jobs_;  // by the time at which they are due
  bool ending_ = false;
  std::vector<std::thread> workers_;
};

// A coroutine that begins at once. Another thread may wait for its result.
template <class T>
struct [[nodiscard]] Task {
  struct promise_type : nopspan::CoroutinePromise {
    std::promise<T> promise;
    Task get_return_object() { return {promise.get_future()}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_value(T value) { promise.set_value(std::move(value)); }
    void unhandled_exception() { promise.set_exception(std::current_exception()); }
  };

  std::future<T> result;
};

}  // namespace shop
