// SPDX-License-Identifier: Apache-2.0
// What a handler may do, and what happens to a handler that throws.
#include "in_child.h"
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/execute.h>

#include <malloc.h>

#include <atomic>
#include <memory>
#include <thread>

namespace {

using ::testing::EndsWith;
using ::testing::StartsWith;

class Handler : public ::testing::Test {
 protected:
  void TearDown() override {
    while (!nopspan::list_handlers().empty()) static_cast<void>(nopspan::detach(nopspan::list_handlers()[0].id));
  }
  const LoggedLines log_;
};

TEST_F(Handler, ThatThrowsIsDetachedAndReported) {
  const Recorder failures{"telemetry.handler.failure"};
  const Counted counted(&nopspan::Stats::handler_failures);
  const auto realtime_ns = [] {
    return std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  };
  const std::int64_t before = realtime_ns();
  int calls = 0;
  attach_ok(
      "bad", "a.b",
      [&](const Event&) {
        ++calls;
        throw std::runtime_error("boom");
      },
      Value::map({{"k", 1}}));
  nopspan::execute("a.b");
  nopspan::execute("a.b");
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(counted.times(), 1U);
  EXPECT_EQ(nopspan::detach("bad"), Errc::not_found);
  EXPECT_THAT(log_.lines, ElementsAre("handler \"bad\" of event a.b failed, and has been detached: "
                                      "error std::runtime_error: boom"));
  ASSERT_THAT(failures.events(), SizeIs(1));
  const auto failure = failures.events()[0];
  EXPECT_THAT(keys_of(failure->metadata()),
              ElementsAre("event_name", "handler_config", "handler_id", "kind", "reason", "stacktrace"));
  EXPECT_THAT(failure, HasMetadata("stacktrace", Value::list()));
  EXPECT_THAT(failure, AllOf(HasMetadata("event_name", "a.b"), HasMetadata("handler_id", "bad")));
  EXPECT_THAT(failure, AllOf(HasMetadata("handler_config", Value::map({{"k", 1}})), HasMetadata("kind", "error")));
  EXPECT_THAT(failure, HasMetadata("reason", Value::map({{"type", "std::runtime_error"}, {"message", "boom"}})));
  EXPECT_THAT(keys_of(failure->measurements()), ElementsAre("monotonic_time", "system_time"));
  EXPECT_TRUE(failure->system_time_ns() >= before && failure->system_time_ns() <= realtime_ns());
  EXPECT_LE(failure->monotonic_time_ns(), static_cast<std::int64_t>(monotonic_ns()));
  EXPECT_THAT(failure, AllOf(LacksAttribute("monotonic_time"), LacksAttribute("system_time")));
}

TEST_F(Handler, ThatThrowsForgesNoLine) {
  const Recorder failures{"telemetry.handler.failure"};
  const std::string message = "first\nnopspan: error: forged\x1b[2J\u0085\u2028" + std::string(1U << 16U, 'x');
  attach_ok("bad\n\"id\"", "a.\u2028b", [&](const Event&) { throw std::runtime_error(message); });
  nopspan::execute("a.\u2028b");
  ASSERT_THAT(log_.lines, SizeIs(1));
  EXPECT_THAT(log_.lines[0], StartsWith("handler \"bad??id?\" of event a.?b failed, and has been detached: error "
                                        "std::runtime_error: first?nopspan: error: forged?[2J??xxx"));
  EXPECT_THAT(log_.lines[0], EndsWith("xxx\u2026"));
  EXPECT_LT(log_.lines[0].size(), 500U);
  EXPECT_THAT(failures.events()[0], HasMetadata("handler_id", "bad\n\"id\""));
  EXPECT_EQ(failures.events()[0]->metadata("reason").find("message").as_string(), message);
}

TEST_F(Handler, ThatThrowsWhatIsNoExceptionIsDetachedToo) {
  const Recorder failures{"telemetry.handler.failure"};
  attach_ok("bad", "a.b", [](const Event&) { throw 7; });
  nopspan::execute("a.b");
  EXPECT_EQ(nopspan::detach("bad"), Errc::not_found);
  EXPECT_THAT(failures.events().at(0), HasMetadata("kind", "throw"));
}

TEST_F(Handler, ThatThrowsWhileAnExceptionUnwindsDisturbsNothing) {
  attach_ok("bad", "work.exception", [](const Event&) { throw std::runtime_error("handler"); });
  try {
    const Span span{"work"};
    throw std::logic_error("application");
  } catch (const std::logic_error& error) {
    EXPECT_STREQ(error.what(), "application");
  }
  EXPECT_THAT(log_.lines, SizeIs(1));
}

TEST_F(Handler, OfFailuresThatThrowsIsDetachedAsWell) {
  attach_ok("worse", "telemetry.handler.failure", [](const Event&) { throw std::runtime_error("again"); });
  attach_ok("bad", "a.b", [](const Event&) { throw std::runtime_error("once"); });
  nopspan::execute("a.b");
  EXPECT_THAT(nopspan::list_handlers(), SizeIs(0));
  EXPECT_THAT(log_.lines, SizeIs(2));
}

TEST_F(Handler, MayDetachItself) {
  int calls = 0;
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> watched = held;
  attach_ok("self", "a.b", [&, held](const Event&) {
    ++calls;
    detach_ok("self");
    EXPECT_EQ(nopspan::detach("self"), Errc::not_found);
    EXPECT_EQ(*held, 0);  // captures live as long as the handler runs
  });
  held.reset();
  nopspan::execute("a.b");
  EXPECT_TRUE(watched.expired());
  nopspan::execute("a.b");
  EXPECT_EQ(calls, 1);
}

TEST_F(Handler, MayEmitOtherEventsAndSpans) {
  const Recorder recorder{"from.handler", "inside.start", "inside.stop"};
  attach_ok("emits", "work.stop", [](const Event& e) {
    nopspan::execute("from.handler", [&](Fields& f) { f.set("of", e.name()); });
    const Span span{"inside"};
  });
  { const Span span{"work"}; }
  EXPECT_THAT(recorder.names(), ElementsAre("from.handler", "inside.start", "inside.stop"));
}

TEST_F(Handler, IsNotCalledAgainWhileItRunsAndThatIsCounted) {
  const Counted dropped(&nopspan::Stats::recursion_dropped);
  int calls = 0;
  int others = 0;
  attach_ok("audit", "db.query.stop", [&](const Event&) {
    ++calls;
    for (int i = 0; i < 3; ++i) const Span span{"db.query"};
  });
  attach_ok("other", "db.query.stop", [&](const Event&) { ++others; });
  { const Span span{"db.query"}; }
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(others, 4);  // the other handler is not running, so it receives the events of the first one too
  EXPECT_EQ(dropped.times(), 3U);
  { const Span span{"db.query"}; }
  EXPECT_EQ(calls, 2);
}

TEST_F(Handler, IsNotCalledAgainByWayOfAnotherOne) {
  std::string order;
  attach_ok("ping", "ping", [&](const Event&) {
    order += "i";
    nopspan::execute("pong");
  });
  attach_ok("pong", "pong", [&](const Event&) {
    order += "o";
    nopspan::execute("ping");
  });
  nopspan::execute("ping");
  nopspan::execute("pong");
  EXPECT_EQ(order, "iooi");
}

TEST_F(Handler, IsCalledOnAThreadWhileItRunsOnAnother) {
  std::atomic<int> inside{0};
  attach_ok("id", "a.b", [&](const Event&) {
    ++inside;
    EXPECT_TRUE(wait_until([&] { return inside.load() == 2; }));
  });
  std::thread other([] { nopspan::execute("a.b"); });
  nopspan::execute("a.b");
  other.join();
}

TEST_F(Handler, OfEventsThatNestIsStoppedAtSixteenDeepAndCounted) {
  const Counted dropped(&nopspan::Stats::recursion_dropped);
  int deepest = 0;
  for (int i = 0; i < 18; ++i) {
    attach_ok(std::to_string(i), "nested." + std::to_string(i), [&, i](const Event&) {
      deepest = std::max(deepest, i + 1);
      nopspan::execute(nopspan::Name::intern("nested." + std::to_string(i + 1)));
    });
  }
  nopspan::execute("nested.0");
  EXPECT_EQ(deepest, 16);
  EXPECT_EQ(dropped.times(), 1U);
  nopspan::execute("nested.0");
  EXPECT_EQ(dropped.times(), 2U);
}

TEST_F(Handler, MayListHandlersAndSetTheLogSink) {
  attach_ok("id", "a.b", [](const Event&) {
    EXPECT_THAT(nopspan::list_handlers(), SizeIs(1));
    nopspan::set_log_sink({});
  });
  nopspan::execute("a.b");
}

// ---- The registry, used by several threads.

TEST(RegistryThreads, DetachWaitsForAHandlerThatRunsElsewhere) {
  Halt halt;
  std::atomic<bool> detached{false};
  auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> watched = held;
  attach_ok("slow", "a.b", [&, held](const Event&) {
    halt.here();
    EXPECT_FALSE(detached);
    EXPECT_EQ(*held, 7);
  });
  held.reset();
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(halt.is_reached());
  std::thread detacher([&] {
    detach_ok("slow");
    detached = true;
  });
  // The handler leaves the list immediately, while detach() is still waiting.
  EXPECT_TRUE(wait_until([] { return nopspan::list_handlers("a.b").empty(); }));
  EXPECT_FALSE(detached);
  EXPECT_FALSE(watched.expired());
  halt.release();
  emitter.join();
  detacher.join();
  EXPECT_TRUE(watched.expired());
}

TEST(RegistryThreads, DetachWaitsUntilWhatAHandlerHeldIsGone) {
  struct Slow {
    std::atomic<bool>& destroyed;
    ~Slow() {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // gives other threads time to overtake
      destroyed = true;
    }
  };
  std::atomic<bool> stop{false};
  std::thread emitter([&] {
    while (!stop) nopspan::execute("a.b");
  });
  for (int i = 0; i < 50; ++i) {
    std::atomic<bool> destroyed{false};
    attach_ok("held", "a.b", [slow = std::shared_ptr<Slow>(new Slow{destroyed})](const Event&) {});
    detach_ok("held");
    EXPECT_TRUE(destroyed);
  }
  stop = true;
  emitter.join();
}

// Emits an event when the last handler that holds it is destroyed.
struct Farewell {
  Farewell() = default;
  ~Farewell() { nopspan::execute("farewell"); }
  Farewell(const Farewell&) = delete;
  Farewell& operator=(const Farewell&) = delete;
};

// Attaches a handler that detaches itself. The emitting thread destroys its captures, unless another thread runs a
// handler then.
void attach_once(const std::string& id, std::shared_ptr<void> held) {
  attach_ok(id, "a.b", [id, held = std::move(held)](const Event&) { detach_ok(id); });
}

TEST(RegistryThreads, WhatAHandlerHeldMayEmitWhenItIsDestroyed) {
  Halt halt;
  std::atomic<bool> second{false};
  attach_ok("first", "farewell", [&](const Event&) { halt.here(); });
  attach_ok("second", "farewell", [&](const Event&) { second = true; });
  attach_once("once", std::make_shared<Farewell>());
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(halt.is_reached());
  attach_ok("other", "c.d", [](const Event&) {});  // replaces the table that the emitter is using
  halt.release();
  emitter.join();
  EXPECT_TRUE(second);
  for (const char* id : {"first", "second", "other"}) detach_ok(id);
}

// Its destructor waits for a thread that detaches "flush". That detach() waits for the running handlers.
struct Exporter {
  std::atomic<bool> stop{false};
  std::thread worker{[this] {
    EXPECT_TRUE(wait_until([&] { return stop.load(); }));
    detach_ok("flush");
  }};
  Exporter() = default;
  ~Exporter() {
    stop = true;
    worker.join();
  }
  Exporter(const Exporter&) = delete;
  Exporter& operator=(const Exporter&) = delete;
};

TEST(RegistryThreads, WhatAHandlerHeldMayWaitForAThreadThatDetaches) {
  attach_ok("flush", "c.d", [](const Event&) {});
  attach_once("once", std::make_shared<Exporter>());
  nopspan::execute("a.b");
  EXPECT_TRUE(nopspan::list_handlers().empty());
}

TEST(RegistryThreads, WhatAHandlerHeldIsNotDestroyedInsideAnotherOne) {
  attach_ok("flush", "c.d", [](const Event&) {});
  attach_ok("held", "a.b", [held = std::make_shared<Exporter>()](const Event&) {});
  attach_ok("detacher", "a.b", [](const Event&) {
    detach_ok("held");
    attach_ok("other", "c.d", [](const Event&) {});
    detach_ok("other");
  });
  nopspan::execute("a.b");
  detach_ok("detacher");
  EXPECT_TRUE(nopspan::list_handlers().empty());
}

TEST(RegistryThreads, WhatManyHandlersHeldIsDestroyedOneByOne) {
  static thread_local int depth;
  static thread_local int deepest;
  struct Nesting {
    ~Nesting() {
      deepest = std::max(deepest, ++depth);
      nopspan::execute("farewell");
      --depth;
    }
  };
  deepest = 0;
  attach_ok("listener", "farewell", [](const Event&) {});
  constexpr int kHandlers = 100;
  for (int i = 0; i < kHandlers; ++i) attach_once("once." + std::to_string(i), std::make_shared<Nesting>());
  nopspan::execute("a.b");
  EXPECT_EQ(deepest, 1);
  detach_ok("listener");
  EXPECT_TRUE(nopspan::list_handlers().empty());
}

TEST(RegistryThreads, DetachWaitsForAHandlerThatHasDetachedItself) {
  Halt halt;
  std::atomic<bool> ended{false};
  auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> watched = held;
  attach_ok("once", "a.b", [&, held](const Event&) {
    detach_ok("once");
    halt.here();
    ended = true;
  });
  held.reset();
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(halt.is_reached());
  std::thread detacher([&] {
    EXPECT_EQ(nopspan::detach("once"), Errc::not_found);
    EXPECT_TRUE(ended);
    EXPECT_TRUE(watched.expired());
  });
  halt.release();
  emitter.join();
  detacher.join();
}

// A handler of slow.event that another thread runs until release() or the end.
class Blocked {
 public:
  Blocked() {
    attach_ok("slow", "slow.event", [this](const Event&) { halt_.here(); });
    emitter_ = std::thread([] { nopspan::execute("slow.event"); });
    EXPECT_TRUE(halt_.is_reached());
  }
  ~Blocked() {
    release();
    detach_ok("slow");
  }
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;

