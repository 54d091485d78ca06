// SPDX-License-Identifier: Apache-2.0
#include "trace/trace_tree.h"

#include "base/cells.h"
#include "base/text.h"
#include "base/text_output.h"
#include "model/entry.h"
#include "model/entry_json.h"
#include "model/otlp_wire.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace nopspan::collector {

namespace {

// If more than this many siblings have the same name, they are folded. Up to this many of those that failed are still
// shown by themselves.
constexpr std::size_t kShownSiblings = 5;
// Deeper levels are not indented further, because 10^5 levels would make lines of 300 KB.
constexpr std::size_t kMaxLevels = 24;
constexpr std::size_t kMostOfAName = 64;
constexpr std::size_t kDurationColumns = 8, kOffsetColumns = 9;

struct Drawing {
  std::string_view branch, last, guide, none, deeper;
  std::string_view full, begin, retry, event, left, right;
  std::string_view times, arrow;
};
constexpr Drawing kUtf8 = {"├─ ", "└─ ", "│  ", "   ", "⋯ ", "█", "▎", "◆", "•", "▕", "▏", "×", "→"};
constexpr Drawing kAscii = {"|- ", "`- ", "|  ", "   ", "~ ", "#", "|", "*", ".", "[", "]", "x", "->"};

// By TraceEnd.
constexpr std::array<std::string_view, 5> kEndTexts = {"", "  late part of a trace that was shown before",
                                                       "  incomplete: evicted, use a larger --memory",
                                                       "  incomplete: began before the attach", "  incomplete"};
// By RootKind.
constexpr std::array<std::pair<std::string_view, Style>, 6> kRootTexts = {
    {{"", Style::plain},
     {"", Style::plain},
     {"  (parent in another process, not seen)", Style::dim},
     {"  (may have a parent that began before the attach: wait a second after an attach)", Style::dim},
     {"  (parent missing)", Style::yellow},
     {"  (its own ancestor)", Style::yellow}}};

// Attributes that are shown in a span's line, by their names in OpenTelemetry's conventions, new and old.
using ShownNames = std::array<std::string_view, 2>;
constexpr ShownNames kHttpStatus = {"http.response.status_code", "http.status_code"};
constexpr std::array<ShownNames, 3> kDatabase = {
    {{"db.system.name", "db.system"}, {"db.operation.name", "db.operation"}, {"db.collection.name", "db.table"}}};

// A node, several siblings folded into one, or linked spans.
struct TreeItem {
  std::uint32_t node;        // the first of the siblings; kNone: linked spans
  std::uint64_t count = 1;   // more than 1: folded
  std::uint64_t inside = 0;  // number of spans inside them
  bool failed = false;       // each of them, or a span inside it, failed
  std::uint64_t sum_ns = 0, longest_ns = 0;
  std::uint64_t start_unix_ns = 0, end_unix_ns = 0;
  const LinkedSpans* linked = nullptr;
  const LinkedSpan* one = nullptr;  // one of `linked`, if it is shown by itself
};

// Draws one trace.
class Tree {
 public:
  Tree(const AssembledTrace& trace, const TreeStyle& style, std::string& to);
  void draw();

 private:
  // Siblings and the index of the next one.
  struct Level {
    std::vector<TreeItem> items;
    std::size_t next = 0;
    [[nodiscard]] bool has_more() const { return next < items.size(); }
  };
  struct Below {
    std::uint32_t spans = 0;  // without the node itself
    bool failed = false;      // including the node itself
  };

