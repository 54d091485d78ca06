// SPDX-License-Identifier: Apache-2.0
// OTLP/JSON as files of lines: --otlp-file.
#pragma once

#include "base/open_file.h"
#include "export/export_body.h"

#include <sys/types.h>

#include <array>
#include <string>
#include <string_view>

namespace nopspan::collector {

// The files traces.jsonl, logs.jsonl and metrics.jsonl in a folder. Each body is one line at the end of its file. A
// file has only whole lines: if a line cannot be written completely, what was written of it is removed.
class OtlpFiles {
 public:
  // Opens the files, or creates them with mode 0600. Removes a line that an earlier run left without its end. Throws
  // Failure (kUsageError) if the folder does not exist, or if one of the files is a symbolic link, something else than
  // a file, accessible to other users, or in use by another nopspan.
  explicit OtlpFiles(const std::string& folder);

  // Returns false if the line was not written.
  bool append(const ExportBody& body);
  // The errno value of the last line that was not written; 0 if all were. EBADMSG: the body was malformed.
  [[nodiscard]] int error() const { return error_; }

 private:
  struct Lines {
    OpenFile file;
    bool has_rest = false;  // a part of a line could not be removed
    off_t end = 0;          // of the whole lines, if `has_rest`
  };

  static int append(Lines& lines, std::string_view line);

  std::array<Lines, kSignals> files_;
  int error_ = 0;
};

}  // namespace nopspan::collector
