// SPDX-License-Identifier: Apache-2.0
#include "recording/recorder.h"

#include "base/failure.h"
#include "base/stopping.h"
#include "host/process_facts.h"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <system_error>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kFlushEvery = kSecond / 2, kLedgerEvery = kSecond;
// A ledger over kLargeLedger bytes is written less often. A ledger over kMostLedger bytes is written without its
// processes.
constexpr std::size_t kLargeLedger = 64U << 10U, kMostLedger = 1U << 20U;
constexpr std::uint64_t kLargeLedgerEvery = 10 * kSecond;
constexpr std::size_t kMostDropped = 4096;  // processes whose dropped entries are counted apart

std::string random_id() {
  std::uint64_t id = 0;
  if (::getrandom(&id, sizeof(id), 0) != sizeof(id)) id = static_cast<std::uint64_t>(::getpid());
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(id));
  return text.data();
}

bool exists(const std::string& path) {
  struct stat facts = {};
  return ::lstat(path.c_str(), &facts) == 0;
}

ChunkKind chunk_kind(Signal signal) {
  if (signal == Signal::traces) return ChunkKind::traces;
  return signal == Signal::logs ? ChunkKind::logs : ChunkKind::metrics;
}

}  // namespace

Recorder::Recorder(RecorderOptions options) : options_(std::move(options)), recording_(random_id()) {
  if (options_.max_bytes > 0) chunk_bytes_ = std::min<std::uint64_t>(kChunkBytes, options_.max_bytes / 4);
  const auto each_older = [&](const auto& function) {
    for (unsigned i = 1; options_.max_bytes > 0 && i <= options_.keep; ++i) {
      if (const std::string older = options_.file(i); exists(older)) function(older);
    }
  };
  if (!options_.force) {
    each_older([](const std::string& older) {
      throw Failure(older + " exists: remove it, or use --force", Failure::kUsageError);
    });
  }
  open(options_.force);
  if (write_about()) {
    each_older([](const std::string& older) { ::unlink(older.c_str()); });  // they belong to another recording
    return;
  }
  const int error = writer_->error();
  abandon();
  throw Failure(options_.path + ": " + std::strerror(error));
}

std::string RecorderOptions::file(unsigned i) const { return i == 0 ? path : path + "." + std::to_string(i); }

void Recorder::open(bool may_replace) {
  if (options_.path == "-") {
    if (options_.max_bytes > 0) throw Failure("--max-size cannot be used with - (stdout)", Failure::kUsageError);
    writer_ = std::make_unique<ChunkWriter>(OpenFile(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)));
    return;
  }
  // Only the user may read the file, because spans may contain private data.
  constexpr mode_t kMode = S_IRUSR | S_IWUSR;
  std::error_code none;
  if (std::filesystem::is_directory(options_.path, none)) {
    throw Failure(options_.path + ": " + std::strerror(EISDIR), Failure::kUsageError);
  }
  const bool is_new = !exists(options_.path);
  OpenFile file(
      ::open(options_.path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (may_replace ? O_TRUNC : O_EXCL), kMode));
  if (!file && errno == EEXIST) {
    throw Failure(options_.path + " exists: use another name, or --force to overwrite it", Failure::kUsageError);
  }
  if (!file) throw Failure(options_.path + ": " + std::strerror(errno), Failure::kUsageError);
  struct stat facts = {};
  if (options_.max_bytes > 0 && (::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode))) {
    throw Failure("--max-size needs a regular file, which " + options_.path + " is not", Failure::kUsageError);
  }
  is_ours_ = is_new;
  writer_ = std::make_unique<ChunkWriter>(std::move(file));
}

void Recorder::on_entry(const Entry& entry) {
  if (now_ == 0) now_ = flushed_at_ = ledger_at_ = entry.start_unix_ns + entry.duration_ns;
  const auto signal = static_cast<std::size_t>(signal_of(entry.kind));
  encoders_[signal].add(entry);
  ++pending_[signal][entry.kind];
  if (encoders_[signal].bytes() >= chunk_bytes_) flush();
}

void Recorder::on_tick(std::uint64_t now_unix_ns) {
  // If the clock was set back, the time since the last flush is unknown, so it is counted from now.
  if (now_unix_ns < now_) flushed_at_ = ledger_at_ = now_unix_ns;
  now_ = now_unix_ns;
  if (flushed_at_ == 0) {
    flushed_at_ = now_;
    write_ledger();  // an empty ledger, which records the start time
    return;
  }
  if (now_ - flushed_at_ >= kFlushEvery) flush();
  const std::uint64_t every = ledger_bytes_ > kLargeLedger ? kLargeLedgerEvery : kLedgerEvery;
  if (now_ - ledger_at_ < every) return;
  flush();
  write_ledger();
}

