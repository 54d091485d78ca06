// SPDX-License-Identifier: Apache-2.0
// Ids and sequences in copies of this process.
#include "copies.h"
#include "fake_clock.h"
#include "raised_gate.h"
#include "recorded.h"
#include "sanitizers.h"

#include "base/hardware_random.h"
#include "state/identity.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>
#include <nopspan/stats.h>

#include <string>

namespace {

void add_trace_id(Numbers& to, const nopspan::Context& context) {
  std::uint64_t id = 0;
  const std::string hex = context.trace_id();
  for (const std::size_t half : {0, 16}) to.push_back(id = std::stoull(hex.substr(half, 16), nullptr, 16));
}

void add_request(Numbers& to) {
  const Span request{"copied.request"};
  add_trace_id(to, request.context());
  to.push_back(request.context().span_id());
  const Span child{"copied.child"};
  to.push_back(child.context().span_id());
}

class Copies : public testing::Test {
 protected:
  void SetUp() override {
    if (kThreadSanitizer) GTEST_SKIP() << "the thread sanitizer does not know copies that are made by clone()";
    add_request(before_);  // the bytes for the next ids exist now
  }

 private:
  const SpanRecorder recorder_{"copied.request"};
  Numbers before_;
};

TEST_F(Copies, OfAnIdleProcessHaveIdsOfTheirOwn) {
  if (!nopspan::detail::can_make_random_numbers()) GTEST_SKIP() << "this processor makes no random numbers";
  const std::uint64_t idle = nopspan::now_ns();
  while (nopspan::now_ns() - idle <= nopspan::detail::kRenewEveryNs) continue;
  const auto work = [](int, Numbers& to) {
    for (int i = 0; i < 40; ++i) add_request(to);
    add_trace_id(to, nopspan::Context::make());
    to.push_back(0);
    nopspan::detail::process_random(&to.back(), sizeof(to[0]));  // the seed of a new thread
    const RaisedGate spans(RaisedGate::spans), batch(RaisedGate::batch);
    { const Span traced{"copied.traced"}; }
    to.push_back(nopspan::detail::thread_state()->sequence_id);
    to.push_back(nopspan::detail::thread_state()->batch.header->sequence_id);
  };
  expect_no_equals(from_copies(&nopspan::detail::process_page(), work), 40 * 4 + 2 + 1 + 2);
}

// The clocks of virtual machines continue as if nothing had happened.
TEST_F(Copies, ThatReadDifferentTimesHaveIdsOfTheirOwnAtOnce) {
  const FakeClock clock;
  { const Span span{"copied.request"}; }
  const auto work = [](int copy, Numbers& to) {
    FakeClock::advance(static_cast<std::uint64_t>(copy));
    for (int i = 0; i < 10; ++i) add_request(to);
  };
  expect_no_equals(from_copies(&nopspan::detail::process_page(), work), 10 * 4);
}

TEST_F(Copies, ThatAreReseededHaveIdsOfTheirOwnAtOnce) {
  const FakeClock clock;
  const RaisedGate spans(RaisedGate::spans), batch(RaisedGate::batch);
  { const Span span{"copied.request"}; }
  const auto work = [](int, Numbers& to) {
    nopspan::reseed();
    for (int i = 0; i < 10; ++i) add_request(to);
    to.push_back(nopspan::detail::thread_state()->sequence_id);
    to.push_back(nopspan::detail::thread_state()->batch.header->sequence_id);
  };
  expect_no_equals(from_copies(&nopspan::detail::process_page(), work), 10 * 4 + 2);
}

}  // namespace
