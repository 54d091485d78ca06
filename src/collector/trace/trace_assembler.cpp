// SPDX-License-Identifier: Apache-2.0
#include "trace/trace_assembler.h"

#include "base/random.h"
#include "base/saturating.h"

#include <nopspan/probes.h>

#include <iterator>
#include <unordered_set>
#include <utility>

namespace nopspan::collector {

struct TraceAssembler::OpenFacts {
  List* list = nullptr;              // the list that it is in
  std::uint64_t quiet_since_ns = 0;  // time of clock_ns_; not yet known while `fresh`
  bool fresh = true;                 // an entry has arrived since the last tick
  bool has_root = false, has_remote = false, has_orphan = false;
  bool late = false, earlier_part_was_shown = false;
  bool before_attach = false;
  std::uint32_t marks = 0;
  std::size_t bytes = 0;  // its share of `bytes_`
  std::size_t over_limit = 0, over_limit_failed = 0, extra = 0;
  std::size_t spans = 0, linked_spans = 0;  // linked_spans: linked spans among `spans`
  bool has_step = false;                    // one of them is a step
  bool is_left = false;                     // a step has its trace id, and it is not inside the step
  std::uint64_t end_unix_ns = 0;            // end of the span that ended last
  std::uint64_t links = 0;                  // links to this trace, counted for its linked spans
  // For a trace over its limit: parents that have not arrived yet. There is always some room for them, so that the
  // spans that are kept remain connected.
  std::unique_ptr<std::unordered_set<std::uint64_t>> wanted;

  [[nodiscard]] bool has_own_root() const { return has_root || has_remote || has_orphan; }
  // Whether it consists of linked spans only, or of steps and what is inside them. It is then not a trace of its own,
  // and its spans belong to other traces.
  [[nodiscard]] bool is_linked() const {
    const bool is_only_steps = has_step && !has_own_root();
    return spans > 0 && (linked_spans == spans || is_only_steps) && over_limit == 0 && !late;
  }
};

// A trace that has not been delivered yet.
struct TraceAssembler::Open : OpenFacts {
  Open(const TraceId& id, InternedTexts& texts) : trace(id, texts) {}

  void reset(const TraceId& id) {
    static_cast<OpenFacts&>(*this) = {};
    trace.reset(id);
  }

