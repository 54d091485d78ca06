// SPDX-License-Identifier: Apache-2.0
// What the library does with malloc: nothing on the path of a span, so that spans may be made inside malloc, and
// without memory.
#include "allocator.h"
#include "every_call.h"
#include "fault.h"
#include "raised_gate.h"

#include <nopspan/execute.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include <optional>
#include <thread>

namespace {

using nopspan::AsyncSpan;
using nopspan::Context;
using nopspan::ContextScope;
using nopspan::Span;
using ::testing::IsEmpty;

__thread bool counting = false;
__thread unsigned counted = 0;

bool count_calls(std::size_t) {
  if (counting) ++counted;
  return true;
}

// Each kind of call, by a new thread for each.
void expect_no_allocation() {
  for (const Call& call : every_call) {
    unsigned calls = 0;
    std::thread([&] {
      const AllocatorHook hook(count_calls);
      counting = true;
      for (unsigned number = 0; number < 100; ++number) call.make(number);
      counting = false;
      calls = counted;
    }).join();
    EXPECT_EQ(calls, 0U) << call.what;
  }
}

TEST(MallocFaults, NothingIsAllocatedForHandlers) {
  const CountingHandler handler({"work"}, "work.event");
  expect_no_allocation();
}

TEST(MallocFaults, NothingIsAllocatedForTracers) {
  const RaisedGate batch(RaisedGate::batch);
  const RaisedGate spans(RaisedGate::spans);
  const RaisedGate points(RaisedGate::points);
  expect_no_allocation();
}

__thread bool inside = false;
__thread unsigned entered_again = 0;

bool raise_signal(std::size_t) {
  if (inside) {
    ++entered_again;
    return true;
  }
  inside = true;
  raise(SIGUSR1);
  inside = false;
  return true;
}

TEST(MallocFaults, ASignalInsideMallocDoesNotEnterItAgain) {
  const CountingHandler handler({"work"}, "work.event");
  static std::atomic<unsigned> number{0};
  struct sigaction action {};
  action.sa_handler = [](int) { every_call[number % std::size(every_call)].make(number / 10); };
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  for (number = 0; number < 200; ++number) {
    unsigned again = 0;
    std::thread([&] {
      const AllocatorHook hook(raise_signal);
      std::free(std::malloc(5000));
      std::free(std::calloc(10, 10));
      std::free(std::aligned_alloc(64, 256));
      again = entered_again;
    }).join();
    EXPECT_EQ(again, 0U) << every_call[number % std::size(every_call)].what;
  }
  EXPECT_EQ(handler.starts, handler.ends);
  EXPECT_GT(handler.starts, 0U);
}

__thread bool writes = false;
std::atomic<int> calls_left{0};
std::atomic<bool> stopped{false}, forked{false};

bool stop_writer(std::size_t) {
  if (!writes || --calls_left != 0) return true;
  stopped = true;
  while (!forked) std::this_thread::yield();
  return true;
}

std::atomic<int> handled{0};

// Attaches handlers until lists and tables have grown, and detaches them until they have shrunk.
void write_registry(const char* name) {
  std::vector<std::string> ids;
  for (int i = 0; i < 12; ++i) ids.push_back(name + std::to_string(i));
  for (const std::string& id : ids)
    EXPECT_EQ(nopspan::attach_many(id, {"a.*", "b.*", "c.stop", id}, [](const nopspan::Event&) { ++handled; }),
              nopspan::Errc::ok);
  for (const std::string& id : ids) EXPECT_EQ(nopspan::detach(id), nopspan::Errc::ok);
}

// Each handler that is listed gets its event.
void expect_whole_handlers() {
  int listed = 0;
  handled = 0;
  for (const nopspan::HandlerInfo& info : nopspan::list_handlers()) {
    if (info.event != info.id) continue;
    ++listed;
    nopspan::execute(nopspan::Name(info.event));
  }
  EXPECT_EQ(handled, listed);
}

// As one does that has registered its fork handlers after the library was loaded.
TEST(MallocFaults, AnAllocatorMayStopWritersOfTheRegistryUntilAForkIsOver) {
  expect_in_child([] {
    const AllocatorHook hook(stop_writer);
    bool is_stopped = true;
    for (int call = 1; is_stopped && !HasFailure(); ++call) {
      calls_left = call;
      stopped = forked = false;
      std::atomic<bool> done{false};
      std::thread writer([&] {
        writes = true;
        write_registry("a handler of the parent");
        writes = false;
        done = true;
      });
      watch("a writer", [&] { return stopped || done; });
      is_stopped = stopped;
      alarm(30);
      EXPECT_EQ(in_child([] {
                  expect_whole_handlers();
                  write_registry("another handler");
                  expect_whole_handlers();
                }),
                "")
          << "stopped in call " << call;
      forked = true;
      writer.join();
    }
  });
}

std::atomic<unsigned> allocations{0};
unsigned fails_each = 1;

bool fail_some(std::size_t bytes) { return bytes == 0 || allocations.fetch_add(1) % fails_each != 0; }

// Threads that made spans before allocations fail, and threads that did not.
void expect_nothing_is_lost() {
  constexpr int kThreads = 8;
  constexpr unsigned kRounds = 20;
  const CountingHandler handler({"work"}, "work.event");
  const Counted spans_dropped(&nopspan::Stats::spans_dropped);
  const Counted fields_dropped(&nopspan::Stats::fields_dropped);
  std::atomic<int> ready{0};
  std::atomic<int> done{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, is_warm = i % 2 == 0] {
      if (is_warm) nest(1);
      ++ready;
      while (!go) std::this_thread::yield();
      for (unsigned number = 0; number < kRounds; ++number) {
        for (const Call& call : every_call) call.make(number);
      }
      ++done;
    });
  }
  watch("threads that start", [&] { return ready == kThreads; });
  {
    const AllocatorHook hook(fail_some);
    go = true;
    watch("spans while allocations fail", [&] { return done == kThreads; });
    for (std::thread& thread : threads) thread.join();
  }
  std::uint64_t spans = 0;  // of one round of one thread
  {
    const CountingHandler once({"once"});
    const std::uint64_t before = handler.starts;
    for (const Call& call : every_call) call.make(0);
    spans = handler.starts - before;
  }
  EXPECT_EQ(handler.starts, kThreads / 2 + spans * (kThreads * kRounds + 1));
  EXPECT_EQ(handler.ends, handler.starts);
  EXPECT_EQ(handler.points, kThreads * kRounds + 1U);
  EXPECT_EQ(spans_dropped.times(), 0U);
  EXPECT_EQ(fields_dropped.times(), 0U);

  // The registry may allocate. It reports what fails, and throws nothing.
  const AllocatorHook hook(fail_some);
  for (int i = 0; i < 50; ++i) {
    const nopspan::Errc attached = nopspan::attach("other", "other.stop", [](const nopspan::Event&) {});
    EXPECT_TRUE(attached == nopspan::Errc::ok || attached == nopspan::Errc::out_of_memory);
    while (attached == nopspan::Errc::ok && nopspan::detach("other") == nopspan::Errc::out_of_memory) continue;
  }
}

