// SPDX-License-Identifier: Apache-2.0
#include "recording/recorder.h"

#include "base/failure.h"
#include "base/gzip.h"
#include "base/open_file.h"
#include "base/stopping.h"
#include "base/unix_socket.h"
#include "host/host_name.h"
#include "model/entry_json.h"
#include "recording/entry_encoder.h"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kFlushEvery = kSecond / 2, kLedgerEvery = kSecond;
// If there are more while they are recorded, they are not compressed, because that would take more processor time than
// all else.
constexpr std::uint64_t kCompressedBytesPerSecond = 4U << 20U;
// A ledger over kLargeLedger bytes is written less often. A ledger over kMostLedger bytes is written without its
// processes.
constexpr std::size_t kLargeLedger = 64U << 10U, kMostLedger = 1U << 20U;
constexpr std::uint64_t kLargeLedgerEvery = 10 * kSecond;
constexpr const char* kTooSlow =
    "its reader or disk is too slow; still recording, entries that cannot be written are counted as lost";

std::string random_id() {
  std::uint64_t id = 0;
  if (::getrandom(&id, sizeof(id), 0) != sizeof(id)) id = static_cast<std::uint64_t>(::getpid());
  return id_text(id);
}

bool exists(const std::string& path) { return kind_of_file(path) != FileKind::none; }

// A block without entries.
class Work : public Output::Block {
 public:
  explicit Work(
      std::function<bool()> write, std::function<void(bool)> settle = [](bool /*is_written*/) {})
      : write_(std::move(write)), settle_(std::move(settle)) {}
  bool write(Writing& /*writing*/) override { return write_(); }
  void settle(bool is_written) override { settle_(is_written); }

 private:
  const std::function<bool()> write_;
  const std::function<void(bool)> settle_;
};

constexpr std::string_view kDigits = "0123456789";

// The paths of the files in the folder of `path` for whose names `is_wanted` returns true.
template <class IsWanted>
std::vector<std::string> files_beside(const std::filesystem::path& path, IsWanted is_wanted) {
  std::vector<std::string> files;
  const std::filesystem::path folder = path.parent_path();
  std::error_code error;
  std::filesystem::directory_iterator end, at(folder.empty() ? "." : folder, error);
  for (; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename();
    if (is_wanted(name)) files.push_back(folder / name);
  }
  return files;
}

// "20260102T030405Z.rec" becomes "#T#Z.rec".
std::string without_numbers(std::string_view name) {
  std::string text;
  for (const char c : name) {
    if (!is_digit(c) || text.empty() || text.back() != '#') text += is_digit(c) ? '#' : c;
  }
  return text;
}

// "spans.rec.3" becomes "spans.rec".
std::string_view without_part(std::string_view name) {
  const std::size_t end = name.find_last_not_of(kDigits);
  return end != std::string_view::npos && end + 1 < name.size() && name[end] == '.' ? name.substr(0, end) : name;
}

struct OldRecording {
  timespec written = {};
  std::string path;
  std::uint64_t bytes = 0;
};

// The recordings in the folder of `path`, the oldest first. Only recordings count whose names differ from that of
// `path` in numbers alone, and their older files (.1, .2, …). `path` itself does not count.
std::vector<OldRecording> recordings_beside(const std::string& path) {
  const std::string own = std::filesystem::path(path).filename(), wanted = without_numbers(own);
  std::vector<OldRecording> old;
  for (std::string& file : files_beside(path, [&](std::string_view name) {
         return name != own && (without_numbers(name) == wanted || without_numbers(without_part(name)) == wanted);
       })) {
    struct stat facts = {};
    // Others may create files in a shared folder, to displace those of this user.
    if (::lstat(file.c_str(), &facts) != 0 || facts.st_uid != ::geteuid() || !is_recording(file)) continue;
    // A small file needs more space on the disk than it has bytes.
    constexpr std::uint64_t kBlock = 512;
    const std::uint64_t size =
        std::max(static_cast<std::uint64_t>(facts.st_size), static_cast<std::uint64_t>(facts.st_blocks) * kBlock);
    old.push_back({facts.st_mtim, std::move(file), size});
  }
  std::sort(old.begin(), old.end(), [](const OldRecording& one, const OldRecording& other) {
    // If the times are equal, FILE.1 is older than FILE.
    return std::tie(one.written.tv_sec, one.written.tv_nsec, other.path) <
           std::tie(other.written.tv_sec, other.written.tv_nsec, one.path);
  });
  return old;
}

}  // namespace

