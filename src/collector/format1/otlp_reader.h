// SPDX-License-Identifier: Apache-2.0
// Decodes the OTLP messages of a recording of format 1. The bytes may be anything: reading ends at the first error.
//
// Such recordings were written by nopspan 0.1, and by builds of 0.2 before its release. Nothing writes them any more,
// and version 0.3 will not read them. Then this folder can be deleted, and what includes it in recording/recording.cpp.
#pragma once

#include "format1/otlp_names.h"
#include "model/entry.h"
#include "model/otlp_wire.h"

#include <protozero/pbf_reader.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace nopspan::collector {

// The bytes of a field that is a message, a string or bytes.
inline std::string_view view_of(protozero::pbf_reader& reader) {
  const protozero::data_view view = reader.get_view();
  return {view.data(), view.size()};
}

class OtlpReader {
 public:
  using Each = std::function<void(const Entry&)>;
  // Calls `each` with every entry, whose texts are valid during the call. Returns false if `message` is malformed;
  // `each` has then been called for the entries before the error.
  bool read(Signal signal, std::string_view message, const Each& each);
  // Remembers at most this many processes, whose resources have at most 2 KiB on average. All of them are claimed by
  // this user (Process::claimed_by).
  void set_processes(std::size_t most, std::uint64_t claimed_by) {
    most_processes_ = most;
    claimed_by_ = claimed_by;
  }
  // The process of a Resource. Throws protozero::exception if it is malformed.
  const ProcessPointer& process_of(std::string_view resource) {
    read_resource(resource);
    return process_;
  }

 private:
  void read_resource_spans(std::string_view message, const Each& each);
  void read_scope_spans(std::string_view message, const Each& each);
  void read_resource(std::string_view message);
  void read_scope(std::string_view message);
  void read_span(std::string_view message);
  void read_log(std::string_view message);
  void read_metric(std::string_view message, const Each& each);
  void read_point(std::string_view message);
  void begin();
  void read_either(std::string_view key_value, std::string_view whole);
  void read_own(std::string_view key_value, std::string_view whole);
  void read_added(std::string_view key_value);
  void read_link(std::string_view message);
  void finish(Kind kind, const Each& each);
  void restore_fields();
  void restore_outcome();

  Signal signal_ = Signal::traces;
  // Processes by the bytes of their resource, because a recording contains each resource many times.
  std::unordered_map<std::string, ProcessPointer> processes_;
  std::size_t resource_bytes_ = 0;  // of all keys
  std::size_t most_processes_ = 4096;
  std::uint64_t claimed_by_ = 0;
  ProcessPointer process_;
  std::uint32_t thread_id_ = 0;
  std::uint64_t sequence_id_ = 0, sequence_ = 0;

  // State of the entry that is being read.
  Entry span_;
  bool is_theirs_ = true;  // attributes before the time field are the process's own
  std::uint64_t end_ = 0;
  unsigned code_ = 0;
  OtlpFlags flags_;
  NotedAttributes own_, added_;
  std::string_view run_;    // own attributes, if they are contiguous in the message
  std::string attributes_;  // otherwise their copy
  bool lacks_attributes_ = false;
  std::string links_;
};

}  // namespace nopspan::collector