TEST(MallocFaults, NothingIsLostIfAllocationsFail) {
  for (const unsigned each : {2U,  3U,  4U,  5U,  7U,  8U,  11U, 13U, 17U, 19U, 23U, 29U, 31U, 32U, 37U,
                              41U, 43U, 47U, 53U, 59U, 61U, 64U, 67U, 71U, 73U, 79U, 83U, 89U, 97U}) {
    fails_each = each;
    EXPECT_THAT(in_child(expect_nothing_is_lost), IsEmpty()) << "each allocation number " << each << " fails";
  }
}

// The address space of this process cannot grow while an instance exists.
class NoMoreMemory {
 public:
  NoMoreMemory() {
    EXPECT_EQ(getrlimit(RLIMIT_AS, &before_), 0);
    const rlimit none{0, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_AS, &none), 0);
  }
  ~NoMoreMemory() { EXPECT_EQ(setrlimit(RLIMIT_AS, &before_), 0); }
  NoMoreMemory(const NoMoreMemory&) = delete;
  NoMoreMemory& operator=(const NoMoreMemory&) = delete;

 private:
  rlimit before_{};
};

bool fail_all(std::size_t bytes) { return bytes == 0; }

TEST(MallocFaults, AHandlerThatThrowsIsDetachedThoughItsStackTraceDoesNotFit) {
  nopspan::capture_stacktraces(true);
  const Counted failures(&nopspan::Stats::handler_failures);
  const Counted dropped(&nopspan::Stats::fields_dropped);
  ASSERT_EQ(nopspan::attach("thrower", "work.stop", [](const nopspan::Event&) { throw 1; }), nopspan::Errc::ok);
  {
    const AllocatorHook hook(fail_all);
    const Span span{"work"};
  }
  nopspan::capture_stacktraces(false);
  EXPECT_EQ(failures.times(), 1U);
  EXPECT_GT(dropped.times(), 0U);
  EXPECT_EQ(nopspan::detach("thrower"), nopspan::Errc::not_found);
}

