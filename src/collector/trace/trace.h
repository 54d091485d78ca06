// SPDX-License-Identifier: Apache-2.0
// What is known of one trace: its spans, events and retries in the order in which they came, copied into little memory.
#pragma once

#include "base/interned_texts.h"
#include "model/span.h"
#include "trace/shared_spans.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// How an entry lies in a trace's memory: this, then its optional parts. Texts are numbers of InternedTexts or, with the
// highest bit, of the trace's own.
struct TraceEntry {
  std::uint64_t span_id, parent_id, root_id, start_unix_ns, duration_ns;
  std::uint32_t size;  // with its parts; a multiple of 8
  std::uint32_t flags, thread_id, process;
  std::uint32_t name, engine, model, tenant, exception_kind, error_type, text, tracestate;
  std::uint32_t attributes_bytes, links_bytes;
  Kind kind;
  std::uint8_t status, parts;

  [[nodiscard]] bool is_span() const { return kind == Kind::span; }
  [[nodiscard]] bool failed() const { return is_span() && (status == kError || status == kException); }
  [[nodiscard]] bool has(std::uint32_t flag) const { return (flags & flag) != 0; }
  // No clock goes beyond it, whatever a process says.
  [[nodiscard]] std::uint64_t end_unix_ns() const {
    return duration_ns > UINT64_MAX - start_unix_ns ? UINT64_MAX : start_unix_ns + duration_ns;
  }
};

class Trace {
 public:
  // `texts` outlives it.
  Trace(const TraceId& id, InternedTexts& texts) : id_(id), texts_(&texts) {}
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  void add(const Span& span);
  // The same without attributes and links.
  void add_bare(Span span);
  // A span of another trace that links to this one's span `linked_id`; `requests` are all that it links to. Returns
  // whether it could be added: kinds of them are bounded. The first `most_kept` are kept one by one.
  bool add_shared(std::uint64_t linked_id, const Span& span, std::uint32_t requests, std::size_t most_kept);
  [[nodiscard]] const std::vector<std::unique_ptr<SharedSpans>>& shared() const { return shared_; }
  // Whether such a span would be added up with others: then it takes hardly any memory.
  [[nodiscard]] bool knows_shared(std::uint64_t linked_id, const Span& span) const;

  [[nodiscard]] const TraceId& id() const { return id_; }
  // As people know it.
  [[nodiscard]] std::string request_id() const;
  [[nodiscard]] std::size_t size() const { return size_; }    // entries
  [[nodiscard]] std::size_t bytes() const { return bytes_; }  // of memory, about
  [[nodiscard]] std::vector<const TraceEntry*> entries() const;
  // The entry as it came, but for its stream and sequence. Valid as long as the trace, and until the next add().
  [[nodiscard]] Span view(const TraceEntry& entry) const;
  [[nodiscard]] std::string_view text(std::uint32_t number) const;
  [[nodiscard]] const std::vector<ProcessPointer>& processes() const { return processes_; }

 private:
  struct Chunk {
    std::unique_ptr<std::uint64_t[]> words;
    std::size_t used, capacity;  // words
  };

  std::uint64_t* allocate(std::size_t words);
  std::uint32_t keep(std::string_view text);
  std::uint32_t process_number(const ProcessPointer* process);
  [[nodiscard]] SharedSpans* find_shared(std::uint64_t linked_id, const Span& span) const;

  TraceId id_;
  InternedTexts* texts_;
  std::string foreign_id_;
  std::vector<Chunk> chunks_;
  std::vector<std::string> own_texts_;
  std::vector<ProcessPointer> processes_;
  std::vector<std::unique_ptr<SharedSpans>> shared_;
  std::size_t size_ = 0;
  std::size_t bytes_ = sizeof(Trace);
};

}  // namespace nopspan::collector
