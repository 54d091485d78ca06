// SPDX-License-Identifier: Apache-2.0
#include "export/otlp_receiver.h"

#include "base/failure.h"
#include "base/output.h"
#include "base/stopping.h"
#include "base/text.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <thread>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr std::chrono::milliseconds kLookForSpace{2};
// Each request costs a receiver more than its spans, and takes at least a block of the spool.
constexpr std::uint64_t kFlushEvery = kSecond / 2;
constexpr std::chrono::milliseconds kLongestWait{900};  // so that it ends at the next tick of a recording

}  // namespace

OtlpReceiver::OtlpReceiver(OtlpReceiverOptions options, std::unique_ptr<Transport> transport)
    : Receiver(options.name, options.content,
               [this](ExportBody body) {
                 queue_.post(std::move(body));
                 has_posted_ = true;
               }),
      options_(std::move(options)),
      transport_(std::move(transport)),
      spool_(options_.spool ? std::make_unique<Spool>(*options_.spool, account_) : nullptr),
      queue_(options_.queue, *transport_, account_, spool_.get()) {}

void OtlpReceiver::add(const Entry& entry) {
  constexpr unsigned kMostNotNoted = 256;
  if (spool_ != nullptr && ++not_noted_ > kMostNotNoted) note_unsaved();
  while (!options_.queue.refuses && !queue_.has_space(items_of(entry).signal()) && !stopping &&
         std::chrono::steady_clock::now() < options_.waits_until) {
    std::this_thread::sleep_for(kLookForSpace);
  }
  bodies_.add(entry);
  if (has_posted_) note_unsaved();
}

void OtlpReceiver::on_tick(std::uint64_t now_unix_ns) {
  // What waits for the receiver must be on disk soon, also events whose span has not ended. They become log records, so
  // they stay if these are not wanted.
  const bool hurries = options_.queue.logs && queue_.is_failing();
  bodies_.on_tick(now_unix_ns, hurries ? kLongestWait : std::chrono::nanoseconds::max());
  // The clock of a recording stands still while its pipe is silent.
  const bool has_passed = now_unix_ns > std::exchange(ticked_at_, now_unix_ns);
  if (!has_passed || now_unix_ns - flushed_at_ >= kFlushEvery) {
    flushed_at_ = now_unix_ns;
    bodies_.flush();
  }
  note_unsaved();
}

void OtlpReceiver::note_unsaved() {
  has_posted_ = false;
  not_noted_ = 0;
  if (spool_ != nullptr) queue_.note_unsaved(bodies_.waiting());
}

void OtlpReceiver::finish(std::chrono::nanoseconds time) {
  bodies_.finish();
  note_unsaved();
  queue_.finish(time);
}

namespace {

constexpr const char* kFileNames[kSignals] = {"traces.jsonl", "logs.jsonl", "metrics.jsonl"};  // in the order of Signal

[[noreturn]] void refuse(const std::string& path, const std::string& reason, int status = Failure::kUsageError) {
  throw Failure("--otlp-file: \"" + printable(path) + "\" " + reason, status);
}

[[noreturn]] void refuse_for(const std::string& path, int error) {
  refuse(path, "cannot be opened: " + errno_text(error), Failure::status_of(error));
}

// The end of the last whole line in the first `bytes` bytes of a file.
off_t end_of_lines(int fd, off_t bytes) {
  char block[4096];
  while (bytes > 0) {
    const off_t begin = std::max<off_t>(0, bytes - static_cast<off_t>(sizeof(block)));
    const ssize_t got = ::pread(fd, block, static_cast<std::size_t>(bytes - begin), begin);
    if (got <= 0) return bytes;
    const std::size_t end = std::string_view(block, static_cast<std::size_t>(got)).rfind('\n');
    if (end != std::string_view::npos) return begin + static_cast<off_t>(end) + 1;
    bytes = begin;
  }
  return 0;
}

OpenFile open_lines(int folder, const std::string& path, const char* name) {
  constexpr int kFlags = O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  OpenFile file(::openat(folder, name, kFlags, S_IRUSR | S_IWUSR));
  if (!file && errno == ELOOP) refuse(path, "is a symbolic link");
  if (!file) refuse_for(path, errno);
  struct stat facts = {};
  if (::fstat(file.get(), &facts) != 0) refuse_for(path, errno);
  if (!S_ISREG(facts.st_mode)) refuse(path, "is not a file");
  if (!is_own(facts)) refuse(path, "belongs to another user, who could read it: use a folder of your own");
  if (others_have(facts, S_IRWXG | S_IRWXO)) refuse(path, "can be read or changed by other users: run chmod 600 on it");
  if (facts.st_nlink > 1) refuse(path, "has another name too (a hard link)");
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) refuse(path, "is in use by another nopspan");
    refuse_for(path, errno);
  }
  if (::fstat(file.get(), &facts) != 0) refuse_for(path, errno);
  const off_t end = end_of_lines(file.get(), facts.st_size);
  if (end != facts.st_size && ::ftruncate(file.get(), end) != 0) refuse_for(path, errno);
  return file;
}

}  // namespace

FileReceiver::FileReceiver(const std::string& folder, const ExportOptions& options, Say say)
    : Receiver(folder, options, [this](const ExportBody& body) { append(body); }),
      say_(std::move(say)),
      takes_logs_(options.logs) {
  const OpenFile opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened) refuse_for(folder, errno);
  for (std::size_t i = 0; i < kSignals; ++i) {
    files_[i].file = open_lines(opened.get(), folder + "/" + kFileNames[i], kFileNames[i]);
  }
}

// Returns 0 or an errno value.
int FileReceiver::append(Lines& lines, std::string_view line) {
  const int fd = lines.file.get();
  if (lines.has_rest && ::ftruncate(fd, lines.end) != 0) return errno;
  lines.has_rest = false;
  struct stat facts = {};
  if (::fstat(fd, &facts) != 0) return errno;
  const int error = Writing().write(fd, line).error;
  if (error == 0) return 0;
  lines.end = facts.st_size;
  lines.has_rest = ::ftruncate(fd, lines.end) != 0;
  return error;
}

void FileReceiver::append(const ExportBody& body) {
  if (body.signal == Signal::logs && !takes_logs_) return account_.add(body.items, &SignalAccount::left_out);
  account_.add(body.items, &SignalAccount::queued);
  account_.send(body.items, &SignalAccount::queued, false);
  std::optional<std::string> line = otlp_json(body);
  if (line) *line += '\n';
  const int error = line ? append(files_[static_cast<std::size_t>(body.signal)], *line) : EBADMSG;
  if (error == 0) {
    account_.accept(body.items);
    has_said_ = false;
    return;
  }
  if (!std::exchange(has_said_, true)) {
    say_(printable(name()) + ": " + std::strerror(error) +
         ": entries are dropped and counted until the files can be written again");
  }
  account_.drop(body.items, &SignalAccount::in_flight, DropReason::disk_error);
}

void FileReceiver::on_tick(std::uint64_t now_unix_ns) {
  bodies_.on_tick(now_unix_ns);
  bodies_.flush();
}

void FileReceiver::add_metrics(std::vector<ExportBody> bodies) {
  for (const ExportBody& body : bodies) append(body);
}

void FileReceiver::finish(std::chrono::nanoseconds /*time*/) { bodies_.finish(); }

}  // namespace nopspan::collector