  Trace trace;
};

namespace {

// An estimate of a list node, a map node, and malloc's overhead.
constexpr std::size_t kOpenBytes = 160;
constexpr std::size_t kWantedBytes = 48;
constexpr std::size_t kMostSpare = 16, kMostSpareBytes = 4096;
constexpr std::size_t kManyNodes = 1024;

// Of delivered traces, by TraceEnd.
constexpr std::uint64_t TraceCounts::*kCountOf[] = {&TraceCounts::finished, &TraceCounts::late_parts,
                                                    &TraceCounts::evicted, &TraceCounts::partial,
                                                    &TraceCounts::unfinished};

bool is_root(const Entry& entry) {
  return entry.kind == Kind::span && entry.parent_id == 0 && (entry.flags & NOPSPAN_FLAG_ORPHAN) == 0 &&
         !is_step(entry);
}
bool has_remote_parent(const Entry& entry) {
  return entry.kind == Kind::span && entry.parent_id != 0 && (entry.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0;
}
bool is_orphan(const Entry& entry) {
  return entry.kind == Kind::span && (entry.flags & NOPSPAN_FLAG_ORPHAN) != 0 && !is_step(entry);
}

}  // namespace

TraceAssembler::TraceAssembler(const TraceLimits& limits, Mark mark, Take take, Wants wants, Pass pass)
    : limits_(limits),
      mark_(std::move(mark)),
      take_(std::move(take)),
      wants_(std::move(wants)),
      pass_(std::move(pass)),
      steps_(texts_, limits.bytes / 2, limits.linked_kept, random_seed()),
      known_(random_seed()) {}

TraceAssembler::~TraceAssembler() = default;

std::size_t TraceAssembler::bytes() const { return bytes_ + steps_.bytes() + texts_.bytes(); }

void TraceAssembler::add(const Entry& entry) {
  if (entry.kind == Kind::gauge) return pass(entry);
  ++counts_.entries;
  if (add_of_step(entry)) {
    make_room();
    return;
  }
  if (entry.kind == Kind::span && entry.name == kRequestName) steps_.note_request(entry);
  if (entry.trace_id.empty()) {
    ++counts_.outside;
    steps_.forget_beyond_limit();  // it may be a step that is not a root
    return pass(entry);
  }
  if (is_step(entry) && entry.links.empty()) pass(entry);
  if (entry.process->get() != last_process_) {
    last_process_ = entry.process->get();
    remote_parents_.saw(*last_process_);
  }
  const auto open = find_or_begin(entry.trace_id);
  open->marks |= mark_ ? mark_(entry) : 0;
  open->before_attach |= entry.before_attach;
  if (open->late) ++counts_.late;
  if (has_room(*open, entry)) {
    open->has_root |= is_root(entry);
    open->has_remote |= has_remote_parent(entry);
    open->has_orphan |= is_orphan(entry);
    if (entry.kind == Kind::span) {
      ++open->spans;
      open->linked_spans += is_linked(entry) ? 1 : 0;
      open->has_step |= is_step(entry) && is_linked(entry);
      open->end_unix_ns = std::max(open->end_unix_ns, saturating_sum(entry.start_unix_ns, entry.duration_ns));
    }
    if (open->trace.bytes() + entry.attributes.size() <= limits_.bytes_per_trace) {
      open->trace.add(entry);
    } else {
      Entry bare = entry;
      bare.attributes = bare.links = {};
      open->trace.add(bare);
    }
    ++counts_.held;
  } else {
    ++counts_.over_limit;
    ++open->over_limit;
    if (entry.kind == Kind::span && entry.failed()) ++open->over_limit_failed;
  }
  count_bytes(*open);
  restart_grace(open);
  if (is_linked(entry)) restart_grace_of_linked(entry);
  if (open->is_left && !open->has_root && !open->has_orphan) absorb(open);
  make_room();
}

bool TraceAssembler::add_of_step(const Entry& entry) {
  if (entry.kind == Kind::part) {
    ++counts_.steps;
    steps_.add_part(entry);
    pass(entry);
    return true;
  }
  const List::iterator* const found = entry.trace_id.empty() ? nullptr : find_open(entry.trace_id);
  const bool is_of_trace = found != nullptr && ((*found)->has_root || (*found)->has_orphan);
  // A step with links was written by a library that did not know members.
  if (is_step(entry) && entry.links.empty()) {
    if (entry.step == nullptr && entry.parent_id != 0) return false;
    if (!steps_.add_step(entry, mark_ ? mark_(entry) : 0, clock_ns_)) {
      ++counts_.duplicates;
      return true;
    }
    if (entry.parent_id != 0 || is_of_trace) return false;
  } else if (is_root(entry) || is_of_trace || !steps_.is_inside(entry)) {
    return false;
  } else {
    steps_.add_inside(entry, mark_ ? mark_(entry) : 0);
  }
  if (found != nullptr && (*found)->list != &expected_ && !(*found)->is_linked()) absorb(*found);
  ++counts_.steps;
  pass(entry);
  return true;
}

// Gives the spans that arrived before their step, or before the span above them, to the step. They stay in a trace of
// their own if any of them is not inside the step. If they are few, this is tried again whenever another one arrives.
void TraceAssembler::absorb(List::iterator open) {
  constexpr std::size_t kFew = 64;
  if (open->is_left && open->trace.size() > kFew) return;
  for (const TraceLinks::Node& node : links_of(*open).nodes()) {
    open->is_left = node.parent == TraceLinks::kNone && !steps_.is_inside(open->trace.view(*node.entry));
    if (open->is_left) return;
  }
  std::vector<const PackedEntry*> entries;
  open->trace.entries(entries);
  for (const PackedEntry* packed : entries) {
    const Entry entry = open->trace.view(*packed);
    steps_.add_inside(entry, open->marks);
    pass_later(entry);
  }
  counts_.held -= entries.size();
  counts_.steps += entries.size();
  erase(open);
}

void TraceAssembler::count_bytes(Open& open) {
  const std::size_t bytes =
      sizeof(Open) + kOpenBytes + open.trace.bytes() + (open.wanted ? open.wanted->size() * kWantedBytes : 0);
  bytes_ += bytes - open.bytes;
  open.bytes = bytes;
}

// Restarts the grace time.
void TraceAssembler::restart_grace(List::iterator open) {
  open->fresh = true;
  active_.splice(active_.end(), *open->list, open);
  open->list = &active_;
}

// Restarts the grace time of the traces that a linked span links to. They are moved behind it in the list, so they wait
// until it is added to them. A linked span that began after a trace's end does not prolong it.
void TraceAssembler::restart_grace_of_linked(const Entry& entry) {
  for_each_link(entry.links, [&](const SpanLink& link) {
    const List::iterator* found = find_open(link.trace_id);
    if (found == nullptr || (*found)->list == &expected_) return;
    const auto open = *found;
    if (!open->has_root || entry.start_unix_ns <= open->end_unix_ns) restart_grace(open);
  });
}

TraceAssembler::List::iterator TraceAssembler::begin(List& list, const TraceId& id, Known& known) {
  if (spare_.empty()) {
    list.emplace_back(id, texts_);
  } else {
    list.splice(list.end(), spare_, spare_.begin());
    list.back().reset(id);
  }
  list.back().list = &list;
  ++open_;
  known.is_open = true;
  return known.open = std::prev(list.end());
}

TraceAssembler::List::iterator TraceAssembler::find_or_begin(const TraceId& id) {
  Known& known = known_.insert(id);
  if (known.is_open) return known.open;
  const auto open = begin(active_, id, known);
  open->late = known.is_remembered;
  open->earlier_part_was_shown = known.is_remembered && known.was_shown;
  open->before_attach = known.is_remembered && known.before_attach;
  return open;
}

TraceAssembler::List::iterator* TraceAssembler::find_open(const TraceId& id) {
  Known* known = known_.find(id);
  return known != nullptr && known->is_open ? &known->open : nullptr;
}

const TraceLinks& TraceAssembler::links_of(const Open& open) {
  if (links_.nodes().size() > kManyNodes) links_ = TraceLinks();
  links_.build(open.trace);
  return links_;
}

// The first entries are kept. Beyond the limit, a few root spans and the ancestors of kept entries are kept too.
bool TraceAssembler::has_room(Open& open, const Entry& entry) const {
  if (open.trace.size() < limits_.entries_per_trace && open.trace.bytes() < limits_.bytes_per_trace) return true;
  if (entry.kind != Kind::span) return false;
  const std::size_t extra_room = 64 + limits_.entries_per_trace / 8;
  if (open.extra >= extra_room) return false;
  if (!open.wanted) {
    open.wanted = std::make_unique<std::unordered_set<std::uint64_t>>();
    std::vector<const PackedEntry*> entries;
    open.trace.entries(entries);
    for (const PackedEntry* packed : entries) {
      const std::uint64_t above = packed->is_span() ? packed->parent_id : packed->span_id;
      if (above != 0) open.wanted->insert(above);
    }
    for (const PackedEntry* packed : entries) {
      if (packed->is_span()) open.wanted->erase(packed->span_id);
    }
  }
  constexpr std::size_t kRootRoom = 64;
  const bool root = is_root(entry) || has_remote_parent(entry);
  if (open.wanted->erase(entry.span_id) == 0 && !(root && open.extra < kRootRoom)) return false;
  if (entry.parent_id != 0) open.wanted->insert(entry.parent_id);
  ++open.extra;
  return true;
}

// Evicts traces until memory suffices, in this order: those of which only linked spans are known, those that are
// probably complete, and those without a new entry for the longest time.
void TraceAssembler::make_room() {
  steps_.forget_beyond_limit();
  while (open_ > 1 && (bytes_ + steps_.bytes() > limits_.bytes || open_ > limits_.traces)) {
    if (!expected_.empty()) {
      erase(expected_.begin());
      continue;
    }
    List& list = !patient_.empty() ? patient_ : !dormant_.empty() ? dormant_ : active_;
    const auto open = list.begin();
    const TraceLinks& links = links_of(*open);
    TraceEnd end = end_of(*open, links);
    if (end == TraceEnd::unfinished) end = TraceEnd::evicted;
    if (end == TraceEnd::finished && !open->is_linked() && !open->before_attach) ++counts_.hurried;
    deliver(open, end, links);
  }
}

// How a trace ends if it is not waited for any longer.
TraceEnd TraceAssembler::end_of(const Open& open, const TraceLinks& links) {
  if (open.late) return TraceEnd::late;
  const bool whole = open.has_root || (links.has_root(RootKind::remote) && !links.awaits_spans());
  return whole ? TraceEnd::finished : TraceEnd::unfinished;
}

void TraceAssembler::tick(std::uint64_t now_ns) {
  if (now_ns > last_tick_ns_) clock_ns_ += now_ns - last_tick_ns_;
  last_tick_ns_ = now_ns;
  for (auto open = active_.rbegin(); open != active_.rend() && open->fresh; ++open) {
    open->fresh = false;
    open->quiet_since_ns = clock_ns_;
  }
  const auto is_quiet = [&](const List& list, std::uint64_t grace_ns) {
    return !list.empty() && clock_ns_ - list.front().quiet_since_ns >= grace_ns;
  };
  while (is_quiet(active_, limits_.grace_ns)) deliver_or_wait(active_.begin());
  while (is_quiet(patient_, limits_.long_grace_ns)) {
    const TraceLinks& links = links_of(patient_.front());
    deliver(patient_.begin(), end_of(patient_.front(), links), links);
  }
  while (is_quiet(expected_, limits_.long_grace_ns)) erase(expected_.begin());
  if (clock_ns_ > limits_.grace_ns) steps_.forget_before(clock_ns_ - limits_.grace_ns);
}

// Decides what to do with a trace without a new entry for the grace time: deliver it, or wait longer.
void TraceAssembler::deliver_or_wait(List::iterator open) {
  const auto move_to = [&](List& list) {
    list.splice(list.end(), active_, open);
    open->list = &list;
  };
  if (open->late) {
    deliver(open, TraceEnd::late);
  } else if (open->has_root || open->is_linked()) {
    deliver(open, TraceEnd::finished);
  } else if (!open->has_remote && !open->has_orphan) {
    move_to(dormant_);
  } else {
    const TraceLinks& links = links_of(*open);
    if (links.has_root(RootKind::orphan) && links.awaits_spans()) {  // NOLINT(bugprone-branch-clone): in this order
      move_to(patient_);
    } else if (links.has_root(RootKind::orphan) && !links.has_root(RootKind::remote)) {
      deliver(open, TraceEnd::unfinished, links);  // its ancestors began before the attach and will not arrive
    } else if (links.awaits_spans()) {
      move_to(dormant_);
    } else if (!links.has_root(RootKind::remote) || parents_may_come(links, open->trace)) {
      move_to(patient_);
    } else {
      deliver(open, TraceEnd::finished, links);
    }
  }
}

bool TraceAssembler::parents_may_come(const TraceLinks& links, const Trace& trace) const {
  const auto& nodes = links.nodes();
  return std::any_of(nodes.begin(), nodes.end(), [&](const TraceLinks::Node& node) {
    return node.root == RootKind::remote && remote_parents_.may_come(*trace.processes()[node.entry->process]);
  });
}

void TraceAssembler::deliver(List::iterator open, TraceEnd end) { deliver(open, end, links_of(*open)); }

void TraceAssembler::deliver(List::iterator open, TraceEnd end, const TraceLinks& links) {
  counts_.held -= open->trace.size();
  counts_.duplicates += links.duplicates();
  if (open->is_linked()) {
    counts_.linked += links.nodes().size();
    join_linked_spans(*open, links);
    for (const TraceLinks::Node& node : links.nodes()) pass_later(open->trace.view(*node.entry));
    erase(open);
    return;
  }
  if (end == TraceEnd::finished && open->before_attach) end = TraceEnd::partial;
  ++(counts_.*kCountOf[static_cast<std::size_t>(end)]);
  counts_.assembled += links.nodes().size();
  counts_.links.held -= open->links;
  counts_.links.joined += open->links;
  counts_.conflicts += links.conflicts();
  counts_.cycles += links.cycles();
  learn_parents(*open, links);
  if (steps_.has_requests()) {
    open->marks |= steps_.claim(open->trace);
    for (const TraceLinks::Node& node : links.nodes()) {
      if (node.entry->is_span()) open->marks |= steps_.claim(*node.entry, open->trace);
    }
  }
  const bool shown = take_({open->trace, links, end, open->marks, open->over_limit, open->over_limit_failed,
                            open->earlier_part_was_shown, open->before_attach});
  remember(open->trace.id(), shown || open->earlier_part_was_shown, open->before_attach);
  open->links = 0;
  erase(open);
}

void TraceAssembler::erase(List::iterator open) {
  counts_.links.held -= open->links;
  counts_.links.unknown += open->links;
  bytes_ -= open->bytes;
  --open_;
  if (Known* known = known_.find(open->trace.id()); known->is_remembered) {
    known->is_open = false;
  } else {
    known_.erase(open->trace.id());
  }
  if (spare_.size() < kMostSpare && open->bytes <= kMostSpareBytes) {
    spare_.splice(spare_.begin(), *open->list, open);
  } else {
    open->list->erase(open);
  }
}

// Adds linked spans to the traces that they link to.
void TraceAssembler::join_linked_spans(const Open& open, const TraceLinks& links) {
  const auto& nodes = links.nodes();
  for (const TraceLinks::Node& node : nodes) {
    if (!node.entry->is_span()) continue;
    const Entry entry = open.trace.view(*node.entry);
    // What is inside a step was done for the requests that the step links to.
    const TraceLinks::Node* root = &node;
    if (open.has_step) {
      while (root->parent != TraceLinks::kNone) root = &nodes[root->parent];
    }
    const std::string_view root_links = open.trace.view(*root->entry).links;
    const auto requests = static_cast<std::uint32_t>(root_links.size() / sizeof(nopspan_link));
    for_each_link(root_links, [&](const SpanLink& link) {
      ++counts_.links.all;
      ++*join_link(link, entry, requests, open.marks);
    });
  }
}

// Adds one linked span to the trace of `link`. Returns the counter of the link's outcome.
std::uint64_t* TraceAssembler::join_link(const SpanLink& link, const Entry& entry, std::uint32_t requests,
                                         std::uint32_t marks) {
  JoinCounts& counts = counts_.links;
  if (link.trace_id.empty() || link.trace_id == entry.trace_id) return &counts.unknown;
  if (wants_ && !wants_(link.trace_id)) return &counts.filtered;
  const bool has_room = make_room_for_linked();
  const Known* known = known_.find(link.trace_id);
  const bool is_open = known != nullptr && known->is_open;
  if (!is_open && known != nullptr) return &counts.late;
  if (!has_room && (!is_open || known->open->trace.find_linked(link.span_id, entry) == nullptr))
    return &counts.over_limit;
  const auto open = is_open ? known->open : begin(expected_, link.trace_id, known_.insert(link.trace_id));
  if (open->list == &expected_) {
    open->fresh = false;
    open->quiet_since_ns = clock_ns_;
    expected_.splice(expected_.end(), expected_, open);
  }
  const bool added = open->trace.add_linked(link.span_id, entry, requests, limits_.linked_kept);
  count_bytes(*open);
  if (!added) return &counts.over_limit;
  ++open->links;
  open->marks |= marks;
  return &counts.held;
}

// Makes room for a linked span. Evicts only traces of which nothing but linked spans has arrived, because the others
// matter more.
bool TraceAssembler::make_room_for_linked() {
  const auto is_full = [&] { return bytes_ + steps_.bytes() > limits_.bytes || open_ >= limits_.traces; };
  while (is_full() && !expected_.empty()) erase(expected_.begin());
  return !is_full();
}

void TraceAssembler::learn_parents(const Open& open, const TraceLinks& links) {
  if (!open.has_remote) return;
  for (const TraceLinks::Node& node : links.nodes()) {
    if (!node.entry->is_span() || node.entry->parent_id == 0 || !node.entry->has(NOPSPAN_FLAG_REMOTE_PARENT)) continue;
    remote_parents_.learn(*open.trace.processes()[node.entry->process], node.root != RootKind::remote);
  }
}

// The trace is still open.
void TraceAssembler::remember(const TraceId& id, bool was_shown, bool before_attach) {
  Known& known = *known_.find(id);
  known.was_shown = was_shown;
  known.before_attach = before_attach;
  if (!std::exchange(known.is_remembered, true)) remembered_.push_back(id);
  if (remembered_.size() <= limits_.remembered) return;
  Known& oldest = *known_.find(remembered_.front());
  oldest.is_remembered = false;
  if (!oldest.is_open) known_.erase(remembered_.front());
  remembered_.pop_front();
}

void TraceAssembler::finish(bool is_cut) {
  // Linked spans first, because they belong to the traces that are still open.
  for (auto next = active_.begin(); next != active_.end();) {
    const auto open = next++;
    if (open->is_linked()) deliver(open, TraceEnd::finished);
  }
  for (List* list : {&active_, &patient_, &dormant_}) {
    while (!list->empty()) {
      const TraceLinks& links = links_of(list->front());
      const TraceEnd end = end_of(list->front(), links);
      deliver(list->begin(), end == TraceEnd::finished && is_cut ? TraceEnd::unfinished : end, links);
    }
  }
  while (!expected_.empty()) erase(expected_.begin());
  steps_.finish();
}

}  // namespace nopspan::collector
