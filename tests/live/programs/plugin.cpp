// SPDX-License-Identifier: Apache-2.0
// A plug-in that uses spans. It is built with the shared library, and again with its own static copy.
#include <nopspan/detail/gate.h>
#include <nopspan/span.h>

extern "C" __attribute__((visibility("default"))) void plugin_span(const char* name) {
  nopspan::Span span{nopspan::Name::intern(name)};
}
extern "C" __attribute__((visibility("default"))) unsigned long plugin_gate() { return nopspan::detail::gate(); }
