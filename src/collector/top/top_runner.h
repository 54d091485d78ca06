// SPDX-License-Identifier: Apache-2.0
// The thread that runs the source while another one draws.
#pragma once

#include "model/metrics_file.h"
#include "top/top_feed.h"
#include "top/top_options.h"

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace nopspan::collector {

class TopRunner {
 public:
  // Opens the source at once, on the calling thread: throws Failure.
  TopRunner(const TopOptions& options, const OpenSource& open);
  ~TopRunner();
  TopRunner(const TopRunner&) = delete;
  TopRunner& operator=(const TopRunner&) = delete;

  // Readable when there is something new; latest() empties it.
  [[nodiscard]] int wake_fd() const { return wake_fd_; }
  // Null before the first.
  TopSnapshotPointer latest();
  // Of a recording that has been read it is answered too; for another grouping it is read again.
  void ask(const TopRequest& request);
  // Whether the source failed: then stop() throws why.
  [[nodiscard]] bool has_failed();

  // Ends the source and waits for it. Returns the ledger, as text.
  std::string stop();

 private:
  void run();
  void answer_until_stopped();
  void make_feed();
  void publish(TopSnapshotPointer snapshot);
  void wake() const;

  const TopOptions& options_;
  const OpenSource& open_;
  MetricsFile metrics_;
  int wake_fd_;

  std::mutex mutex_;
  std::condition_variable asked_;
  std::unique_ptr<Source> source_;
  std::unique_ptr<TopFeed> feed_;
  TopRequest request_;
  TopSnapshotPointer latest_;
  std::exception_ptr failure_;
  bool is_asked_ = false, reads_again_ = false, has_ended_ = false, stops_ = false;
  std::thread thread_;
};

}  // namespace nopspan::collector
