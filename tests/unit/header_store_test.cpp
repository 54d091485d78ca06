// SPDX-License-Identifier: Apache-2.0
// What it costs to store headers.
#include "fake_clock.h"
#include "in_child.h"
#include "sanitizers.h"
#if defined(__x86_64__)
#include "single_step.h"
#endif

#include "state/header_store.h"

#include <nopspan/context.h>

#include <memory>
#include <vector>

namespace {

using nopspan::Context;
using nopspan::detail::store_headers;

#if defined(__x86_64__)
// Clients choose how long their headers are, so a full store must not cost the others much.
TEST(HeaderStore, IsNotSearchedEachTimeIfScopesHaveAllSlots) {
  if (kThreadSanitizer || kAddressSanitizer) GTEST_SKIP() << "its own code would be interrupted too";
  expect_in_child([] {
    const FakeClock clock;
    std::vector<std::unique_ptr<nopspan::ContextScope>> scopes;
    while (store_headers("k=1", "") != 0) {
      const Context context =
          Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "k=2");
      scopes.push_back(std::make_unique<nopspan::ContextScope>(context));
    }
    EXPECT_FALSE(run_interrupted(
        1000, [] {}, [] { EXPECT_EQ(store_headers("k=3", ""), 0U); }));
    while (!scopes.empty()) scopes.pop_back();
    EXPECT_EQ(store_headers("k=4", ""), 0U) << "the searches are not paid yet";
    FakeClock::advance(1'000'000'000);
    EXPECT_NE(store_headers("k=5", ""), 0U);
  });
}
#endif

}  // namespace
