// SPDX-License-Identifier: Apache-2.0
// A memory with open spans, as the library would have them.
#pragma once

#include "host/open_spans.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace nopspan::collector {

class OpenMemory {
 public:
  static constexpr std::uint64_t kGate = 0x10000, kMarkAt = 0x20000, kTable = 0x30000, kLabels = 0x40000,
                                 kSpans = 0x100000, kMark = 77;

  OpenMemory() {
    page.gate = 1;
    page.abi_version = 2;
    page.magic = NOPSPAN_GATE_MAGIC;
    page.size = sizeof(page);
    page.process_mark = kMarkAt;
    page.open_slabs = kTable;
    page.open_slabs_count = 4;
    page.open_bytes = sizeof(nopspan_open);
    page.labels = kLabels;
    page.labels_count = 8;
    page.label_bytes = sizeof(nopspan_label);
    page.raised_ns = 1;
    page.label_keys[0] = 4;
    slabs.resize(4);
    slabs[0] = {kSpans, ~0UL};
    for (const char* text : {"", "vllm", "gpt-x", "acme", "shard", "eu"}) {
      nopspan_label label{};
      label.size = static_cast<unsigned>(std::strlen(text));
      std::memcpy(label.text, text, label.size + 1);
      labels.push_back(label);
    }
    labels.resize(8);
  }

  // Adds a span to the first slab.
  nopspan_open& add(const std::string& name, std::uint64_t id, std::uint64_t parent, std::uint64_t start_ns) {
    spans.reserve(64);  // references stay valid
    nopspan_open span{};
    span.state = NOPSPAN_OPEN;
    span.generation = 1;
    span.trace_id[0] = 9;
    span.span_id = id;
    span.parent_id = parent;
    span.mark = kMark;
    span.start_ns = start_ns;
    name.copy(span.name, sizeof(span.name) - 1);
    slabs[0].free &= ~(1UL << spans.size());
    spans.push_back(span);
    return spans.back();
  }

  // Places the parts at their addresses.
  [[nodiscard]] std::map<std::uint64_t, std::string> parts() const {
    const auto bytes = [](const auto& values) {
      return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
    };
    std::map<std::uint64_t, std::string> all = more;
    all[kGate] = {reinterpret_cast<const char*>(&page), sizeof(page)};
    all[kMarkAt] = {reinterpret_cast<const char*>(&kMark), sizeof(kMark)};
    all[kTable] = bytes(slabs);
    all[kLabels] = bytes(labels);
    all[kSpans] = bytes(spans);
    return all;
  }

  [[nodiscard]] ReadRanges reader() const {
    return [all = parts()](std::span<const MemoryRange> ranges, void* to) {
      auto* at = static_cast<char*>(to);
      for (const MemoryRange& range : ranges) {
        auto part = all.upper_bound(range.address);
        errno = EFAULT;
        if (part == all.begin()) return false;
        --part;
        const std::uint64_t into = range.address - part->first;
        if (into > part->second.size() || range.size > part->second.size() - into) return false;
        std::memcpy(at, part->second.data() + into, range.size);
        at += range.size;
      }
      return true;
    };
  }

  int read(OpenSpans& open, std::uint64_t now_ns = 1'000'000) const { return read_by(reader(), open, now_ns); }
  static int read_by(const ReadRanges& reader, OpenSpans& open, std::uint64_t now_ns = 1'000'000) {
    return unpack_open_spans(pack_open_spans(reader, kGate, [now_ns] { return now_ns; }), open);
  }

  nopspan_gate_page page{};
  std::vector<nopspan_slab> slabs;
  std::vector<nopspan_label> labels;
  std::vector<nopspan_open> spans;
  std::map<std::uint64_t, std::string> more;
};

}  // namespace nopspan::collector
