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
constexpr unsigned kAnnotation = 4, kType = 9, kNameId = 10, kTrackUuid = 11, kCounterValue = 30, kFlow = 47,
                   kTerminatingFlow = 48;
constexpr unsigned kEventNames = 2, kAnnotationNames = 3;
constexpr unsigned kSliceBegin = 1, kSliceEnd = 2, kInstant = 3, kCounterEvent = 4;
constexpr unsigned kStateCleared = 1, kNeedsState = 2;
constexpr unsigned kRealtime = 1, kMonotonic = 3;
constexpr unsigned kChronological = 2, kNoMerge = 2;

constexpr std::size_t kCompressed = std::size_t{1} << 20U;  // bytes of packets that are compressed together
constexpr int kLevel = 6;
constexpr std::size_t kMostDepth = 16;    // of lists and maps in an attribute
constexpr std::size_t kMostSlices = 512;  // inside one another: trace_processor drops those below
constexpr std::uint64_t kLatest = INT64_MAX;

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

void StepFlows::see(const Entry& entry) {
  if (entry.kind == Kind::span && entry.parent_id == 0 && !entry.trace_id.empty()) {
    steps_[entry.trace_id] = entry.step != nullptr ? entry.step->instance : 0;
  }
  if (flows_ == Flows::none) return;
  const std::uint64_t end = saturating_sum(entry.start_unix_ns, entry.duration_ns);
  for_each_member(entry.members, [&](const nopspan_member& member) {
    if ((member.flags & (NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY)) != 0) return;
    Request& request = requests_[member.request];
    if (entry.start_unix_ns < request.first_ns) {
      request.first_ns = entry.start_unix_ns;
      request.first = entry.span_id;
    }
    // A flow is at the begin of a slice, so it ends at the step that begins last.
    if (entry.start_unix_ns >= request.last_ns) {
      request.last_ns = entry.start_unix_ns;
      request.last = entry.span_id;
    }
    if (end <= request.end_ns) return;
    if (const std::uint64_t gap_ns = end - request.end_ns; request.end_ns != 0 && gap_ns > request.longest_ns) {
      request.longest_ns = gap_ns;
      request.longest = entry.span_id;
    }
    request.end_ns = end;
  });
}

void StepFlows::show(std::uint64_t span_id) {
  if (const auto found = requests_.find(span_id); found != requests_.end()) found->second.is_shown = true;
}

bool StepFlows::begins_at(std::uint64_t span_id) const {
  const auto found = requests_.find(span_id);
  return found != requests_.end() && found->second.is_shown;
}

StepFlows::Stop StepFlows::stop_of(const nopspan_member& member, std::uint64_t step_id) const {
  if ((member.flags & (NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY)) != 0) return Stop::none;
  const auto found = requests_.find(member.request);
  if (found == requests_.end() || !found->second.is_shown) return Stop::none;
  if (step_id == found->second.last) return Stop::ends;
  const bool passes = flows_ == Flows::all || step_id == found->second.first || step_id == found->second.longest;
  return passes ? Stop::passes : Stop::none;
}

bool StepFlows::stops_at(const Entry& entry) const {
  bool stops = false;
  for_each_member(entry.members,
                  [&](const nopspan_member& member) { stops = stops || stop_of(member, entry.span_id) != Stop::none; });
  return stops;
}

