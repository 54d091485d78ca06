// SPDX-License-Identifier: Apache-2.0
// Copies of this process: what restored snapshots and checkpoints are.
#include "fake_clock.h"
#include "in_child.h"
#include "raised_gate.h"
#include "recorded.h"
#include "sanitizers.h"

#include "base/hardware_random.h"
#include "state/identity.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>
#include <nopspan/stats.h>

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <set>
#include <vector>

namespace {

using Numbers = std::vector<std::uint64_t>;

constexpr int kCopies = 100;

// Runs `work` in 100 copies of this process, which continue at once. Returns the numbers that they add, all together.
//
// A copy has the memory of this process, all of it. fork() would call the library's handlers, and the kernel would
// clear the library's page. So this is clone(), and the page is restored.
Numbers from_copies(const std::function<void(int copy, Numbers& to)>& work) {
  constexpr std::size_t kMost = 4096;  // what write() writes to a pipe at once
  unsigned char image[sizeof(nopspan::detail::ProcessPage)];
  auto* const page = reinterpret_cast<unsigned char*>(&nopspan::detail::process_page());
  std::memcpy(image, page, sizeof(image));
  int start[2], results[2];
  EXPECT_EQ(pipe(start), 0);
  EXPECT_EQ(pipe(results), 0);
  std::vector<pid_t> copies;
  for (int i = 0; i < kCopies; ++i) {
    const auto pid = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (pid != 0) {
      copies.push_back(pid);
      continue;
    }
    alarm(120);
    std::memcpy(page, image, sizeof(image));
    close(start[1]);
    char none;
    bool is_right = read(start[0], &none, 1) == 0;  // until all copies exist
    Numbers made;
    work(i, made);
    const std::size_t bytes = made.size() * sizeof(made[0]);
    is_right = is_right && bytes <= kMost && write(results[1], made.data(), bytes) == static_cast<ssize_t>(bytes);
    _exit(is_right && !::testing::Test::HasFailure() ? 0 : 1);
  }
  for (const int end : {start[0], start[1], results[1]}) close(end);
  Numbers all;
  std::uint64_t number = 0;
  while (read(results[0], &number, sizeof(number)) == sizeof(number)) all.push_back(number);
  close(results[0]);
  for (const pid_t pid : copies) EXPECT_EQ(wait_for(pid), "");
  return all;
}

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

void expect_no_equals(const Numbers& numbers, std::size_t of_each) {
  EXPECT_EQ(numbers.size(), kCopies * of_each);
  EXPECT_EQ(std::set<std::uint64_t>(numbers.begin(), numbers.end()).size(), numbers.size());
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
  expect_no_equals(from_copies(work), 40 * 4 + 2 + 1 + 2);
}

// The clocks of virtual machines continue as if nothing had happened.
TEST_F(Copies, ThatReadDifferentTimesHaveIdsOfTheirOwnAtOnce) {
  const FakeClock clock;
  { const Span span{"copied.request"}; }
  const auto work = [](int copy, Numbers& to) {
    FakeClock::advance(static_cast<std::uint64_t>(copy));
    for (int i = 0; i < 10; ++i) add_request(to);
  };
  expect_no_equals(from_copies(work), 10 * 4);
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
  expect_no_equals(from_copies(work), 10 * 4 + 2);
}

}  // namespace