bool is_recording(const std::string& path) {
  // O_NONBLOCK, so that open() does not wait for the writer of a named pipe.
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat facts = {};
  std::array<char, kFileHeaderBytes + kChunkHeaderBytes> begin{};
  return file && ::fstat(file.get(), &facts) == 0 && S_ISREG(facts.st_mode) &&
         ::pread(file.get(), begin.data(), begin.size(), 0) == static_cast<ssize_t>(begin.size()) &&
         begins_recording({begin.data(), begin.size()});
}

Recorder::Recorder(RecorderOptions options, const Source& source)
    : options_(std::move(options)), recording_(random_id()), source_(source) {
  if (options_.max_bytes > 0) chunk_bytes_ = std::min<std::uint64_t>(kChunkBytes, options_.max_bytes / 4);
  open(options_.force);
  for (const std::string& older : options_.older_files()) {
    if (!options_.force) throw Failure(older + " exists: remove it, or use --force", Failure::kUsageError);
    if (!is_recording(older)) {
      throw Failure(older + " exists and is not a recording: remove it, or use another name", Failure::kUsageError);
    }
  }
  if (stream_ != nullptr || begin_file()) return;
  const int error = writer_->error();
  const bool is_stopped = error == 0 || error == ECANCELED;
  throw Failure(options_.name() + ": " + (is_stopped ? "stopped before anything was written" : errno_text(error)));
}

// Nothing else is written if this fails.
bool Recorder::begin_file() {
  bool is_written = false;
  const auto note = [&is_written](bool is) { is_written = is; };
  output_.post(std::make_unique<Work>([this] { return write_about(now_); }, note), 0);
  if (!output_.flush()) output_.close();
  return is_written;
}

std::string RecorderOptions::file(unsigned i) const { return i == 0 ? path : path + "." + std::to_string(i); }

std::vector<std::string> RecorderOptions::older_files() const {
  if (max_bytes == 0) return {};
  const std::string first = std::filesystem::path(path).filename().string() + ".";
  return files_beside(path, [&](std::string_view name) {
    if (!name.starts_with(first) || name.size() == first.size() || name[first.size()] == '0') return false;
    unsigned number = 0;
    const auto [end, error] = std::from_chars(name.data() + first.size(), name.data() + name.size(), number);
    return error == std::errc() && end == name.data() + name.size() && number <= keep;
  });
}

void Recorder::open(bool may_replace) {
  const std::string& path = options_.path;
  if (path == "-") {
    if (options_.max_bytes > 0) throw Failure("--max-size cannot be used with - (stdout)", Failure::kUsageError);
    writer_ = std::make_unique<ChunkWriter>(OpenFile(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)));
    return;
  }
  if (path.starts_with(RecorderStream::kPrefix)) {
    if (options_.max_bytes > 0) throw Failure("--max-size cannot be used with a socket", Failure::kUsageError);
    stream_ = std::make_unique<RecorderStream>(path);
    return;
  }
  if (OpenFile existing = open_existing_output(path, may_replace)) {
    if (options_.max_bytes > 0) {
      throw Failure("--max-size needs a regular file, which " + path + " is not", Failure::kUsageError);
    }
    writer_ = std::make_unique<ChunkWriter>(std::move(existing));
    return;
  }
  create();
}

void Recorder::create() {
  // Only the user may read the file, because spans may contain private data.
  file_ = std::make_unique<NewFile>(options_.path, S_IRUSR | S_IWUSR);
  if (file_->error() != 0) throw cannot_create(file_->error());
  writer_ = std::make_unique<ChunkWriter>(OpenFile(::fcntl(file_->fd(), F_DUPFD_CLOEXEC, 3)));
}

