// SPDX-License-Identifier: Apache-2.0
#include "open/open_requests.h"

#include "base/time_budget.h"
#include "model/service.h"
#include "model/steps.h"
#include "reader/batch_reader.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_map>
#include <utility>

namespace nopspan::collector {

namespace {

std::string text_of_label(const OpenSpans& open, unsigned number) {
  const auto found = open.labels.find(number);
  return number == 0 || found == open.labels.end() ? "" : found->second;
}

// Puts the spans of one request in order: each after its parent, and siblings by age. Spans that are their own
// ancestors, which only a damaged memory has, follow without a parent.
std::vector<OpenSpan> in_order(std::vector<OpenSpan> spans) {
  std::sort(spans.begin(), spans.end(), [](const OpenSpan& a, const OpenSpan& b) { return a.age_ns > b.age_ns; });
  std::unordered_map<std::uint64_t, std::size_t> by_id;
  for (std::size_t i = 0; i < spans.size(); ++i) by_id.emplace(spans[i].span_id, i);
  std::vector<std::vector<std::size_t>> children(spans.size());
  std::vector<std::size_t> roots;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const auto parent = spans[i].parent_id == 0 ? by_id.end() : by_id.find(spans[i].parent_id);
    (parent == by_id.end() || parent->second == i ? roots : children[parent->second]).push_back(i);
  }
  std::vector<OpenSpan> ordered;
  std::vector<bool> is_placed(spans.size());
  // Without recursion, because a request may be as deep as it has spans.
  const auto place = [&](std::size_t root) {
    std::vector<std::pair<std::size_t, std::size_t>> waiting{{root, OpenSpan::kNone}};  // a span, its parent's place
    while (!waiting.empty()) {
      const auto next = waiting.back();
      waiting.pop_back();
      if (is_placed[next.first]) continue;
      is_placed[next.first] = true;
      OpenSpan& span = spans[next.first];
      span.parent = next.second;
      if (next.second != OpenSpan::kNone) {
        span.depth = ordered[next.second].depth + 1;
        ordered[next.second].has_children = true;
      }
      const auto& its = children[next.first];
      std::for_each(its.rbegin(), its.rend(), [&](std::size_t child) { waiting.emplace_back(child, ordered.size()); });
      ordered.push_back(std::move(span));
    }
  };
  for (const std::size_t root : roots) place(root);
  for (std::size_t i = 0; i < spans.size(); ++i) place(i);
  return ordered;
}

// A client and its server report the same tokens, and a span may have the sum of spans in it that have ended.
std::uint64_t tokens_of(const std::vector<OpenSpan>& spans) {
  std::vector<std::uint64_t> inside(spans.size());
  std::uint64_t sum = 0;
  for (std::size_t i = spans.size(); i-- > 0;) {
    const std::size_t parent = spans[i].parent;
    (parent == OpenSpan::kNone ? sum : inside[parent]) += std::max(spans[i].output_tokens, inside[i]);
  }
  return sum;
}

// The value of a label, or of the resource of the span's process.
std::string_view value_of(const OpenSpan& span, const OpenProcess& process, std::string_view key) {
  std::string_view found;
  if (key == "model") found = span.model;
  if (key == "tenant") found = span.tenant;
  if (key == "engine") found = span.engine;
  for (const auto& [name, text] : span.labels)
    if (name == key) found = text;
  return found.empty() ? resource_value(*process.process, key) : found;
}

// Between vfork() and exec, a child process has the memory of its parent. Its spans are those of the parent.
void remove_shared(std::vector<OpenSpan>& spans) {
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t> first;  // the first process with this span and mark
  std::erase_if(spans, [&](const OpenSpan& span) {
    return first.emplace(std::pair(span.span_id, span.mark), span.process).first->second != span.process;
  });
}

OpenRequest request_of(std::vector<OpenSpan> spans, const std::vector<OpenProcess>& processes) {
  remove_shared(spans);
  OpenRequest request;
  request.trace_id = spans.front().trace_id;
  request.spans = in_order(std::move(spans));
  for (std::size_t i = 0; i < request.spans.size(); ++i) {
    const OpenSpan& span = request.spans[i];
    if (span.age_ns >= request.age_ns) {
      request.age_ns = span.age_ns;
      request.age_is_least = processes[span.process].age_is_least;
    }
    const auto take = [](std::string& to, const std::string& from) {
      if (to.empty()) to = from;
    };
    take(request.tenant, span.tenant);
    take(request.model, span.model);
    take(request.engine, span.engine);
    take(request.request_id, span.foreign_id);
  }
  request.output_tokens = tokens_of(request.spans);
  if (request.request_id.empty()) {
    Entry entry;
    entry.trace_id = request.trace_id;
    request.request_id = request_id_of(entry);
  }
  return request;
}

}  // namespace

