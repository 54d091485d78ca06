// SPDX-License-Identifier: Apache-2.0
// Runs the source of `nopspan top` on a thread of its own, while the calling thread draws.
#pragma once

#include "base/stopping.h"
#include "model/filter.h"
#include "top/top_feed.h"
#include "top/top_table.h"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace nopspan::collector {

// The options of `nopspan top`.
struct TopOptions {
  SourceOptions source;
  TopRequest request;
  TopView view;
  std::uint64_t window_ns = 10 * kSecond;  // whole seconds
  std::size_t most_rows = 1000;            // limit of rows; keys beyond it are counted as `other`
  std::size_t shown_rows = 0;              // limit for plain text and JSON; 0: all
  std::uint64_t count = 0;                 // number of tables to print; 0: no limit
  bool plain = false;
};

class TopRunner {
 public:
  // What the thread does: passes the source's entries to the feed.
  using ReadSource = std::function<void(Source&, TopFeed&)>;
  // Starts the thread.
  TopRunner(const TopOptions& options, std::unique_ptr<Source> source, ReadSource read);
  ~TopRunner();
  TopRunner(const TopRunner&) = delete;
  TopRunner& operator=(const TopRunner&) = delete;

  // A file descriptor that is readable if there is a new snapshot. latest() empties it.
  [[nodiscard]] int wake_fd() const { return wake_up_.fd(); }
  // The last snapshot; null before the first.
  TopSnapshotPointer latest();
  // Changes what snapshots contain, also after a recording has been read.
  void ask(const TopRequest& request);
  // Whether the source failed. If so, stop() throws the error.
  [[nodiscard]] bool has_failed();

  // Stops the source, waits for its thread, and returns the ledger as text. If this is not called soon after `stopping`
  // is set, because the terminal takes no output and the thread that draws blocks, the program ends.
  std::string stop();

 private:
  void run();
  // False if the thread must end.
  bool wait_until_asked();
  [[noreturn]] void leave();
  void publish(TopSnapshotPointer snapshot);

  const ReadSource read_;
  WakeUp wake_up_;
  const std::unique_ptr<Source> source_;
  TopFeed feed_;

  std::mutex mutex_;
  std::condition_variable asked_;
  TopSnapshotPointer latest_;
  std::exception_ptr failure_;
  bool is_asked_ = false, stops_ = false;
  std::thread thread_;
};

}  // namespace nopspan::collector