  void release() {
    halt_.release();
    if (emitter_.joinable()) emitter_.join();
  }

 private:
  Halt halt_;
  std::thread emitter_;
};

TEST(RegistryThreads, WhatAHandlerHeldIsNotDestroyedByThreadsThatOnlyEmit) {
  Blocked blocked;
  auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> watched = held;
  attach_once("once", std::move(held));
  attach_ok("other", "c.d", [](const Event&) {});
  nopspan::execute("a.b");  // detaches "once", whose captures wait for the handler that is blocked
  EXPECT_FALSE(watched.expired());
  blocked.release();
  nopspan::execute("c.d");
  EXPECT_FALSE(watched.expired());
  detach_ok("other");
  EXPECT_TRUE(watched.expired());
}

TEST(RegistryThreads, WhatIsAttachedAndDetachedWhileAHandlerIsBlockedTakesLittleMemory) {
  for (int i = 0; i < 1000; ++i) {
    attach_ok(std::to_string(i), "many." + std::to_string(i), [](const Event&) {});
  }
  {
    const Blocked blocked;
    attach_ok("tick", "a.b", [](const Event&) {
      attach_ok("dynamic", "c.d", [](const Event&) {});
      detach_ok("dynamic");
    });
    const std::size_t before = allocated_bytes();
    for (int i = 0; i < 100; ++i) nopspan::execute("a.b");
    EXPECT_LT(allocated_bytes() - before, 100U * 2048);
  }
  detach_ok("tick");
  for (int i = 0; i < 1000; ++i) detach_ok(std::to_string(i));
}

TEST(RegistryThreads, AttachIsRefusedWhileTooManyDetachedHandlersWait) {
  Blocked blocked;
  int attached = 0;
  attach_ok("tick", "a.b", [&](const Event&) {
    while (nopspan::attach("dynamic", "c.d", [](const Event&) {}) == Errc::ok) {
      ++attached;
      detach_ok("dynamic");
    }
  });
  nopspan::execute("a.b");
  EXPECT_EQ(attached, 65'536);
  const std::size_t before = mallinfo2().uordblks;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(nopspan::attach("dynamic", "c.d", [](const Event&) {}), Errc::out_of_memory);
  }
  EXPECT_LT(mallinfo2().uordblks, before + 32 * 1024);
  blocked.release();
  attach_ok("dynamic", "c.d", [](const Event&) {});
  detach_ok("dynamic");
  detach_ok("tick");
}

TEST(RegistryThreads, WhatAHandlerHeldMayAttachAndDetach) {
  struct Replacing {
    ~Replacing() {
      detach_ok("old");
      attach_ok("new", "c.d", [](const Event&) {});
    }
  };
  attach_ok("old", "c.d", [](const Event&) {});
  attach_once("once", std::make_shared<Replacing>());
  nopspan::execute("a.b");
  detach_ok("new");
}

TEST(RegistryThreads, AForkWhileSomethingIsDestroyedLetsTheChildDetach) {
  Halt halt;
  attach_once("once", std::shared_ptr<Halt>(&halt, [](Halt* where) { where->here(); }));
  attach_ok("mine", "c.d", [](const Event&) {});
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(halt.is_reached());
  expect_in_child([] { detach_ok("mine"); });
  detach_ok("mine");  // does not wait for the handler that another thread runs
  halt.release();
  emitter.join();
}

TEST(RegistryThreads, DetachWaitsForADispatchThatHasNotYetReachedTheHandler) {
  Halt halt;
  std::atomic<bool> detached{false};
  std::atomic<bool> late{false};
  attach_ok("first", "a.b", [&](const Event&) { halt.here(); });
  attach_ok("second", "a.b", [&](const Event&) { late = detached.load(); });
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(halt.is_reached());
  std::thread detacher([&] {
    detach_ok("second");
    detached = true;
  });
  EXPECT_TRUE(wait_until([] { return nopspan::list_handlers("a.b").size() == 1; }));
  halt.release();
  emitter.join();
  detacher.join();
  EXPECT_FALSE(late);
  detach_ok("first");
}

TEST(RegistryThreads, DetachInsideAHandlerDoesNotWaitForOthers) {
  std::atomic<int> inside{0};
  const auto detach_the_other = [&](const char* other) {
    return [&inside, other](const Event&) {
      ++inside;
      EXPECT_TRUE(wait_until([&] { return inside.load() == 2; }));
      detach_ok(other);  // each detaches while the other runs
    };
  };
  attach_ok("left", "left.event", detach_the_other("right"));
  attach_ok("right", "right.event", detach_the_other("left"));
  std::thread left([] { nopspan::execute("left.event"); });
  std::thread right([] { nopspan::execute("right.event"); });
  left.join();
  right.join();
  EXPECT_TRUE(nopspan::list_handlers().empty());
}

TEST(RegistryThreads, OneOfTwoThatAttachTheSameIdSucceeds) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> won{0};
    in_threads(2, [&](int) {
      if (nopspan::attach("contested", "a.b", [](const Event&) {}) == Errc::ok) ++won;
    });
    EXPECT_EQ(won, 1);
    detach_ok("contested");
  }
}

