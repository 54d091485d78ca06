// SPDX-License-Identifier: Apache-2.0
// The file that `nopspan record` writes: a header, then frames. docs/recording.md has the format for other readers.
#pragma once

#include "base/open_file.h"
#include "base/stopping.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

enum class FrameKind : std::uint32_t { about = 1, traces = 2, logs = 3, metrics = 4, ledger = 5, end = 6 };

struct Frame {
  FrameKind kind = FrameKind::about;
  std::uint32_t entries = 0;       // spans, events, retries, gauges in it
  std::uint64_t time_unix_ns = 0;  // when it was written, by the source's time
  std::string_view payload;
};

inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::size_t kFileHeaderBytes = 16, kFrameHeaderBytes = 32;
// A longer one is no frame, and none is written.
inline constexpr std::size_t kMostPayload = 16U << 20U;

// Writes whole frames, or nothing of them where the file can be cut back.
class FrameWriter {
 public:
  // `file` is written from where it stands. What is written first is the file's header.
  explicit FrameWriter(OpenFile file);

  // False if it could not be written: error() says why. It may be tried again, with this or another frame.
  bool write(const Frame& frame);
  bool sync();  // to the disk
  [[nodiscard]] int error() const { return error_; }
  // Of whole frames, with the file's header.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  bool write_all(std::string_view head, std::string_view payload);
  void cut_back(std::size_t written);

  OpenFile file_;
  std::uint64_t base_ = 0;   // where the file begins in what was opened
  bool can_be_cut_ = false;  // a pipe cannot
  std::uint64_t bytes_ = 0;
  int error_ = 0;
};

// Reads frames of a file that may be cut, damaged, or hostile. Files one after the other (`cat a b`) are one.
class FrameReader {
 public:
  // Throws Failure if it is no recording, or of a later format. `name` is for messages.
  FrameReader(OpenFile file, std::string name);

  // The next whole frame; its payload lives until the next call. False at the end, and when it is `until` then while
  // more must be read.
  bool next(Frame& frame, const Deadline& until = Deadline());

  struct State {
    std::uint64_t bytes = 0;     // that were read
    std::uint64_t frames = 0;    // whole ones
    std::uint64_t left_out = 0;  // bytes that are no whole frame
    bool ended = false;          // the last frame is the one that a recorder writes when it ends
    int error = 0;               // that ended reading
    [[nodiscard]] bool is_whole() const { return ended && left_out == 0 && error == 0; }
  };
  [[nodiscard]] const State& state() const { return state_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  [[nodiscard]] std::string_view held() const { return {buffer_.data() + begin_, end_ - begin_}; }
  bool fill(std::size_t bytes, const Deadline& until);
  void leave_out(std::size_t bytes);
  void search();

  OpenFile file_;
  std::string name_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::size_t taken_ = 0;  // of the frame that was given last
  bool at_end_ = false;
  State state_;
};

}  // namespace nopspan::collector
