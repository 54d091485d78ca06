// SPDX-License-Identifier: Apache-2.0
// A static program that attaches a handler and uses no spans. Runs under NOPSPAN_DISABLE=1. The linker must take the
// object that initializes the library from libnopspan.a for the registry alone.
#include "expect.h"
#include "gate/gate.h"

#include <nopspan/registry.h>

int main() {
  EXPECT(nopspan_gate.library_version != 0);
  EXPECT(nopspan_gate.size == sizeof(nopspan_gate_page));
  EXPECT(nopspan::attach("id", "work.start", [](const nopspan::Event&) {}) == nopspan::Errc::ok);
  EXPECT(!nopspan::detail::span_handlers_up());
  return failures == 0 ? 0 : 1;
}
