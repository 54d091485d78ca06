// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/open_file.h"
#include "host/maps.h"
#include "host/probe_file.h"

#include <cstdint>
#include <map>
#include <string>

namespace nopspan::collector {

// The file behind a mapping of another process: found by the mapping itself where that is allowed, else by its name in
// the process's root. Nothing here waits for a file server: what lies on one of FUSE, which any user can be, is not
// touched.
class MappedFile {
 public:
  // What it is, without opening it. False if it cannot be told: why_not() says why, "" if the mapping or the process is
  // gone or it is no regular file.
  bool find(std::uint32_t pid, const Mapping& mapping);
  [[nodiscard]] const FileId& id() const { return id_; }
  [[nodiscard]] bool is_deleted() const { return is_deleted_; }
  [[nodiscard]] const std::string& why_not() const { return why_not_; }

  // Opens what find() found. Empty if that may not be done: why_not() says why.
  OpenFile open(std::uint32_t pid, const Mapping& mapping);

 private:
  enum class Answer : std::uint8_t { found, gone, forbidden };
  Answer by_mapping(std::uint32_t pid, const Mapping& mapping);
  Answer by_name(std::uint32_t pid, const Mapping& mapping);
  bool may_be_touched(std::uint32_t pid, const Mapping& mapping);

  std::string path_;
  FileId id_;
  bool is_deleted_ = false;
  std::string why_not_;
};

}  // namespace nopspan::collector