Failure Recorder::cannot_create(int error) const {
  std::string what = options_.path + ": " + errno_text(error);
  if (exists(options_.path)) what += " (--force replaces the file by a new one, which its folder must permit)";
  return Failure(what, Failure::status_of(error));
}

void Recorder::publish(bool may_replace) {
  if (!file_) return;
  const int error = file_->publish(may_replace);
  if (error == EEXIST) throw file_exists(options_.path);
  if (error != 0) throw cannot_create(error);
  struct stat facts = {};
  if (::fstat(file_->fd(), &facts) == 0) inode_ = {facts.st_dev, facts.st_ino};
  file_.reset();
}

// The recording can start, so it replaces what is there.
void Recorder::begin() {
  if (std::exchange(has_begun_, true)) return;
  publish(options_.force);
  for (const std::string& older : options_.older_files()) {
    if (is_recording(older)) ::unlink(older.c_str());  // it belongs to another recording
  }
  keep_total(0);
}

// Deletes old recordings, so that there is space for `bytes` and for a whole new file.
void Recorder::keep_total(std::uint64_t bytes) {
  if (options_.keep_total == 0) return;
  const std::vector<OldRecording> old = recordings_beside(options_.path);
  std::uint64_t sum = bytes + options_.max_bytes;
  for (const OldRecording& one : old) sum += one.bytes;
  for (auto one = old.begin(); one != old.end() && sum > options_.keep_total; ++one) {
    const std::string begin = "nopspan record: " + printable(one->path) + ": ";
    std::cerr << begin + "deleting it because of --keep-total " + bytes_text(options_.keep_total) + "\n";
    if (::unlink(one->path.c_str()) == 0) {
      sum -= one->bytes;
    } else {
      std::cerr << begin + "cannot be deleted: " + std::strerror(errno) + "\n";
    }
  }
}

void Recorder::on_entry(const Entry& entry) {
  if (now_ == 0) {
    begin();
    now_ = flushed_at_ = ledger_at_ = entry.start_unix_ns + entry.duration_ns;
  }
  if (refuses(*entry.process, 1)) return;
  const std::size_t before = encoder_.bytes();
  encoder_.add(entry);
  note_added(*entry.process, std::max(encoder_.bytes(), before) - before);
  ++pending_[entry.kind];
  if (encoder_.bytes() >= chunk_bytes_) flush();
}

// A live source has passed on its first tick.
void Recorder::on_batch(const EntryBatch& batch) {
  if (refuses(*batch.process, batch.entries)) return;
  note_added(*batch.process, batch.bytes.size());
  encoder_.add(batch);
  pending_ += batch.counts;
  if (encoder_.bytes() >= chunk_bytes_) flush();
}

// Is called ten times per second, and for each chunk.
void Recorder::look_at_queue() {
  is_nearly_full_ = is_live_ && output_.is_nearly_full();
  if (!is_nearly_full_) added_.clear();
}

// What the processes that share a part of the queue have added since it is nearly full: those of a service or of a
// container, or one that is in no cgroup. If there are too many, the others share one part.
std::size_t& Recorder::added_by_group_of(const Process& process) {
  std::string group = process.cgroup;
  if (group.size() <= 1) group = std::to_string(process.pid) + " " + std::to_string(process.start_ticks);
  if (added_.size() >= kMostDropped && !added_.contains(group)) group.clear();
  return added_[group];
}

// Whether the process must not add more to the queue now. The entries are then counted as dropped.
bool Recorder::refuses(const ProcessPointer& process, std::uint64_t entries) {
  if (!is_nearly_full_ || added_by_group_of(*process) < kMostOfGroup) return false;
  {
    const std::lock_guard lock(mutex_);
    count_dropped(refused_, {{process, entries}});
  }
  complain(kTooSlow);
  return true;
}

void Recorder::note_added(const ProcessPointer& process, std::size_t bytes) {
  if (is_nearly_full_) added_by_group_of(*process) += bytes;
}