  // The items below a node, in order: its children, and the linked spans that link to it. For kNone: the roots, and the
  // linked spans whose span is not in the trace.
  [[nodiscard]] std::vector<TreeItem> items_below(std::uint32_t node) const;
  // The items for the node `first` and the siblings after it.
  [[nodiscard]] std::vector<TreeItem> items(std::uint32_t first) const;
  void add_linked(const LinkedSpans& linked, std::vector<TreeItem>& items) const;
  void add_header();
  void add_labels();
  void add_processes();
  void add_process(std::string_view separator, const Process& process);
  void add_rest();
  void add_item(const TreeItem& item, const std::vector<Level>& levels);
  void add_times(const TreeItem& item);
  void add_bar(const TreeItem& item);
  // `is_rest`: of a line that continues the last item's.
  void add_branches(const std::vector<Level>& levels, bool is_rest = false);
  void add_folded(const TreeItem& item);
  void add_linked_line(const TreeItem& item);
  void add_longest(const LinkedSpans& linked, const std::vector<Level>& levels);
  [[nodiscard]] Kind kind_of(const TreeItem& item) const {
    return item.linked != nullptr ? Kind::span : links_.nodes()[item.node].entry->kind;
  }
  void add_span(const TraceLinks::Node& node, const Entry& entry);
  void add_status(const Entry& entry);
  void add_measures(const Entry& entry);
  void add_place(const TraceLinks::Node& node, const Entry& entry);
  void add_root(RootKind root);
  void add_causes(const Entry& entry);
  void add_attributes(const TraceLinks::Node& node, const std::vector<Level>& levels);
  void add_point(const Entry& point);

  const AssembledTrace& assembled_;
  const Trace& trace_;
  const TraceLinks& links_;
  const TreeStyle& style_;
  const Drawing& draw_;
  std::vector<Below> below_;                                 // of each node
  std::multimap<std::uint32_t, const LinkedSpans*> linked_;  // by the node that they link to
  std::size_t bar_columns_;
  std::uint64_t begin_ = 0, low_ = 0, high_ = 0;  // the zero of offsets, and the ends of the bar
  StyledLine line_;
};

Tree::Tree(const AssembledTrace& trace, const TreeStyle& style, std::string& to)
    : assembled_(trace),
      trace_(trace.trace),
      links_(trace.links),
      style_(style),
      draw_(style.utf8 ? kUtf8 : kAscii),
      below_(trace.links.nodes().size()),
      bar_columns_(style.width == 0 ? 16 : std::clamp<std::size_t>(style.width / 6, 4, 32)),
      line_(to, style.color, style.utf8, style.width) {
  const auto& nodes = links_.nodes();
  low_ = nodes.front().entry->start_unix_ns;
  for (const TraceLinks::Node& node : nodes) high_ = std::max(high_, node.entry->end_unix_ns());
  for (const auto& linked : trace_.linked()) {
    linked_.emplace(links_.node_of(linked->linked_id), linked.get());
    low_ = std::min(low_, linked->start_unix_ns);
    high_ = std::max(high_, linked->end_unix_ns);
  }
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = links_.first_root(); i != TraceLinks::kNone; i = links_.next_before_children(i)) {
    order.push_back(i);
  }
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    Below& own = below_[*i];
    own.failed |= nodes[*i].entry->failed();
    if (nodes[*i].parent == TraceLinks::kNone) continue;
    Below& parent = below_[nodes[*i].parent];
    parent.spans += own.spans + (nodes[*i].entry->is_span() ? 1 : 0);
    parent.failed |= own.failed;
  }
  begin_ = links_.spans() > 0 ? links_.start_unix_ns() : low_;
}

std::vector<TreeItem> Tree::items_below(std::uint32_t node) const {
  std::vector<TreeItem> below =
      items(node == TraceLinks::kNone ? links_.first_root() : links_.nodes()[node].first_child);
  const auto [first, last] = linked_.equal_range(node);
  for (auto found = first; found != last; ++found) add_linked(*found->second, below);
  return below;
}

