// SPDX-License-Identifier: Apache-2.0
#include "export/spool.h"

#include "base/failure.h"
#include "base/file_owner.h"
#include "base/gzip.h"
#include "base/stopping.h"
#include "base/text.h"
#include "recording/chunks.h"

#include <nlohmann/json.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

namespace nopspan::collector {

namespace {

constexpr std::string_view kSpoolSuffix = ".nopspan";
constexpr const char* kPositionName = "position";
constexpr const char* kNewPositionName = "position.new";
constexpr const char* kUnsavedName = "unsaved";
// Spans, their events, log records, bytes that cannot be read.
constexpr const char* kUnsavedFormat = "nopspan-unsaved 1 %020llu %020llu %020llu %020llu\n";
constexpr mode_t kOwnerOnly = S_IRUSR | S_IWUSR;
constexpr std::uint64_t kChunksOfBody = 2;
// A file that has this size gets no further bodies. So a file that is longer than this and one body is damaged, and is
// not searched: it may be sparse, with a length that takes hours to read.
constexpr std::uint64_t kEnoughForFile = 64U << 20U;
constexpr std::uint64_t kLongestFile =
    kEnoughForFile + kFileHeaderBytes + kChunksOfBody * (kChunkHeaderBytes + kMostPayload);
constexpr int kSpoolGzipLevel = 1;
// Of a file. No exporter counts that far.
constexpr std::uint64_t kMostNumber = 999'999'999'999'999;
// Of each number in the file `unsaved`.
constexpr std::uint64_t kMostUnsaved = 1ULL << 40U;

// The spool is read even after a signal, until the sender's own deadline.
const std::atomic<bool> kNeverStops = false;
Deadline no_deadline() { return Deadline(0, kNeverStops); }

std::string name_of_file(std::uint64_t number) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "%016llu", static_cast<unsigned long long>(number));
  return name.data() + std::string(kSpoolSuffix);
}

// Returns 0 if it is not the name of a spool's file.
std::uint64_t number_of_file(std::string_view name) {
  if (!name.ends_with(kSpoolSuffix)) return 0;
  name.remove_suffix(kSpoolSuffix.size());
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool is_valid = error == std::errc() && number <= kMostNumber && end == name.data() + name.size();
  return is_valid && name_of_file(number).starts_with(name) ? number : 0;
}

// The payload of the chunk before that of the body.
struct Head {
  ItemCounts items;
  std::uint64_t bytes = 0;        // of the body, decompressed
  bool may_have_arrived = false;  // an attempt with this body may have arrived
};

std::string text_of(const Head& head) {
  nlohmann::ordered_json json;
  json["spans"] = head.items.spans;
  json["span_events"] = head.items.span_events;
  json["logs"] = head.items.logs;
  json["bytes"] = head.bytes;
  if (head.may_have_arrived) json["attempted"] = true;
  return json.dump();
}

std::optional<Head> head_of(const Chunk& chunk) {
  constexpr std::size_t kMostHead = 1024;
  constexpr std::uint64_t kMostItems = 1ULL << 32U;
  if (chunk.kind != ChunkKind::spooled || chunk.payload.size() > kMostHead) return {};
  const auto json = nlohmann::json::parse(chunk.payload, nullptr, false);
  if (!json.is_object()) return {};
  bool is_valid = true;
  const auto number = [&](const char* name, std::uint64_t most) -> std::uint64_t {
    const auto found = json.find(name);
    is_valid = is_valid && found != json.end() && found->is_number_unsigned() && found->get<std::uint64_t>() <= most;
    return is_valid ? found->get<std::uint64_t>() : 0;
  };
  Head head;
  head.items.spans = number("spans", kMostItems);
  head.items.span_events = number("span_events", kMostItems);
  head.items.logs = number("logs", kMostItems);
  head.bytes = number("bytes", kMostPayload);
  head.may_have_arrived = json.contains("attempted");
  return is_valid ? std::optional(head) : std::nullopt;
}

