// SPDX-License-Identifier: Apache-2.0
#include "live/process_account.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace nopspan::collector {
namespace {

// The shortest time in which a thread can write an entry.
constexpr std::uint64_t kFastestEntryNs = 8;

std::uint64_t take(std::uint64_t& from, std::uint64_t at_most) {
  const std::uint64_t taken = std::min(from, at_most);
  from -= taken;
  return taken;
}

}  // namespace

// Explains the missing entries of a stream: first as discarded (by the thread's header), then as lost (by the kernel's
// counts of this stream). The kernel's counts of the process may explain the rest later.
void ProcessAccount::Gaps::add(const Stream& stream) {
  std::uint64_t missing = stream.ledger.missing();
  arrived += stream.ledger.next() - stream.ledger.base() - missing;
  discarded += take(missing, stream.discarded - stream.discarded_base);
  for (std::size_t reason = 0; reason < NOPSPAN_REASONS; ++reason) {
    explained[reason] += take(missing, stream.losses[reason]);
    told[reason] += stream.losses[reason];
  }
  unexplained += missing;
}

void ProcessAccount::set_moved(const ProcessPointer& process) {
  process_ = process;
  for (auto& [id, stream] : streams_) stream.process = process;
}

void ProcessAccount::begin_stream(std::uint64_t id, std::uint64_t next, std::uint64_t discarded, std::uint64_t now_ns) {
  if (streams_.size() >= kMostStreams) bound_streams(kMostStreams / 4 * 3);
  Stream& stream = streams_[id];
  stream.ledger = StreamLedger(next);
  stream.process = process_;
  stream.discarded = stream.discarded_base = discarded;
  stream.seen_ns = now_ns;
}

ProcessAccount::Stream* ProcessAccount::find(std::uint64_t id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : &found->second;
}

ProcessAccount::Stream& ProcessAccount::open(std::uint64_t id, std::uint64_t first) {
  if (Stream* known = find(id)) return *known;
  begin_stream(id, all_are_known_ ? 0 : first, 0, since_ns_);
  Stream& stream = streams_.find(id)->second;
  stream.begins_when_heard_of = !all_are_known_ && !has_forgotten_;
  return stream;
}

ProcessAccount::Stream* ProcessAccount::arriving(std::uint64_t id, Sequences sequences, std::uint64_t time_ns) {
  Stream& stream = open(id, sequences.first);
  const std::uint64_t base = stream.ledger.base(), next = stream.ledger.next();
  const std::uint64_t latest = std::max(time_ns, stream.seen_ns);
  const auto are_too_many = [](std::uint64_t entries, std::uint64_t in_ns) {
    return entries > in_ns / kFastestEntryNs + NOPSPAN_MOST_ENTRIES;
  };
  const bool is_too_late = sequences.next > next && are_too_many(sequences.next - next, latest - stream.seen_ns);
  const bool is_too_early =
      stream.begins_when_heard_of && sequences.first < base && are_too_many(base - sequences.first, latest - since_ns_);
  if (is_too_late || is_too_early) {
    malformed_besides(std::min<std::uint64_t>(sequences.count(), NOPSPAN_MOST_ENTRIES));
    return nullptr;
  }
  // Earlier batches may arrive later, because fetched entries bypass the ring buffer and losses come from a map.
  if (stream.begins_when_heard_of) stream.ledger.began_at(sequences.first);
  stream.seen_ns = std::max(stream.seen_ns, time_ns);
  return &stream;
}

