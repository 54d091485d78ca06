// SPDX-License-Identifier: Apache-2.0
/// @file
/// Records this process's own spans, for hosts where the program `nopspan` cannot attach: without eBPF, without
/// privileges, in a sandbox. The recording is that of `nopspan record` (docs/recording.md), so `nopspan trace --from`,
/// `top --from`, `hist --from` and `replay` read it. It needs the library nopspan::recording.
///
/// @code
/// nopspan::recording::Writer recording;
/// if (const std::string error = recording.open("spans.rec"); !error.empty()) puts(error.c_str());
/// @endcode
///
/// While a Writer is open, each thread writes its entries (spans, events, retries, gauges, steps) into a buffer of its
/// own, as for a tracer. A thread of the Writer encodes and writes them. A span never waits for it: if the Writer's
/// buffer is full, entries are dropped and counted in the recording's ledger. Content is recorded only with
/// capture_content(true), as by tracers.
///
/// - One Writer at a time can be open in a process. Each copy of the static library has its own.
/// - After fork() the child is not recorded, and does not write into the parent's recording. It may open a Writer.
/// - In a copy of the process, restored from a checkpoint or after reseed() in stats.h, the Writer begins another
///   recording. That of a target PATH is PATH.INSTANCE. The same number is in the recording.
/// - At exit() an open Writer is closed. If the process ends by a signal, by _exit(), quick_exit() or exec(), the
///   recording has no end, and the last entries may be missing.
/// - If main() ends by pthread_exit(), the Writer's thread closes the recording when all other threads have ended, and
///   ends too, so the process ends as without a Writer. It finds out by /proc.
///
/// Thread safety: one object must not be used by two threads at the same time. Nothing here may be called in a signal
/// handler. Spans may be in signal handlers, also while a Writer is open.
#ifndef NOPSPAN_RECORDING_H
#define NOPSPAN_RECORDING_H

#include <nopspan/detail/config.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE::recording {

/// How a recording is written.
struct Options {
  /// Bytes between the program's threads and the Writer's thread: at least 256 KiB, at most 1 GiB, rounded up to a
  /// power of two. A span has some 200 bytes. What a slow disk or reader cannot take in time waits here.
  std::size_t buffer_bytes = std::size_t{8} << 20U;
  /// How long close() may take, in milliseconds. Entries that cannot be written in this time are dropped.
  unsigned close_timeout_ms = 1000;
  /// Replace the file if it exists. Without it, open() fails then.
  bool replace = false;
};

/// The entries of this process since open().
struct Statistics {
  std::uint64_t emitted = 0;      ///< all of them: the sum of the next three
  std::uint64_t delivered = 0;    ///< written, or about to be written
  std::uint64_t dropped = 0;      ///< lost: the buffer was full, the disk was full, or there was no reader
  std::uint64_t discarded = 0;    ///< lost: the library had no memory for them, reached a limit, or was
                                  ///< interrupted by a signal handler
  std::uint64_t connections = 0;  ///< recordings whose begin was written; more than 1 if a reader was replaced
  std::uint64_t bytes = 0;        ///< written
};

class Session;

/// A recording of this process that is being written.
class Writer {
 public:
  /// A Writer that is not open.
  Writer() noexcept = default;
  /// Closes the recording.
  ~Writer() { close(); }
  /// Moves the recording. `other` is not open afterwards.
  Writer(Writer&& other) noexcept = default;
  /// Closes this recording, and takes the other one.
  Writer& operator=(Writer&& other) noexcept {
    if (this != &other) {
      close();
      session_ = std::move(other.session_);
    }
    return *this;
  }
  Writer(const Writer&) = delete;             ///< a recording has one Writer
  Writer& operator=(const Writer&) = delete;  ///< a recording has one Writer

  /// Begins to record. Spans that begin from now on are recorded. If the process has only this thread, open() takes it
  /// that no span is open yet. Otherwise, parts of requests that are running are marked as orphans, as after the attach
  /// of a tracer. So it is best called at the begin of main().
  ///
  /// @param target where to write:
  ///               - `PATH` or `file:PATH`: a new file, which only its user may read. A named pipe (mkfifo) at this
  ///                 path is written to, and is treated like a socket.
  ///               - `fd:N`: an open descriptor, of which the Writer keeps a copy: a pipe, a socket or a file. If the
  ///                 reader of a pipe is gone, all further entries are dropped.
  ///               - `unix:PATH`: a Unix stream socket on which a reader listens. While there is no reader, entries are
  ///                 dropped, and the Writer tries to connect again, at least every 2 s. Each connection is a recording
  ///                 of its own. Its ledger has what earlier connections did not report.
  /// @return "" if it records; otherwise why not, for example "spans.rec: File exists". Nothing is changed then. A
  ///         socket or a named pipe without a reader is no error. Throws std::bad_alloc if there is no memory.
  [[nodiscard]] NOPSPAN_API std::string open(Text target, const Options& options = {})
      NOPSPAN_IN_SHELL(return "nopspan is a shell here, and records nothing");
  /// Stops recording, and writes what is left, the last ledger and the end. Takes at most Options::close_timeout_ms and
  /// a little more. Does nothing if it is not open, or in a child process.
  ///
  /// @return true if the recording is complete: its end was written, and no entry was dropped. Also true if it was not
  ///         open.
  NOPSPAN_API bool close() noexcept NOPSPAN_IN_SHELL(return true);
  /// Whether it was opened and not closed.
  [[nodiscard]] bool is_open() const noexcept { return session_ != nullptr; }
  /// Counts since open(), at most a second old, or older while the Writer waits for a reader; all 0 if it is not open,
  /// or in a child process. After close() they are lost.
  [[nodiscard]] NOPSPAN_API Statistics statistics() const noexcept NOPSPAN_IN_SHELL(return {});

 private:
  std::shared_ptr<Session> session_;
};

}  // namespace NOPSPAN_NAMESPACE::recording

#endif  // NOPSPAN_RECORDING_H