void Recorder::on_tick(std::uint64_t now_unix_ns) {
  begin();
  look_at_queue();
  // If the clock was set back, the time since the last flush is unknown, so it is counted from now.
  if (now_unix_ns < now_) flushed_at_ = ledger_at_ = now_unix_ns;
  now_ = now_unix_ns;
  if (flushed_at_ == 0) {
    flushed_at_ = now_;
    post_ledger();  // an empty ledger, which records the start time
    return;
  }
  if (now_ - flushed_at_ >= kFlushEvery) flush();
  const std::uint64_t every = ledger_bytes_ > kLargeLedger ? kLargeLedgerEvery : kLedgerEvery;
  if (now_ - ledger_at_ < every) return;
  flush();
  post_ledger();
}

class Recorder::EntryChunk : public Output::Block {
 public:
  EntryChunk(Recorder& recorder, std::uint64_t time_unix_ns, const EntryCounts& counts, std::string message,
             std::vector<EntryShare> shares, bool compresses)
      : recorder_(recorder),
        time_unix_ns_(time_unix_ns),
        counts_(counts),
        message_(std::move(message)),
        shares_(std::move(shares)),
        compresses_(compresses) {}

  bool write(Writing& /*writing*/) override {
    if (std::exchange(compresses_, false)) {
      shorten_steps(message_);
      message_ = gzipped(message_, kFastGzip);
      kind_ = ChunkKind::batches_gzip;
    }
    recorder_.make_room(message_.size(), time_unix_ns_);
    if (!recorder_.write({kind_, static_cast<std::uint32_t>(counts_.all()), time_unix_ns_, message_})) {
      return false;
    }
    recorder_.part_has_entries_ = true;
    if (recorder_.stream_ != nullptr) recorder_.stream_->note_written(shares_);
    return true;
  }
  void settle(bool is_written) override {
    const std::lock_guard lock(recorder_.mutex_);
    if (is_written) {
      recorder_.totals_.entries += counts_;
    } else {
      recorder_.count_dropped(recorder_.dropped_, shares_);
    }
  }

 private:
  static constexpr int kFastGzip = 1;

  Recorder& recorder_;
  const std::uint64_t time_unix_ns_;
  const EntryCounts counts_;
  std::string message_;
  const std::vector<EntryShare> shares_;
  bool compresses_;  // not done yet
  ChunkKind kind_ = ChunkKind::batches;
};

void Recorder::flush() {
  look_at_queue();
  const std::uint64_t elapsed = now_ - std::exchange(flushed_at_, now_);
  if (encoder_.entries() == 0) return;
  const bool compresses = !is_live_ || encoder_.bytes() * kSecond / kCompressedBytesPerSecond <= elapsed;
  std::string message;
  message.reserve(encoder_.bytes());  // for the next one
  auto shares = encoder_.finish(message);
  const EntryCounts counts = std::exchange(pending_, {});
  const std::size_t bytes = message.size();
  auto chunk = std::make_unique<EntryChunk>(*this, now_, counts, std::move(message), shares, compresses);
  if (output_.post(std::move(chunk), bytes)) return;
  {
    const std::lock_guard lock(mutex_);
    count_dropped(refused_, shares);
  }
  complain(kTooSlow);
}

// Call it with mutex_.
void Recorder::count_dropped(LedgerSum& dropped, const std::vector<EntryShare>& shares) {
  for (const EntryShare& share : shares) {
    dropped.of(share.process).export_dropped += share.entries;
    totals_.dropped += share.entries;
  }
}

bool Recorder::write(const Chunk& chunk) {
  if (stream_ != nullptr) {
    if (writer_ == nullptr && !connect(chunk.time_unix_ns)) return false;
    if (write_to_part(chunk)) return true;
    if (writer_->error() != ECANCELED) disconnect();
    return false;
  }
  if (!is_gone_ && write_to_part(chunk)) return true;
  is_gone_ = is_gone_ || writer_->error() == EPIPE;
  if (is_gone_) {
    stopping = true;
  } else if (writer_->error() != ECANCELED) {
    complain(std::string(std::strerror(writer_->error())) +
             "; still recording, entries that cannot be written are counted as lost");
  }
  return false;
}

