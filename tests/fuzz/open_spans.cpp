// SPDX-License-Identifier: Apache-2.0
// The memory of a process whose open spans are read, and core files. Both may contain anything. The first byte of an
// input selects: a memory in which the other bytes repeat, or a core file.
#include "require.h"

#include "base/failure.h"
#include "host/core_file.h"
#include "host/open_spans.h"
#include "open/open_list.h"
#include "open/open_requests.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

template <std::size_t N>
void require_end(const char (&text)[N]) {
  require(std::memchr(text, '\0', N) != nullptr, "a text ends");
}

template <class Byte>
std::string id_of(const Byte (&trace_id)[16]) {
  return {reinterpret_cast<const char*>(trace_id), sizeof(trace_id)};
}

void list(const OpenSpans& open) {
  struct OpenTrace {
    std::size_t spans = 0;
    bool has_step = false;
  };
  std::map<std::string, OpenTrace> traces;
  for (const nopspan_open& span : open.spans) {
    require(span.state == NOPSPAN_OPEN, "it is open");
    require_end(span.name);
    require_end(span.foreign_id);
    OpenTrace& trace = traces[id_of(span.trace_id)];
    ++trace.spans;
    trace.has_step |= (span.flags & NOPSPAN_FLAG_STEP) != 0;
  }
  std::vector<OpenProcess> processes(1);
  processes[0].process = std::make_shared<Process>();
  std::vector<OpenSpan> spans;
  add_open_spans(open, 0, processes[0], spans);
  require(spans.size() == open.spans.size(), "each span is added");
  const std::vector<OpenRequest> requests = open_requests(std::move(spans), processes);
  for (const OpenRequest& request : requests) {
    const auto trace = traces.find(id_of(request.trace_id.bytes));
    require(trace != traces.end() && trace->second.spans == request.spans.size(),
            "each span of a trace is in a request");
    traces.erase(trace);
    for (std::size_t i = 0; i < request.spans.size(); ++i) {
      const OpenSpan& span = request.spans[i];
      require(span.parent == OpenSpan::kNone || span.parent < i, "parents are before their children");
      require(span.parent == OpenSpan::kNone || request.spans[span.parent].has_children, "a parent has children");
      require(span.age_ns <= request.age_ns, "no span is older than its request");
    }
  }
  for (const auto& [id, trace] : traces)
    require(trace.has_step, "only steps and what is inside them are in no request");
  const std::string text = open_text(requests, processes) + known_text(processes);
  for (const char c : text) require(c == '\n' || static_cast<unsigned char>(c) >= ' ', "a terminal can show it");
}

void read_memory_of(std::string_view bytes) {
  const ReadRanges read = [bytes](std::span<const MemoryRange> ranges, void* to) {
    auto* at = static_cast<char*>(to);
    for (const MemoryRange& range : ranges) {
      // Some of it cannot be read.
      if ((range.address & 0xf0000000U) == 0xf0000000U) return false;
      for (std::uint64_t i = 0; i < range.size; ++i) *at++ = bytes[(range.address + i) % bytes.size()];
      if (range.address == 0 && range.size == sizeof(nopspan_gate_page)) {
        nopspan_gate_page page{};
        std::memcpy(&page, at - sizeof(page), sizeof(page));
        page.abi_version = NOPSPAN_ABI_VERSION;
        page.magic = NOPSPAN_GATE_MAGIC;
        page.size = sizeof(page);
        page.open_slabs_count %= 8;  // more would only take longer
        std::memcpy(at - sizeof(page), &page, sizeof(page));
      }
    }
    return true;
  };
  const std::uint64_t now = static_cast<unsigned char>(bytes.back());
  OpenSpans open;
  if (unpack_open_spans(pack_open_spans(read, 0, [now] { return now; }), open) == 0) list(open);
  unpack_open_spans({0, std::string(bytes), OpenFile()}, open);
}

void read_core(std::string_view bytes) {
  const OpenFile file(memfd_create("core", MFD_CLOEXEC));
  require(write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "it is written");
  try {
    const CoreFile core("/proc/self/fd/" + std::to_string(file.get()));
    for (const std::uint64_t gate : core.gates()) {
      OpenSpans open;
      if (core.read_open_spans(gate, open) == 0) list(open);
    }
  } catch (const Failure& failure) {
    require(failure.exit_status == Failure::kUsageError, "a damaged core is a wrong argument");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  // Exactly sized memory, so that a sanitizer detects a read beyond the end.
  const std::unique_ptr<char[]> exact(new char[size - 1]);
  std::memcpy(exact.get(), data + 1, size - 1);
  const std::string_view input(exact.get(), size - 1);
  if (data[0] % 2 == 0) {
    read_memory_of(input);
  } else {
    read_core(input);
  }
  return 0;
}
