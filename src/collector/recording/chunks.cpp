// SPDX-License-Identifier: Apache-2.0
#include "recording/chunks.h"

#include "base/failure.h"
#include "base/stopping.h"

#include <fcntl.h>
#include <libdeflate.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kChunk = 1U << 20U;

std::uint32_t crc_of(std::string_view bytes) { return libdeflate_crc32(0, bytes.data(), bytes.size()); }

// These are empty if the bytes do not begin with such a header. That of a file may have any version.
template <class Header>
std::optional<Header> header_at(std::string_view bytes, std::string_view magic) {
  Header header;
  return bytes.starts_with(magic) && take_front(bytes, header) ? std::optional(header) : std::nullopt;
}
std::optional<FileHeader> file_header_at(std::string_view bytes) { return header_at<FileHeader>(bytes, kFileMagic); }
std::optional<ChunkHeader> chunk_header_at(std::string_view bytes) {
  const auto header = header_at<ChunkHeader>(bytes, kChunkMagic);
  const bool is_valid = header && header->bytes <= kMostPayload &&
                        header->header_crc == crc_of(bytes.substr(0, offsetof(ChunkHeader, header_crc)));
  return is_valid ? header : std::nullopt;
}

// Waits until read() would not block, because of data, the end or an error. Returns false if `until` is over first,
// which matters for a pipe with a slow writer. Calls `each_second` while it waits.
bool wait_to_read(int fd, const Deadline& until, const std::function<void()>& each_second) {
  constexpr int kMilliseconds = 100;  // short, because a signal just before poll() does not interrupt it
  pollfd file = {fd, POLLIN, 0};
  for (int waited = 0; !until.is_over();) {
    const int ready = ::poll(&file, 1, until.milliseconds(kMilliseconds));
    if (ready > 0 || (ready < 0 && errno != EINTR)) return true;
    if (ready == 0 && ++waited % (1000 / kMilliseconds) == 0) each_second();
  }
  return false;
}

}  // namespace

std::size_t chunk_bytes(std::string_view header) {
  const auto valid = chunk_header_at(header);
  return valid ? kChunkHeaderBytes + valid->bytes : 0;
}

bool begins_recording(std::string_view bytes) {
  return file_header_at(bytes) && chunk_bytes(bytes.substr(kFileHeaderBytes)) != 0;
}