std::vector<TreeItem> Tree::items(std::uint32_t first) const {
  const auto& nodes = links_.nodes();
  std::vector<TreeItem> siblings, items;
  for (std::uint32_t i = first; i != TraceLinks::kNone; i = nodes[i].next_sibling) {
    const PackedEntry& packed = *nodes[i].entry;
    siblings.push_back({i, 1, below_[i].spans, below_[i].failed, packed.duration_ns, packed.duration_ns,
                        packed.start_unix_ns, packed.end_unix_ns()});
  }
  if (style_.all_spans || siblings.size() <= kShownSiblings) return siblings;
  struct Group {
    std::size_t count = 0, shown = 0;
    std::size_t item = SIZE_MAX;  // index of the item into which siblings are folded
  };
  std::map<std::tuple<Kind, std::uint32_t, bool, RootKind>, Group> groups;
  const auto group_of = [&](const TreeItem& one) -> Group& {
    const TraceLinks::Node& node = nodes[one.node];
    return groups[{node.entry->kind, node.entry->name, one.failed, node.root}];
  };
  for (const TreeItem& one : siblings) ++group_of(one).count;
  for (const TreeItem& one : siblings) {
    Group& group = group_of(one);
    const std::size_t shown_apart = group.count <= kShownSiblings || one.failed ? kShownSiblings : 0;
    // If only one sibling is left, it is shown instead of a fold of one.
    if (group.shown < shown_apart || group.count == group.shown + 1) {
      ++group.shown;
      items.push_back(one);
    } else if (group.item == SIZE_MAX) {
      group.item = items.size();
      items.push_back(one);
    } else {
      TreeItem& folded = items[group.item];
      ++folded.count;
      folded.inside += one.inside;
      folded.sum_ns = saturating_sum(folded.sum_ns, one.sum_ns);
      folded.longest_ns = std::max(folded.longest_ns, one.longest_ns);
      folded.end_unix_ns = std::max(folded.end_unix_ns, one.end_unix_ns);
    }
  }
  return items;
}

// If all are shown, adds an item for each linked span that was kept, and one for the rest. Otherwise adds one for all.
void Tree::add_linked(const LinkedSpans& linked, std::vector<TreeItem>& items) const {
  TreeItem item{TraceLinks::kNone};
  item.linked = &linked;
  if (style_.all_spans) {
    for (const LinkedSpan& one : linked.each) {
      item.one = &one;
      item.failed = one.failed();
      item.sum_ns = item.longest_ns = one.duration_ns;
      item.start_unix_ns = one.start_unix_ns;
      item.end_unix_ns = one.end_unix_ns();
      items.push_back(item);
    }
    if (linked.each.size() == linked.times.count()) return;
  }
  item.one = nullptr;
  item.count = linked.times.count();
  item.failed = linked.failed > 0;
  item.sum_ns = linked.times.sum();
  item.longest_ns = linked.times.maximum();
  item.start_unix_ns = linked.start_unix_ns;
  item.end_unix_ns = linked.end_unix_ns;
  items.push_back(item);
}

void Tree::draw() {
  add_header();
  // Without recursion, because a trace may be as deep as it has spans.
  std::vector<Level> levels;
  levels.push_back({items_below(TraceLinks::kNone)});
  while (!levels.empty()) {
    Level& level = levels.back();
    if (!level.has_more()) {
      levels.pop_back();
      continue;
    }
    const TreeItem& item = level.items[level.next++];
    add_item(item, levels);
    if (item.count > 1 || item.linked != nullptr) continue;
    Level below{items_below(item.node)};
    if (below.has_more()) levels.push_back(std::move(below));
  }
  add_rest();
}

void Tree::add_header() {
  const std::uint64_t failed = links_.failed() + assembled_.over_limit_failed;
  line_.add(printable(trace_.request_id(), kMostOfAName), Style::bold);
  line_.add({"  ", time_text(begin_), "  "});
  if (links_.spans() > 0) line_.add({duration_text(links_.end_unix_ns() - links_.start_unix_ns()), "  "}, Style::bold);
  line_.add(counted(links_.spans(), "span"));
  if (failed > 0) {
    line_.add(", ");
    line_.add(counted(failed, "error"), Style::red);
  }
  add_labels();
  add_processes();
  line_.add(kEndTexts[static_cast<std::size_t>(assembled_.end)], Style::yellow);
  line_.end();
}

