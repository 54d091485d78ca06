// SPDX-License-Identifier: Apache-2.0
#include "convert/perfetto.h"

#include "base/gzip.h"
#include "base/saturating.h"
#include "base/text.h"
#include "model/entry_json.h"
#include "model/otlp_wire.h"
#include "model/steps.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <set>

namespace nopspan::collector {
namespace {

// Fields of Trace, TracePacket, TrackDescriptor, TrackEvent, DebugAnnotation and InternedData.
constexpr unsigned kPacket = 1;
constexpr unsigned kTimestamp = 8, kSequence = 10, kTrackEvent = 11, kInternedData = 12, kSequenceFlags = 13,
                   kClockSnapshot = 6, kCompressedPackets = 50, kTimestampClock = 58, kPacketDefaults = 59,
                   kTrackDescriptor = 60, kTraceAttributes = 126;
constexpr unsigned kUuid = 1, kTrackName = 2, kProcess = 3, kParentUuid = 5, kCounter = 8, kChildOrdering = 11,
                   kSiblingMerge = 15;
constexpr unsigned kAnnotation = 4, kType = 9, kNameId = 10, kTrackUuid = 11, kEventName = 22, kCounterValue = 30,
                   kFlow = 47;
constexpr unsigned kEventNames = 2, kAnnotationNames = 3;
constexpr unsigned kSliceBegin = 1, kSliceEnd = 2, kInstant = 3, kCounterEvent = 4;
constexpr unsigned kStateCleared = 1, kNeedsState = 2;
constexpr unsigned kRealtime = 1, kMonotonic = 3;
constexpr unsigned kChronological = 2, kNoMerge = 2;

constexpr std::size_t kCompressed = std::size_t{1} << 20U;  // bytes of packets that are compressed together
constexpr int kLevel = 6;
constexpr std::size_t kMostDepth = 16;  // of lists and maps in an attribute
// Inside one another, without the point events in them. trace_processor drops what is below 512 slices.
constexpr std::size_t kMostSlices = 511;
constexpr std::size_t kMostNames = 65'536;  // that are written once
constexpr std::size_t kMostTracks = 1'024;  // of spans that are in no request
constexpr std::uint64_t kLatest = INT64_MAX;
const std::string kNoTrack = "in no request";

struct Place {
  std::uint64_t start, end, id, parent;
  bool is_point;
};

std::string message(unsigned field, std::string_view bytes) {
  std::string out;
  append_bytes(out, field, bytes);
  return out;
}

std::string number(unsigned field, std::uint64_t value) {
  std::string out;
  append_varint(out, field, value);
  return out;
}

std::string_view end_name(TraceEnd end) {
  switch (end) {
    case TraceEnd::finished:
      return {};
    case TraceEnd::late:
      return "late: an earlier part of this request is another track";
    case TraceEnd::evicted:
      return "evicted: spans may be missing, use a larger --memory";
    case TraceEnd::partial:
      return "partial: it began before the attach, and spans may be missing";
    case TraceEnd::unfinished:
      return "unfinished: spans are missing";
  }
  return {};
}

// Appends the value of a DebugAnnotation.
void append_value(std::string& out, const Attribute& value, std::size_t depth) {
  // Of an ArrayValue, and of a KeyValueList.
  const auto each = [&](const auto& add) {
    ProtobufFields fields(value.text);
    while (depth < kMostDepth && fields.next()) {
      if (fields.is(1, ProtobufType::delimited)) add(fields.bytes());
    }
  };
  switch (value.type) {
    case Attribute::Type::none:
      return;
    case Attribute::Type::text:
      return append_text(out, 6, value.text);
    case Attribute::Type::bytes:
      return append_bytes(out, 6, std::to_string(value.text.size()) + " bytes");
    case Attribute::Type::boolean:
      return append_varint(out, 2, value.integer != 0 ? 1 : 0);
    case Attribute::Type::integer:
      return append_varint(out, 4, static_cast<std::uint64_t>(value.integer));
    case Attribute::Type::real: {
      std::uint64_t bits = 0;
      std::memcpy(&bits, &value.real, sizeof(bits));
      return append_fixed64(out, 5, bits);
    }
    case Attribute::Type::list:
      return each([&](std::string_view bytes) {
        Attribute inner;
        std::string entry;
        if (read_value(bytes, inner)) append_value(entry, inner, depth + 1);
        append_bytes(out, 12, entry);
      });
    case Attribute::Type::map:
      return each([&](std::string_view bytes) {
        Attribute inner;
        if (!read_attribute(bytes, inner)) return;
        std::string entry;
        append_text(entry, 10, inner.key);
        append_value(entry, inner, depth + 1);
        append_bytes(out, 11, entry);
      });
  }
}

}  // namespace

// The tracks of slices that may overlap: one, and those below it. In a track, a slice is on the slice that it is drawn
// inside of, so that must be its parent.
class Lanes {
 public:
  explicit Lanes(std::uint64_t track) : lanes_{{track, 0, {}}}, track_(track) { free_.insert(0); }

