// SPDX-License-Identifier: Apache-2.0
// Spans whose names are in pages that the process has not touched yet. A BPF program cannot fault a page in, so such a
// name would be read as empty unless the library touches it first. Prints for each name whether its page was present
// just before the span.
//
//   cold_names FILE    `span OFFSET` makes a span named by the 31 characters and the NUL at that offset of FILE.
#include "commands.h"

#include <nopspan/span.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>

namespace {

constexpr std::size_t kPage = 4096;

// Bit 63 in /proc/self/pagemap means "present". mincore(2) would report the page cache instead of this process.
bool is_present(const char* address) {
  const int file = open("/proc/self/pagemap", O_RDONLY);
  std::uint64_t entry = 0;
  const auto offset = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(address) / kPage * sizeof(entry));
  const bool read = pread(file, &entry, sizeof(entry), offset) == sizeof(entry);
  close(file);
  return !read || (entry >> 63) != 0;
}

}  // namespace

int main(int, char** arguments) {
  const int file = open(arguments[1], O_RDONLY);
  struct stat about;
  fstat(file, &about);
  const auto size = static_cast<std::size_t>(about.st_size);
  const auto* names = static_cast<const char*>(mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0));
  if (names == MAP_FAILED) return 1;

  Commands commands;
  commands["span"] = [&](std::istringstream& a) {
    std::size_t offset = 0;
    a >> offset;
    const char* name = names + offset;
    // A fault on a neighbouring page may have mapped this page too ("fault around").
    madvise(const_cast<char*>(names), size, MADV_DONTNEED);
    const bool present = is_present(name) || is_present(name + 31);
    nopspan::Span span{*reinterpret_cast<const char(*)[32]>(name)};
    return present ? "present" : "cold";
  };
  return serve(commands);
}