// Logs come before spans, so that a reader that assembles traces already has a span's events when the span arrives.
void Recorder::flush() {
  flush_signal(Signal::logs);
  flush_signal(Signal::traces);
  flush_signal(Signal::metrics);
  flushed_at_ = now_;
}

void Recorder::flush_signal(Signal signal) {
  const auto index = static_cast<std::size_t>(signal);
  const std::uint64_t entries = encoders_[index].entries();
  if (entries == 0) return;
  const auto shares = encoders_[index].finish(message_);
  const EntryCounts counts = std::exchange(pending_[index], {});
  make_room(message_.size());
  if (write({chunk_kind(signal), static_cast<std::uint32_t>(entries), now_, message_})) {
    totals_.entries += counts;
    part_has_entries_ = true;
    return;
  }
  totals_.dropped += entries;
  for (const auto& share : shares) {
    const Process* key = share.process.get();
    if (dropped_.size() >= kMostDropped && !dropped_.contains(key)) key = nullptr;
    Dropped& dropped = dropped_[key];
    if (key != nullptr) dropped.process = share.process;
    dropped.entries += share.entries;
  }
}

bool Recorder::write(const Chunk& chunk) {
  if (!is_gone_ && writer_->write(chunk)) return true;
  is_gone_ = is_gone_ || writer_->error() == EPIPE;
  if (is_gone_) {
    stopping = true;
  } else {
    complain(std::string(std::strerror(writer_->error())) +
             "; still recording, entries that cannot be written are counted as lost");
  }
  return false;
}

void Recorder::complain(const std::string& what) {
  if (!std::exchange(complained_, true)) std::cerr << "nopspan record: " << options_.path << ": " << what << std::endl;
}

bool Recorder::write_about() {
  nlohmann::ordered_json about;
  about["recording"] = recording_;
  about["part"] = totals_.files;
  about["host"] = host_name();
  const std::string text = about.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  return writer_->write({ChunkKind::about, 0, now_, text});
}

bool Recorder::write_ledger() {
  ledger_at_ = now_;
  if (source_ == nullptr) return true;
  Ledger now = ledger();
  const auto text_of = [&] {
    return to_json(now).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  };
  std::string text = text_of();
  if (text.size() > kMostLedger) {
    for (const ProcessLedger& one : now.processes) now.others += one.counts;
    now.others_processes += now.processes.size();
    now.processes.clear();
    text = text_of();
  }
  ledger_bytes_ = text.size();
  return write({ChunkKind::ledger, 0, now_, text});
}

// Begins another file if this one would become too large.
void Recorder::make_room(std::size_t payload_bytes) {
  const std::uint64_t needed = writer_->bytes() + kChunkHeaderBytes + payload_bytes;
  if (options_.max_bytes > 0 && part_has_entries_ && needed > options_.max_bytes) rotate();
}

// Only the last part has an end, so that no other part looks like a whole recording.
void Recorder::rotate() {
  for (unsigned i = options_.keep; i > 0; --i) {
    if (exists(options_.file(i - 1)) && std::rename(options_.file(i - 1).c_str(), options_.file(i).c_str()) != 0) {
      complain(options_.file(i) + ": " + std::strerror(errno) + "; continuing in the same file, without --max-size");
      options_.max_bytes = 0;
      return;
    }
  }
  if (options_.keep == 0) ::unlink(options_.path.c_str());
  auto full = std::move(writer_);
  try {
    open(false);
  } catch (const Failure& failure) {
    complain(std::string(failure.what()) + "; continuing in the previous file, without --max-size");
    options_.max_bytes = 0;
    writer_ = std::move(full);
    return;
  }
  closed_bytes_ += full->bytes();
  ++totals_.files;
  part_has_entries_ = false;
  write_about();
}

bool Recorder::finish() {
  flush();
  // Without its ledger, the file must not look complete.
  const bool ended = write_ledger() && write({ChunkKind::end, 0, now_, {}});
  const bool synced = ended && writer_->sync();
  if (ended && !synced) complain(std::strerror(writer_->error()));
  return synced && totals_.dropped == 0;
}

void Recorder::abandon() const {
  if (is_ours_ && totals_.files == 1 && !part_has_entries_) ::unlink(options_.path.c_str());
}

Ledger Recorder::ledger() const {
  Ledger ledger = source_->ledger();
  for (const auto& each : dropped_) {
    ledger.move_delivered(each.second.process, &Counts::export_dropped, each.second.entries);
  }
  return ledger;
}

Recorder::Totals Recorder::totals() const {
  Totals totals = totals_;
  totals.bytes = closed_bytes_ + writer_->bytes();
  return totals;
}

}  // namespace nopspan::collector