  // Calls close(track, time) for each slice that is open. Later slices may begin earlier than those until now, and are
  // then placed elsewhere.
  template <class Close>
  void close_all(const Close& close) {
    free_.clear();
    busy_ = {};
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      close_until(lanes_[i], UINT64_MAX, close);
      busy_.emplace(lanes_[i].latest, i);
    }
  }
  // Returns the track of a slice that begins no earlier than those since close_all(). `wanted` is the lane of its
  // parent, and becomes that of the slice. Calls new_track(parent) for another one.
  template <class Close, class NewTrack>
  std::uint64_t place(std::size_t& wanted, const Place& slice, const Close& close, const NewTrack& new_track) {
    for (; !busy_.empty() && busy_.top().first <= slice.start; busy_.pop()) {
      close_until(lanes_[busy_.top().second], slice.start, close);
      free_.insert(busy_.top().second);
    }
    // A point may be at the end of its span.
    if (slice.parent != 0) close_until(lanes_[wanted], slice.start - (slice.is_point ? 1 : 0), close);
    if (!is_on(lanes_[wanted], slice)) {
      if (free_.empty()) {
        free_.insert(lanes_.size());
        lanes_.push_back({new_track(track_), 0, {}});
      }
      wanted = *free_.begin();
      free_.erase(free_.begin());
      busy_.emplace(slice.end, wanted);
    }
    lanes_[wanted].latest = std::max(lanes_[wanted].latest, slice.end);
    if (!slice.is_point) lanes_[wanted].open.push_back({slice.id, slice.end});
    return lanes_[wanted].track;
  }

 private:
  struct Open {
    std::uint64_t id, end;
  };
  struct Lane {
    std::uint64_t track, latest;  // the latest end of a slice
    std::vector<Open> open;
  };
  static bool is_on(const Lane& lane, const Place& slice) {
    return !lane.open.empty() && slice.parent != 0 && lane.open.back().id == slice.parent &&
           lane.open.back().end >= slice.end && (slice.is_point || lane.open.size() < kMostSlices);
  }
  template <class Close>
  static void close_until(Lane& lane, std::uint64_t now, const Close& close) {
    for (; !lane.open.empty() && lane.open.back().end <= now; lane.open.pop_back())
      close(lane.track, lane.open.back().end);
  }

  using OutermostEnd = std::pair<std::uint64_t, std::size_t>;  // and the number of its lane
  std::vector<Lane> lanes_;
  const std::uint64_t track_;
  std::set<std::size_t> free_;  // lanes without an open slice
  std::priority_queue<OutermostEnd, std::vector<OutermostEnd>, std::greater<>> busy_;
};

