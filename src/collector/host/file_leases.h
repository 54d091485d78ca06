// SPDX-License-Identifier: Apache-2.0
// Read leases (fcntl(2), F_SETLEASE) on the files that are attached to. The kernel keeps a breakpoint for a place in a
// file, whatever is written there. So a program that is written over a traced one would get a breakpoint somewhere in
// its text. Because of the lease, a program that opens the file for writing waits until this one has detached from it.
#pragma once

#include "base/open_file.h"

#include <cstdint>

namespace nopspan::collector {

// One thread uses it, in which SIGIO is blocked.
class FileLeases {
 public:
  // Before this call, no file is leased. Throws Failure.
  void begin();
  // Readable when somebody waits for a file. -1 if no files are leased.
  [[nodiscard]] int fd() const { return signal_.get(); }
  // Whether that may be so since the last call.
  bool take_signal();

  enum class Result : std::uint8_t {
    leased,
    open_for_writing,  // by some program, now
    unavailable,       // the file system has no leases, or the file has another owner and CAP_LEASE is missing
  };
  // `file` is a descriptor that is open for reading only.
  Result take(int file);
  // Whether somebody waits for this file, which is leased.
  static bool is_wanted(int file);
  static void give_up(int file);

 private:
  OpenFile signal_;
};

}  // namespace nopspan::collector