// Each connection is a recording of its own. Its empty ledger records the time of its begin.
bool Recorder::connect(std::uint64_t time_unix_ns) {
  OpenFile file = stream_->connect();
  if (!file) {
    const int error = stream_->error();
    complain(std::string(error == kAnotherUserListens ? "another user listens there, who could read what is written"
                                                      : std::strerror(error)) +
             "; still recording, entries are counted as lost until a reader listens");
    return false;
  }
  recording_ = random_id();
  writer_ = std::make_unique<ChunkWriter>(std::move(file));
  stream_->begin();
  if (write_about(time_unix_ns) && write_to_part({ChunkKind::ledger, 0, time_unix_ns, json_text({}, {})})) return true;
  disconnect();
  return false;
}

void Recorder::disconnect() {
  closed_bytes_ += writer_->bytes();
  writer_.reset();
}

void Recorder::complain(const std::string& what) {
  if (!complained_.exchange(true)) std::cerr << "nopspan record: " + options_.name() + ": " + what + "\n" << std::flush;
}

bool Recorder::write_about(std::uint64_t time_unix_ns) {
  nlohmann::ordered_json about;
  about["recording"] = recording_;
  about["part"] = parts_;
  about["host"] = host_name();
  const std::string text = about.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  return write_to_part({ChunkKind::about, 0, time_unix_ns, text});
}

bool Recorder::write_to_part(const Chunk& chunk) {
  if (!writer_->write(chunk, output_.writing())) return false;
  update_totals();
  return true;
}

void Recorder::update_totals() {
  const std::lock_guard lock(mutex_);
  totals_.files = parts_;
  totals_.bytes = closed_bytes_ + writer_->bytes();
}

// The ledger as of now. Its JSON is made when it is written, because it counts the chunks before it that could not be
// written. A ledger that does not fit into the queue is omitted. The next one contains its counts.
void Recorder::post_ledger(bool is_last) {
  constexpr std::size_t kRow = 512;  // estimated
  ledger_at_ = now_;
  Ledger ledger = source_.ledger();
  ledger.move_delivered(refused_.ledger(), &Counts::export_dropped);
  const std::size_t bytes = kRow * (1 + ledger.processes.size());
  auto write_it = [this, ledger = std::move(ledger), time_unix_ns = now_.load(), is_last]() mutable {
    // A full file gets no more ledgers, and ledgers alone begin no new file: they must not displace entries.
    const std::uint64_t most = options_.max_bytes, needed = kChunkHeaderBytes + ledger_bytes_;
    if (!is_last && most > 0 && writer_->bytes() + needed > most) return false;
    has_last_ledger_ = write_ledger(std::move(ledger), time_unix_ns);
    return has_last_ledger_;
  };
  output_.post(std::make_unique<Work>(std::move(write_it)), bytes);
}

bool Recorder::write_ledger(Ledger ledger, std::uint64_t time_unix_ns) {
  {
    const std::lock_guard lock(mutex_);
    ledger.move_delivered(dropped_.ledger(), &Counts::export_dropped);
  }
  Ledger of_all_connections;
  if (stream_ != nullptr) {
    if (writer_ == nullptr && !connect(time_unix_ns)) return false;
    of_all_connections = ledger;
    ledger = stream_->less_reported(ledger);
  }
  std::string text = json_text(ledger, source_.clock());
  if (text.size() > kMostLedger) {
    for (const ProcessLedger& one : ledger.processes) ledger.others += one.counts;
    ledger.others_processes += ledger.processes.size();
    ledger.processes.clear();
    text = json_text(ledger, source_.clock());
  }
  ledger_bytes_ = text.size();
  if (!write({ChunkKind::ledger, 0, time_unix_ns, text})) return false;
  if (stream_ != nullptr) stream_->note_ledger(of_all_connections);
  look_for_file();
  return true;
}