void OpenSpanLimit::apply(std::uint32_t user, OpenSpans& open) {
  std::size_t& own = of_users_[user_range(user)];
  const std::size_t room = left_ > own ? (left_ - own) / 2 : 0;
  if (open.spans.size() > room) {
    open.unread += open.spans.size() - room;
    open.spans.resize(room);
  }
  own += open.spans.size();
  left_ -= open.spans.size();
}

void KnownTimes::update(std::vector<OpenProcess>& processes, std::uint64_t now_ns) {
  std::map<Key, std::uint64_t> raised_ns;
  for (OpenProcess& process : processes) {
    const Key key{process.process->pid, process.process->start_ticks, process.library};
    const auto before = raised_ns_.find(key);
    if (process.known == OpenProcess::Known::not_now) {
      raised_ns[key] = 0;
    } else if (before != raised_ns_.end()) {
      const std::uint64_t raised = before->second == 0 ? now_ns : before->second;
      raised_ns.emplace(key, raised);
      const std::uint64_t most = std::max<std::uint64_t>(now_ns - raised, OpenProcess::kFromNowOn);
      const bool has_time = process.known == OpenProcess::Known::since && process.since_ns != 0;
      process.since_ns = has_time ? std::min(process.since_ns, most) : most;
      process.known = OpenProcess::Known::since;
    }
  }
  raised_ns_ = std::move(raised_ns);
}

bool OpenFilter::wants(const OpenRequest& request, const std::vector<OpenProcess>& processes) const {
  const auto any = [&](const std::string& wanted, std::string OpenSpan::*text) {
    return wanted.empty() || std::any_of(request.spans.begin(), request.spans.end(),
                                         [&](const OpenSpan& span) { return span.*text == wanted; });
  };
  const auto has = [&](const Filter::Condition& one) {
    return std::any_of(request.spans.begin(), request.spans.end(), [&](const OpenSpan& span) {
      return is_recorded_as(value_of(span, processes[span.process], one.key), one.value);
    });
  };
  return request.age_ns >= older_than_ns && (this->request.empty() || trace_id_of(this->request) == request.trace_id) &&
         any(name, &OpenSpan::name) && any(model, &OpenSpan::model) && any(tenant, &OpenSpan::tenant) &&
         std::all_of(where.begin(), where.end(), has);
}