// Adds the tenants, and the attributes of the first span that all others have with the same value. The labels of a
// request are such attributes.
void Tree::add_labels() {
  constexpr std::size_t kMost = 4;
  std::vector<Entry> spans;
  for (std::uint32_t node = links_.first_root(); node != TraceLinks::kNone; node = links_.next_before_children(node)) {
    const PackedEntry& packed = *links_.nodes()[node].entry;
    if (packed.is_span()) spans.push_back(trace_.view(packed));
  }
  std::vector<std::string_view> tenants;
  for (const Entry& span : spans) {
    const bool is_known =
        span.tenant.empty() || std::find(tenants.begin(), tenants.end(), span.tenant) != tenants.end();
    if (!is_known && tenants.size() < kMost) tenants.push_back(span.tenant);
  }
  for (const std::string_view tenant : tenants) line_.add({"  tenant=", printable(tenant, kMostOfAName)});
  if (spans.size() < 2) return;
  std::size_t count = 0;
  bool malformed = false;
  for_each_attribute(spans.front().attributes, kSpanAttributes, malformed, [&](const Attribute& attribute) {
    NumberText number, other;
    const std::string_view value = scalar_text(attribute, number);
    const bool is_of_catalogue = attribute.key.starts_with("gen_ai.") || attribute.key.starts_with("nopspan.");
    if (value.empty() || is_of_catalogue || count == kMost) return;
    const bool is_shared = std::all_of(spans.begin() + 1, spans.end(), [&](const Entry& span) {
      Attribute found;
      return find_attribute(span, attribute.key, found) && scalar_text(found, other) == value;
    });
    if (!is_shared) return;
    line_.add({"  ", printable(attribute.key, kMostOfAName), "=", printable(value, kMostOfAName)});
    ++count;
  });
}

// Adds the processes in the order in which the tree shows them.
void Tree::add_processes() {
  constexpr std::size_t kShown = 6;
  const auto& processes = trace_.processes();
  std::vector<bool> shown(processes.size());
  std::size_t count = 0;
  for (std::uint32_t node = links_.first_root(); node != TraceLinks::kNone; node = links_.next_before_children(node)) {
    const std::uint32_t process = links_.nodes()[node].entry->process;
    if (shown[process]) continue;
    shown[process] = true;
    line_.add(count > 0 ? ", " : "  ");
    add_process("", *processes[process]);
    if (++count == std::min(processes.size(), kShown)) break;
  }
  if (processes.size() > kShown) line_.add(" and " + std::to_string(processes.size() - kShown) + " more");
}

void Tree::add_process(std::string_view separator, const Process& process) {
  const std::string pid = std::to_string(process.pid);
  if (process.comm.empty()) {
    line_.add({separator, "process ", pid}, Style::cyan);
  } else {
    line_.add({separator, printable(process.comm, kMostOfAName), "[", pid, "]"}, Style::cyan);
  }
}

// Adds the counts of entries that are not shown.
void Tree::add_rest() {
  const auto add = [&](const std::string& what) {
    line_.add({std::string(kDurationColumns + 1, ' '), what}, Style::yellow);
    line_.end();
  };
  if (assembled_.over_limit > 0) {
    add("too large: " + std::to_string(assembled_.over_limit) + " more spans and events were not kept" +
        (assembled_.over_limit_failed > 0 ? ", including " + counted(assembled_.over_limit_failed, "error") : ""));
  }
  if (links_.duplicates() > 0) add(counted(links_.duplicates(), "duplicate") + " removed");
}

void Tree::add_item(const TreeItem& item, const std::vector<Level>& levels) {
  add_times(item);
  add_bar(item);
  add_branches(levels);
  if (item.linked != nullptr) {
    add_linked_line(item);
  } else if (item.count > 1) {
    add_folded(item);
  } else if (const TraceLinks::Node& node = links_.nodes()[item.node]; node.entry->is_span()) {
    add_span(node, trace_.view(*node.entry));
  } else {
    add_point(trace_.view(*node.entry));
  }
  line_.end();
  if (item.linked != nullptr && item.one == nullptr && item.count > 1) add_longest(*item.linked, levels);
  if (style_.attributes && item.linked == nullptr && item.count == 1) {
    add_attributes(links_.nodes()[item.node], levels);
  }
}