void ProcessAccount::stream_losses(std::uint64_t id, Sequences sequences, const Losses& losses, std::uint64_t discarded,
                                   std::uint64_t now_ns) {
  Stream* stream = find(id);
  // Losses of a closed stream were counted when it was closed, or are in the process's losses too.
  if (stream != nullptr ? stream->losses == losses && stream->discarded >= discarded : closed_ids_.contains(id)) return;
  const bool is_new = stream == nullptr;
  stream = arriving(id, sequences, now_ns);
  if (stream == nullptr) {
    // Remember the values, so that they are refused only once. The map reports them at each read.
    Stream& refused = *find(id);
    refused.losses = losses;
    refused.discarded = std::max(refused.discarded, discarded);
    return;
  }
  if (is_new && stream->begins_when_heard_of) stream->discarded_base = discarded;
  stream->ledger.emitted_until(sequences.next);
  stream->losses = losses;
  stream->handed_next = std::max(stream->handed_next, sequences.next);
  stream->discarded = std::max(stream->discarded, discarded);
}

void ProcessAccount::close(std::unordered_map<std::uint64_t, Stream>::iterator stream) {
  closed_.add(stream->second);
  closed_ids_.insert(stream->first);
  streams_.erase(stream);
}

void ProcessAccount::close_ended(std::uint64_t round) {
  for (auto stream = streams_.begin(); stream != streams_.end();) {
    const auto next = std::next(stream);
    if (stream->second.closing_round != 0 && stream->second.closing_round < round) close(stream);
    stream = next;
  }
}

void ProcessAccount::all_were_killed() {
  for (auto& [id, stream] : streams_) {
    if (stream.closing_round == 0) held_by_killed_ += stream.capacity / sizeof(nopspan_entry);
  }
}

// Streams are closed in this order: streams whose threads have ended, then streams whose threads hold no fetched
// entries, then the rest. Within each group the least recently used stream is closed first.
void ProcessAccount::bound_streams(std::size_t most) {
  if (streams_.size() <= most) return;
  using Iterator = decltype(streams_)::iterator;
  std::vector<Iterator> all;
  for (auto stream = streams_.begin(); stream != streams_.end(); ++stream) all.push_back(stream);
  const auto sooner = [](Iterator a, Iterator b) {
    const auto order = [](const Stream& stream) {
      return std::tuple(stream.closing_round == 0, stream.holds_fetched(), stream.seen_ns);
    };
    return order(a->second) < order(b->second);
  };
  const auto kept = all.end() - static_cast<std::ptrdiff_t>(most);
  std::nth_element(all.begin(), kept, all.end(), sooner);
  for (auto stream = all.begin(); stream != kept; ++stream) {
    // If the stream appears again, its earlier entries are no longer known.
    if ((*stream)->second.closing_round == 0) {
      all_are_known_ = false;
      has_forgotten_ = true;
    }
    close(*stream);
  }
}

Counts ProcessAccount::counts() const {
  Gaps gaps = closed_;
  for (const auto& [id, stream] : streams_) gaps.add(stream);
  Counts counts;
  counts.emitted = gaps.arrived + gaps.discarded + gaps.unexplained + malformed_besides_;
  Losses lost = gaps.explained;
  for (std::size_t reason = 0; reason < NOPSPAN_REASONS; ++reason) {
    counts.emitted += gaps.explained[reason];
    // Losses that the kernel counted for the process but for no stream, because it could not read the header or the map
    // was full. They may be a gap in a stream that continued, or all that a stream has emitted.
    const std::uint64_t besides = losses_[reason] - std::min(losses_[reason], gaps.told[reason]);
    lost[reason] += besides;
    counts.emitted += besides - take(gaps.unexplained, besides);
  }
  counts.delivered = delivered_;
  counts.filtered = filtered_ + lost[NOPSPAN_REASON_FILTERED];
  counts.ring_full = lost[NOPSPAN_REASON_RING_FULL];
  counts.unreadable = lost[NOPSPAN_REASON_UNREADABLE];
  counts.too_large = lost[NOPSPAN_REASON_TOO_LARGE];
  counts.malformed = malformed_ + malformed_besides_ + lost[NOPSPAN_REASON_MALFORMED];
  counts.missed = gaps.unexplained;
  counts.discarded = gaps.discarded;
  counts.held_by_killed = held_by_killed_;
  return counts;
}

}  // namespace nopspan::collector
