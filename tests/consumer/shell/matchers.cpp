// SPDX-License-Identifier: Apache-2.0
// The matchers of testing_gmock.h in a shell, which has no events.
#include <nopspan/span.h>
#include <nopspan/testing_gmock.h>

using nopspan::testing::EventNamed;
using nopspan::testing::HasMetadata;
using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(Shell, RecordsNoEvent) {
  const nopspan::testing::Recorder recorder{"llm.chat.stop"};
  { const nopspan::Span span{"llm.chat"}; }
  EXPECT_THAT(recorder.events(), IsEmpty());
  EXPECT_THAT(recorder.events(), Not(Contains(EventNamed("llm.chat.stop"))));
  EXPECT_THAT(nopspan::OwnedEvent(nopspan::Event()), Not(HasMetadata("rows", 1)));
  EXPECT_EQ(::testing::PrintToString(nopspan::Errc::ok), "ok");
}
