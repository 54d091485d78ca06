// SPDX-License-Identifier: Apache-2.0
// Which requests a command wants. Kernel programs decide as much of it as they can; the rest is decided where a trace
// is complete.
#pragma once

#include "model/span.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

struct Filter {
  std::string request;               // an id in one of its forms
  std::string name;                  // a trace that has a span of this name
  std::string model;                 // a trace that has a span of this model
  std::vector<std::uint32_t> pids;   // processes, by the collector's pid namespace; empty: all
  std::string cgroup;                // a path under /sys/fs/cgroup, or the beginning of a container's id
  std::uint64_t slower_than_ns = 0;  // a trace whose outermost span took longer
  bool errors = false;               // a trace with an error or exception
  std::uint32_t sample_one_in = 1;   // by a hash of the trace id, so that all hosts take the same ones

  [[nodiscard]] bool empty() const;
  // Whether this request may be wanted (request, sample).
  [[nodiscard]] bool may_want(const TraceId& id) const;
  // The same of a span's own request, or of one of those that share it (span_links.h).
  [[nodiscard]] bool may_want_request_of(const Span& span) const;
  // Whether the span is of a process that is wanted (pid, cgroup).
  [[nodiscard]] bool is_in_scope(const Span& span) const;
  // Whether a span's request may be wanted, as far as this one span can tell (request, pid, cgroup, sample).
  [[nodiscard]] bool may_want(const Span& span) const;
  // Whether this span alone satisfies name, model, errors: what a trace is asked of its spans.
  [[nodiscard]] bool has_name(const Span& span) const { return name.empty() || span.name == name; }
  [[nodiscard]] bool has_model(const Span& span) const { return model.empty() || span.model == model; }
};

// Whether a sample of one in N has this request: (low 8 bytes ^ high 8 bytes) * 6364136223846793005 >> 32, modulo N is
// 0. What is in no request is in every sample.
bool is_sampled(const TraceId& id, std::uint32_t one_in);

// Whether a cgroup is another one, or below it, by their paths.
bool is_below_cgroup(std::string_view cgroup, std::string_view wanted);

}  // namespace nopspan::collector
