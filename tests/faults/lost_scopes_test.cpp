// SPDX-License-Identifier: Apache-2.0
// Exceptions that pass through code without exceptions, so that scopes never end.
#include "lost_scopes.h"
#include "fault.h"

#include <nopspan/span.h>

#include <stdexcept>

namespace {

using nopspan::Context;
using nopspan::Span;

__attribute__((noinline)) void overwrite_stack() {
  volatile char bytes[16 * 1024];
  for (volatile char& byte : bytes) byte = 0x41;
}

// Loses a scope inside a span. The end of that span repairs the thread's stack of contexts.
void expect_repair(void (*lose)(const Context&, void (*)())) {
  const CountingHandler handler({"outer", "lost", "later"});
  const Counted scopes_left(&nopspan::Stats::scopes_left);
  {
    const Span outer{"outer"};
    EXPECT_THROW(lose(Context::make(), [] { throw std::runtime_error("unwind"); }), std::runtime_error);
    overwrite_stack();
    EXPECT_FALSE(Context::current().empty());
    { const Span later{"later"}; }
  }
  EXPECT_EQ(scopes_left.times(), 1U);
  EXPECT_TRUE(Context::current().empty());
  { const Span later{"later"}; }
  EXPECT_EQ(handler.last_parent, 0U);
}

TEST(LostScopes, AContextScopeIsRepaired) { expect_repair(lose_scope); }
TEST(LostScopes, ASpanIsRepaired) { expect_repair(lose_span); }

}  // namespace
