// SPDX-License-Identifier: Apache-2.0
// The table of handlers.
#include "handlers/handler_table.h"

#include "recorded.h"

#include "base/hash.h"
#include "handlers/registry.h"

#include <atomic>
#include <mutex>
#include <thread>

namespace {

bool may_be_handled(std::string_view name) {
  return nopspan::detail::may_be_handled({name.data(), name.size(), nopspan::detail::hash_bytes(name)});
}

using nopspan::detail::Attachment;
using nopspan::detail::EventName;
using nopspan::detail::HandlerList;
using nopspan::detail::HandlerTable;

std::mutex lock;

const HandlerList* find(const HandlerTable& table, const std::string& event) { return table.find(EventName(event)); }

TEST(HandlerTable, KeepsOnlyTheNamesThatHaveHandlers) {
  static HandlerTable table;
  std::vector<Attachment> attachments;
  for (std::uint64_t i = 0; i < 1000; ++i) attachments.push_back({"", {}, {}, {"a.b" + std::to_string(i)}, i + 1, 0});
  for (const Attachment& attachment : attachments) {
    table.reserve(attachment, lock);
    table.append(attachment);
  }
  EXPECT_NE(find(table, "a.b999"), nullptr);
  for (std::size_t i = 1; i < 1000; ++i) {
    attachments[i].until = 1000;
    table.remove(attachments[i]);
    table.save_memory(attachments[i], 1001, lock);
  }
  EXPECT_NE(find(table, "a.b0"), nullptr);
  EXPECT_EQ(find(table, "a.b999"), nullptr);
  std::size_t retired = 0;
  while (const auto taken = table.take_retired(1000)) EXPECT_LT(taken->retired_in, 1001U);
  while (const auto taken = table.take_retired(1001)) ++retired;
  EXPECT_GT(retired, 950U);
}

TEST(HandlerTable, ShowsNoHandlerForWhichItHasOnlyReservedRoom) {
  static HandlerTable table;
  Attachment first{"", {}, {}, {"a.stop", "a.stop", "a.stop", "b.start"}, 5, 6};
  table.reserve(first, lock);
  EXPECT_EQ(find(table, "a.stop"), nullptr);
  EXPECT_EQ(table.suffixes(), 0U);
  table.append(first);
  ASSERT_NE(find(table, "a.stop"), nullptr);
  EXPECT_EQ(find(table, "a.stop")->live, 3U);
  table.remove(first);
  EXPECT_EQ(find(table, "a.stop"), nullptr);
  EXPECT_EQ(table.suffixes(), 0U);
}

TEST(HandlerTable, KnowsWhetherAnyEventOfASpanMayHaveAHandler) {
  EXPECT_FALSE(may_be_handled("work"));
  for (const char* suffix : {".start", ".stop", ".exception"}) {
    const Recorder recorder{std::string("work") + suffix};
    EXPECT_TRUE(may_be_handled("work"));
    EXPECT_FALSE(may_be_handled("wor"));
    EXPECT_FALSE(may_be_handled("work.start"));
    EXPECT_FALSE(may_be_handled(""));
  }
  EXPECT_FALSE(may_be_handled("work"));
  const Recorder point{"work"};
  EXPECT_FALSE(may_be_handled("work"));
}

TEST(IsSpanHandled, InsideAHandlerToo) {
  bool handled = false;
  attach_ok("id", "work.stop", [&](const Event&) { handled = may_be_handled("work"); });
  { const Span span{"work"}; }
  EXPECT_TRUE(handled);
  detach_ok("id");
}

TEST(IsSpanHandled, WhileOthersAttachAndDetach) {
  const Recorder recorder{"work.stop"};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) const Recorder other{"other" + std::to_string(i % 50) + ".stop", "work.stop"};
  });
  for (int i = 0; i < 20'000; ++i) ASSERT_TRUE(may_be_handled("work"));
  stop = true;
  writer.join();
}

}  // namespace