ChunkWriter::ChunkWriter(OpenFile file) : file_(std::move(file)) {
  if (!file_) error_ = errno;
  struct stat facts = {};
  if (::fstat(file_.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) return;
  const int flags = ::fcntl(file_.get(), F_GETFL);
  const off_t at = flags >= 0 && (flags & O_APPEND) != 0 ? facts.st_size : ::lseek(file_.get(), 0, SEEK_CUR);
  if (at < 0) return;
  base_ = static_cast<std::uint64_t>(at);
  can_be_cut_ = true;
}

bool ChunkWriter::write(const Chunk& chunk) {
  Writing writing;
  return write(chunk, writing);
}

bool ChunkWriter::write(const Chunk& chunk, Writing& writing) {
  if (chunk.payload.size() > kMostPayload) {
    error_ = EFBIG;
    return false;
  }
  const Headers headers(chunk, crc_of);
  std::size_t written = 0;
  if (!file_) return false;
  for (const std::string_view part : {headers.bytes(bytes_ == 0), chunk.payload}) {
    const Writing::Result result = writing.write(file_.get(), part);
    written += result.bytes;
    if (result.error != 0) {
      error_ = result.error;
      cut_back(written);
      return false;
    }
  }
  bytes_ += written;
  return true;
}

// Removes an incomplete chunk from the file, so that readers need not search for the next chunk. A pipe cannot be cut,
// so its reader has to search.
void ChunkWriter::cut_back(std::size_t written) {
  if (written == 0 || !can_be_cut_) return;
  const auto at = static_cast<off_t>(base_ + bytes_);
  if (::ftruncate(file_.get(), at) != 0 || ::lseek(file_.get(), at, SEEK_SET) < 0) can_be_cut_ = false;
}

bool ChunkWriter::sync(Writing& writing) {
  const int error = writing.sync(file_.get());
  if (error == 0 || error == EINVAL || error == EROFS) return true;  // a pipe has no disk
  error_ = error;
  return false;
}

bool ChunkWriter::is_deleted() const {
  struct stat facts = {};
  return ::fstat(file_.get(), &facts) == 0 && facts.st_nlink == 0;
}

ChunkReader::ChunkReader(OpenFile file, std::string name, const Deadline& until)
    : file_(std::move(file)), name_(std::move(name)) {
  fill(kFileHeaderBytes, until);
  if (const auto header = file_header_at(held())) {
    if (header->version == kFormatVersion) return;
    throw Failure(name_ + ": the recording has format version " + std::to_string(header->version) +
                      ", but this nopspan reads only version " + std::to_string(kFormatVersion) +
                      (header->version == 1 ? ": copy it with nopspan 0.2, by `nopspan record COPY --from FILE`" : ""),
                  Failure::kUsageError);
  }
  if (until.is_over()) throw Failure(name_ + ": stopped before anything was read");
  if (state_.error != 0) throw Failure(name_ + ": " + std::strerror(state_.error), Failure::kUsageError);
  throw Failure(name_ + (held().empty() ? ": the file is empty" : ": not a recording of nopspan record"),
                Failure::kUsageError);
}

// Returns whether at least `bytes` bytes are in the buffer. The buffer grows with the data that arrives and not with
// the length in a header, which may be wrong.
bool ChunkReader::fill(std::size_t bytes, const Deadline& until) {
  while (end_ - begin_ < bytes) {
    if (at_end_) return false;
    if (begin_ > 0 && buffer_.size() - begin_ < bytes) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (buffer_.size() == end_) buffer_.resize(end_ + kChunk);
    if (!wait_to_read(file_.get(), until, while_silent_)) {
      end_ = begin_;  // not damage: it may be the beginning of a chunk
      at_end_ = true;
      return false;
    }
    const ssize_t now = ::read(file_.get(), buffer_.data() + end_, buffer_.size() - end_);
    if (now < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (now < 0) state_.error = errno;
    at_end_ = now <= 0;
    state_.at_end = now == 0;
    if (now > 0) {
      end_ += static_cast<std::size_t>(now);
      state_.bytes += static_cast<std::uint64_t>(now);
    }
  }
  return true;
}

void ChunkReader::skip(std::size_t bytes, bool begins_chunk) {
  if (begins_chunk || !std::exchange(is_skipping_, true)) ++state_.broken;
  begin_ += bytes;
  state_.skipped += bytes;
  state_.ended = false;
}

// Skips to the next byte that may begin a header.
void ChunkReader::search() {
  if (held().empty()) return;  // fill() stopped before the end of the file
  const std::string_view after = held().substr(1);
  const std::size_t at = after.find('N');
  skip(1 + (at == std::string_view::npos ? after.size() : at), false);
}

// Returns false if the bytes must be read, because the file is a pipe or may end before.
bool ChunkReader::pass_over(std::size_t bytes) {
  if (held().size() < bytes) {
    const std::size_t rest = bytes - held().size();
    struct stat facts = {};
    const off_t at = ::lseek(file_.get(), 0, SEEK_CUR);
    if (at < 0 || ::fstat(file_.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) return false;
    if (facts.st_size - at < static_cast<off_t>(rest)) return false;
    if (::lseek(file_.get(), static_cast<off_t>(rest), SEEK_CUR) < 0) return false;
    state_.bytes += rest;
    begin_ = end_;
  } else {
    begin_ += bytes;
  }
  is_skipping_ = false;
  state_.ended = false;
  return true;
}

bool ChunkReader::next(Chunk& chunk, const Deadline& until) {
  begin_ += std::exchange(taken_, 0);
  while (fill(1, until)) {
    fill(kFileHeaderBytes, until);
    const auto file_header = file_header_at(held());
    if (file_header && file_header->version == kFormatVersion) {
      begin_ += kFileHeaderBytes;
      continue;
    }
    fill(kChunkHeaderBytes, until);
    const auto header = chunk_header_at(held());
    if (!header || header->bytes > most_payload_) {
      if (file_header && begins_recording(held())) state_.other_version = file_header->version;
      search();
      continue;
    }
    const std::size_t bytes = kChunkHeaderBytes + header->bytes;
    chunk.entries = header->entries;
    chunk.time_unix_ns = header->time_unix_ns;
    if (state_.first_unix_ns == 0) state_.first_unix_ns = chunk.time_unix_ns;
    state_.last_unix_ns = std::max(state_.last_unix_ns, chunk.time_unix_ns);
    if (chunk.entries > 0 && chunk.time_unix_ns < since_unix_ns_ && pass_over(bytes)) {
      state_.early_entries += chunk.entries;
      ++state_.chunks;
      continue;
    }
    if (!fill(bytes, until)) {
      if (!held().empty()) state_.broken_entries += chunk.entries;
      search();
      continue;
    }
    chunk.payload = held().substr(kChunkHeaderBytes, header->bytes);
    if (header->payload_crc != crc_of(chunk.payload)) {
      // The header is intact, so the next chunk begins behind this one. A search inside this chunk could take very
      // long in a hostile file.
      state_.broken_entries += chunk.entries;
      skip(bytes, true);
      continue;
    }
    chunk.kind = static_cast<ChunkKind>(header->kind);
    taken_ = bytes;
    is_skipping_ = false;
    ++state_.chunks;
    state_.ended = chunk.kind == ChunkKind::end;
    return true;
  }
  return false;
}

}  // namespace nopspan::collector