void Tree::add_times(const TreeItem& item) {
  const bool is_span = item.count == 1 && kind_of(item) == Kind::span;
  line_.add({fit(is_span ? duration_text(item.longest_ns) : "", kDurationColumns, Align::right), " "});
  const bool before = item.start_unix_ns < begin_;
  const std::uint64_t offset = before ? begin_ - item.start_unix_ns : item.start_unix_ns - begin_;
  line_.add({fit((before ? "-" : "+") + duration_text(offset), kOffsetColumns, Align::right), " "}, Style::dim);
}

void Tree::add_bar(const TreeItem& item) {
  const auto columns = static_cast<double>(bar_columns_);
  const double scale = high_ > low_ ? columns / static_cast<double>(high_ - low_) : 0;
  const auto column_of = [&](std::uint64_t time) {
    return std::min(static_cast<double>(time - low_) * scale, columns);
  };
  const double from = column_of(item.start_unix_ns);
  const double to = column_of(item.end_unix_ns);
  // A span that is shorter than a column gets a mark in the column of its start.
  const auto first = std::min(static_cast<std::size_t>(from), bar_columns_ - 1);
  const bool is_short = to - from < 0.5;
  const std::size_t end =
      is_short ? first + 1 : std::clamp(static_cast<std::size_t>(std::lround(to)), first + 1, bar_columns_);
  const Kind kind = kind_of(item);
  const std::string_view mark = kind == Kind::retry   ? draw_.retry
                                : kind == Kind::event ? draw_.event
                                : is_short            ? draw_.begin
                                                      : draw_.full;
  std::string bar;
  bar.reserve(bar_columns_ * mark.size());
  bar.append(first, ' ');
  for (std::size_t i = first; i < end; ++i) bar += mark;
  bar.append(bar_columns_ - end, ' ');
  line_.add(draw_.left, Style::dim);
  line_.add(bar, item.failed ? Style::red : Style::cyan);
  line_.add(draw_.right, Style::dim);
  line_.add(" ");
}

void Tree::add_branches(const std::vector<Level>& levels, bool is_rest) {
  std::string branches;
  const std::size_t depth = levels.size() - 1;
  const std::size_t skipped = depth > kMaxLevels ? depth - kMaxLevels : 0;
  if (skipped > 0) branches += std::string(draw_.deeper) + std::to_string(skipped) + " ";
  for (std::size_t level = 1 + skipped; level <= depth; ++level) {
    const bool more = levels[level].has_more();
    if (level < depth || is_rest) {
      branches += more ? draw_.guide : draw_.none;
    } else {
      branches += more ? draw_.branch : draw_.last;
    }
  }
  line_.add(branches, Style::dim);
}

void Tree::add_folded(const TreeItem& item) {
  const TraceLinks::Node& node = links_.nodes()[item.node];
  const Entry first = trace_.view(*node.entry);
  line_.add({std::to_string(item.count), " ", draw_.times, " "});
  line_.add(printable(first.name, kMostOfAName), item.failed ? Style::red : Style::bold);
  if (first.kind != Kind::span) return;
  line_.add({", total ", duration_text(item.sum_ns), ", max ", duration_text(item.longest_ns)});
  if (item.inside > 0) line_.add({", ", counted(item.inside, "span"), " inside"});
  if (item.failed) line_.add(", with errors", Style::red);
  add_root(node.root);
}

void Tree::add_linked_line(const TreeItem& item) {
  const LinkedSpans& linked = *item.linked;
  if (item.count > 1) line_.add({std::to_string(item.count), " ", draw_.times, " "});
  line_.add(printable(trace_.text(linked.name), kMostOfAName), item.failed ? Style::red : Style::bold);
  const std::string_view relation = linked.is_of_steps ? "" : linked.members > 0 ? ", in steps" : ", linked";
  if (item.one != nullptr) {
    if (item.one->requests > 1) {
      line_.add({linked.members > 0 ? ", for " : ", linked to ", std::to_string(item.one->requests), " requests"});
    }
  } else if (item.count == 1) {
    line_.add(relation);
  } else {
    line_.add({relation, ", total ", duration_text(item.sum_ns), ", p50 ", duration_text(linked.times.quantile(50)),
               ", max ", duration_text(item.longest_ns)});
  }
  if (item.one == nullptr && !linked.tokens.empty()) {
    line_.add({", ", std::to_string(linked.tokens.prefill), " prefill and ", std::to_string(linked.tokens.decode),
               " decode tokens"});
    if (linked.tokens.drafted > 0) {
      line_.add({", ", std::to_string(linked.tokens.accepted), " of ", std::to_string(linked.tokens.drafted),
                 " drafted accepted"});
    }
  }
  if (item.count > 1 && linked.failed > 0) {
    line_.add(", ");
    line_.add(counted(linked.failed, "error"), Style::red);
  } else if (item.failed) {
    line_.add("  error", Style::red);
  }
  const std::uint32_t target = links_.node_of(linked.linked_id);
  if (target == TraceLinks::kNone || links_.nodes()[target].entry->process != linked.process) {
    add_process("  ", *trace_.processes()[linked.process]);
  }
}

