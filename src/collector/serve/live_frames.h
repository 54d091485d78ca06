// SPDX-License-Identifier: Apache-2.0
// What pages follow while a command runs: lines of text, in bounded memory, for several readers.
#pragma once

#include "base/stopping.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace nopspan::collector {

// Thread-safe.
class LiveFrames {
 public:
  // Keeps the newest lines of add(), of which all together have at most so many bytes. New readers begin with the
  // first one that is kept, or, if they need all, read that they missed some. They then wait for the next session
  // if this one has ended.
  explicit LiveFrames(std::size_t most_bytes, bool needs_all = false);

  static constexpr std::string_view kEnd = "end ";  // an answer ends after a line of this kind
  // Adds a line "KIND NUMBER TEXT\n", where the number is one more than that of the line before.
  void add(std::string_view kind, std::string_view text);
  // Adds one that replaces the last one of this state.
  enum class State : std::uint8_t { head, rates, open };
  void set(State state, std::string_view text);
  // Forgets all lines. Readers get those of a new session.
  void clear();

  struct Place {
    std::string session;
    std::uint64_t next = 0;  // the number of the first line that was not read
  };
  using Line = std::shared_ptr<const std::string>;
  // The next line for this reader; null if there is none yet. A new session begins with "session 0 ID\n". If lines were
  // removed before they were read, the next one is "missed 0 \n".
  Line next(Place& place);

  // Whether lines were removed.
  [[nodiscard]] bool has_removed() const { return removed_ > 0; }
  // Readers come and go.
  void join() {
    ++readers_;
    ++joined_;
  }
  void leave() { --readers_; }
  [[nodiscard]] std::size_t readers() const { return readers_; }
  [[nodiscard]] std::uint64_t joined() const { return joined_; }  // how many have come
  // Readable if there are new lines, until clear_wake().
  [[nodiscard]] int wake_fd() const { return wake_.fd(); }
  void clear_wake() const { wake_.clear(); }

 private:
  using Numbered = std::pair<std::uint64_t, Line>;
  Numbered line(std::string_view kind, std::string_view text);

  const std::size_t most_bytes_;
  const bool needs_all_;
  const WakeUp wake_;
  std::atomic<std::size_t> readers_ = 0;
  std::atomic<std::uint64_t> joined_ = 0;
  std::mutex mutex_;  // of all below
  std::string session_;
  std::uint64_t next_ = 1;
  std::deque<Numbered> lines_;
  std::size_t bytes_ = 0;
  std::atomic<std::uint64_t> removed_ = 0;  // the number of the last one that was removed
  std::array<Numbered, 3> states_;
};

}  // namespace nopspan::collector