TEST(RegistryThreads, AttachDetachAndEmitAtTheSameTime) {
  // The data that a handler refers to is destroyed right after detach(). The sanitizers and `alive` would detect a
  // later call.
  std::atomic<bool> stop{false};
  std::atomic<int> dead_calls{0};
  std::atomic<int> calls{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      const std::string id = "writer-" + std::to_string(t);
      for (int i = 0; i < 300; ++i) {
        auto alive = std::make_unique<std::atomic<bool>>(true);
        attach_many_ok(id, {"work.start", "work.stop"}, [&, flag = alive.get()](const Event&) {
          ++calls;
          if (!*flag) ++dead_calls;
        });
        std::this_thread::yield();
        detach_ok(id);
        *alive = false;
      }
    });
  }
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (!stop) const Span span{"work"};
    });
  }
  threads[0].join();
  threads[1].join();
  stop = true;
  threads[2].join();
  threads[3].join();
  EXPECT_EQ(dead_calls, 0);
  EXPECT_TRUE(nopspan::list_handlers().empty());
}

TEST(RegistryThreads, HandlersThatThrowOnSeveralThreadsAreDetachedOnce) {
  nopspan::set_log_sink([](nopspan::LogLevel, std::string_view) {});
  for (int round = 0; round < 20; ++round) {
    attach_ok("bad", "a.b", [](const Event&) { throw 7; });
    in_threads(4, [](int) { nopspan::execute("a.b"); });
    EXPECT_EQ(nopspan::detach("bad"), Errc::not_found);
  }
  nopspan::set_log_sink({});
}

}  // namespace