PerfettoTrace::PerfettoTrace(const ClockSamples* clocks, StepFlows& flows, std::size_t most_bytes, Write write)
    : clocks_(clocks), flows_(flows), most_bytes_(most_bytes), write_(std::move(write)) {
  const auto clock = [](unsigned id, std::uint64_t ns) { return message(1, number(1, id) + number(2, ns)); };
  const auto snapshot = [&](const std::string& clocks_at_a_time, unsigned primary) {
    packet(message(kClockSnapshot, clocks_at_a_time + number(2, primary)));
  };
  const unsigned id = clocks_ != nullptr ? kMonotonic : kRealtime;
  std::string first = number(kSequence, sequence_) + number(kSequenceFlags, kStateCleared) +
                      message(kPacketDefaults, number(kTimestampClock, id));
  append_bytes(packets_, kPacket, first);
  if (clocks_ == nullptr) {
    snapshot(clock(kRealtime, 0), kRealtime);
  } else {
    clocks_->for_each_of_last(UINT64_MAX, [&](std::uint64_t monotonic_ns, std::uint64_t offset_ns) {
      snapshot(clock(kRealtime, monotonic_ns + offset_ns) + clock(kMonotonic, monotonic_ns), kMonotonic);
    });
  }
  requests_ = new_track(0, "Requests", number(kChildOrdering, kChronological));
}

PerfettoTrace::~PerfettoTrace() = default;

std::uint64_t PerfettoTrace::time_of(std::uint64_t unix_ns) const {
  const std::uint64_t ns = clocks_ != nullptr ? clocks_->to_monotonic(unix_ns) : unix_ns;
  return std::clamp<std::uint64_t>(ns, 1, kLatest);
}

void PerfettoTrace::packet(std::string_view fields, std::uint64_t time_ns) {
  std::string out;
  if (time_ns != 0) append_varint(out, kTimestamp, time_ns);
  append_varint(out, kSequence, sequence_);
  append_varint(out, kSequenceFlags, kNeedsState);
  if (!interned_.empty()) append_bytes(out, kInternedData, std::exchange(interned_, {}));
  out += fields;
  append_bytes(packets_, kPacket, out);
  if (packets_.size() >= kCompressed) flush();
}

void PerfettoTrace::flush() {
  if (!packets_.empty()) write_(message(kPacket, message(kCompressedPackets, deflated(packets_, kLevel))));
  packets_.clear();
}

void PerfettoTrace::append_name(std::string& out, Names& known, unsigned field, unsigned id, unsigned text,
                                std::string_view name) {
  auto found = known.find(name);
  if (found == known.end() && known.size() >= kMostNames) return append_text(out, text, name);
  if (found == known.end()) {
    found = known.emplace(name, static_cast<std::uint32_t>(known.size() + 1)).first;
    append_bytes(interned_, field, number(1, found->second) + message(2, name));
  }
  append_varint(out, id, found->second);
}

void PerfettoTrace::append_event_name(std::string& out, std::string_view name) {
  append_name(out, names_, kEventNames, kNameId, kEventName, name);
}

std::uint64_t PerfettoTrace::new_track(std::uint64_t parent, std::string_view name, std::string_view fields) {
  const std::uint64_t uuid = ++next_uuid_;
  std::string track = number(kUuid, uuid);
  if (parent != 0) append_varint(track, kParentUuid, parent);
  append_text(track, kTrackName, name);
  append_varint(track, kSiblingMerge, kNoMerge);
  track += fields;
  packet(message(kTrackDescriptor, track));
  return uuid;
}

std::uint64_t PerfettoTrace::process_track(const ProcessPointer& process) {
  std::uint64_t& uuid = processes_[numbers_.process(process)];
  if (uuid == 0) {
    std::string fields = number(1, process->pid);
    append_text(fields, 6, process->comm);
    uuid = new_track(0, process->comm, message(kProcess, fields));
  }
  return uuid;
}