// A line about a step that computed prompts for other requests too.
void Tree::add_longest(const LinkedSpans& linked, const std::vector<Level>& levels) {
  const LongestStep& longest = linked.longest;
  const LinkedSpan& step = longest.step;
  if (step.prefill_tokens <= longest.own_prefill_tokens) return;
  TreeItem item{TraceLinks::kNone};
  item.linked = &linked;
  item.failed = step.failed();
  item.sum_ns = item.longest_ns = step.duration_ns;
  item.start_unix_ns = step.start_unix_ns;
  item.end_unix_ns = step.end_unix_ns();
  add_times(item);
  add_bar(item);
  add_branches(levels, true);
  line_.add({"the longest: ", std::to_string(step.prefill_tokens), " prefill tokens for ",
             counted(step.requests, "request")});
  if (longest.most_prefill_tokens > 0) {
    line_.add({", ", std::to_string(longest.most_prefill_tokens), " of them for "});
    line_.add(longest.most_id == linked.linked_id ? "this request"
              : longest.most_request.empty()      ? "another one"
                                                  : printable(longest.most_request, kMostOfAName),
              Style::bold);
    if (!longest.most_tenant.empty()) line_.add({"  tenant=", printable(longest.most_tenant, kMostOfAName)});
  }
  line_.end();
}

void Tree::add_span(const TraceLinks::Node& node, const Entry& entry) {
  line_.add(printable(entry.name, kMostOfAName), entry.failed() ? Style::red : Style::bold);
  if (!entry.text.empty()) line_.add({" ", printable(entry.text, kMostOfAName)});
  add_status(entry);
  const std::uint64_t self = links_.self_ns(node);
  const bool has_self = self < entry.duration_ns;
  // A tenth of the request is likely the cause, so a narrow terminal must have it.
  const bool is_much = self >= (links_.end_unix_ns() - links_.start_unix_ns()) / 10;
  if (has_self && is_much) line_.add({"  self ", duration_text(self)});
  if (!entry.model.empty() &&
      (node.parent == TraceLinks::kNone || links_.nodes()[node.parent].entry->model != node.entry->model)) {
    line_.add({"  ", printable(entry.model, kMostOfAName)});
  }
  add_measures(entry);
  if (const auto count = entry.links.size() / sizeof(nopspan_link); count > 0)
    line_.add({"  ", counted(count, "link")});
  add_place(node, entry);
  add_root(node.root);
  if (has_self && !is_much) line_.add({"  self ", duration_text(self)});
  add_causes(entry);
}

void Tree::add_status(const Entry& entry) {
  if (entry.status == kOk) return;
  const std::string type = entry.error_type.empty() ? "" : " " + printable(entry.error_type, kMostOfAName);
  switch (entry.status) {
    case kError:
      line_.add({"  error", type}, Style::red);
      break;
    case kException:
      line_.add({"  exception", type}, Style::red);
      break;
    default:
      line_.add({(entry.flags & NOPSPAN_FLAG_ABANDONED) != 0 ? "  abandoned" : "  cancelled", type}, Style::yellow);
  }
}

