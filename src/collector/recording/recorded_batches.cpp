// SPDX-License-Identifier: Apache-2.0
#include "recording/recorded_batches.h"

#include "base/gzip.h"
#include "host/cgroup.h"
#include "model/entry_json.h"
#include "model/sampling.h"
#include "model/service.h"
#include "reader/batch_reader.h"
#include "recording/chunk_format.h"
#include "recording/entry_encoder.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kBytesOfProcess = 2048;  // on average of all processes that are remembered
// Recorders write at most that much of a path or of a variable of the environment.
constexpr std::size_t kMostProcessText = 4096;

const ClockSamples& wall_clock() {
  static const ClockSamples none{ClockSample()};
  return none;
}

}  // namespace

bool RecordedBatches::read(std::string_view payload, const Each& each) {
  // Entries refer to structs in the payload, and these must be aligned.
  if (reinterpret_cast<std::uintptr_t>(payload.data()) % alignof(std::uint64_t) != 0) {
    aligned_.resize(payload.size() / sizeof(std::uint64_t) + 1);
    std::memcpy(aligned_.data(), payload.data(), payload.size());
    payload = {reinterpret_cast<const char*>(aligned_.data()), payload.size()};
  }
  clocks_.reset();
  bool is_whole = true;  // an entry that is malformed affects no other one
  const bool has_ended = for_each_recorded(payload, [&](RecordedKind kind, std::string_view message) {
    switch (kind) {
      case RecordedKind::clock: {
        RecordedClock clock;
        if (!take_front(message, clock)) return false;
        const ClockSample sample{clock.monotonic_ns, clock.offset_ns, 0};
        for (std::optional<ClockSamples>* const clocks : {&clocks_, &all_clocks_}) {
          if (!*clocks) {
            clocks->emplace(sample);
          } else if (clocks != &all_clocks_ || sample.monotonic_ns >= last_clock_ns_) {
            (*clocks)->add(sample);
          }
        }
        last_clock_ns_ = std::max(last_clock_ns_, sample.monotonic_ns);
        return true;
      }
      case RecordedKind::process:
        return read_process(message);
      case RecordedKind::batch:
        is_whole = read_batch(message, each) && is_whole;
        return true;
    }
    return true;  // a later recorder may write other kinds
  });
  processes_ = {};
  attached_ns_ = {};
  return has_ended && is_whole;
}

bool RecordedBatches::read_gzip(std::string_view payload, std::size_t most, const Each& each) {
  auto plain = gunzipped(payload, most);
  if (!plain) return false;
  restore_steps(*plain);
  return read(*plain, each);
}

bool RecordedBatches::read_process(std::string_view message) {
  std::string bytes(message);
  RecordedProcess recorded;
  if (!take_front(message, recorded)) return false;
  const std::uint64_t ahead_ns = static_cast<std::uint64_t>(recorded.clock_offset_ns);  // modulo 2^64
  attached_ns_.push_back(recorded.attached_ns == 0 ? 0 : recorded.attached_ns - ahead_ns);
  const auto known = known_.find(bytes);
  if (known != known_.end()) {
    processes_.push_back(known->second);
    return true;
  }
  Process process;
  process.pid = recorded.pid;
  process.namespace_pid = recorded.namespace_pid;
  process.start_ticks = recorded.start_ticks;
  process.clock_offset_ns = recorded.clock_offset_ns;
  process.claimed_by = claimed_by_;
  for (const auto text : kProcessTexts) {
    const std::size_t end = message.find('\0');
    if (end == std::string_view::npos) return false;
    process.*text = message.substr(0, std::min(end, kMostProcessText));
    message.remove_prefix(end + 1);
  }
  process.instance = id_of(message.substr(0, message.find('\0')));  // "" from earlier versions
  if (process.container.empty()) process.container = container_id(process.cgroup);
  set_service(process, std::move(process.service_name), std::move(process.resource_attributes));
  processes_.push_back(std::make_shared<const Process>(std::move(process)));
  const std::size_t most_bytes = most_processes_ * kBytesOfProcess;
  if (known_.size() >= most_processes_ || known_bytes_ + bytes.size() > most_bytes) {
    known_.clear();
    known_bytes_ = 0;
  }
  if (bytes.size() > most_bytes) return true;
  known_bytes_ += bytes.size();
  known_.emplace(std::move(bytes), processes_.back());
  return true;
}

bool RecordedBatches::read_batch(std::string_view message, const Each& each) {
  RecordedBatch batch;
  if (!take_front(message, batch) || batch.process >= processes_.size() || batch.bytes > message.size()) return false;
  const bool has_unix_times = (batch.flags & kRecordedUnixTimes) != 0;
  if (!has_unix_times && !clocks_) return false;
  const ProcessPointer& process = processes_[batch.process];
  std::string_view bytes = message.substr(0, batch.bytes);
  const bool has_pieces = (batch.flags & kRecordedPieces) != 0;
  if (has_pieces) {
    if (!restore_pieces(bytes)) return false;
    bytes = {reinterpret_cast<const char*>(whole_.data()), whole_bytes_};
  }
  BatchReader reader(bytes, batch.entries, has_unix_times ? wall_clock() : *clocks_,
                     has_unix_times ? 0 : process->clock_offset_ns);
  if (has_pieces) reader.begin_at(entries_at_, piece_bytes_);
  Entry entry;
  entry.process = &process;
  entry.thread_id = batch.thread_id;
  entry.sequence_id = batch.sequence_id;
  const bool is_before_attach = (batch.flags & kRecordedBeforeAttach) != 0;
  std::uint64_t index = 0;
  bool is_whole = true;
  for (BatchReader::Outcome outcome; (outcome = reader.next(entry)) != BatchReader::Outcome::end; ++index) {
    if (outcome == BatchReader::Outcome::malformed) is_whole = false;
    if (outcome != BatchReader::Outcome::entry) continue;
    entry.sequence = batch.first + index;
    entry.before_attach = is_before_attach || (!has_unix_times && reader.start_ns() < attached_ns_[batch.process]);
    if ((batch.flags & kRecordedSampled) != 0) entry.flags |= kSampledEntry;
    each(entry);
  }
  return is_whole && index == batch.entries;
}

// The pieces of the batch before are removed first.
bool RecordedBatches::restore_pieces(std::string_view bytes) {
  constexpr std::size_t kMostBytes = std::size_t{1} << 20U;  // an entry can name places up to 512 KiB
  const auto words = [](std::size_t size) { return (size + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t); };
  for (const auto& [place, size] : pieces_) std::fill_n(whole_.begin() + place / 8, words(size), 0);
  pieces_.clear();
  whole_bytes_ = piece_bytes_ = 0;
  while (!bytes.empty()) {
    RecordedPiece piece;
    if (!take_front(bytes, piece) || piece.place % 8 != 0 || piece.place < whole_bytes_ || piece.bytes > bytes.size() ||
        std::size_t{piece.place} + piece.bytes > kMostBytes)
      return false;
    entries_at_ = piece.place;
    whole_bytes_ = std::size_t{piece.place} + piece.bytes;
    piece_bytes_ += piece.bytes;
    if (whole_.size() < words(whole_bytes_)) whole_.resize(words(whole_bytes_));
    std::memcpy(whole_.data() + piece.place / 8, bytes.data(), piece.bytes);
    pieces_.emplace_back(piece.place, piece.bytes);
    bytes.remove_prefix(std::min<std::size_t>(words(piece.bytes) * 8, bytes.size()));
  }
  return !pieces_.empty();
}

}  // namespace nopspan::collector
