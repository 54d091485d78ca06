// SPDX-License-Identifier: Apache-2.0
#include "export/spool.h"

#include "base/failure.h"
#include "base/gzip.h"
#include "base/output.h"
#include "base/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

namespace {

using Number = unsigned long long;  // for printf() and scanf()

constexpr std::string_view kSpoolSuffix = ".otlp.gz";
constexpr std::string_view kDamagedSuffix = ".damaged";
// The requests in a spool before version 0.2.0.
constexpr std::string_view kOldSuffix = ".nopspan";
constexpr const char* kNewName = "new";  // of a file that is being written
constexpr const char* kUnsavedName = "unsaved";
// Spans, their events, log records, bytes that cannot be read.
constexpr const char* kUnsavedFormat = "nopspan-unsaved 1 %020llu %020llu %020llu %020llu\n";
constexpr mode_t kOwnerOnly = S_IRUSR | S_IWUSR, kMayHaveArrived = S_IRUSR;
constexpr int kSpoolGzipLevel = 1;
// Of a body. Longer ones are not written, and longer files are damaged.
constexpr std::size_t kMostBody = 16U << 20U;
// Of a file. No exporter counts that far.
constexpr Number kMostNumber = 999'999'999'999'999;
// Of each number in the file `unsaved`.
constexpr std::uint64_t kMostUnsaved = 1ULL << 40U;

std::string name_of_file(Number number, const ItemCounts& items) {
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "%016llu-%llu-%llu-%llu", number, Number{items.spans},
                Number{items.span_events}, Number{items.logs});
  return name.data() + std::string(kSpoolSuffix);
}

// The number and the items of a spool's file. Nothing if it is not the name of one.
std::optional<std::pair<Number, ItemCounts>> file_named(const std::string& name) {
  Number number = 0;
  std::array<Number, 3> counts{};
  if (std::sscanf(name.c_str(), "%16llu-%9llu-%9llu-%9llu", &number, counts.data(), &counts[1], &counts[2]) != 4)
    return {};
  const ItemCounts items = {counts[0], counts[1], counts[2], 0};
  if (name_of_file(number, items) != name || number > kMostNumber || items.total() == 0) return {};
  return std::pair(number, items);
}

std::uint64_t in_blocks(std::uint64_t bytes) { return (bytes / Spool::kBlockBytes + 1) * Spool::kBlockBytes; }

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
  const auto bytes = static_cast<std::uint64_t>(file.st_size);
  return bytes <= kMostBody ? "" : "is too long for a file of a spool (" + bytes_text(bytes) + ")";
}

}  // namespace

Spool::Spool(SpoolOptions options, ReceiverAccount& account)
    : options_(std::move(options)), shown_(printable(options_.folder)), account_(account) {
  open_folder();
  read_unsaved();
  scan();
}