void Tree::add_measures(const Entry& entry) {
  if (entry.has_usage) {
    line_.add({"  ", std::to_string(entry.usage.input), draw_.arrow, std::to_string(entry.usage.output), " tokens"});
    if (entry.usage.cached > 0) line_.add({" (", std::to_string(entry.usage.cached), " cached)"});
  }
  if (entry.has_first_token) line_.add({"  first ", duration_text(entry.first_token_ns)});
}

// Adds the process and thread if they differ from the parent's.
void Tree::add_place(const TraceLinks::Node& node, const Entry& entry) {
  const PackedEntry* parent = node.parent == TraceLinks::kNone ? nullptr : links_.nodes()[node.parent].entry;
  if (parent == nullptr || parent->process != node.entry->process) {
    add_process("  ", **entry.process);
    // The id of the first thread is the pid, so it is not shown.
    const Process& process = **entry.process;
    if (entry.thread_id != process.namespace_pid && entry.thread_id != process.pid) {
      line_.add({" thread ", std::to_string(entry.thread_id)}, Style::dim);
    }
  } else if (parent->thread_id != entry.thread_id) {
    line_.add({"  thread ", std::to_string(entry.thread_id)}, Style::dim);
  }
}

void Tree::add_root(RootKind root) {
  const auto& [text, style] = kRootTexts[static_cast<std::size_t>(root)];
  line_.add(text, style);
}

// Comes last, so that a narrow terminal has everything else.
void Tree::add_causes(const Entry& entry) {
  const auto text_of = [&](std::string_view before, const ShownNames& names) {
    NumberText number;
    std::string_view text = label_or_attribute(entry, names[0], number);
    if (text.empty()) text = label_or_attribute(entry, names[1], number);
    return text.empty() ? "" : std::string(before) + printable(text, kMostOfAName);
  };
  if (entry.attributes.find("http.") != std::string_view::npos) line_.add(text_of("  http ", kHttpStatus));
  if (entry.attributes.find("db.") == std::string_view::npos) return;
  std::string database;
  for (const ShownNames& names : kDatabase) database += text_of(" ", names);
  if (!database.empty()) line_.add({"  db", database});
}

void Tree::add_attributes(const TraceLinks::Node& node, const std::vector<Level>& levels) {
  const Entry entry = trace_.view(*node.entry);
  const auto add = [&](std::string_view key, std::string_view text) {
    line_.add(std::string(kDurationColumns + kOffsetColumns + 2 + bar_columns_ + 3, ' '));
    add_branches(levels, true);
    line_.add(node.first_child != TraceLinks::kNone ? draw_.guide : draw_.none, Style::dim);
    line_.add({printable(key, kMostOfAName), "=", printable(text)});
    line_.end();
  };
  if (!entry.engine.empty()) add("engine", entry.engine);
  if (!entry.model.empty()) add("model", entry.model);
  if (!entry.tenant.empty()) add("tenant", entry.tenant);
  bool malformed = false;
  const unsigned field = entry.kind == Kind::span ? kSpanAttributes : kEventAttributes;
  for_each_attribute(entry.attributes, field, malformed, [&](const Attribute& attribute) {
    JsonWriter json;
    write_value(json, attribute);
    std::string_view text = json.text();
    if (attribute.type == Attribute::Type::text) {
      text = attribute.text;
    } else if (text.starts_with('"')) {  // bytes, or a number that JSON does not have: nothing in it is escaped
      text = text.substr(1, text.size() - 2);
    }
    add(attribute.key, text);
  });
}

void Tree::add_point(const Entry& point) {
  if (point.kind == Kind::event) {
    line_.add({draw_.event, " ", printable(point.name, kMostOfAName)});
    return;
  }
  std::string what = std::string(draw_.retry) + " retry " + std::to_string(point.number);
  if (point.value > 0) what += " in " + duration_text(static_cast<std::uint64_t>(point.value));
  if (!point.error_type.empty()) what += ": " + printable(point.error_type, kMostOfAName);
  line_.add(what, Style::yellow);
}

}  // namespace

void add_trace_text(const AssembledTrace& trace, const TreeStyle& style, std::string& to) {
  if (!trace.links.nodes().empty()) Tree(trace, style, to).draw();
}

}  // namespace nopspan::collector