struct BodyRead {
  bool is_whole = false;
  std::optional<Head> head;
  std::uint64_t bytes = 0;  // in the file, if it is whole
  std::string compressed;
};

// Reads the bodies of a file, from an offset on.
class BodyReader {
 public:
  BodyReader(int folder, const std::string& name, std::uint64_t offset) {
    OpenFile file(::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file) error_ = errno;
    if (!file || ::lseek(file.get(), static_cast<off_t>(offset), SEEK_SET) < 0) return;
    try {
      chunks_.emplace(std::move(file), name, no_deadline());
    } catch (const Failure&) {  // it is no file of a spool
    }
  }

  // Whether the file could not be opened, but perhaps can be later.
  [[nodiscard]] bool lacks_descriptors() const { return is_file_limit(error_) || error_ == ENOMEM; }

  // After a body that is not whole, nothing more can be read.
  BodyRead next() {
    BodyRead read;
    Chunk chunk;
    if (!next(chunk)) return read;
    read.head = head_of(chunk);
    read.bytes = kFileHeaderBytes + kChunkHeaderBytes + chunk.payload.size();
    if (!read.head || !next(chunk)) return read;
    read.bytes += kChunkHeaderBytes + chunk.payload.size();
    read.compressed = chunk.payload;
    read.is_whole = true;
    return read;
  }

 private:
  bool next(Chunk& chunk) {
    return chunks_ && chunks_->next(chunk, no_deadline()) && chunks_->state().skipped == 0 &&
           chunk.kind == ChunkKind::spooled;
  }

  std::optional<ChunkReader> chunks_;
  int error_ = 0;
};

Failure spool_failure(const std::string& folder, const std::string& what, int status = Failure::kUsageError) {
  return Failure("--spool " + printable(folder) + ": " + what, status);
}
Failure spool_failure(const std::string& folder, int error) {
  return spool_failure(folder, errno_text(error), Failure::status_of(error));
}

// Why a file of the folder is not read. "": it is.
std::string problem_of(const struct stat& file) {
  if (!S_ISREG(file.st_mode)) return "is not a regular file";
  if (!is_own(file)) return "belongs to another user";
  if (static_cast<std::uint64_t>(file.st_size) <= kLongestFile) return "";
  return "is too long for a file of a spool (" + bytes_text(static_cast<std::uint64_t>(file.st_size)) + ")";
}

}  // namespace

