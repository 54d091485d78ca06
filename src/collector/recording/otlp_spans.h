// SPDX-License-Identifier: Apache-2.0
// Encodes entries as OTLP messages. docs/recording.md describes the mapping of each field.
#pragma once

#include "base/byte_buffer.h"
#include "model/entry.h"
#include "model/otlp_fields.h"
#include "model/signal.h"
#include "recording/otlp_names.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

// Collects entries of one signal and encodes them as one message: TracesData, LogsData or MetricsData. The bytes are
// also a valid Export…ServiceRequest. Each process is a resource, and each sequence_id of a thread an instrumentation
// scope.
class OtlpEncoder {
 public:
  explicit OtlpEncoder(Signal signal) : signal_(signal) {}

  void add(const Entry& entry);
  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  // An estimate of the message's size.
  [[nodiscard]] std::size_t bytes() const { return buffer_.size() + head_bytes_; }

  struct Share {
    ProcessPointer process;
    std::uint64_t entries = 0;
    std::string resource = {};
  };
  // Replaces `out` with the message and begins a new one. Returns how many entries it contains of each process.
  std::vector<Share> finish(std::string& out);

 private:
  struct Group {
    std::uint32_t share;
    std::uint64_t sequence_id, first_sequence, next_sequence;
    std::uint32_t thread_id;
    std::size_t bytes = 0;
  };
  struct Run {
    std::uint32_t share, group;
    std::size_t begin, end;
  };

  std::uint32_t share_of(const ProcessPointer& process);
  Group& group_of(const Entry& entry);
  void write_span(const Entry& entry, bool in_sequence);
  void write_log(const Entry& entry, bool in_sequence);
  void write_gauge(const Entry& entry, bool in_sequence);
  void write_own_attributes(const Entry& entry, ByteBuffer& out);
  void write_missing_fields(const Entry& entry, ByteBuffer& out);
  void write_event_fields(const Entry& entry, ByteBuffer& out);
  void write_flag_word(const Entry& entry, OtlpFlags flags, ByteBuffer& out);
  void add_text(ByteBuffer& out, Name name, std::string_view text);
  void add_number(ByteBuffer& out, Name name, std::uint64_t value);
  void add_hex(ByteBuffer& out, Name name, std::uint64_t value);
  [[nodiscard]] std::string_view key_of(Name name);
  [[nodiscard]] std::string scope_of(const Group& group) const;

  Signal signal_;
  unsigned attributes_ = 0;  // number of the field that holds the attributes
  std::uint64_t entries_ = 0;
  std::uint32_t dropped_ = 0;  // malformed attributes of the entry, which no receiver would accept
  std::size_t head_bytes_ = 0;
  ByteBuffer buffer_, point_;
  std::string key_;
  MessageFrame frame_{2};  // spans, log_records and metrics have the same number
  NotedAttributes own_, added_;
  std::vector<Share> shares_;
  std::unordered_map<const Process*, std::uint32_t> share_numbers_;
  std::vector<Group> groups_;
  std::unordered_multimap<std::uint64_t, std::uint32_t> group_numbers_;
  std::vector<Run> runs_;
};

// Encodes a process as the attributes of an OTLP Resource.
std::string resource_of(const Process& process);

}  // namespace nopspan::collector
