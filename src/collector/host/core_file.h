// SPDX-License-Identifier: Apache-2.0
// Reads the open spans of a process that has ended, from its core file. The file may have any content, so it is read in
// the child that reads (process_reader.h).
#pragma once

#include "base/open_file.h"
#include "host/open_spans.h"

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

class CoreFile {
 public:
  // Opens the file and searches its memory for the library. Throws Failure, a usage error, if it is not a core file of
  // this architecture.
  explicit CoreFile(const std::string& path);

  [[nodiscard]] std::uint32_t pid() const { return pid_; }  // 0 if the core does not have it
  [[nodiscard]] const std::string& comm() const { return comm_; }
  // Whether the file ends before the memory does, for example because of a limit (ulimit -c).
  [[nodiscard]] bool is_truncated() const { return is_truncated_; }
  // The addresses of struct nopspan_gate_page, one for each copy of the library. At most 64.
  [[nodiscard]] const std::vector<std::uint64_t>& gates() const { return gates_; }
  // 0 or an errno value, as unpack_open_spans().
  int read_open_spans(std::uint64_t gate_address, OpenSpans& open) const;

 private:
  OpenFile file_;
  std::uint32_t pid_ = 0;
  std::string comm_;
  bool is_truncated_ = false;
  std::vector<std::uint64_t> gates_;
};

}  // namespace nopspan::collector
