// SPDX-License-Identifier: Apache-2.0
// Who else could have placed a file, or could read it. Spans may contain private data. This header needs no library,
// because nopspan::recording is built with it too.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

namespace nopspan::collector {

inline bool is_own(const struct stat& file) { return file.st_uid == ::geteuid(); }
inline bool is_own_or_roots(const struct stat& file) { return is_own(file) || file.st_uid == 0; }
// A named pipe of another user, who could read what is written to it. Devices belong to root.
inline bool is_foreign_pipe(const struct stat& file) { return S_ISFIFO(file.st_mode) && !is_own_or_roots(file); }
// Whether the mode gives other users any of these rights: bits of S_IRWXG and S_IRWXO. With an access control list, the
// bits of the group are those of the list's mask.
inline bool others_have(const struct stat& file, mode_t rights) { return (file.st_mode & rights) != 0; }

}  // namespace nopspan::collector
