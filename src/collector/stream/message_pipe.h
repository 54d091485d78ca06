// SPDX-License-Identifier: Apache-2.0
// The tracer's end of a pipe of messages.
#pragma once

#include "base/byte_buffer.h"
#include "base/open_file.h"
#include "stream/messages.h"

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <streambuf>
#include <string>
#include <string_view>
#include <utility>

namespace nopspan::collector {

// Messages as bytes, for a pipe between two processes of one build.
//
// A message is its kind, its size with both of these numbers, and its fields. A field is a number of 64 bits, a struct
// as it is in memory, or a text after its length. Structs and texts are padded to 8 bytes, so that a batch is aligned
// if the first message is.

// Appends the messages to a buffer, which must outlive the result.
std::unique_ptr<MessageSink> message_writer(ByteBuffer& out);

// Passes on the messages at the front of the bytes, at most `most`, and returns how many bytes these have. `bytes` must
// be aligned to 8. The rest may end in the middle of a message. Throws Failure if there is something else.
std::size_t read_messages(std::string_view bytes, MessageSink& to, std::size_t most = SIZE_MAX);

// What is written to std::cerr while this object lives. Any thread may write.
class CapturedTexts : std::streambuf {
 public:
  CapturedTexts();
  ~CapturedTexts() override;
  CapturedTexts(const CapturedTexts&) = delete;
  CapturedTexts& operator=(const CapturedTexts&) = delete;

  // The whole lines since the last call.
  std::string take();

 private:
  int_type overflow(int_type character) override;
  std::streamsize xsputn(const char* text, std::streamsize size) override;

  // A reader that is stopped for long must not let the memory grow.
  static constexpr std::size_t kMost = std::size_t{256} << 10U;

  std::streambuf* const before_;
  std::mutex mutex_;
  std::string text_;
  bool has_lost_ = false;
};

// Keeps what the pipe does not take, and never waits for the reader. While it is full, the tracer leaves its batches in
// the kernel's ring buffer. What is written to std::cerr becomes messages too.
class MessagePipe {
 public:
  // `pipe` must not block.
  explicit MessagePipe(OpenFile pipe) : pipe_(std::move(pipe)), writer_(message_writer(buffer_)) {}

  [[nodiscard]] MessageSink& messages() { return *writer_; }
  // Whether there is room for more. Writes what is kept, if that is much.
  bool has_room() {
    if (kept() >= kPiece && !is_blocked_) flush();
    return kept() < kMostKept;
  }
  // False when a write has failed because nobody will read it.
  [[nodiscard]] bool is_read() const { return static_cast<bool>(pipe_); }
  // Writes as much as the pipe takes.
  void flush();
  // Waits until the pipe takes more, or until the timeout.
  void wait(int milliseconds) const;
  // What was written to std::cerr since the last message.
  [[nodiscard]] std::string take_texts() { return texts_.take(); }
  // Adds the last message. Waits until all is written, nobody reads, or the time is over. Then the pipe is closed.
  void end(const TracerEnd& end, std::chrono::milliseconds most);

 private:
  static constexpr std::size_t kPiece = std::size_t{128} << 10U, kMostKept = std::size_t{1} << 20U;
  [[nodiscard]] std::size_t kept() const { return buffer_.size() - written_; }
  void pass_texts();
  void write();

  OpenFile pipe_;
  CapturedTexts texts_;
  ByteBuffer buffer_;
  std::size_t written_ = 0;  // of the buffer
  bool is_blocked_ = false;  // the pipe took less than was written to it last
  const std::unique_ptr<MessageSink> writer_;
};

}  // namespace nopspan::collector