void PerfettoTrace::event(unsigned type, std::uint64_t time, std::uint64_t track, std::string_view fields) {
  last_ns_ = std::max(last_ns_, time);
  packet(message(kTrackEvent, number(kType, type) + number(kTrackUuid, track) + std::string(fields)), time);
}

void PerfettoTrace::annotate(std::string& facts, std::string_view name, const Attribute& value) {
  std::string annotation;
  append_name(annotation, keys_, kAnnotationNames, 1, 10, name);
  append_value(annotation, value, 0);
  append_bytes(facts, kAnnotation, annotation);
}

void PerfettoTrace::annotate(std::string& facts, std::string_view name, std::string_view text) {
  Attribute value;
  value.type = Attribute::Type::text;
  value.text = text;
  annotate(facts, name, value);
}

void PerfettoTrace::annotate(std::string& facts, std::string_view name, std::uint64_t integer) {
  Attribute value;
  value.type = Attribute::Type::integer;
  value.integer = static_cast<std::int64_t>(integer);
  annotate(facts, name, value);
}

PerfettoTrace::Slice PerfettoTrace::slice_of(const Entry& entry) {
  Slice slice;
  slice.start = time_of(entry.start_unix_ns);
  slice.is_point = entry.kind != Kind::span;
  slice.duration = slice.is_point ? 0 : std::min(entry.duration_ns, kLatest - slice.start);
  slice.id = slice.is_point ? 0 : entry.span_id;
  slice.parent = slice.is_point ? entry.span_id : entry.parent_id;
  attributes_.read(entry);
  std::string& facts = slice.name_and_facts;
  append_event_name(facts, attributes_.valid_text(entry.name));
  key_values_.clear();
  attributes_.write_own(key_values_, kSpanAttributes);
  slice.is_point ? attributes_.write_event_facts(key_values_, kSpanAttributes)
                 : attributes_.write_span_facts(key_values_, kSpanAttributes);
  attributes_.write_labels(key_values_, kSpanAttributes);
  for_each_key_value(key_values_.view(), kSpanAttributes, [&](std::string_view key_value) {
    Attribute attribute;
    if (read_attribute(key_value, attribute)) annotate(facts, attribute.key, attribute);
  });
  return slice;
}

void PerfettoTrace::write(std::vector<Slice>& slices, Lanes& lanes) {
  std::stable_sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) {
    return std::tuple(a.start, a.is_point, b.duration) < std::tuple(b.start, b.is_point, a.duration);
  });
  MapOfIds<std::uint64_t, std::size_t> lane_of(0, hash_);
  const auto close = [&](std::uint64_t of, std::uint64_t time) { event(kSliceEnd, time, of, {}); };
  const auto below = [&](std::uint64_t parent) { return new_track(parent, "at the same time"); };
  for (const Slice& slice : slices) {
    const auto parent = lane_of.find(slice.parent);
    std::size_t lane = parent != lane_of.end() ? parent->second : 0;
    const Place place{slice.start, slice.start + slice.duration, slice.id, slice.parent, slice.is_point};
    const std::uint64_t track = lanes.place(lane, place, close, below);
    if (!slice.is_point) lane_of.try_emplace(slice.id, lane);
    event(slice.is_point ? kInstant : kSliceBegin, slice.start, track, slice.name_and_facts);
  }
  lanes.close_all(close);
}

