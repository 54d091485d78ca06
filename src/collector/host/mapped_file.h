// SPDX-License-Identifier: Apache-2.0
// Finds and opens the file behind a mapping of another process.
#pragma once

#include "base/open_file.h"
#include "host/maps.h"
#include "host/probe_file.h"

#include <cstdint>
#include <string>

namespace nopspan::collector {

// The file is found through /proc/PID/map_files if that is allowed, otherwise by its name in the process's root. Both
// may block, so this runs in the child that reads (process_reader.h). Files on FUSE are not opened, because any user
// can be the server of such a file system and may never answer: to close the file may block, and an attach to it would
// block every fork on this host.
class MappedFile {
 public:
  // Identifies the file without opening it. Returns false if that is not possible; why_not() then has the reason, or ""
  // if the mapping or the process is gone or the file is not a regular file.
  bool find(std::uint32_t pid, const Mapping& mapping);
  [[nodiscard]] const FileId& id() const { return id_; }
  [[nodiscard]] const std::string& why_not() const { return why_not_; }

  // Opens the file that find() found. Empty if that is not possible; why_not() then has the reason, or "" if the file
  // is gone.
  OpenFile open(std::uint32_t pid, const Mapping& mapping);

 private:
  enum class Place : std::uint8_t { found, gone, forbidden };
  Place by_mapping(std::uint32_t pid, const Mapping& mapping);
  Place by_name(std::uint32_t pid, const Mapping& mapping);
  bool may_be_touched(std::uint32_t pid, const Mapping& mapping);

  std::string path_;
  FileId id_;
  bool has_attributes_ = false;  // the file system has attributes that FUSE does not have
  std::string why_not_;
};

}  // namespace nopspan::collector