void add_open_spans(const OpenSpans& open, std::size_t process_index, OpenProcess& process,
                    std::vector<OpenSpan>& spans) {
  process.age_is_least = open.now_is_least;
  process.unread = open.unread;
  const auto age = [&](std::uint64_t time_ns) { return open.now_ns > time_ns ? open.now_ns - time_ns : 0; };
  using Known = OpenProcess::Known;
  process.known = !open.is_raised                           ? Known::not_now
                  : open.raised_ns == OpenSpans::kSinceLoad ? Known::always
                                                            : Known::since;
  if (process.known == Known::since) process.since_ns = open.raised_ns == 0 ? 0 : age(open.raised_ns);
  for (const nopspan_open& from : open.spans) {
    OpenSpan span;
    std::memcpy(span.trace_id.bytes, from.trace_id, sizeof(span.trace_id.bytes));
    span.span_id = from.span_id;
    span.parent_id = from.parent_id;
    span.age_ns = age(from.start_ns);
    span.first_token_ns = from.first_token_ns;
    span.output_tokens = from.output_tokens;
    span.mark = from.mark;
    span.flags = from.flags;
    span.thread_id = from.thread_id;
    span.process = process_index;
    span.name = from.name;
    span.engine = text_of_label(open, from.labels[0]);
    span.model = text_of_label(open, from.labels[1]);
    span.tenant = text_of_label(open, from.labels[2]);
    for (std::size_t i = 0; i < open.label_keys.size(); ++i) {
      std::string text = text_of_label(open, from.labels[3 + i]);
      if (!text.empty() && !open.label_keys[i].empty()) span.labels.emplace_back(open.label_keys[i], std::move(text));
    }
    if ((from.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0) span.foreign_id = from.foreign_id;
    spans.push_back(std::move(span));
  }
}

std::vector<OpenRequest> open_requests(std::vector<OpenSpan> spans, const std::vector<OpenProcess>& processes) {
  std::map<std::string, std::vector<OpenSpan>> by_trace;
  for (OpenSpan& span : spans) {
    std::string id(reinterpret_cast<const char*>(span.trace_id.bytes), sizeof(span.trace_id.bytes));
    by_trace[std::move(id)].push_back(std::move(span));
  }
  std::vector<OpenRequest> requests;
  for (auto& [id, of_request] : by_trace) {
    OpenRequest request = request_of(std::move(of_request), processes);
    // An engine's step is not a request, and neither is what is inside it.
    const bool is_only_step = std::all_of(request.spans.begin(), request.spans.end(), [](const OpenSpan& span) {
      return span.parent != OpenSpan::kNone || (span.flags & NOPSPAN_FLAG_STEP) != 0;
    });
    if (!is_only_step) requests.push_back(std::move(request));
  }
  std::stable_sort(requests.begin(), requests.end(),
                   [](const OpenRequest& a, const OpenRequest& b) { return a.age_ns > b.age_ns; });
  return requests;
}

void EarlyRequests::add(std::string_view bytes, std::uint64_t entries) {
  static const ClockSamples clocks{ClockSample()};
  BatchReader reader(bytes, entries, clocks);
  Last* last = nullptr;
  Last parts;  // of a step whose beginning was in an earlier batch. A step in this batch is a later one.
  bool has_step = false;
  Entry entry;
  for (BatchReader::Outcome outcome; (outcome = reader.next(entry)) != BatchReader::Outcome::end;) {
    if (outcome != BatchReader::Outcome::entry) continue;
    if (entry.step != nullptr) {
      has_step = true;
      last = nullptr;
      if (steps_.size() >= kMostEngines && !steps_.contains(entry.step->instance)) {
        unread_ += entry.step->members;
        continue;
      }
      Last& of_engine = steps_[entry.step->instance];
      if (reader.start_ns() < of_engine.start_ns) continue;
      keys_ -= of_engine.keys.size();
      of_engine = {reader.start_ns(), entry.span_id, entry.step->members, 0, {}};
      last = &of_engine;
    } else if (entry.kind == Kind::part && !has_step) {
      if (entry.span_id != parts.span_id) {
        keys_ -= parts.keys.size();
        parts = {reader.start_ns(), entry.span_id, 0, 0, {}};
      }
      parts.members = std::min<std::uint64_t>(entry.number, UINT32_MAX) + members_of(entry);
      last = &parts;
    }
    if (last != nullptr && entry.span_id == last->span_id) add_members(*last, entry);
  }
  if (!has_step && parts.read > 0 && parts_.size() < kMostEngines) {
    parts_.push_back(std::move(parts));
  } else {
    keys_ -= parts.keys.size();
    if (!has_step) unread_ += parts.members;
  }
}

void EarlyRequests::add_members(Last& to, const Entry& from) {
  for_each_member(from.members, [&](const nopspan_member& member) {
    if (named_by(member) == NamedBy::own_key && keys_ >= kMostKeys && !to.keys.contains(member.request)) return;
    ++to.read;
    if (named_by(member) == NamedBy::own_key) keys_ += to.keys.insert(member.request).second ? 1 : 0;
  });
}

std::uint64_t EarlyRequests::unread() const {
  std::uint64_t unread = unread_;
  const auto add = [&](const Last& last) { unread += last.members - std::min(last.members, last.read); };
  for (const auto& [engine, last] : steps_) add(last);
  std::for_each(parts_.begin(), parts_.end(), add);
  return unread;
}

std::vector<std::uint64_t> EarlyRequests::keys() const {
  std::set<std::uint64_t> keys;
  for (const auto& [engine, last] : steps_) keys.insert(last.keys.begin(), last.keys.end());
  for (const Last& last : parts_) keys.insert(last.keys.begin(), last.keys.end());
  return {keys.begin(), keys.end()};
}

}  // namespace nopspan::collector
