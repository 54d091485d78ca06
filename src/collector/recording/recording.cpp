// SPDX-License-Identifier: Apache-2.0
#include "recording/recording.h"

#include "base/clocks.h"
#include "base/failure.h"
#include "base/saturating.h"
#include "base/text.h"
#include "model/filter.h"
#include "recording/recording_listener.h"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace nopspan::collector {
namespace {

// The limit of ticks for a gap in which nothing was recorded. There is one tick for each second.
constexpr std::uint64_t kMostTicks = 60;
// The limit in bytes of a chunk's JSON, because the parsed form needs many times as much memory.
constexpr std::size_t kMostJson = 1U << 20U;
// The time of a file's first chunk is that of the recorder's last tick, which may be this old.
constexpr std::uint64_t kOldestTick = kSecond;
// Parts of recordings with longer ids are not checked. Recorders write 16 digits.
constexpr std::size_t kLongestId = 64;

OpenFile open_file(const std::string& path) {
  if (path == "-") return OpenFile(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  // O_NONBLOCK, so that open() does not wait for the writer of a named pipe. Nothing could stop that wait. ChunkReader
  // waits instead, and can be stopped.
  OpenFile file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file) throw Failure(path + ": " + errno_text(errno), Failure::status_of(errno));
  return file;
}

std::string name_of(const std::string& path) { return path == "-" ? "stdin" : path; }

// Reads the headers of a file's chunks for the times to which those of the filter refer. The times of a pipe are not
// known, so its end is now.
ChunkReader reader_of(OpenFile file, const std::string& name, Filter& filter) {
  struct stat facts = {};
  if (filter.since.empty() && filter.until.empty()) return {std::move(file), name};
  if (::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) {
    filter.set_times(0, unix_now());
    return {std::move(file), name};
  }
  const off_t begin = ::lseek(file.get(), 0, SEEK_CUR);
  ChunkReader headers(file.duplicate(), name);
  headers.skip_before(UINT64_MAX);
  for (Chunk chunk; !stopping && headers.next(chunk);) {
  }
  ::lseek(file.get(), begin, SEEK_SET);
  filter.set_times(headers.state().first_unix_ns, headers.state().last_unix_ns);
  return {std::move(file), name};
}

// Refuses JSON that is deeply nested, because a parser needs much time for it. Recorders never write such JSON.
bool is_flat(std::string_view json) {
  int depth = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < json.size() && depth < 8; ++i) {
    const char c = json[i];
    if (in_text && c == '\\') ++i;
    if (c == '"') in_text = !in_text;
    if (!in_text && (c == '[' || c == '{')) ++depth;
    if (!in_text && (c == ']' || c == '}')) --depth;
  }
  return depth < 8;
}

nlohmann::ordered_json json_of(std::string_view text) {
  if (text.size() > kMostJson || !is_flat(text)) return nlohmann::ordered_json::value_t::discarded;
  return nlohmann::ordered_json::parse(text, nullptr, false);
}

void move_to_filtered(Counts& counts, std::uint64_t entries) {
  const std::uint64_t moved = std::min(entries, counts.delivered);
  counts.delivered -= moved;
  counts.filtered += moved;
}

}  // namespace

Recording::Recording(const std::string& path, Filter filter)
    : Recording{reader_of(open_file(path), name_of(path), filter), filter} {}  // braces, so that reader_of() is first

Recording::Recording(ChunkReader reader, Filter filter, RecordingLimits limits)
    : reader_(std::move(reader)),
      filter_(std::move(filter)),
      limits_(std::move(limits)),
      is_filtered_(!filter_.empty()) {
  reader_.set_most_payload(limits_.chunk);
  reader_.skip_before(filter_.since_unix_ns - std::min(filter_.since_unix_ns, kOldestTick));
  set_processes();
}

void Recording::set_processes() { batches_.set_processes(limits_.processes, limits_.claimed_by); }

void Recording::run(Sink& sink, Deadline& until) {
  until.begin();
  // The recorded time stands still, but sinks also have work that depends on the real time.
  reader_.while_silent([this, &sink] {
    if (end_ > 0) sink.on_tick(end_);
  });
  while (!until.is_over() && next(until)) pass(sink);
  end(sink, until);
}