Spool::~Spool() {
  if (is_reported_ || noted_ == Unsaved{}) ::unlinkat(folder_.get(), kUnsavedName, 0);
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

void Spool::read_unsaved() {
  constexpr int kFlags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  const bool was_ended = ::faccessat(folder_.get(), kUnsavedName, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
  unsaved_ = OpenFile(::openat(folder_.get(), kUnsavedName, kFlags, kOwnerOnly));
  if (!unsaved_ && errno != ENOSPC && errno != EDQUOT) throw spool_failure(options_.folder + "/" + kUnsavedName, errno);
  std::array<char, 128> text{};
  std::array<Number, 4> counts{};
  const ssize_t got = ::pread(unsaved_.get(), text.data(), text.size() - 1, 0);
  const bool is_valid = got > 0 &&
                        std::sscanf(text.data(), "nopspan-unsaved 1 %llu %llu %llu %llu", counts.data(), &counts[1],
                                    &counts[2], &counts[3]) == 4 &&
                        std::all_of(counts.begin(), counts.end(), [](Number count) { return count <= kMostUnsaved; });
  if (is_valid) {
    earlier_ = {{counts[0], counts[1], counts[2], 0}, counts[3]};
    account_.miss(earlier_.items);
    const std::uint64_t items = earlier_.items.total();
    options_.say(shown_ + ": the last run was killed or failed. " +
                 (items > 0 ? counted(items, "item") + " that it had only in memory or had lost, and what" : "What") +
                 " it received last may be missing");
  } else if (!was_ended) {
    earlier_.unreadable_bytes = static_cast<std::uint64_t>(std::max<ssize_t>(got, 1));
    options_.say(shown_ + ": the last run was killed or failed, and its file `unsaved` is not readable: nobody knows " +
                 "how many items that it had only in memory or had lost may be missing");
  }
  account_.count(&AccountTotals::unreadable_bytes, earlier_.unreadable_bytes);
  write_unsaved(earlier_);
}

void Spool::note_unsaved(const ItemCounts& items) {
  const std::lock_guard lock(mutex_);
  Unsaved now = earlier_;
  now.items += items;
  write_unsaved(now);
}

// With mutex_, or in the constructor. The file is overwritten in place, so that it needs no further space.
void Spool::write_unsaved(const Unsaved& unsaved) {
  if (is_noted_ && noted_ == unsaved) return;
  noted_ = unsaved;
  std::array<char, 160> text{};
  const int bytes =
      std::snprintf(text.data(), text.size(), kUnsavedFormat, Number{noted_.items.spans},
                    Number{noted_.items.span_events}, Number{noted_.items.logs}, Number{noted_.unreadable_bytes});
  if (!unsaved_) {
    unsaved_ = OpenFile(::openat(folder_.get(), kUnsavedName, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, kOwnerOnly));
  }
  is_noted_ = ::pwrite(unsaved_.get(), text.data(), static_cast<std::size_t>(bytes), 0) == bytes;
  if (is_noted_ || std::exchange(said_not_noted_, true)) return;  // the next call tries again
  options_.say(shown_ + "/unsaved: " + std::strerror(errno) +
               "; if this program is killed, the next one does not know how many items were lost");
}

void Spool::scan() {
  OpenFile copy(::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* const listing = copy ? ::fdopendir(copy.get()) : nullptr;
  if (listing == nullptr) throw spool_failure(options_.folder, errno);
  copy.release();  // closedir() closes it
  std::vector<std::string> names;
  while (const dirent* const entry = ::readdir(listing)) names.emplace_back(entry->d_name);
  ::closedir(listing);
  std::vector<std::string> others;
  for (const std::string& name : names) {
    if (name.ends_with(kSpoolSuffix)) {
      scan_file(name);
    } else if (name != "." && name != ".." && name != kNewName && name != kUnsavedName &&
               !name.ends_with(kDamagedSuffix)) {
      others.push_back(name);
    }
  }
  ::unlinkat(folder_.get(), kNewName, 0);  // its items are among those of the file `unsaved`
  report_others(std::move(others));
}

// Files of other names are left alone. The bytes of another version's requests are counted by each run that finds them.
void Spool::report_others(std::vector<std::string> names) {
  if (names.empty()) return;
  std::sort(names.begin(), names.end());
  std::uint64_t old_bytes = 0;
  for (const std::string& name : names) {
    struct stat facts = {};
    if (name.ends_with(kOldSuffix) && ::fstatat(folder_.get(), name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) == 0)
      old_bytes += static_cast<std::uint64_t>(facts.st_size);
  }
  account_.count(&AccountTotals::unreadable_bytes, old_bytes);
  std::string text = shown_ + ": " + counted(names.size(), "file is", "files are") +
                     " not of a spool of this version, and left alone: " + printable(names.front());
  if (names.size() > 1) text += ", …";
  if (old_bytes > 0) {
    text += "; " + bytes_text(old_bytes) +
            " in *.nopspan are requests of an older version: send them with that version, or remove them";
  }
  options_.say(text);
}

void Spool::scan_file(const std::string& name) {
  struct stat facts = {};
  if (::fstatat(folder_.get(), name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0) return;
  const auto bytes = static_cast<std::uint64_t>(facts.st_size);
  const auto file = file_named(name);
  if (!file) {
    earlier_.unreadable_bytes += bytes;
    account_.count(&AccountTotals::unreadable_bytes, bytes);
    Unsaved now = noted_;
    now.unreadable_bytes += bytes;
    write_unsaved(now);
    return set_aside(name, "is not the name of a file of a spool");
  }
  const auto& [number, items] = *file;
  account_.add(items, &SignalAccount::spooled, &SignalAccount::found);
  next_ = std::max<std::uint64_t>(next_, number + 1);
  if (const std::string why = problem_of(facts); !why.empty()) {
    lose(items);
    return set_aside(name, why);
  }
  Lane& lane = lane_of(items.signal());
  lane.bodies.emplace(number, Stored{items, in_blocks(bytes), (facts.st_mode & S_IWUSR) == 0});
  lane.bytes += in_blocks(bytes);
}

// The items of a file that cannot be read are dropped. With mutex_, or in the constructor. If the program is killed
// before the file is set aside, they are counted twice rather than not at all.
void Spool::lose(const ItemCounts& items) {
  account_.drop(items, &SignalAccount::spooled, DropReason::disk_error);
  Unsaved now = noted_;
  now.items += items;
  write_unsaved(now);
}

void Spool::set_aside(const std::string& name, const std::string& why) {
  const bool is_renamed =
      ::renameat(folder_.get(), name.c_str(), folder_.get(), (name + std::string(kDamagedSuffix)).c_str()) == 0;
  options_.say(shown_ + "/" + printable(name) + ": " + why + ": " +
               (is_renamed ? "renamed to " + printable(name) + ".damaged"
                           : std::string("cannot be renamed: ") + std::strerror(errno)));
}

// With mutex_.
void Spool::erase_first(Lane& lane) {
  lane.bytes -= lane.bodies.begin()->second.bytes;
  lane.bodies.erase(lane.bodies.begin());
  lane.is_full = lane.is_loaded = false;
}

// With mutex_. Somebody may have removed files, or the folder.
void Spool::drop_removed() {
  ItemCounts lost;
  for (Lane& lane : lanes_) {
    auto one = lane.bodies.begin();
    if (lane.is_loaded) ++one;  // it is sent from memory
    while (one != lane.bodies.end()) {
      const std::string name = name_of_file(one->first, one->second.items);
      if (::faccessat(folder_.get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT) {
        ++one;
        continue;
      }
      lost += one->second.items;
      lane.bytes -= one->second.bytes;
      lane.is_full = false;
      one = lane.bodies.erase(one);
    }
  }
  if (lost.total() == 0) return;
  lose(lost);
  options_.say(shown_ + ": files were removed: " + counted(lost.total(), "item") +
               " in them are lost, and counted as dropped");
}

// With mutex_.
bool Spool::has_room(Lane& lane, std::uint64_t bytes) {
  const Lane& other = &lane == lanes_.data() ? lanes_[1] : lanes_[0];
  if (lane.bytes + std::max(other.bytes, options_.most_bytes / 4) + bytes <= options_.most_bytes) return true;
  if (!std::exchange(lane.is_full, true)) {
    options_.say(shown_ + ": the spool is full (" + bytes_text(options_.most_bytes) +
                 "): what does not fit is dropped and counted, or waits if it is read from a file");
  }
  return false;
}

std::optional<DropReason> Spool::keep(const ExportBody& body, bool may_have_arrived) {
  Lane& lane = lane_of(body.signal);
  {
    const std::lock_guard lock(mutex_);
    if (!has_room(lane, kBlockBytes)) return DropReason::spool_full;  // before the work
  }
  const std::string compressed = gzipped(body.bytes, kSpoolGzipLevel);
  const std::uint64_t bytes = in_blocks(compressed.size());
  const std::lock_guard lock(mutex_);
  if (is_closed_) return DropReason::no_time;
  if (!has_room(lane, bytes)) return DropReason::spool_full;
  const std::uint64_t number = next_++;
  const bool is_too_large = std::max(body.bytes.size(), compressed.size()) > kMostBody;  // read() would refuse it
  const int error = is_too_large ? EFBIG
                                 : write(name_of_file(number, body.items), compressed,
                                         may_have_arrived ? kMayHaveArrived : kOwnerOnly);
  if (error != 0) {
    if (error == ENOENT) drop_removed();
    if (!std::exchange(said_unwritten_, true)) {
      const char* const end = error == ENOENT ? "nopspan is started again" : "the spool can be written again";
      options_.say(shown_ + ": " + std::strerror(error) + ": entries are dropped and counted until " + end);
    }
    return DropReason::disk_error;
  }
  lane.bodies.emplace(number, Stored{body.items, bytes, may_have_arrived});
  lane.bytes += bytes;
  lane.is_full = said_unwritten_ = false;
  return {};
}

// With mutex_. Returns 0 or an errno value.
int Spool::write(const std::string& name, const std::string& bytes, mode_t mode) const {
  const OpenFile file(::openat(folder_.get(), kNewName, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  int error = file ? Writing().write(file.get(), bytes).error : errno;
  if (error == 0 && ::renameat(folder_.get(), kNewName, folder_.get(), name.c_str()) != 0) error = errno;
  if (error != 0) ::unlinkat(folder_.get(), kNewName, 0);
  return error;
}

std::optional<Spool::Kept> Spool::read(Signal signal) {
  Lane& lane = lane_of(signal);
  while (true) {
    std::string name;
    Stored stored;
    {
      const std::lock_guard lock(mutex_);
      lane.is_loaded = !lane.bodies.empty();
      if (!lane.is_loaded) return {};
      const auto& [number, first] = *lane.bodies.begin();
      stored = first;
      name = name_of_file(number, first.items);
    }
    const OpenFile file(::openat(folder_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    const int error = file ? 0 : errno;
    std::string compressed(stored.bytes, '\0');
    const ssize_t got = ::pread(file.get(), compressed.data(), compressed.size(), 0);
    compressed.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (auto bytes = gunzipped(compressed, kMostBody))
      return Kept{{signal, *std::move(bytes), stored.items}, stored.may_have_arrived};
    const std::lock_guard lock(mutex_);
    lane.is_loaded = false;
    if (is_file_limit(error) || error == ENOMEM) return {};
    if (error == ENOENT) {
      drop_removed();
      continue;
    }
    lose(stored.items);
    set_aside(name, error == 0 ? "damaged" : std::strerror(error));
    erase_first(lane);
  }
}

// With mutex_.
void Spool::say_repeats(int error) {
  if (error == ENOENT || std::exchange(said_repeats_, true)) return;
  options_.say(shown_ + ": " + std::strerror(error) + "; the next run may send again what was already sent");
}

void Spool::mark_first(Signal signal, mode_t mode) {
  const std::lock_guard lock(mutex_);
  const auto& bodies = lane_of(signal).bodies;
  if (bodies.empty() || bodies.begin()->second.may_have_arrived) return;
  const std::string name = name_of_file(bodies.begin()->first, bodies.begin()->second.items);
  if (::fchmodat(folder_.get(), name.c_str(), mode, 0) != 0) say_repeats(errno);
}

void Spool::begin_sending(Signal signal) { mark_first(signal, kMayHaveArrived); }
void Spool::note_failure(Signal signal) { mark_first(signal, kOwnerOnly); }

void Spool::settle(Signal signal) {
  const std::lock_guard lock(mutex_);
  Lane& lane = lane_of(signal);
  if (lane.bodies.empty()) return;
  const auto& [number, stored] = *lane.bodies.begin();
  if (::unlinkat(folder_.get(), name_of_file(number, stored.items).c_str(), 0) != 0) say_repeats(errno);
  erase_first(lane);
}

void Spool::close() {
  const std::lock_guard lock(mutex_);
  if (std::exchange(is_closed_, true)) return;
  for (Lane& lane : lanes_) lane.is_loaded = false;
  drop_removed();
  if (!lanes_[0].bodies.empty() || !lanes_[1].bodies.empty()) ::syncfs(folder_.get());
}

}  // namespace nopspan::collector