// Runs in a process of its own, because the library keeps the memory that it has mapped.
void expect_that_spans_are_counted_without_memory(bool is_warm) {
  constexpr std::uint64_t kSpans = 50'000;
  const CountingHandler handler({"work"});
  const Counted dropped(&nopspan::Stats::spans_dropped), over_limit(&nopspan::Stats::spans_over_limit);
  std::vector<AsyncSpan> spans(kSpans);
  const auto begin_and_end = [&] {
    for (AsyncSpan& span : spans) span = AsyncSpan{"work", Context()};
    for (AsyncSpan& span : spans) span.end();
  };
  std::atomic<int> step{0};
  std::thread thread([&] {
    if (is_warm) AsyncSpan{"warm"}.end();
    step = 1;
    while (step != 2) std::this_thread::yield();
    begin_and_end();
    step = 3;
    while (step != 4) std::this_thread::yield();
    begin_and_end();
  });
  watch("a thread that starts", [&] { return step == 1; });
  {
    const AllocatorHook hook(fail_all);
    const NoMoreMemory no_more_memory;
    step = 2;
    watch("spans without memory", [&] { return step == 3; });
  }
  EXPECT_GT(dropped.times(), 0U);
  EXPECT_EQ(handler.starts + dropped.times(), kSpans);
  EXPECT_EQ(over_limit.times(), 0U);
  EXPECT_EQ(handler.ends, handler.starts);
  const std::uint64_t emitted = handler.starts;
  step = 4;
  thread.join();
  EXPECT_EQ(handler.starts, emitted + kSpans);
  EXPECT_EQ(handler.ends, handler.starts);
}

TEST(MallocFaults, SpansOfANewAndOfAnOldThreadAreCountedIfTheKernelHasNoMemory) {
  expect_in_child([] { expect_that_spans_are_counted_without_memory(false); });
  expect_in_child([] { expect_that_spans_are_counted_without_memory(true); });
}

TEST(MallocFaults, ASpanReusesTheMemoryOfOneThatAnotherThreadHasEnded) {
  expect_in_child([] {
    const CountingHandler handler({"work"});
    const Counted dropped(&nopspan::Stats::spans_dropped);
    std::vector<AsyncSpan> spans(50'000);
    std::optional<Span> outer(std::in_place, "work");
    std::atomic<int> step{0};
    std::thread thread([&] {
      while (step != 1) std::this_thread::yield();
      outer.reset();
      step = 2;
    });
    {
      const NoMoreMemory no_more_memory;
      for (std::size_t i = 0; dropped.times() == 0; ++i) spans.at(i) = AsyncSpan{"work", Context()};
      step = 1;
      watch("a span that ends", [&] { return step == 2; });
      const Span span{"work"};
      EXPECT_TRUE(span);
    }
    thread.join();
    EXPECT_EQ(dropped.times(), 1U);
  });
}

// Spans whose fields nearly fill their block. The memory comes back when the handler is called, or not at all.
void expect_that_fields_stay_in_place_without_memory(bool comes_back) {
  constexpr std::size_t kBlock = std::size_t{5} * 64 * 1024;  // a mapping of its own
  const std::string text(kBlock, 'x');
  std::size_t size = 0;
  std::uint64_t lost = 0;
  std::optional<NoMoreMemory> no_more_memory;
  ASSERT_EQ(nopspan::attach("reader", "work.stop",
                            [&](const nopspan::Event& event) {
                              if (comes_back) no_more_memory.reset();
                              EXPECT_EQ(event.metadata("text").as_string().size(), size);
                              lost += 6 - event.metadata().size() - event.measurements().size();
                            }),
            nopspan::Errc::ok);
  const Counted dropped(&nopspan::Stats::fields_dropped);
  for (size = kBlock - 600; size <= kBlock; size += 8) {
    AsyncSpan span{"work"};
    span.set("text", std::string_view(text.data(), size));
    no_more_memory.emplace();
    span.end();
    no_more_memory.reset();
  }
  EXPECT_GT(lost, 0U);
  EXPECT_EQ(dropped.times(), lost);
}

TEST(MallocFaults, FieldsStayInPlaceIfTheKernelHasNoMemory) {
  for (const bool comes_back : {false, true}) {
    EXPECT_THAT(in_child([&] { expect_that_fields_stay_in_place_without_memory(comes_back); }), IsEmpty())
        << comes_back;
  }
}

TEST(MallocFaults, ErrnoIsKeptIfTheKernelHasNoMemory) {
  expect_in_child([] {
    const CountingHandler handler({"work"}, "work.event");
    const Counted dropped(&nopspan::Stats::contexts_dropped);
    std::vector<std::optional<ContextScope>> scopes(10'000);
    const Context context = Context::make();
    const NoMoreMemory no_more_memory;
    errno = ENOENT;
    for (std::size_t i = 0; dropped.times() == 0; ++i) scopes.at(i).emplace(context);
    EXPECT_EQ(errno, ENOENT);
    for (const Call& call : every_call) {
      call.make(1);
      EXPECT_EQ(errno, ENOENT) << call.what;
    }
  });
}

}  // namespace