void Recording::end(Sink& sink, const Deadline& until) {
  // Behind the end of a recording, another one may follow.
  is_stopped_ = until.is_over() && !(reader_.state().ended && reader_.state().at_end);
  if (is_stopped_ || !reader_.state().ended) ++missing_ends_;
  if (end_ > 0) sink.on_tick(end_);
}

void Recording::read_entries(Sink& sink) {
  std::uint64_t entries = 0;
  ProcessPointer process;  // of the entry before
  Tally* known = nullptr;
  const auto each = [&](const Entry& entry) {
    ++entries;
    if (known == nullptr || *entry.process != process) {
      known = &tally_of(*entry.process);
      process = *entry.process;
    }
    Tally& tally = *known;
    ++(part_ < ledger_part_ ? tally.before : tally.delivered);
    if (is_filtered_ && !(filter_.may_want_request_of(entry) && filter_.is_in_scope(entry))) {
      ++tally.filtered;
    } else {
      deliver(entry, sink);
    }
  };
  const bool is_whole = chunk_.kind == ChunkKind::batches ? batches_.read(chunk_.payload, each)
                                                          : batches_.read_gzip(chunk_.payload, limits_.chunk, each);
  if (is_whole) return;
  ++invalid_;
  invalid_entries_ += chunk_.entries - std::min<std::uint64_t>(chunk_.entries, entries);
}

void Recording::pass(Sink& sink) {
  end_before_ = end_;
  tick(chunk_.time_unix_ns, sink);
  if (is_closed_ && chunk_.kind != ChunkKind::about) {  // its first chunk is damaged
    begin_recording("");
    begins_unix_ns_ = chunk_.time_unix_ns + kOldestTick;
  }
  switch (chunk_.kind) {
    case ChunkKind::about:
      return read_about();
    case ChunkKind::batches:
    case ChunkKind::batches_gzip:
      return read_entries(sink);
    case ChunkKind::ledger:
      return read_ledger();
    case ChunkKind::end:
      is_closed_ = true;
      return;
  }
  // Other kinds of a later recorder are ignored.
}

// A request that began in a part that is not here, or before --since, lacks what was before.
void Recording::deliver(const Entry& entry, Sink& sink) const {
  if (entry.before_attach || entry.start_unix_ns >= std::max(begins_unix_ns_, filter_.since_unix_ns)) {
    sink.on_entry(entry);
    return;
  }
  Entry marked = entry;
  marked.before_attach = true;
  sink.on_entry(marked);
}

bool Recording::has_room(std::size_t processes) {
  if (processes < limits_.processes) return true;
  if (!limits_.more_processes) return false;
  limits_.processes = std::max(limits_.processes, std::exchange(limits_.more_processes, {})());
  set_processes();
  return processes < limits_.processes;
}

void Recording::add(Ledger& to, const Ledger& ledger) const {
  for (const ProcessLedger& one : ledger.processes) {
    if (to.processes.size() < limits_.processes) {
      to.processes.push_back(one);
    } else {
      to.others += one.counts;
      ++to.others_processes;
    }
  }
  to.others += ledger.others;
  to.others_processes += ledger.others_processes;
  to.total += ledger.total;
  to.damage += ledger.damage;
  to.add_unattached(ledger);
}

Recording::Tally& Recording::tally_of(const ProcessPointer& process) {
  const ProcessKey key = key_of(*process);
  const auto found = tallies_.find(key);
  if (found != tallies_.end()) return found->second;
  if (!has_room(tallies_.size())) return tallies_[{}];
  return tallies_.emplace(key, Tally{with_short_texts(process)}).first->second;
}

// A file may contain several recordings.
void Recording::begin_recording(const std::string& id) {
  must_begin_ = end_before_;
  if (!std::exchange(is_closed_, false)) ++missing_ends_;
  add(before_, since_before());
  tallies_.clear();
  last_ = {};
  part_ = ledger_part_ = begins_unix_ns_ = 0;
  broken_before_ledger_ = broken_entries();
  early_at_begin_ = early_at_ledger_ = reader_.state().early_entries;
  recording_ = id;
}

