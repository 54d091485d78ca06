// SPDX-License-Identifier: Apache-2.0
// The registry, used by several threads.
#include "in_child.h"
#include "recorded.h"

#include <nopspan/execute.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

TEST(RegistryThreads, DetachWaitsForAHandlerThatRunsElsewhere) {
  std::atomic<bool> inside{false};
  std::atomic<bool> go_on{false};
  std::atomic<bool> detached{false};
  auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> watched = held;
  ASSERT_EQ(nopspan::attach("slow", "a.b",
                            [&, held](const Event&) {
                              inside = true;
                              EXPECT_TRUE(wait_until([&] { return go_on.load(); }));
                              EXPECT_FALSE(detached);
                              EXPECT_EQ(*held, 7);
                            }),
            Errc::ok);
  held.reset();
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(wait_until([&] { return inside.load(); }));
  std::thread detacher([&] {
    EXPECT_EQ(nopspan::detach("slow"), Errc::ok);
    detached = true;
  });
  // The handler leaves the list immediately, while detach() is still waiting.
  EXPECT_TRUE(wait_until([] { return nopspan::list_handlers("a.b").empty(); }));
  EXPECT_FALSE(detached);
  EXPECT_FALSE(watched.expired());
  go_on = true;
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
    ASSERT_EQ(nopspan::attach("held", "a.b", [slow = std::shared_ptr<Slow>(new Slow{destroyed})](const Event&) {}),
              Errc::ok);
    ASSERT_EQ(nopspan::detach("held"), Errc::ok);
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
  ASSERT_EQ(
      nopspan::attach(
          id, "a.b", [id, held = std::move(held)](const Event&) { EXPECT_EQ(nopspan::detach(id), nopspan::Errc::ok); }),
      Errc::ok);
}

TEST(RegistryThreads, WhatAHandlerHeldMayEmitWhenItIsDestroyed) {
  std::atomic<bool> inside{false};
  std::atomic<bool> go_on{false};
  std::atomic<bool> second{false};
  EXPECT_EQ(nopspan::attach("first", "farewell",
                            [&](const Event&) {
                              inside = true;
                              EXPECT_TRUE(wait_until([&] { return go_on.load(); }));
                            }),
            nopspan::Errc::ok);
  EXPECT_EQ(nopspan::attach("second", "farewell", [&](const Event&) { second = true; }), nopspan::Errc::ok);
  attach_once("once", std::make_shared<Farewell>());
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(wait_until([&] { return inside.load(); }));
  EXPECT_EQ(nopspan::attach("other", "c.d", [](const Event&) {}),
            nopspan::Errc::ok);  // replaces the table that the emitter is using
  go_on = true;
  emitter.join();
  EXPECT_TRUE(second);
  for (const char* id : {"first", "second", "other"}) EXPECT_EQ(nopspan::detach(id), Errc::ok);
}