PerfettoTrace::PerfettoTrace(const ClockSamples* clocks, const StepFlows& flows, Write write)
    : clocks_(clocks), flows_(flows), write_(std::move(write)) {
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

std::uint32_t PerfettoTrace::interned(std::map<std::string, std::uint32_t, std::less<>>& known, unsigned field,
                                      std::string_view name) {
  if (const auto found = known.find(name); found != known.end()) return found->second;
  const auto id = static_cast<std::uint32_t>(known.size() + 1);
  known.emplace(name, id);
  append_bytes(interned_, field, number(1, id) + message(2, name));
  return id;
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

std::uint64_t PerfettoTrace::process_track(const Process& process) {
  std::uint64_t& uuid = processes_[{process.pid, process.start_ticks}];
  if (uuid == 0) {
    std::string fields = number(1, process.pid);
    append_text(fields, 6, process.comm);
    uuid = new_track(0, process.comm, message(kProcess, fields));
  }
  return uuid;
}

void PerfettoTrace::event(unsigned type, std::uint64_t time, std::uint64_t track, std::string_view fields) {
  last_ns_ = std::max(last_ns_, time);
  packet(message(kTrackEvent, number(kType, type) + number(kTrackUuid, track) + std::string(fields)), time);
}

void PerfettoTrace::annotate(std::string& facts, std::string_view name, const Attribute& value) {
  std::string annotation = number(1, interned(keys_, kAnnotationNames, name));
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

std::string PerfettoTrace::facts_of(const Entry& entry) {
  std::string facts;
  attributes_.read(entry);
  key_values_.clear();
  attributes_.write_own(key_values_, kSpanAttributes);
  if (entry.kind == Kind::span) {
    attributes_.write_span_facts(key_values_, kSpanAttributes);
  } else if (entry.kind != Kind::gauge) {
    attributes_.write_event_facts(key_values_, kSpanAttributes);
  }
  if (entry.kind != Kind::gauge) attributes_.write_labels(key_values_, kSpanAttributes);
  for_each_key_value(key_values_.view(), kSpanAttributes, [&](std::string_view key_value) {
    Attribute attribute;
    if (read_attribute(key_value, attribute)) annotate(facts, attribute.key, attribute);
  });
  return facts;
}

PerfettoTrace::Slice PerfettoTrace::slice_of(const Entry& entry) {
  Slice slice;
  slice.start = time_of(entry.start_unix_ns);
  slice.is_point = entry.kind != Kind::span;
  slice.duration = slice.is_point ? 0 : std::min(entry.duration_ns, kLatest - slice.start);
  slice.id = slice.is_point ? 0 : entry.span_id;
  slice.parent = slice.is_point ? entry.span_id : entry.parent_id;
  slice.facts = facts_of(entry);
  slice.name = interned(names_, kEventNames, attributes_.valid_text(entry.name));
  ++(slice.is_point ? counts_.points : counts_.spans);
  return slice;
}

namespace {

// The tracks of slices that may overlap. In one track, a slice must be inside the one that it is on.
class Lanes {
 public:
  // Calls close(track, time) for each slice that ends.
  explicit Lanes(std::uint64_t track) : lanes_{{track, {}}} { free_.insert(0); }

  template <class Close>
  void close_all(const Close& close) {
    for (Lane& lane : lanes_) close_until(lane, UINT64_MAX, close);
  }
  // Places a slice that begins no earlier than those before it: at `wanted` if there is room, or in one of the first
  // lanes, or in one that is free. Returns the number of the lane; the number of lanes if a new one is needed.
  template <class Close>
  std::size_t place(std::size_t wanted, std::uint64_t start, std::uint64_t end, const Close& close) {
    constexpr std::size_t kTried = 16;  // to try all lanes would take time in the square of the slices
    for (; !busy_.empty() && busy_.top().first <= start; busy_.pop()) {
      close_until(lanes_[busy_.top().second], start, close);
      free_.insert(busy_.top().second);
    }
    const auto has_room = [&](std::size_t i) {
      close_until(lanes_[i], start, close);
      const std::vector<std::uint64_t>& ends = lanes_[i].ends;
      return ends.empty() || (ends.back() >= end && ends.size() < kMostSlices);
    };
    if (has_room(wanted)) return wanted;
    for (std::size_t i = 0; i < std::min(kTried, lanes_.size()); ++i) {
      if (has_room(i)) return i;
    }
    return free_.empty() ? lanes_.size() : *free_.begin();
  }
  void add(std::uint64_t track) {
    free_.insert(lanes_.size());
    lanes_.push_back({track, {}});
  }
  void push(std::size_t lane, std::uint64_t end) {
    if (lanes_[lane].ends.empty()) busy_.emplace(end, lane);
    free_.erase(lane);
    lanes_[lane].ends.push_back(end);
  }
  [[nodiscard]] std::size_t size() const { return lanes_.size(); }
  [[nodiscard]] std::uint64_t track(std::size_t lane) const { return lanes_[lane].track; }

 private:
  struct Lane {
    std::uint64_t track;
    std::vector<std::uint64_t> ends;  // of the slices that are open
  };
  template <class Close>
  static void close_until(Lane& lane, std::uint64_t now, const Close& close) {
    for (; !lane.ends.empty() && lane.ends.back() <= now; lane.ends.pop_back()) close(lane.track, lane.ends.back());
  }

  using OutermostEnd = std::pair<std::uint64_t, std::size_t>;  // and the number of its lane
  std::vector<Lane> lanes_;
  std::set<std::size_t> free_;  // lanes without an open slice
  std::priority_queue<OutermostEnd, std::vector<OutermostEnd>, std::greater<>> busy_;
};

}  // namespace

// A span is on its parent if it ends no later, and otherwise in another track.
void PerfettoTrace::write(std::vector<Slice>& slices, std::uint64_t track) {
  std::stable_sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) {
    return std::tuple(a.start, a.is_point, b.duration) < std::tuple(b.start, b.is_point, a.duration);
  });
  Lanes lanes(track);
  std::unordered_map<std::uint64_t, std::size_t> lane_of;  // by the span's id
  const auto close = [&](std::uint64_t of, std::uint64_t time) { event(kSliceEnd, time, of, {}); };
  for (Slice& slice : slices) {
    const auto parent = lane_of.find(slice.parent);
    std::size_t lane = parent != lane_of.end() ? parent->second : 0;
    if (!slice.is_point) {
      const std::uint64_t end = slice.start + slice.duration;
      lane = lanes.place(lane, slice.start, end, close);
      if (lane == lanes.size()) lanes.add(new_track(track, "at the same time"));
      lanes.push(lane, end);
      lane_of.try_emplace(slice.id, lane);
    }
    event(slice.is_point ? kInstant : kSliceBegin, slice.start, lanes.track(lane),
          number(kNameId, slice.name) + slice.facts);
  }
  lanes.close_all(close);
}

void PerfettoTrace::add(const AssembledTrace& assembled) {
  const Trace& trace = assembled.trace;
  const TraceLinks& links = assembled.links;
  std::vector<Slice> slices;
  slices.reserve(links.nodes().size());
  std::string name;
  for (const TraceLinks::Node& node : links.nodes()) {
    const Entry entry = trace.view(*node.entry);
    Slice slice = slice_of(entry);
    const Process& process = **entry.process;
    process_track(process);
    annotate(slice.facts, "process", process.comm + " " + std::to_string(process.pid));
    if (node.root != RootKind::none) annotate(slice.facts, "trace_id", id_text(trace.id()));
    if (!slice.is_point && flows_.begins_at(entry.span_id)) append_fixed64(slice.facts, kFlow, entry.span_id);
    if (name.empty() && node.root != RootKind::none && !slice.is_point) {
      name = printable(entry.name) + " " + duration_text(links.longest_root_ns()) + " " + printable(trace.request_id());
      if (!entry.tenant.empty()) name += " " + printable(entry.tenant);
    }
    slices.push_back(std::move(slice));
  }
  if (slices.empty()) return;
  ++counts_.requests;
  const std::uint64_t track = new_track(requests_, name.empty() ? trace.request_id() : name);
  const auto remark = [&](std::string_view text) {
    Slice slice;
    slice.start = slices.front().start;
    slice.is_point = true;
    slice.name = interned(names_, kEventNames, text);
    slices.push_back(std::move(slice));
  };
  if (assembled.end != TraceEnd::finished) remark(end_name(assembled.end));
  if (assembled.over_limit > 0) {
    remark(counted(assembled.over_limit, "entry", "entries") + " beyond the limit of a request (--max-spans)");
  }
  write(slices, track);
}

void PerfettoTrace::add(const Entry& entry) {
  const ProcessPointer& process = *entry.process;
  if (entry.kind == Kind::gauge) {
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
    std::uint64_t& track = counters_[{process_track(*process), name}];
    if (track == 0) track = new_track(process_track(*process), name, message(kCounter, {}));
    event(kCounterEvent, time_of(entry.start_unix_ns), track,
          number(kCounterValue, static_cast<std::uint64_t>(entry.value)));
    ++counts_.values;
    return;
  }
  const std::uint64_t* const instance = flows_.engine_of(entry.trace_id);
  const bool is_of_engine = is_step(entry) || instance != nullptr;
  const std::string name = is_of_engine ? "" : printable(entry.name);
  Held& held = held_[{process->pid, process->start_ticks, instance != nullptr ? *instance : 0, name}];
  if (entry.kind == Kind::part) {
    if (held.slices.empty()) return;
  } else {
    held.slices.push_back(slice_of(entry));
  }
  held.process = process;
  Slice& slice = held.slices.back();
  if (entry.kind == Kind::part && slice.id != entry.span_id) return;  // the step was lost
  if (is_step(entry)) {
    ++counts_.steps;
    held.name = "engine " + printable(entry.engine.empty() ? entry.name : entry.engine);
    if (entry.step != nullptr) {
      if (entry.step->number != 0) annotate(slice.facts, "nopspan.step", std::uint64_t{entry.step->number});
      if (entry.step->instance != 0) held.name += " " + std::to_string(entry.step->instance);
    }
  }
  for_each_member(entry.members, [&](const nopspan_member& member) {
    const StepFlows::Stop stop = flows_.stop_of(member, entry.span_id);
    if (stop == StepFlows::Stop::none) return;
    append_fixed64(slice.facts, stop == StepFlows::Stop::ends ? kTerminatingFlow : kFlow, member.request);
  });
}

void PerfettoTrace::finish(const Ledger& ledger, const std::string& remark, std::uint64_t clock_error_ns) {
  for (auto& [key, held] : held_) {
    const std::string name = held.name.empty() ? std::get<std::string>(key) : held.name;
    const std::uint64_t process = process_track(*held.process);
    write(held.slices, new_track(process, name));
  }
  held_.clear();
  std::string attributes, facts;
  const auto attribute = [&](std::string_view key, const std::string& value) {
    append_bytes(attributes, 1, message(1, key) + value);
  };
  attribute("nopspan.remark", message(3, remark.empty() ? "the recording is complete" : remark));
  if (clock_error_ns != 0) attribute("nopspan.clock_error_ns", number(2, clock_error_ns));
  for (const CountField& field : kCountFields) {
    const std::uint64_t count = ledger.total.*field.count;
    if (count == 0) continue;
    attribute("nopspan.entries." + std::string(field.name), number(2, count));
    if (field.loss != nullptr) annotate(facts, field.loss, count);
  }
  packet(message(kTraceAttributes, attributes));
  const std::uint64_t lost = ledger.total.lost();
  if (lost > 0 || !ledger.damage.empty() || !remark.empty()) {
    const std::string text = lost > 0 ? counted(lost, "entry was lost", "entries were lost") : "entries may be missing";
    if (!remark.empty()) annotate(facts, "remark", remark);
    event(kInstant, last_ns_, requests_, number(kNameId, interned(names_, kEventNames, text)) + facts);
  }
  flush();
}

}  // namespace nopspan::collector