void Recorder::look_for_file() {
  if (inode_ == std::pair<dev_t, ino_t>() || !writer_->is_deleted() || is_deleted_.exchange(true)) return;
  complain("the file was deleted while it is written, and what was recorded will be gone");
}

// Without its ledger, the file must not look complete.
bool Recorder::write_end(std::uint64_t time_unix_ns) {
  has_end_ = has_last_ledger_ && write({ChunkKind::end, 0, time_unix_ns, {}});
  if (!has_end_) return false;
  is_synced_ = writer_->sync(output_.writing());
  if (!is_synced_) complain(std::strerror(writer_->error()));
  return is_synced_;
}

// Begins another file if this one would become too large. Its time is that of its first entries, because readers
// conclude from it which requests began in an earlier file.
void Recorder::make_room(std::size_t payload_bytes, std::uint64_t time_unix_ns) {
  if (options_.max_bytes == 0 || !part_has_entries_) return;
  if (writer_->bytes() + kChunkHeaderBytes + payload_bytes > options_.max_bytes) rotate(time_unix_ns);
}

// Only the last part has an end, so that no other part looks like a whole recording.
void Recorder::rotate(std::uint64_t time_unix_ns) {
  auto full = std::move(writer_);
  closed_bytes_ += full->bytes();
  ++parts_;
  try {
    struct stat facts = {};
    const bool is_there = ::lstat(options_.path.c_str(), &facts) == 0;
    if (is_there && inode_ != std::pair(facts.st_dev, facts.st_ino)) throw Failure("another file has this name now");
    keep_total(is_there ? full->bytes() : 0);
    const unsigned free = free_older_file();
    create();
    if (!write_about(time_unix_ns)) throw Failure(std::strerror(writer_->error()));
    for (unsigned i = free; i > 0; --i) {
      const std::string newer = options_.file(i - 1), older = options_.file(i);
      if (exists(newer) && std::rename(newer.c_str(), older.c_str()) != 0) throw Failure(std::strerror(errno));
    }
    publish(options_.keep == 0);
  } catch (const Failure& failure) {
    complain(std::string("no new file for --max-size: ") + failure.what() + "; continuing in the previous file");
    --parts_;
    closed_bytes_ -= full->bytes();
    file_.reset();
    writer_ = std::move(full);
    update_totals();
    return;
  }
  part_has_entries_ = false;
}

// Returns the number of the newest older file that does not exist. If there are as many as --keep permits, the oldest
// is deleted.
unsigned Recorder::free_older_file() const {
  unsigned free = options_.keep == 0 ? 0 : 1;
  while (free < options_.keep && exists(options_.file(free))) ++free;
  const std::string oldest = options_.file(free);
  if (free == 0 || !exists(oldest)) return free;
  if (!is_recording(oldest)) throw Failure(oldest + " is not a recording");
  if (::unlink(oldest.c_str()) != 0) throw Failure(oldest + ": " + std::strerror(errno));
  return free;
}

bool Recorder::finish() {
  begin();
  flush();
  output_.flush();
  post_ledger(true);
  output_.post(std::make_unique<Work>([this] { return write_end(now_); }), 0);
  const bool is_over = output_.close();
  if (!is_over && !has_end_) complain("its reader or disk is too slow; the recording has no end");
  const bool has_all = totals().dropped == 0 && !is_deleted_;
  if (!is_over && has_end_ && !is_synced_) {
    std::cerr << "nopspan record: " + options_.name() + ": written, but the disk has not confirmed it yet\n";
    return has_all;
  }
  return is_synced_ && has_all;
}

Ledger Recorder::ledger() const {
  Ledger ledger = source_.ledger();
  ledger.move_delivered(refused_.ledger(), &Counts::export_dropped);
  const std::lock_guard lock(mutex_);
  ledger.move_delivered(dropped_.ledger(), &Counts::export_dropped);
  return ledger;
}

Recorder::Totals Recorder::totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

}  // namespace nopspan::collector