Spool::Spool(SpoolOptions options, ReceiverAccount& account, Spool* beside)
    : options_(std::move(options)), account_(account), beside_(beside) {
  open_folder();
  read_position();
  was_ended_ = ::faccessat(folder_.get(), kUnsavedName, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
  const ItemCounts lost = scan();
  read_unsaved();
  note_unsaved(lost);
  if (beside != nullptr) beside->beside_ = this;
  // While there is space. Later it may be overwritten only.
  if (::faccessat(folder_.get(), kPositionName, F_OK, AT_SYMLINK_NOFOLLOW) != 0) write_position(0, 0, false);
}

Spool::~Spool() {
  if (is_reported_ || noted_ == Unsaved{}) ::unlinkat(folder_.get(), kUnsavedName, 0);
}

std::string Spool::path_of(std::uint64_t number) const {
  return printable(options_.folder + "/" + name_of_file(number));
}

void Spool::open_folder() {
  const std::string& path = options_.folder;
  if (::mkdir(path.c_str(), S_IRWXU) != 0 && errno != EEXIST) throw spool_failure(path, errno);
  folder_ = OpenFile(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat facts = {};
  if (!folder_ || ::fstat(folder_.get(), &facts) != 0) throw spool_failure(path, errno);
  if (!is_own(facts)) throw spool_failure(path, "belongs to another user: use a folder of your own");
  if (others_have(facts, S_IWGRP | S_IWOTH)) {
    throw spool_failure(path, "other users can change it: run chmod go-w on it");
  }
  if (::flock(folder_.get(), LOCK_EX | LOCK_NB) == 0) return;
  throw spool_failure(
      path, errno == EWOULDBLOCK ? "another nopspan export uses it: use another folder" : std::strerror(errno));
}

// Without a valid position, everything is sent again. That is better than loss.
void Spool::lose_position(const char* why) {
  position_ = {0, 0, false, kMostNumber};
  options_.say(printable(options_.folder) + "/position " + why + ": all files of the spool are sent again");
}

void Spool::read_position() {
  const OpenFile file(::openat(folder_.get(), kPositionName, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file && errno == ENOENT) return;
  if (!file && is_file_limit(errno)) throw spool_failure(options_.folder, errno);
  std::array<char, 128> text{};
  unsigned attempted = 0;
  unsigned long long number = 0, offset = 0, until = 0;
  if (file && ::read(file.get(), text.data(), text.size() - 1) > 0 &&
      std::sscanf(text.data(), "nopspan-spool 1 %llu %llu %u %llu", &number, &offset, &attempted, &until) >= 3 &&
      number < kMostNumber) {
    position_ = {number, offset, attempted != 0, until};
    return;
  }
  lose_position("is not readable");
}

// A position of another spool must not make this one remove what was not sent.
void Spool::check_position(const std::vector<std::uint64_t>& numbers) {
  const std::uint64_t last = numbers.empty() ? kMostNumber : numbers.back();
  // A file whose bodies have their answers is removed at once, so at most one is left.
  const auto answered = std::lower_bound(numbers.begin(), numbers.end(), position_.file) - numbers.begin();
  if (position_.file > last + 1 || answered > 1) return lose_position("is not of these files");
  if (position_.offset == 0 || !std::binary_search(numbers.begin(), numbers.end(), position_.file)) return;
  // Each body begins with the header of a recording. The last one may be incomplete.
  const OpenFile file(
      ::openat(folder_.get(), name_of_file(position_.file).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat facts = {};
  std::array<char, kFileMagic.size()> begin{};
  const ssize_t bytes = ::pread(file.get(), begin.data(), begin.size(), static_cast<off_t>(position_.offset));
  const bool is_inside =
      ::fstat(file.get(), &facts) == 0 && position_.offset <= static_cast<std::uint64_t>(facts.st_size);
  if (bytes < 0 || !is_inside || !kFileMagic.starts_with({begin.data(), static_cast<std::size_t>(bytes)})) {
    lose_position("is not of these files");
  }
}

// With mutex_. If there is no space for a new file, the old one is overwritten in place: its blocks exist.
void Spool::write_position(std::uint64_t number, std::uint64_t offset, bool attempted) {
  position_ = {number, offset, attempted, position_.attempted_until};
  std::array<char, 128> text{};
  const int bytes = std::snprintf(text.data(), text.size(), "nopspan-spool 1 %020llu %020llu %u %020llu\n",
                                  static_cast<unsigned long long>(number), static_cast<unsigned long long>(offset),
                                  attempted ? 1U : 0U, static_cast<unsigned long long>(position_.attempted_until));
  const auto write_to = [&](const char* name, int flags) {
    const OpenFile file(
        ::openat(folder_.get(), name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, kOwnerOnly));
    return file && ::write(file.get(), text.data(), static_cast<std::size_t>(bytes)) == bytes;
  };
  if (write_to(kNewPositionName, O_CREAT | O_TRUNC) &&
      ::renameat(folder_.get(), kNewPositionName, folder_.get(), kPositionName) == 0) {
    return;
  }
  const int error = errno;
  if (write_to(kPositionName, 0) || std::exchange(position_failed_, true)) return;
  options_.say(printable(options_.folder) + "/position: " + std::strerror(error) +
               "; the next run may send again what was already sent");
}

// The file is then overwritten in place, so that it needs no further space.
void Spool::open_unsaved() {
  if (unsaved_) return;
  unsaved_ = OpenFile(
      ::openat(folder_.get(), kUnsavedName, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, kOwnerOnly));
}

void Spool::read_unsaved() {
  open_unsaved();
  if (!unsaved_ && errno != ENOSPC && errno != EDQUOT) throw spool_failure(options_.folder + "/" + kUnsavedName, errno);
  const std::string folder = printable(options_.folder);
  std::array<char, 128> text{};
  std::array<unsigned long long, 4> counts{};
  const ssize_t got = ::pread(unsaved_.get(), text.data(), text.size() - 1, 0);
  const bool is_valid =
      got > 0 &&
      std::sscanf(text.data(), "nopspan-unsaved 1 %llu %llu %llu %llu", counts.data(), &counts[1], &counts[2],
                  &counts[3]) == 4 &&
      std::all_of(counts.begin(), counts.end(), [](unsigned long long count) { return count <= kMostUnsaved; });
  if (is_valid) {
    earlier_ = {{counts[0], counts[1], counts[2], 0}, counts[3]};
    account_.miss(earlier_.items);
    account_.count_unreadable(earlier_.unreadable_bytes);
  } else if (!was_ended_) {
    count_unreadable(std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::max<ssize_t>(got, 0))));
    options_.say(folder + ": the last run was killed or failed, and its file `unsaved` is not readable: nobody knows " +
                 "how many items that it had only in memory or had lost may be missing");
  }
  if (is_valid) {
    const std::string noted = earlier_.items.total() > 0 ? counted(earlier_.items.total(), "item") +
                                                               " that it had only in memory or had lost, and what"
                                                         : "What";
    options_.say(folder + ": the last run was killed or failed. " + noted + " it received last may be missing");
  }
}

// From any thread.
void Spool::count_unreadable(std::uint64_t bytes) {
  unreadable_bytes_ += bytes;
  account_.count_unreadable(bytes);
}

void Spool::note_unsaved(const ItemCounts& items) {
  const auto subtract = [](std::uint64_t& count, std::uint64_t part) { count -= std::min(count, part); };
  Unsaved now = earlier_;
  now.items += items;
  now.unreadable_bytes += unreadable_bytes_;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, file] : files_) {
      subtract(now.items.spans, file.lost.items.spans);
      subtract(now.items.span_events, file.lost.items.span_events);
      subtract(now.items.logs, file.lost.items.logs);
      subtract(now.unreadable_bytes, file.lost.unreadable_bytes);
    }
  }
  if (noted_ == now) return;
  std::array<char, 160> text{};
  const int bytes = std::snprintf(
      text.data(), text.size(), kUnsavedFormat, static_cast<unsigned long long>(now.items.spans),
      static_cast<unsigned long long>(now.items.span_events), static_cast<unsigned long long>(now.items.logs),
      static_cast<unsigned long long>(now.unreadable_bytes));
  open_unsaved();
  if (unsaved_ && ::pwrite(unsaved_.get(), text.data(), static_cast<std::size_t>(bytes), 0) == bytes) {
    noted_ = now;
    return;
  }
  const int error = errno;
  noted_.reset();  // the next call tries again
  if (std::exchange(note_failed_, true)) return;
  options_.say(printable(options_.folder) + "/unsaved: " + std::strerror(error) +
               "; if this program is killed, the next one does not know how many items were lost");
}

