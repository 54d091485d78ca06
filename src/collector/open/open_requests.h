// SPDX-License-Identifier: Apache-2.0
// The requests that are in flight: their open spans in all processes, as trees.
#pragma once

#include "host/open_spans.h"
#include "model/entry.h"
#include "model/filter.h"

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace nopspan::collector {

// One copy of the library in a process, and since when its requests are known.
struct OpenProcess {
  ProcessPointer process;
  std::string library;
  enum class Known : std::uint8_t {
    always,  // spans were recorded since the program was started
    since,   // spans that began before `since_ns` ago are not shown
    not_now  // spans that begin now are not recorded: nothing is attached
  };
  Known known = Known::not_now;
  std::uint64_t since_ns = 0;  // with Known::since; 0: unknown, because the library has not noted it yet
  // A watch has just attached, at a time that is not known exactly.
  static constexpr std::uint64_t kFromNowOn = 1;
  bool age_is_least = false;  // ages of its spans may be longer
  std::uint64_t unread = 0;   // spans that may be open, but were not read
  // Requests in flight that are known from an engine's steps only, by the keys that the engine gave them: they began
  // before the attach, or have no recorded span.
  std::vector<std::uint64_t> early;
  std::uint64_t early_unread = 0;  // other requests of this kind, at most
};

struct OpenSpan {
  static constexpr std::size_t kNone = SIZE_MAX;

  TraceId trace_id;
  std::uint64_t span_id = 0, parent_id = 0;
  std::uint64_t age_ns = 0;
  std::uint64_t first_token_ns = 0;  // after its start; 0: none yet
  std::uint64_t output_tokens = 0;
  std::uint64_t mark = 0;  // of the memory in which it is
  std::uint32_t flags = 0, thread_id = 0;
  std::size_t process = 0;  // index of its OpenProcess
  std::string name, engine, model, tenant, foreign_id;
  std::vector<std::pair<std::string, std::string>> labels;  // the other ones

  // Set by open_requests().
  std::size_t parent = kNone;  // index in OpenRequest::spans
  std::size_t depth = 0;       // 0: it has no open parent
  bool has_children = false;   // open ones

  // Whether it may be a part of a request that began before the attach, and that may also be known by a key.
  [[nodiscard]] bool is_orphan() const { return parent == kNone && (flags & NOPSPAN_FLAG_ORPHAN) != 0; }
};

struct OpenRequest {
  std::string request_id;
  TraceId trace_id;
  std::uint64_t age_ns = 0;  // of its oldest open span
  bool age_is_least = false;
  std::uint64_t output_tokens = 0;  // those of a span count once, in it or in its children, where there are more
  std::string tenant, model, engine;
  std::vector<OpenSpan> spans;  // parents before their children
};

struct OpenFilter {
  std::string request, name, model, tenant;
  std::vector<Filter::Condition> where;  // on labels and resources: a span that is open has no attributes
  std::uint64_t older_than_ns = 0;

  [[nodiscard]] bool wants(const OpenRequest& request, const std::vector<OpenProcess>& processes) const;
  // Whether it wants requests of which nothing but a key is known.
  [[nodiscard]] bool wants_early() const {
    return request.empty() && name.empty() && model.empty() && tenant.empty() && where.empty() && older_than_ns == 0;
  }
};

// Bounds the memory for all spans. The programs of a user (user_range()) may have half of what other users leave.
class OpenSpanLimit {
 public:
  static constexpr std::size_t kMost = 1U << 18U;

  // Removes the spans that are too many, and counts them as unread.
  void apply(std::uint32_t user, OpenSpans& open);

 private:
  std::size_t left_ = kMost;
  std::map<std::uint32_t, std::size_t> of_users_;
};

// Corrects the time since when a watch knows the requests of a process. The time that the library notes may be too
// early, because it does not notice that the gate was down if no recorded span ended meanwhile.
class KnownTimes {
 public:
  // Call it for each list, and once before the gates are raised. The times are of any clock that does not go back.
  void update(std::vector<OpenProcess>& processes, std::uint64_t now_ns);

 private:
  using Key = std::tuple<std::uint32_t, std::uint64_t, std::string>;  // pid, start_ticks, library
  // When the gate was seen raised after it had been seen down. 0: it is down.
  std::map<Key, std::uint64_t> raised_ns_;
};

// Adds what was read from one process.
void add_open_spans(const OpenSpans& open, std::size_t process_index, OpenProcess& process,
                    std::vector<OpenSpan>& spans);
// The requests of these spans, oldest first.
std::vector<OpenRequest> open_requests(std::vector<OpenSpan> spans, const std::vector<OpenProcess>& processes);

// The requests in flight that began before the attach. They have no open spans, but an engine names them by keys of its
// own in its steps.
class EarlyRequests {
 public:
  // Adds the steps of a batch that a thread of a copy of the library holds. It may be anything; the work and the memory
  // used are bounded.
  void add(std::string_view bytes, std::uint64_t entries);
  // So many bytes of batches could not be read.
  void add_unread(std::uint64_t bytes) { unread_ += bytes / sizeof(nopspan_member); }
  // The keys of the requests in the last step of each engine.
  [[nodiscard]] std::vector<std::uint64_t> keys() const;
  // Members of these steps that were not read. Each may be another such request. A step may be too large for the buffer
  // of its thread: the buffer then holds only its last members.
  [[nodiscard]] std::uint64_t unread() const;

 private:
  static constexpr std::size_t kMostEngines = 1024, kMostKeys = 65'536;
  struct Last {
    std::uint64_t start_ns = 0, span_id = 0;
    std::uint64_t members = 0, read = 0;
    std::set<std::uint64_t> keys;
  };

  void add_members(Last& to, const Entry& from);

  std::map<std::uint64_t, Last> steps_;  // by the number of the engine
  std::vector<Last> parts_;              // of steps whose beginning, with the number of the engine, is not known
  std::size_t keys_ = 0;                 // of all of them
  std::uint64_t unread_ = 0;             // members for which there was no room or no time, at most
};

}  // namespace nopspan::collector
