// SPDX-License-Identifier: Apache-2.0
// One program of two files: this one uses nopspan, and the same file with -DNOPSPAN_SHELL=1 uses the shell. Neither
// gets the functions of the other.
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <cstdio>

// Both files have this function, and the linker keeps one for each template argument. The argument of the shell's is of
// another namespace.
template <class Span>
bool records() {
  Span span{"mixed"};
  return static_cast<bool>(span);
}

bool shell_records();

#if NOPSPAN_SHELL
bool shell_records() {
  return records<nopspan::Span>() || nopspan::span("mixed", [](nopspan::Span& s) { return bool(s); });
}
#else
int main() {
  int events = 0;
  if (nopspan::attach("all", "*", [&](const nopspan::Event&) { ++events; }) != nopspan::Errc::ok) return 1;
  const bool recorded = records<nopspan::Span>() && nopspan::span("mixed", [](nopspan::Span& s) { return bool(s); });
  std::printf("library %d, shell %d, %d events\n", recorded, shell_records(), events);
}
#endif