void PerfettoTrace::add(const AssembledTrace& assembled) {
  const Trace& trace = assembled.trace;
  const TraceLinks& links = assembled.links;
  std::vector<Slice> slices;
  slices.reserve(links.nodes().size());
  std::string name;
  // Parents first, because that is the order of slices with the same times.
  for (std::uint32_t i = links.first_root(); i != TraceLinks::kNone; i = links.next_before_children(i)) {
    const TraceLinks::Node& node = links.nodes()[i];
    const Entry entry = trace.view(*node.entry);
    Slice slice = slice_of(entry);
    // The ids of two processes may be the same.
    slice.id = slice.is_point ? 0 : std::uint64_t{i} + 1;
    slice.parent = node.parent == TraceLinks::kNone ? 0 : std::uint64_t{node.parent} + 1;
    ++(slice.is_point ? counts_.points : counts_.spans);
    std::string& facts = slice.name_and_facts;
    const Process& process = **entry.process;
    process_track(*entry.process);
    annotate(facts, "process", process.comm + " " + std::to_string(process.pid));
    if (node.root != RootKind::none) annotate(facts, "trace_id", id_text(trace.id()));
    if (const std::uint64_t flow = flows_.flow_from(entry); flow != 0) append_fixed64(facts, kFlow, flow);
    const bool is_longest = node.root != RootKind::none && entry.duration_ns == links.longest_root_ns();
    if (name.empty() && is_longest && !slice.is_point) {
      name = printable(entry.name) + " " + duration_text(entry.duration_ns) + " " + printable(trace.request_id());
      if (!entry.tenant.empty()) name += " " + printable(entry.tenant);
    }
    slices.push_back(std::move(slice));
  }
  if (slices.empty()) return;
  if (assembled.end != TraceEnd::late) ++counts_.requests;
  const auto remark = [&](std::string_view text) {
    Slice slice;
    slice.start = slices.front().start;
    slice.parent = slices.front().id;
    slice.is_point = true;
    append_event_name(slice.name_and_facts, text);
    slices.push_back(std::move(slice));
  };
  if (assembled.end != TraceEnd::finished) remark(end_name(assembled.end));
  if (assembled.over_limit > 0) {
    remark(counted(assembled.over_limit, "entry", "entries") + " beyond the limit of a request (--max-spans)");
  }
  Lanes lanes(new_track(requests_, name.empty() ? trace.request_id() : name));
  write(slices, lanes);
}

void PerfettoTrace::add_gauge(const Entry& entry) {
  const std::uint64_t process = process_track(*entry.process);
  std::string name = printable(entry.name), separator = "{";
  attributes_.read(entry);
  key_values_.clear();
  attributes_.write_own(key_values_, kSpanAttributes);
  attributes_.write_labels(key_values_, kSpanAttributes);
  for_each_key_value(key_values_.view(), kSpanAttributes, [&](std::string_view key_value) {
    Attribute attribute;
    NumberText text;
    if (!read_attribute(key_value, attribute) || attribute.key == "thread.id") return;
    name += std::exchange(separator, ",") + printable(attribute.key) + "=" + printable(scalar_text(attribute, text));
  });
  if (separator == ",") name += "}";
  std::uint64_t& track = counters_[{process, name}];
  if (track == 0) track = new_track(process, name, message(kCounter, {}));
  event(kCounterEvent, time_of(entry.start_unix_ns), track,
        number(kCounterValue, static_cast<std::uint64_t>(entry.value)));
  ++counts_.values;
}

void PerfettoTrace::add(const Entry& entry) {
  if (entry.kind == Kind::gauge) return add_gauge(entry);
  Held held;
  held.process = process_track(*entry.process);
  held.trace_id = entry.trace_id;
  std::string& facts = held.slice.name_and_facts;
  if (entry.kind == Kind::part) {
    held.slice.start = time_of(entry.start_unix_ns);
    held.slice.parent = entry.span_id;
    held.slice.is_point = true;
    append_event_name(facts, "further members");
  } else {
    held.slice = slice_of(entry);
  }
  bool has_flows = false;
  flows_.for_each_at(entry, [&](std::uint64_t flow) {
    append_fixed64(facts, kFlow, flow);
    has_flows = true;
  });
  if (entry.kind == Kind::part && !has_flows) return;
  if (is_step(entry)) {
    ++counts_.steps;
    held.track = "engine " + printable(entry.engine.empty() ? entry.name : entry.engine);
    if (entry.step != nullptr) {
      if (entry.step->number != 0) annotate(facts, "nopspan.step", std::uint64_t{entry.step->number});
      if (entry.step->instance != 0) held.track += " " + std::to_string(entry.step->instance);
    }
  } else if (entry.kind != Kind::part) {
    ++(held.slice.is_point ? counts_.points : counts_.spans);
    if (!held.slice.is_point && (entry.trace_id.empty() || entry.parent_id == 0)) held.track = printable(entry.name);
  }
  held_bytes_ += sizeof(Held) + facts.size() + held.track.size();
  held_.push_back(std::move(held));
  if (held_bytes_ > most_bytes_) write_held(true);
}

