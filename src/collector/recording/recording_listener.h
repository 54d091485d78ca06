// SPDX-License-Identifier: Apache-2.0
// A source that reads recordings from a Unix socket, to which any number of programs write (nopspan::recording).
#pragma once

#include "base/open_file.h"
#include "model/filter.h"
#include "model/source.h"

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace nopspan::collector {

class RecordingListener : public Source {
 public:
  static constexpr std::size_t kMostConnections = 64;

  // Listens on `path`, with mode 0600. In a folder with the setgid bit the mode is 0660, because such a folder is
  // shared with its group. A socket that nobody listens on is replaced. A connection is closed if it sends no header
  // within `header_ns`, so that it does not keep programs away. Throws Failure.
  explicit RecordingListener(std::string path, Filter filter = {}, std::uint64_t header_ns = 5 * kSecond);
  ~RecordingListener() override;

  // Reads all connections until the deadline, and then what has been sent by then. Each connection is a recording. Its
  // calls of `sink` are made by a thread of its own, one at a time.
  void run(Sink& sink, Deadline& until) override;
  // The sum of all recordings. During run(), call it from `sink`.
  [[nodiscard]] Ledger ledger() const override;
  [[nodiscard]] std::string remark() const override;

 private:
  class Connection;
  bool accept_one(Sink& sink);
  void hide_socket();
  void forget_ended();

  const std::string path_;
  const Filter filter_;
  const std::uint64_t header_ns_;
  OpenFile socket_;
  const std::pair<dev_t, ino_t> inode_;  // of the socket at the path
  std::mutex mutex_;                     // held during the calls of the sink
  std::list<std::unique_ptr<Connection>> connections_;
  LedgerSum ended_;
  bool is_hidden_ = false;     // the socket has no path any more
  std::uint64_t foreign_ = 0;  // connections that sent no recording
};

}  // namespace nopspan::collector
