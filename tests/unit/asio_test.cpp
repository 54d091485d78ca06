// SPDX-License-Identifier: Apache-2.0
// spawn_span() in coroutines of asio (C++20), whose promises do not know nopspan.
#include "recorded.h"

#include <nopspan/coroutine.h>

#include <asio.hpp>
#include <map>
#include <thread>

namespace {

using asio::awaitable;
using asio::use_awaitable;

awaitable<void> pause(int milliseconds) {
  asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(milliseconds));
  co_await timer.async_wait(use_awaitable);
}
void step() { const Span span{"step"}; }

awaitable<int> select(int request) {
  step();
  for (int i = 0; i < 3; ++i) {
    co_await pause(request % 3);
    step();
  }
  co_return request;
}
awaitable<void> answer(int request, int* sum) {
  const auto of_request = [request] { return select(request); };
  step();
  *sum += co_await nopspan::spawn_span(co_await asio::this_coro::executor, use_awaitable, "select", of_request);
  step();
}

// What runs the handlers of 12 requests at a time.
using Run = void (*)(asio::io_context&);
class Requests : public ::testing::TestWithParam<Run> {};

TEST_P(Requests, HaveTheirOwnSpansOnWhicheverThreadTheyRun) {
  constexpr int kRequests = 12;
  const Recorder recorder{"request.*", "select.*", "step.start"};
  asio::io_context io;
  int sums[kRequests] = {};
  for (int i = 0; i < kRequests; ++i) {
    nopspan::spawn_span(
        io.get_executor(), asio::detached, "request", nopspan::SpanKind::server, [&](auto& m) { m.set("number", i); },
        [i, sum = &sums[i]] { return answer(i, sum); });
  }
  EXPECT_EQ(nopspan::request_id(), "");
  GetParam()(io);
  EXPECT_EQ(nopspan::request_id(), "");

  std::map<std::string, std::vector<nopspan::OwnedEvent>> requests;
  for (const auto& event : recorder.events()) requests[std::string(event->request_id())].push_back(event);
  EXPECT_THAT(requests, SizeIs(kRequests));
  for (const auto& [id, events] : requests) {
    std::string names;
    for (const auto& event : events) names += std::string(event->name()) + " ";
    ASSERT_EQ(names,
              "request.start step.start select.start step.start step.start step.start step.start select.stop "
              "step.start request.stop ");
    EXPECT_EQ(events[0]->parent_id(), 0U);
    for (const int child : {1, 2, 8}) EXPECT_THAT(events[child], IsChildOf(events[0]));
    for (const int child : {3, 4, 5, 6}) EXPECT_THAT(events[child], IsChildOf(events[2]));
  }
  for (int i = 0; i < kRequests; ++i) EXPECT_EQ(sums[i], i);
}
void on_two_threads(asio::io_context& io) {
  std::thread other([&] { io.run(); });
  io.run();
  other.join();
}
// Each handler on a thread of its own, so no coroutine continues on the thread on which it suspended.
void on_many_threads(asio::io_context& io) {
  for (std::size_t ran = 1; ran != 0;) std::thread([&] { ran = io.run_one(); }).join();
}
INSTANTIATE_TEST_SUITE_P(Asio, Requests, ::testing::Values(&on_two_threads, &on_many_threads));

// Also if the caller is in no span, and is resumed where the spawned coroutine ends.
TEST(SpawnSpan, GivesItsCallerTheCallersContextBack) {
  const Recorder recorder{"first.*", "second.*", "failed.*"};
  asio::io_context io;
  std::string after;
  const auto loop = [&]() -> awaitable<void> {
    const auto work = [] { return pause(1); };
    co_await nopspan::spawn_span(io, use_awaitable, "first", work);
    after += nopspan::request_id();
    const auto fail = []() -> awaitable<int> {
      co_await pause(1);
      throw std::runtime_error("refused");
    };
    try {
      co_await nopspan::spawn_span(io, use_awaitable, "failed", fail);
    } catch (const std::runtime_error&) {
      after += nopspan::request_id();
    }
    co_await nopspan::spawn_span(io, use_awaitable, "second", work);
  };
  asio::co_spawn(io, loop, asio::detached);
  io.run();
  EXPECT_EQ(after, "");
  for (const auto& event : recorder.events()) EXPECT_EQ(event->parent_id(), 0U) << event->name();
  EXPECT_THAT(recorder.events(), SizeIs(6));
  EXPECT_EQ(nopspan::stats().scopes_left, 0U);
}

TEST(SpawnSpan, EndsWithTheExceptionOfTheCoroutine) {
  const SpanRecorder recorder("request");
  asio::io_context io;
  const auto refuse = []() -> awaitable<void> {
    co_await pause(0);
    throw std::runtime_error("refused");
  };
  std::string caught;
  const auto work = [&]() -> awaitable<void> {
    try {
      co_await nopspan::spawn_span(co_await asio::this_coro::executor, use_awaitable, "request", refuse);
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
  };
  asio::co_spawn(io, work, asio::detached);
  io.run();
  EXPECT_EQ(caught, "refused");
  EXPECT_EQ(recorder.exception()->metadata("reason").find("type").copy(), Value("std::runtime_error"));
}

TEST(SpawnSpan, ThatIsStoppedWithItsEventLoopIsCancelled) {
  const SpanRecorder recorder("request");
  {
    asio::io_context io;
    nopspan::spawn_span(io.get_executor(), asio::detached, "request", [] { return pause(100'000); });
    io.poll();
  }
  EXPECT_THAT(recorder.stop(), HasStatus(Status::cancelled));
}

// Also for the coroutines that are spawned on the coroutine's executor, and in a process that records nothing.
TEST(SpawnSpan, HasTheContextOfItsCaller) {
  asio::io_context io;
  std::vector<std::string> seen;
  const auto see = [&]() -> awaitable<void> {
    co_await pause(0);
    seen.emplace_back(nopspan::request_id());
  };
  const auto work = [&]() -> awaitable<void> {
    asio::co_spawn(co_await asio::this_coro::executor, see, asio::detached);
    co_await see();
  };
  nopspan::spawn_span(io, asio::detached, "request", Context::with_request_id("order-7"), work);
  io.run();
  EXPECT_THAT(seen, ElementsAre("order-7", "order-7"));
}

// A strand keeps its executor as the first member, as the executor of a span does.
TEST(SpawnSpan, StaysInTheStrandOfItsCaller) {
  asio::io_context io;
  const asio::strand<asio::any_io_executor> strand(io.get_executor());
  int times = 0;
  const auto inner = [&]() -> awaitable<void> {
    times += strand.running_in_this_thread() ? 1 : 0;
    co_await pause(0);
    times += strand.running_in_this_thread() ? 1 : 0;
  };
  const auto outer = [&]() -> awaitable<void> {
    co_await nopspan::spawn_span(co_await asio::this_coro::executor, use_awaitable, "inner", inner);
    times += strand.running_in_this_thread() ? 1 : 0;
  };
  const auto run = [&] {
    nopspan::spawn_span(strand, asio::detached, "outer", outer);
    nopspan::spawn_span(asio::any_io_executor(strand), asio::detached, "outer", outer);
    on_two_threads(io);
    io.restart();
    return std::exchange(times, 0);
  };
  EXPECT_EQ(run(), 6);
  const Recorder recorder{"inner.*"};
  EXPECT_EQ(run(), 6);
}

}  // namespace