void Recording::read_about() {
  const auto about = json_of(chunk_.payload);
  const auto found = about.is_object() ? about.find("recording") : about.end();
  if (!about.is_object() || found == about.end() || !found->is_string()) {
    ++invalid_;
    return;
  }
  // The next part of the same recording continues the ledger.
  if (const auto id = found->get<std::string>(); id != recording_) {
    begin_recording(id);
    if (parts_.contains(id)) is_in_order_ = false;
  }
  const std::uint64_t before = part_;
  if (const auto part = about.find("part"); part != about.end() && part->is_number_unsigned()) part_ = *part;
  note_part(part_);
  if (part_ != before + 1) begins_unix_ns_ = chunk_.time_unix_ns + kOldestTick;
  is_closed_ = false;
}

void Recording::note_part(std::uint64_t part) {
  if (part == 0) return;
  const auto known = parts_.find(recording_);
  if (known != parts_.end()) {
    if (part < *known->second.rbegin()) is_in_order_ = false;
    if (known->second.contains(part)) {
      ++repeated_parts_;
      return;
    }
  }
  checks_parts_ = checks_parts_ && parts_read_ < limits_.parts && recording_.size() <= kLongestId;
  if (!checks_parts_) return;
  ++parts_read_;
  parts_[recording_].insert(part);
}

std::uint64_t Recording::missing_parts() const {
  std::uint64_t missing = 0;
  for (const auto& [id, parts] : parts_) missing = saturating_sum(missing, *parts.rbegin() - parts.size());
  return missing;
}

void Recording::read_ledger() {
  const auto json = json_of(chunk_.payload);
  if (!json.is_object()) {
    ++invalid_;
    return;
  }
  broken_before_ledger_ = broken_entries();
  early_at_ledger_ = reader_.state().early_entries;
  if (part_ < ledger_part_) return;  // the parts are not in order
  ledger_part_ = part_;
  const Ledger ledger = ledger_of(json);
  if (const auto clock = clock_of(json)) {
    if (!clock_) clock_.emplace();
    clock_->error_ns = std::max(clock_->error_ns, clock->error_ns);
    clock_->changes = clock->changes;
  }
  static_cast<void>(has_room(ledger.processes.size()));
  last_ = {};
  add(last_, ledger);
  for (auto& [key, tally] : tallies_) tally.before += std::exchange(tally.delivered, 0);
}

void Recording::tick(std::uint64_t now, Sink& sink) {
  if (now == 0) return;
  now = std::clamp(now, filter_.since_unix_ns, filter_.until_unix_ns);  // rates are of the time that is asked for
  if (std::exchange(must_begin_, 0) > now + kOldestTick) overlaps_ = true;
  if (now < end_ || end_ == 0) {  // the recorder's clock was set back, or this is the first time
    ticked_ = end_ = now;
    sink.on_tick(now);
    return;
  }
  end_ = now;
  if (end_ - ticked_ > kMostTicks * kSecond) ticked_ = end_ - kMostTicks * kSecond;
  while (end_ - ticked_ >= kSecond) {
    ticked_ += kSecond;
    sink.on_tick(ticked_);
  }
}

Ledger Recording::ledger() const {
  Ledger all = before_;
  add(all, since_before());
  all.damage += damage();
  return all;
}