// Its destructor waits for a thread that detaches "flush". That detach() waits for the running handlers.
struct Exporter {
  std::atomic<bool> stop{false};
  std::thread worker{[this] {
    EXPECT_TRUE(wait_until([&] { return stop.load(); }));
    EXPECT_EQ(nopspan::detach("flush"), Errc::ok);
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
  ASSERT_EQ(nopspan::attach("flush", "c.d", [](const Event&) {}), Errc::ok);
  attach_once("once", std::make_shared<Exporter>());
  nopspan::execute("a.b");
  EXPECT_TRUE(nopspan::list_handlers().empty());
}

TEST(RegistryThreads, WhatAHandlerHeldIsNotDestroyedInsideAnotherOne) {
  ASSERT_EQ(nopspan::attach("flush", "c.d", [](const Event&) {}), Errc::ok);
  ASSERT_EQ(nopspan::attach("held", "a.b", [held = std::make_shared<Exporter>()](const Event&) {}), Errc::ok);
  ASSERT_EQ(nopspan::attach("detacher", "a.b",
                            [](const Event&) {
                              EXPECT_EQ(nopspan::detach("held"), nopspan::Errc::ok);
                              EXPECT_EQ(nopspan::attach("other", "c.d", [](const Event&) {}), nopspan::Errc::ok);
                              EXPECT_EQ(nopspan::detach("other"), nopspan::Errc::ok);
                            }),
            Errc::ok);
  nopspan::execute("a.b");
  EXPECT_EQ(nopspan::detach("detacher"), Errc::ok);
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
  EXPECT_EQ(nopspan::attach("listener", "farewell", [](const Event&) {}), nopspan::Errc::ok);
  constexpr int kHandlers = 100;
  for (int i = 0; i < kHandlers; ++i) attach_once("once." + std::to_string(i), std::make_shared<Nesting>());
  nopspan::execute("a.b");
  EXPECT_EQ(deepest, 1);
  EXPECT_EQ(nopspan::detach("listener"), Errc::ok);
  EXPECT_TRUE(nopspan::list_handlers().empty());
}

TEST(RegistryThreads, DetachWaitsForAHandlerThatHasDetachedItself) {
  std::atomic<bool> gone{false};
  std::atomic<bool> go_on{false};
  std::atomic<bool> ended{false};
  auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> watched = held;
  EXPECT_EQ(nopspan::attach("once", "a.b",
                            [&, held](const Event&) {
                              EXPECT_EQ(nopspan::detach("once"), nopspan::Errc::ok);
                              gone = true;
                              EXPECT_TRUE(wait_until([&] { return go_on.load(); }));
                              ended = true;
                            }),
            nopspan::Errc::ok);
  held.reset();
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(wait_until([&] { return gone.load(); }));
  std::thread detacher([&] {
    EXPECT_EQ(nopspan::detach("once"), Errc::not_found);
    EXPECT_TRUE(ended);
    EXPECT_TRUE(watched.expired());
  });
  go_on = true;
  emitter.join();
  detacher.join();
}

// A handler of slow.event that another thread runs until release() or the end.
class Blocked {
 public:
  Blocked() {
    EXPECT_EQ(nopspan::attach("slow", "slow.event",
                              [this](const Event&) {
                                inside_ = true;
                                EXPECT_TRUE(wait_until([this] { return released_.load(); }));
                              }),
              Errc::ok);
    emitter_ = std::thread([] { nopspan::execute("slow.event"); });
    EXPECT_TRUE(wait_until([this] { return inside_.load(); }));
  }
  ~Blocked() {
    release();
    EXPECT_EQ(nopspan::detach("slow"), Errc::ok);
  }
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;

  void release() {
    released_ = true;
    if (emitter_.joinable()) emitter_.join();
  }

 private:
  std::atomic<bool> inside_{false};
  std::atomic<bool> released_{false};
  std::thread emitter_;
};

TEST(RegistryThreads, WhatAHandlerHeldIsNotDestroyedByThreadsThatOnlyEmit) {
  Blocked blocked;
  auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> watched = held;
  attach_once("once", std::move(held));
  EXPECT_EQ(nopspan::attach("other", "c.d", [](const Event&) {}), nopspan::Errc::ok);
  nopspan::execute("a.b");  // detaches "once", whose captures wait for the handler that is blocked
  EXPECT_FALSE(watched.expired());
  blocked.release();
  nopspan::execute("c.d");
  EXPECT_FALSE(watched.expired());
  EXPECT_EQ(nopspan::detach("other"), Errc::ok);
  EXPECT_TRUE(watched.expired());
}

TEST(RegistryThreads, WhatIsAttachedAndDetachedWhileAHandlerIsBlockedTakesLittleMemory) {
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(nopspan::attach(std::to_string(i), "many." + std::to_string(i), [](const Event&) {}), Errc::ok);
  }
  {
    const Blocked blocked;
    ASSERT_EQ(nopspan::attach("tick", "a.b",
                              [](const Event&) {
                                EXPECT_EQ(nopspan::attach("dynamic", "c.d", [](const Event&) {}), Errc::ok);
                                EXPECT_EQ(nopspan::detach("dynamic"), Errc::ok);
                              }),
              Errc::ok);
    const std::size_t before = allocated_bytes();
    for (int i = 0; i < 100; ++i) nopspan::execute("a.b");
    EXPECT_LT(allocated_bytes() - before, 100U * 2048);
  }
  EXPECT_EQ(nopspan::detach("tick"), Errc::ok);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(nopspan::detach(std::to_string(i)), Errc::ok);
}

TEST(RegistryThreads, AttachIsRefusedWhileTooManyDetachedHandlersWait) {
  Blocked blocked;
  int attached = 0;
  ASSERT_EQ(nopspan::attach("tick", "a.b",
                            [&](const Event&) {
                              while (nopspan::attach("dynamic", "c.d", [](const Event&) {}) == Errc::ok) {
                                ++attached;
                                EXPECT_EQ(nopspan::detach("dynamic"), Errc::ok);
                              }
                            }),
            Errc::ok);
  nopspan::execute("a.b");
  EXPECT_EQ(attached, 65'536);
  const std::size_t before = mallinfo2().uordblks;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(nopspan::attach("dynamic", "c.d", [](const Event&) {}), Errc::out_of_memory);
  }
  EXPECT_LT(mallinfo2().uordblks, before + 32 * 1024);
  blocked.release();
  EXPECT_EQ(nopspan::attach("dynamic", "c.d", [](const Event&) {}), Errc::ok);
  EXPECT_EQ(nopspan::detach("dynamic"), Errc::ok);
  EXPECT_EQ(nopspan::detach("tick"), Errc::ok);
}

TEST(RegistryThreads, WhatAHandlerHeldMayAttachAndDetach) {
  struct Replacing {
    ~Replacing() {
      EXPECT_EQ(nopspan::detach("old"), Errc::ok);
      EXPECT_EQ(nopspan::attach("new", "c.d", [](const Event&) {}), Errc::ok);
    }
  };
  ASSERT_EQ(nopspan::attach("old", "c.d", [](const Event&) {}), Errc::ok);
  attach_once("once", std::make_shared<Replacing>());
  nopspan::execute("a.b");
  EXPECT_EQ(nopspan::detach("new"), Errc::ok);
}

TEST(RegistryThreads, AForkWhileSomethingIsDestroyedLetsTheChildDetach) {
  struct Slow {
    std::atomic<bool>& begun;
    std::atomic<bool>& go_on;
    ~Slow() {
      begun = true;
      EXPECT_TRUE(wait_until([&] { return go_on.load(); }));
    }
  };
  std::atomic<bool> begun{false};
  std::atomic<bool> go_on{false};
  attach_once("once", std::shared_ptr<Slow>(new Slow{begun, go_on}));  // NOLINT(modernize-make-shared): an aggregate
  EXPECT_EQ(nopspan::attach("mine", "c.d", [](const Event&) {}), nopspan::Errc::ok);
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(wait_until([&] { return begun.load(); }));
  EXPECT_THAT(in_child([] { EXPECT_EQ(nopspan::detach("mine"), Errc::ok); }), IsEmpty());
  EXPECT_EQ(nopspan::detach("mine"), Errc::ok);  // does not wait for the handler that another thread runs
  go_on = true;
  emitter.join();
}

TEST(RegistryThreads, DetachWaitsForADispatchThatHasNotYetReachedTheHandler) {
  std::atomic<bool> inside{false};
  std::atomic<bool> go_on{false};
  std::atomic<bool> detached{false};
  std::atomic<bool> late{false};
  EXPECT_EQ(nopspan::attach("first", "a.b",
                            [&](const Event&) {
                              inside = true;
                              EXPECT_TRUE(wait_until([&] { return go_on.load(); }));
                            }),
            nopspan::Errc::ok);
  EXPECT_EQ(nopspan::attach("second", "a.b", [&](const Event&) { late = detached.load(); }), nopspan::Errc::ok);
  std::thread emitter([] { nopspan::execute("a.b"); });
  ASSERT_TRUE(wait_until([&] { return inside.load(); }));
  std::thread detacher([&] {
    EXPECT_EQ(nopspan::detach("second"), nopspan::Errc::ok);
    detached = true;
  });
  EXPECT_TRUE(wait_until([] { return nopspan::list_handlers("a.b").size() == 1; }));
  go_on = true;
  emitter.join();
  detacher.join();
  EXPECT_FALSE(late);
  EXPECT_EQ(nopspan::detach("first"), nopspan::Errc::ok);
}

TEST(RegistryThreads, DetachInsideAHandlerDoesNotWaitForOthers) {
  std::atomic<int> inside{0};
  const auto detach_the_other = [&](const char* other) {
    return [&inside, other](const Event&) {
      ++inside;
      EXPECT_TRUE(wait_until([&] { return inside.load() == 2; }));
      EXPECT_EQ(nopspan::detach(other), Errc::ok);  // each detaches while the other runs
    };
  };
  EXPECT_EQ(nopspan::attach("left", "left.event", detach_the_other("right")), nopspan::Errc::ok);
  EXPECT_EQ(nopspan::attach("right", "right.event", detach_the_other("left")), nopspan::Errc::ok);
  std::thread left([] { nopspan::execute("left.event"); });
  std::thread right([] { nopspan::execute("right.event"); });
  left.join();
  right.join();
  EXPECT_TRUE(nopspan::list_handlers().empty());
}

TEST(RegistryThreads, AHandlerSeesEveryEventOfEveryThread) {
  std::atomic<int> calls{0};
  EXPECT_EQ(nopspan::attach("count", "work.stop", [&](const Event&) { ++calls; }), nopspan::Errc::ok);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 500; ++i) const Span span{"work"};
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(calls, 2000);
  EXPECT_EQ(nopspan::detach("count"), nopspan::Errc::ok);
}

TEST(RegistryThreads, OneOfTwoThatAttachTheSameIdSucceeds) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> won{0};
    const auto compete = [&] {
      if (nopspan::attach("contested", "a.b", [](const Event&) {}) == Errc::ok) ++won;
    };
    std::thread one(compete);
    std::thread two(compete);
    one.join();
    two.join();
    EXPECT_EQ(won, 1);
    EXPECT_EQ(nopspan::detach("contested"), Errc::ok);
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
        ASSERT_EQ(nopspan::attach_many(id, {"work.start", "work.stop"},
                                       [&, flag = alive.get()](const Event&) {
                                         ++calls;
                                         if (!*flag) ++dead_calls;
                                       }),
                  Errc::ok);
        std::this_thread::yield();
        ASSERT_EQ(nopspan::detach(id), Errc::ok);
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
    ASSERT_EQ(nopspan::attach("bad", "a.b", [](const Event&) { throw 7; }), Errc::ok);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) threads.emplace_back([] { nopspan::execute("a.b"); });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(nopspan::detach("bad"), Errc::not_found);
  }
  nopspan::set_log_sink({});
}

}  // namespace
