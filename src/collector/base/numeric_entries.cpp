// SPDX-License-Identifier: Apache-2.0
#include "base/numeric_entries.h"

#include <dirent.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

namespace nopspan::collector {

int for_each_numeric_entry(const std::string& folder, const std::function<void(std::uint32_t)>& on_number) {
  const std::unique_ptr<DIR, int (*)(DIR*)> opened(opendir(folder.c_str()), closedir);
  if (!opened) return errno;
  while (const dirent* entry = readdir(opened.get())) {
    const char* end = entry->d_name + std::strlen(entry->d_name);
    std::uint32_t number = 0;
    if (std::from_chars(entry->d_name, end, number).ptr == end) on_number(number);
  }
  return 0;
}

}  // namespace nopspan::collector
