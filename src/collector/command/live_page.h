// SPDX-License-Identifier: Apache-2.0
// What the page of `nopspan serve` follows while it is open: requests that have ended, requests in flight, and rates.
#pragma once

#include "command/tracing_process.h"
#include "model/source.h"
#include "open/open_requests.h"
#include "serve/live_frames.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace nopspan::collector {

class LivePage : public Sink {
 public:
  // `source` must outlive this object. `open` is asked for the requests in flight that the filter selects; if it is
  // null, `why_none` says why. `note`: what the page says at its top, or "". `is_file`: the source ends, so its last
  // requests are kept even if no page is open.
  LivePage(const Source& source, bool is_file, std::unique_ptr<TracingProcess> open, OpenFilter filter,
           std::string why_none, std::string note);
  LivePage(const LivePage&) = delete;
  LivePage& operator=(const LivePage&) = delete;
  ~LivePage() override;

  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  // After the last entry.
  void finish();

  [[nodiscard]] static std::string text();
  [[nodiscard]] bool is_file() const { return is_file_; }
  // 1 while the process runs that reads the requests in flight; not if there was none from the start.
  [[nodiscard]] std::optional<unsigned> readers() const;
  // How often the process of that one which reads other processes was replaced.
  [[nodiscard]] std::uint64_t reader_restarts() const { return reader_restarts_; }
  [[nodiscard]] LiveFrames& lines() { return lines_; }
  // Lines "bytes" have the parts of a file for Perfetto, in base64. "end" is the last one. Another
  // recording begins if somebody reads after that.
  [[nodiscard]] LiveFrames& captured() { return captured_; }

 private:
  class Following;
  using Clock = std::chrono::steady_clock;

  void ask_open();
  void read_open(const OpenFilter& filter);
  void set_problem();

  const Source& source_;
  const std::string note_;
  const bool is_file_;
  LiveFrames lines_, captured_;
  std::unique_ptr<Following> following_;  // while a page is open, and a little longer
  Clock::time_point wanted_;              // when a page was open last

  const std::unique_ptr<TracingProcess> open_;
  std::atomic<Clock::time_point> asked_{}, ask_again_{};  // when it was asked, and when it may be asked again
  std::atomic<std::uint64_t> reader_restarts_ = 0;
  std::atomic<bool> stops_ = false, reads_open_ = false;
  std::mutex mutex_;
  std::string problem_;  // why requests in flight are not read; with mutex_
  std::thread open_thread_;
};

}  // namespace nopspan::collector
