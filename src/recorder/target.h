// SPDX-License-Identifier: Apache-2.0
// Where a recording is written: a file, a pipe or a socket. Only the Writer's thread uses it after open().
//
// A program may close descriptors that it did not open, for example to become a daemon. Then another file may get the
// number of the Writer's descriptor. So the descriptor is used only while it is still the file that was opened.
#pragma once

#include "base/open_file.h"
#include "recording/chunk_format.h"

#include <sys/stat.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace nopspan::recording {

class Target {
 public:
  // Parses what Writer::open() receives, and opens a file or a descriptor. Returns "" or why it cannot.
  std::string open(std::string_view target, bool replace);

  // Sets what is called now and then while a slow reader is waited for.
  void while_waiting(std::function<void()> look) { while_waiting_ = std::move(look); }
  // Whether there is a file or a reader.
  [[nodiscard]] bool is_open() const { return file_.get() >= 0; }
  // Whether connect() may find a reader later.
  [[nodiscard]] bool reconnects() const { return way_ == Way::socket || way_ == Way::fifo; }
  // Looks for a reader. Returns whether there is one.
  bool connect();

  // Writes a chunk, before it the file's header if it is the first one. Waits for a slow reader until `deadline_ns`
  // (CLOCK_MONOTONIC; 0: none), which another thread may set. If it returns false, nothing of the chunk is in a file.
  // If the reader is gone or has only a part of the chunk, the target is closed.
  bool write(const collector::Chunk& chunk, const std::atomic<std::uint64_t>& deadline_ns);
  // This process is a copy, which must not write into the recording of the process that was copied. A file at a path is
  // left, and another one is created beside it, whose name ends with the instance. A socket or named pipe is left until
  // connect(). In a descriptor that the program gave, another recording follows.
  void begin_copy(const std::string& instance);
  void close() noexcept;
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }  // in all connections

 private:
  enum class Way : std::uint8_t { file, fifo, pipe, socket, given_socket };

  std::string create(const std::string& path, bool replace);
  bool take(int fd);
  [[nodiscard]] bool is_same_file() const;
  std::string take_descriptor(std::string_view number);
  std::size_t write_some(std::string_view bytes, const std::atomic<std::uint64_t>& deadline_ns, int& error);
  [[nodiscard]] bool wait_until_writable(const std::atomic<std::uint64_t>& deadline_ns) const;

  std::function<void()> while_waiting_;
  Way way_ = Way::file;
  std::string path_;
  collector::OpenFile file_;
  struct stat opened_ = {};      // what file_ was when it was opened
  std::uint64_t base_ = 0;       // of a file: the offset of its header
  std::uint64_t connected_ = 0;  // bytes of whole chunks in this connection
  std::uint64_t bytes_ = 0;
};

}  // namespace nopspan::recording