Ledger Recording::since_before() const {
  Ledger now = last_;
  std::uint64_t before = 0;
  for (const auto& each : tallies_) before += each.second.before;
  std::uint64_t unread = last_.total.delivered - std::min(last_.total.delivered, before);
  // Of whose entries they are is not known.
  std::uint64_t early = std::min(unread, early_at_ledger_ - early_at_begin_);
  std::uint64_t missing = unread - early;
  for (const auto& [left, to] : {std::pair(&early, &Counts::filtered), std::pair(&missing, &Counts::not_in_file)}) {
    for (ProcessLedger& one : now.processes) {
      if (*left == 0) break;
      const auto tally = tallies_.find(key_of(*one.process));
      const std::uint64_t read = tally == tallies_.end() ? 0 : tally->second.before;
      const std::uint64_t of_process = one.counts.delivered - std::min(one.counts.delivered, read);
      const std::uint64_t moved = std::min({*left, of_process, now.total.delivered});
      for (Counts* const counts : {&one.counts, &now.total}) {
        counts->delivered -= moved;
        counts->*to += moved;
      }
      *left -= moved;
    }
    now.move_delivered(nullptr, to, *left);
  }
  Counts others;  // entries that the ledger does not count
  others.not_in_file = broken_entries() - broken_before_ledger_;
  others.delivered = before - std::min(last_.total.delivered, before);
  others.filtered = reader_.state().early_entries - early_at_ledger_;
  others.emitted = others.not_in_file + others.delivered + others.filtered;
  now.others += others;
  now.total += others;
  std::map<ProcessKey, std::size_t> places;  // of processes in the ledger
  for (std::size_t i = 0; i < now.processes.size(); ++i) {
    places.emplace(key_of(*now.processes[i].process), i);
  }
  for (const auto& [key, tally] : tallies_) {
    const auto count = [&, &entries = tally](Counts& counts) {
      counts.emitted += entries.delivered;
      counts.delivered += entries.delivered;
      move_to_filtered(counts, entries.filtered);
    };
    count(now.total);
    if (const auto place = places.find(key); place != places.end()) {
      count(now.processes[place->second].counts);
    } else if (tally.delivered > 0 && tally.process != nullptr) {
      now.processes.push_back({tally.process, {}});
      count(now.processes.back().counts);
    } else {
      count(now.others);
    }
  }
  return now;
}

std::string Recording::missing() const {
  const ChunkReader::State& state = reader_.state();
  std::string text;
  const auto say = [&](const std::string& what) { text += (text.empty() ? reader_.name() + ": " : ", ") + what; };
  if (state.error != 0) say(std::strerror(state.error));
  if (state.skipped > 0) say(std::to_string(state.skipped) + " damaged bytes were skipped");
  if (state.other_version != 0) {
    say("it contains a recording of format version " + std::to_string(state.other_version) + ", which cannot be read");
  }
  if (invalid_ > 0) say(std::to_string(invalid_) + " chunks with invalid content were skipped");
  const Ledger all = ledger();
  if (all.total.not_in_file > 0) say(std::to_string(all.total.not_in_file) + " recorded entries are not in it");
  if (all.damage != damage()) say("it was recorded from a damaged recording");
  if (const std::uint64_t parts = missing_parts(); parts > 0) say(counted(parts, "part") + " not found");
  if (!is_in_order_) say("parts are not together or not in order: FILE.2 FILE.1 FILE");
  if (repeated_parts_ > 0) say(counted(repeated_parts_, "part") + " more than once, so entries count twice");
  if (!checks_parts_) say("not all parts could be checked");
  if (is_stopped_) say("stopped before its end");
  if (missing_ends_ > (is_stopped_ ? 1U : 0U))
    say("the recorder did not close the file or began another part, so the last entries may be missing");
  return text;
}

std::string Recording::overlap() const {
  return overlaps_
             ? "recordings overlap in time or are not in order, so a request in several of them may be in pieces: "
               "send them to one socket (--from unix:PATH)"
             : "";
}

std::string Recording::remark() const {
  std::string text = missing();
  if (overlaps_) text += (text.empty() ? reader_.name() + ": " : ", ") + overlap();
  return text;
}

std::unique_ptr<Source> open_recording(const SourceOptions& options, const std::function<void()>& is_open) {
  constexpr std::string_view kSocket = "unix:";
  if (options.from.starts_with(kSocket)) {
    Filter filter = options.filter;
    filter.set_times(0, unix_now());
    auto listener = std::make_unique<RecordingListener>(options.from.substr(kSocket.size()), std::move(filter));
    is_open();
    return listener;
  }
  OpenFile file = open_file(options.from);
  is_open();
  Filter filter = options.filter;
  ChunkReader reader = reader_of(std::move(file), name_of(options.from), filter);
  return std::make_unique<Recording>(std::move(reader), std::move(filter));
}

}  // namespace nopspan::collector