Lanes& PerfettoTrace::lanes_of(std::uint64_t process, const std::string& track) {
  const bool is_full = lanes_.size() >= kMostTracks && !lanes_.contains({process, track});
  const std::string& name = is_full ? "other spans" : track;
  std::unique_ptr<Lanes>& lanes = lanes_[{process, name}];
  if (!lanes) lanes = std::make_unique<Lanes>(new_track(process, name));
  return *lanes;
}

void PerfettoTrace::write_held(bool may_wait) {
  MapOfIds<TraceId, const std::string*> of_trace(0, hash_);
  MapOfIds<SpanKeys::Key, const std::string*> of_span(0, hash_);
  for (const Held& held : held_) {
    if (held.track.empty()) continue;
    of_span.try_emplace({held.process, held.slice.id}, &held.track);
    if (!held.trace_id.empty()) of_trace.try_emplace(held.trace_id, &held.track);
  }
  const auto track_of = [&](const Held& held) -> const std::string* {
    if (!held.track.empty()) return &held.track;
    if (const auto found = of_span.find({held.process, held.slice.parent}); found != of_span.end())
      return found->second;
    const auto found = of_trace.find(held.trace_id);
    return found != of_trace.end() ? found->second : nullptr;
  };
  std::vector<Held> waiting;
  std::map<Lanes*, std::vector<Slice>> slices;
  for (Held& held : held_) {
    const std::string* const track = track_of(held);
    if (track == nullptr && may_wait && !held.has_waited) {
      held.has_waited = true;
      waiting.push_back(std::move(held));
      continue;
    }
    slices[&lanes_of(held.process, track != nullptr ? *track : kNoTrack)].push_back(std::move(held.slice));
  }
  for (auto& [lanes, of] : slices) write(of, *lanes);
  held_ = std::move(waiting);
  held_bytes_ = 0;
  for (const Held& held : held_) held_bytes_ += sizeof(Held) + held.slice.name_and_facts.size();
}

void PerfettoTrace::finish(const Ledger& ledger, const std::string& remark, const std::optional<ClockState>& clock) {
  write_held(false);
  std::string attributes, facts;
  const auto attribute = [&](std::string_view key, const std::string& value) {
    append_bytes(attributes, 1, message(1, key) + value);
  };
  const std::uint64_t lost = ledger.total.lost();
  const bool is_whole = lost == 0 && ledger.damage.empty() && remark.empty();
  if (!remark.empty()) attribute("nopspan.remark", message(3, remark));
  if (clock) attribute("nopspan.clock_error_ns", number(2, clock->error_ns));
  for (const CountField& field : kCountFields) {
    const std::uint64_t count = ledger.total.*field.count;
    if (count == 0) continue;
    attribute("nopspan.entries." + std::string(field.name), number(2, count));
    if (field.loss != nullptr) annotate(facts, field.loss, count);
  }
  packet(message(kTraceAttributes, attributes));
  if (!is_whole && last_ns_ > 0) {
    std::string name;
    append_event_name(name, lost > 0 ? counted(lost, "entry was lost", "entries were lost") : "entries may be missing");
    if (!remark.empty()) annotate(facts, "remark", remark);
    event(kInstant, last_ns_, requests_, name + facts);
  }
  flush();
}

}  // namespace nopspan::collector
