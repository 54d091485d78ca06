// SPDX-License-Identifier: Apache-2.0
// A source that reads recordings from a Unix socket, to which any number of programs write (nopspan::recording).
#pragma once

#include "base/open_file.h"
#include "model/filter.h"
#include "model/source.h"

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace nopspan::collector {

struct ListenerLimits {
  std::uint64_t header_ns = 5 * kSecond;  // until a connection has sent a header
  std::size_t connections = 64;
  // Of one process, and of all processes of a user who is neither this program's user nor root.
  std::size_t of_process = 4, of_user = 16;
  // Processes of which one connection may report, unless it is one of the `large` connections of this program's user
  // or root that need more. The others are counted together.
  std::size_t processes = 64, large = 8;
  // A connection that was silent for this long gives way if there is no room. Recorders send a ledger every second, or
  // every ten seconds if it is large.
  std::uint64_t silent_ns = 15 * kSecond;
};

class RecordingListener : public Source {
 public:
  // Listens on `path`, with mode 0600. In a folder with the setgid bit the mode is 0660, because such a folder is
  // shared with its group. A socket that nobody listens on is replaced. Throws Failure.
  //
  // No program can keep others away: a connection is closed if it sends no header in time, and if its process or user
  // has too many, the one of them that has been silent longest is closed. What it has sent by then is read.
  explicit RecordingListener(std::string path, Filter filter = {}, const ListenerLimits& limits = {});
  ~RecordingListener() override;

  // Reads all connections until the deadline, and then what has been sent by then. Each connection is a recording. Its
  // calls of `sink` are made by a thread of its own, one at a time.
  void run(Sink& sink, Deadline& until) override;
  // The sum of all recordings. During run(), call it from `sink`.
  [[nodiscard]] Ledger ledger() const override;
  [[nodiscard]] std::string remark() const override;
  [[nodiscard]] std::optional<Writers> writers() const override;

 private:
  class Connection;
  struct Peer {
    pid_t pid = 0;  // 0: it is in another pid namespace
    uid_t uid = 0;
  };
  struct Newcomer {
    OpenFile file;
    Peer peer;
  };
  static bool is_stranger(const Peer& peer);
  bool accept_one();
  bool place_newcomer(Sink& sink);
  void close_greedy(const Peer& peer);
  void close_one(std::uint64_t Writers::*reason, const std::string& why, std::optional<Peer> named,
                 const std::function<bool(const Connection&)>& is_candidate);
  void hide_socket();
  void forget_ended();

  const std::string path_;
  const Filter filter_;
  const ListenerLimits limits_;
  OpenFile socket_;
  const std::pair<dev_t, ino_t> inode_;  // of the socket at the path
  std::mutex mutex_;                     // held during the calls of the sink
  std::list<std::unique_ptr<Connection>> connections_;
  std::optional<Newcomer> newcomer_;  // accepted, and waits for room
  LedgerSum ended_;
  Writers closed_;
  std::size_t large_ = 0;
  std::set<std::pair<pid_t, uid_t>> named_;  // peers of which stderr has said that connections were closed
  bool is_hidden_ = false;                   // the socket has no path any more
};

}  // namespace nopspan::collector