ItemCounts Spool::scan() {
  OpenFile copy(::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* const listing = copy ? ::fdopendir(copy.get()) : nullptr;
  if (listing == nullptr) throw spool_failure(options_.folder, errno);
  copy.release();  // closedir() closes it
  std::vector<std::uint64_t> numbers;
  while (const dirent* const entry = ::readdir(listing)) {
    if (const std::uint64_t number = number_of_file(entry->d_name); number != 0) numbers.push_back(number);
  }
  ::closedir(listing);
  std::sort(numbers.begin(), numbers.end());
  check_position(numbers);
  ItemCounts lost;
  for (const std::uint64_t number : numbers) {
    if (interrupted) throw Failure("stopped before all files of " + printable(options_.folder) + " were read");
    struct stat facts = {};
    next_file_ = number + 1;
    if (::fstatat(folder_.get(), name_of_file(number).c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (const std::string why = problem_of(facts); !why.empty()) {
      if (S_ISREG(facts.st_mode)) count_unreadable(static_cast<std::uint64_t>(facts.st_size));
      set_aside(number, why);
    } else if (number < position_.file) {
      ::unlinkat(folder_.get(), name_of_file(number).c_str(), 0);  // it has all its answers
    } else {
      lost += scan_file(number, static_cast<std::uint64_t>(facts.st_size));
    }
  }
  next_file_ = std::max({next_file_, position_.file, std::uint64_t{1}});
  for (auto& [number, file] : files_) {
    for (Stored& stored : file.bodies) {
      const bool is_at_position = number == position_.file && stored.offset == position_.offset;
      stored.may_have_arrived |= number < position_.attempted_until || (is_at_position && position_.attempted);
    }
  }
  position_.attempted_until = std::min(position_.attempted_until, next_file_);
  return lost;
}

ItemCounts Spool::scan_file(std::uint64_t number, std::uint64_t bytes) {
  File file;
  file.bytes = bytes;
  std::uint64_t offset = number == position_.file ? position_.offset : 0;
  ItemCounts found, dropped;
  bool is_damaged = offset > bytes;
  if (bytes == 0 && was_ended_) {
    count_unreadable(1);
    options_.say(path_of(number) + ": is empty: nobody knows how many items were in it");
  }
  while (offset < bytes) {
    if (interrupted) throw Failure("stopped before all of " + path_of(number) + " was read");
    BodyReader reader(folder_.get(), name_of_file(number), offset);
    BodyRead read;
    for (read = reader.next(); read.is_whole; read = reader.next()) {
      file.bodies.push_back({offset, read.head->items, read.head->may_have_arrived});
      found += read.head->items;
      offset += read.bytes;
    }
    if (offset >= bytes) break;
    const Rest rest = rest_of(number, offset, bytes, read.head.has_value());
    is_damaged = is_damaged || !rest.is_cut;
    std::string lost = counted(rest.next - offset, "byte") + " cannot be read";
    // The beginning of the last body's head: its items are among those of the file `unsaved`, if the run was killed.
    if (!(read.head ? rest.is_one : rest.is_cut && !was_ended_)) {
      count_unreadable(rest.next - offset);
      if (!rest.is_cut) file.lost.unreadable_bytes += rest.next - offset;
    }
    if (read.head) {
      dropped += read.head->items;
      if (!rest.is_cut) file.lost.items += read.head->items;
      account_.find(read.head->items);
      account_.drop(read.head->items, ReceiverAccount::Place::spool, DropReason::disk_error);
      lost +=
          ", among them " + counted(read.head->items.total(), "item") + " of a request, which are counted as dropped";
    }
    options_.say(path_of(number) + ": " +
                 (!rest.is_cut ? "damaged" : "its end is missing, perhaps because the program was killed") + ": " +
                 lost);
    if (rest.is_cut) file.bytes = offset;
    offset = rest.next;
  }
  account_.find(found);
  if (file.bodies.empty()) {
    if (is_damaged) {
      set_aside(number, "damaged");
    } else {
      ::unlinkat(folder_.get(), name_of_file(number).c_str(), 0);
    }
    return dropped;
  }
  if (file.bytes < bytes) cut_file(number, file.bytes);
  bytes_ += file.bytes;
  file.is_damaged = is_damaged;
  files_.emplace(number, std::move(file));
  return dropped;
}

// What is behind was counted. The next run must not count it again.
void Spool::cut_file(std::uint64_t number, std::uint64_t bytes) const {
  const OpenFile file(
      ::openat(folder_.get(), name_of_file(number).c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    options_.say(path_of(number) + ": cannot be cut: " + std::strerror(errno));
}

// If the headers of the damaged body's chunks are intact, they say where it ends. A program that is killed while it
// writes leaves a file that ends in a chunk.
Spool::Rest Spool::rest_of(std::uint64_t number, std::uint64_t offset, std::uint64_t bytes, bool has_head) const {
  constexpr std::size_t kBlock = 1U << 20U, kBegin = kFileHeaderBytes + kChunkHeaderBytes;
  const OpenFile file(
      ::openat(folder_.get(), name_of_file(number).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  std::string block(kBlock + kBegin, '\0');
  const auto read_at = [&](std::uint64_t at, std::size_t bytes) {
    const ssize_t got = file ? ::pread(file.get(), block.data(), bytes, static_cast<off_t>(at)) : -1;
    return std::string_view(block.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  };
  std::uint64_t from = offset + kFileHeaderBytes;
  std::uint64_t whole = 0;  // chunks
  while (const std::size_t chunk = chunk_bytes(read_at(from, kChunkHeaderBytes))) {
    from += chunk;
    if (from <= bytes) ++whole;
  }
  // If the first chunk is whole and not readable, the body is damaged.
  const bool may_be_cut = whole < (has_head ? kChunksOfBody : 1);
  if (may_be_cut && (from == bytes || from + kChunkHeaderBytes > bytes)) return {bytes, true, true};
  bool is_one = true;
  while (true) {
    const std::string_view view = read_at(from, block.size());
    if (view.size() < kBegin) return {bytes, false, is_one && view.empty()};
    for (std::size_t at = view.find(kFileMagic); at != std::string_view::npos && at + kBegin <= view.size();
         at = view.find(kFileMagic, at + 1)) {
      if (begins_recording(view.substr(at))) return {from + at, false, is_one && at == 0};
    }
    from += view.size() - kBegin + 1;
    is_one = false;
  }
}

// With mutex_, or in the constructor.
void Spool::set_aside(std::uint64_t number, const std::string& why) {
  const std::string name = name_of_file(number);
  const bool is_renamed = ::renameat(folder_.get(), name.c_str(), folder_.get(), (name + ".damaged").c_str()) == 0;
  options_.say(
      path_of(number) + ": " + why + ": " +
      (is_renamed ? "renamed to " + name + ".damaged" : std::string("cannot be renamed: ") + std::strerror(errno)));
}

std::string Spool::packed(const ExportBody& body) { return gzipped(body.bytes, kSpoolGzipLevel); }

// With mutex_.
bool Spool::has_room(std::uint64_t bytes) {
  const std::uint64_t others = beside_ == nullptr ? 0 : std::max(beside_->bytes(), options_.most_bytes / 4);
  if (bytes_ + others + bytes <= options_.most_bytes) return true;
  if (!is_full_.exchange(true)) {
    options_.say(printable(options_.folder) + ": the spool is full (" + bytes_text(options_.most_bytes) +
                 "): what does not fit is dropped and counted, or waits if it is read from a file");
  }
  return false;
}

std::optional<DropReason> Spool::keep(const ExportBody& body, bool may_have_arrived, std::string packed_body) {
  const std::string head = text_of({body.items, body.bytes.size(), may_have_arrived});
  const std::uint64_t overhead = kFileHeaderBytes + kChunksOfBody * kChunkHeaderBytes + head.size();
  {
    const std::lock_guard lock(mutex_);
    if (!has_room(overhead)) return DropReason::spool_full;  // before the work
  }
  const std::string compressed = packed_body.empty() ? packed(body) : std::move(packed_body);
  const std::uint64_t bytes = overhead + compressed.size();
  const std::lock_guard lock(mutex_);
  if (is_closed_) return DropReason::no_time;
  if (!has_room(bytes)) return DropReason::spool_full;
  struct stat facts = {};
  if (file_ && ::fstat(file_.get(), &facts) == 0 && facts.st_nlink == 0) drop_removed();
  const bool is_too_large = body.bytes.size() > kMostPayload;  // read() would refuse it
  if (!is_too_large && !file_) begin_file();
  if (const int error = is_too_large ? EFBIG : file_ ? write(head, compressed) : errno; error != 0) {
    if (!std::exchange(said_error_, true)) {
      const char* const end = error == ENOENT ? "nopspan is started again" : "the spool can be written again";
      options_.say(printable(options_.folder) + ": " + std::strerror(error) +
                   ": entries are dropped and counted until " + end);
    }
    return DropReason::disk_error;
  }
  File& file = files_[writing_];
  file.bodies.push_back({file.bytes, body.items, may_have_arrived});
  file.bytes += bytes;
  bytes_ += bytes;
  is_full_ = said_error_ = false;
  // Several files, so that space becomes free before all is sent.
  if (file.bytes >= std::min(options_.most_bytes / 16, kEnoughForFile)) end_file();
  return {};
}

// With mutex_. Writes a body at the end of the current file. Returns 0 or an errno value.
int Spool::write(const std::string& head, const std::string& bytes) {
  ChunkWriter writer{OpenFile(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 3))};
  if (writer.write({ChunkKind::spooled, 0, 0, head}) && writer.write({ChunkKind::spooled, 0, 0, bytes})) return 0;
  // Cut the file to whole bodies. If that fails too, the next body begins a new file.
  const auto end = static_cast<off_t>(files_[writing_].bytes);
  if (::ftruncate(file_.get(), end) != 0 || ::lseek(file_.get(), end, SEEK_SET) < 0) end_file();
  return writer.error();
}

// With mutex_.
void Spool::begin_file() {
  if (next_file_ > kMostNumber) {
    errno = EOVERFLOW;
    return;
  }
  file_ = OpenFile(::openat(folder_.get(), name_of_file(next_file_).c_str(),
                            O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kOwnerOnly));
  if (!file_) return;
  writing_ = next_file_++;
  files_[writing_];
}

// With mutex_.
void Spool::end_file() {
  file_.reset();
  const std::uint64_t number = std::exchange(writing_, 0);
  const auto found = files_.find(number);
  if (found != files_.end() && found->second.bodies.empty()) end_use(number);
}

// With mutex_. Somebody may have removed files, or the folder.
void Spool::drop_removed() {
  ItemCounts lost;
  is_full_ = false;
  for (auto one = files_.begin(); one != files_.end();) {
    struct stat facts = {};
    auto& [number, file] = *one;
    if (::fstatat(folder_.get(), name_of_file(number).c_str(), &facts, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT) {
      ++one;
      continue;
    }
    const bool is_loaded = number == loaded_;  // the first body, which is sent from memory
    while (file.bodies.size() > (is_loaded ? 1U : 0U)) {
      account_.drop(file.bodies.back().items, ReceiverAccount::Place::spool, DropReason::disk_error);
      lost += file.bodies.back().items;
      file.bodies.pop_back();
    }
    file.lost = {};
    if (number == writing_) {
      file_.reset();
      writing_ = 0;
    }
    if (is_loaded) {
      ++one;
      continue;
    }
    bytes_ -= file.bytes;
    one = files_.erase(one);
  }
  if (lost.total() > 0) {
    options_.say(printable(options_.folder) + ": files were removed: " + counted(lost.total(), "item") +
                 " in them are lost, and counted as dropped");
  }
}

// With mutex_. All bodies of the file are settled.
void Spool::end_use(std::uint64_t number) {
  const auto found = files_.find(number);
  if (found == files_.end()) return;
  const bool is_damaged = found->second.is_damaged;
  is_full_ = false;
  bytes_ -= found->second.bytes;
  files_.erase(found);
  if (is_damaged) {
    set_aside(number, "damaged, and all that is readable is settled");
  } else {
    ::unlinkat(folder_.get(), name_of_file(number).c_str(), 0);
  }
}

// With mutex_.
std::map<std::uint64_t, Spool::File>::iterator Spool::first() {
  return std::find_if(files_.begin(), files_.end(), [](const auto& one) { return !one.second.bodies.empty(); });
}

bool Spool::is_empty() const {
  const std::lock_guard lock(mutex_);
  return std::all_of(files_.begin(), files_.end(), [](const auto& one) { return one.second.bodies.empty(); });
}

std::optional<Spool::Kept> Spool::read() {
  while (true) {
    std::uint64_t number = 0;
    Stored stored;
    {
      const std::lock_guard lock(mutex_);
      const auto file = first();
      loaded_ = file == files_.end() ? 0 : file->first;
      if (file == files_.end()) return {};
      number = file->first;
      stored = file->second.bodies.front();
    }
    BodyReader reader(folder_.get(), name_of_file(number), stored.offset);
    if (reader.lacks_descriptors()) {
      const std::lock_guard lock(mutex_);
      loaded_ = 0;
      return {};
    }
    const BodyRead read = reader.next();
    if (read.is_whole) {
      const Signal signal = stored.items.logs > 0 ? Signal::logs : Signal::traces;
      auto bytes = gunzipped(read.compressed, read.head->bytes);
      if (bytes) return Kept{{signal, *std::move(bytes), stored.items}, stored.may_have_arrived};
    }
    const std::lock_guard lock(mutex_);
    loaded_ = 0;
    File& file = files_[number];  // drop_removed() has kept it
    account_.drop(stored.items, ReceiverAccount::Place::spool, DropReason::disk_error);
    file.lost.items += stored.items;
    file.bodies.pop_front();
    if (!std::exchange(file.is_damaged, true))
      options_.say(path_of(number) + ": can no longer be read as a whole: what is missing is counted as dropped");
    if (number == writing_) {
      file_.reset();
      writing_ = 0;
    }
    if (file.bodies.empty()) end_use(number);
  }
}

void Spool::begin_sending() {
  const std::lock_guard lock(mutex_);
  const auto file = first();
  if (file == files_.end()) return;
  const std::uint64_t offset = file->second.bodies.front().offset;
  if (position_.file != file->first || position_.offset != offset || !position_.attempted)
    write_position(file->first, offset, true);
}

void Spool::settle() {
  const std::lock_guard lock(mutex_);
  const auto file = first();
  if (file == files_.end()) return;
  file->second.bodies.pop_front();
  loaded_ = 0;
  const std::uint64_t number = file->first;
  if (!file->second.bodies.empty()) {
    write_position(number, file->second.bodies.front().offset, true);
    return;
  }
  // All of the file is settled. If it is still being written, the next body begins a new file.
  write_position(number + 1, 0, files_.size() > 1);
  if (number == writing_) {
    file_.reset();
    writing_ = 0;
  }
  end_use(number);
}

void Spool::close(bool may_have_arrived) {
  const std::lock_guard lock(mutex_);
  if (std::exchange(is_closed_, true)) return;
  if (file_) ::fdatasync(file_.get());
  end_file();
  loaded_ = 0;
  drop_removed();
  const auto file = first();
  if (file == files_.end()) {
    write_position(next_file_, 0, false);
  } else {
    const Stored& body = file->second.bodies.front();
    write_position(file->first, body.offset, may_have_arrived || body.may_have_arrived);
  }
  if (!files_.empty()) ::fsync(folder_.get());
}

}  // namespace nopspan::collector
