// SPDX-License-Identifier: Apache-2.0
// Orphans: a tracer that attaches in the middle of a request must not turn its spans into false root spans.
#include "in_child.h"
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/probes.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <iterator>
#include <optional>
#include <thread>

namespace {

constexpr std::int64_t kOneSecond = 1'000'000'000;

// Signed, as the times of events are.
std::int64_t now_ns() { return static_cast<std::int64_t>(monotonic_ns()); }

// Begins a span without a parent on the calling thread. Returns whether it counts as an orphan.
bool is_orphan(const Recorder& recorder) {
  { const Span probe{"probe"}; }
  return recorder.events("probe.start").back()->is_orphan();
}

TEST(Orphan, IsASpanInsideOneThatBeganBeforeTheHandler) {
  const Span outer{"outer"};
  const Recorder recorder{"inner.start", "inner.stop", "innermost.start", "outer.stop"};
  {
    const Span inner{"inner"};
    const Span innermost{"innermost"};
  }
  const auto events = events_of(recorder, 3);
  EXPECT_TRUE(events[0]->is_orphan());
  EXPECT_EQ(events[0]->parent_id(), 0U);
  EXPECT_FALSE(events[0]->request_id().empty());
  EXPECT_FALSE(events[1]->is_orphan());  // its parent is known
  EXPECT_THAT(events[1], IsChildOf(events[0]));
  EXPECT_TRUE(events[2]->is_orphan());
}

// So that nopspan open can tell since when requests are known.
TEST(Orphan, NotesTheRaiseOfTheGateAlsoInsideAContext) {
  expect_in_child([] {
    const RaisedGate raised(RaisedGate::batch);
    const ContextScope scope{Context::make()};
    { const Span request{"request"}; }
    EXPECT_NE(reinterpret_cast<const nopspan_gate_page*>(nopspan_gate_ptr)->raised_ns, 0U);
  });
}

TEST(Orphan, IsAnEventOfAnOrphan) {
  const Span outer{"outer"};
  const Recorder recorder{"point"};
  const Span inner{"inner"};
  nopspan::execute("point");
  EXPECT_TRUE(recorder.events().at(0)->is_orphan());
}

TEST(Orphan, IsNoSpanInAContextScopeWhoseIdItTakes) {
  const ContextScope here{Context::with_request_id("order-7")};
  const Span outer{"outer"};
  const Recorder recorder{"inner.start"};
  { const Span inner{"inner"}; }
  EXPECT_FALSE(recorder.events().at(0)->is_orphan());
  EXPECT_EQ(recorder.events().at(0)->request_id(), "order-7");
}

TEST(Orphan, IsAnAsyncChildOfASpanThatNobodyRecorded) {
  const AsyncSpan outer{"outer"};
  const Recorder recorder{"inner.start", "under.start"};
  { const AsyncSpan inner{"inner", outer.context()}; }
  {
    const ContextScope here{outer.context()};
    const Span under{"under"};
  }
  const auto events = events_of(recorder, 2);
  EXPECT_TRUE(events[0]->is_orphan());
  EXPECT_TRUE(events[1]->is_orphan());
}

TEST(Orphan, IsWorkSentToAPoolFromASpanThatNobodyRecorded) {
  const Span outer{"outer"};
  const Context context = Context::current();
  const Recorder recorder{"job.start"};
  std::thread([&] {
    const ContextScope scope{context};
    const Span job{"job"};
  }).join();
  EXPECT_TRUE(recorder.events().at(0)->is_orphan());
}

TEST(Orphan, IsNoAsyncSpanThatIsGivenNoParent) {
  const Recorder recorder{"work.start"};
  { const AsyncSpan span{"work"}; }
  EXPECT_FALSE(recorder.events().at(0)->is_orphan());
}

TEST(Orphan, IsNoSpanOfAThreadThatWasStartedAfterTheHandler) {
  for (int i = 0; i < 10; ++i) {  // at different points of the kernel's 10 ms tick
    std::atomic<bool> go_on{false};
    bool older_is_orphan = false;
    bool is_known = false;
    std::thread older([&] {
      EXPECT_TRUE(wait_until([&] { return go_on.load(); }));
      const Recorder recorder{"probe.start"};
      const std::int64_t attached = now_ns();
      older_is_orphan = is_orphan(recorder);
      is_known = now_ns() < attached + kOneSecond;
      // After the highest id, the kernel starts again with the lowest.
      std::thread([&, id = gettid()] { EXPECT_FALSE(gettid() > id && is_orphan(recorder)); }).join();
    });
    go_on = true;
    older.join();
    EXPECT_TRUE(older_is_orphan || !is_known);
  }
}

TEST(Orphan, IsASpanOfAThreadThatWasStartedRightBeforeTheHandler) {
  std::optional<Recorder> recorder;
  std::atomic<bool> begun{false};
  std::atomic<bool> attached{false};
  bool orphan = false;
  std::thread older([&] {
    const Span outer{"outer"};
    begun = true;
    EXPECT_TRUE(wait_until([&] { return attached.load(); }));
    orphan = is_orphan(*recorder);
  });
  EXPECT_TRUE(wait_until([&] { return begun.load(); }));
  const std::int64_t before = now_ns();
  recorder.emplace(std::vector<std::string>{"probe.start"});
  attached = true;
  older.join();
  EXPECT_TRUE(orphan || now_ns() > before + kOneSecond);
}

// Kills the process if the calling thread opens a file. False if the kernel refuses that.
bool forbid_opening() {
#define FORBIDDEN(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL)
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
#ifdef SYS_open
      FORBIDDEN(SYS_open),
#endif
      FORBIDDEN(SYS_openat),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(Orphan, IsFoundWithoutOpeningAFile) {
  expect_in_child([] {
    const auto first_spans = [] {
      std::thread([] {
        ASSERT_TRUE(forbid_opening());
        (void)Context::current();
        const Span outer{"outer"};
        const Span inner{"inner"};
      }).join();
    };
    {
      const Recorder recorder{"outer.start"};
      first_spans();
      EXPECT_EQ(recorder.size(), 1U);
    }
    for (const RaisedGate::Counter tracer : {RaisedGate::spans, RaisedGate::batch}) {
      const RaisedGate raised(tracer);
      first_spans();
    }
  });
}

TEST(Orphan, IsNoSpanOnceASecondHasPassed) {
  const std::int64_t attached = now_ns();
  const Recorder recorder{"probe.start"};
  EXPECT_TRUE(wait_until([&] { return !is_orphan(recorder); }));
  EXPECT_GE(recorder.events().back()->monotonic_time_ns(), attached + kOneSecond);
  EXPECT_FALSE(is_orphan(recorder));
}

TEST(Orphan, IsALateSpanOfANameThatIsKnownAsAChild) {
  const Span outer{"outer"};
  const Recorder recorder{"probe.start", "step.start"};
  const std::int64_t attached = now_ns();
  {
    const AsyncSpan other_request{"request"};
    const AsyncSpan step{"step", other_request.context()};  // from now on the library knows that steps have parents
  }
  const auto step_is_orphan = [&] {
    { const Span step{"step"}; }
    return recorder.events("step.start").back()->is_orphan();
  };
  EXPECT_TRUE(step_is_orphan());
  ASSERT_TRUE(wait_until([&] { return now_ns() > attached + kOneSecond; }));
  EXPECT_TRUE(step_is_orphan());
  EXPECT_FALSE(is_orphan(recorder));  // a name never seen below another span ends the doubt
  EXPECT_FALSE(step_is_orphan());
}

TEST(Orphan, IsASpanInsideOneThatBeganWhileOnlyOtherProbesWereAttached) {
  const RaisedGate tracer(RaisedGate::points);
  const std::int64_t began = now_ns();
  const Span outer{"outer"};  // a tracer of other probes does not make the library record spans
  EXPECT_FALSE(outer);
  ASSERT_TRUE(wait_until([&] { return now_ns() > began + kOneSecond; }));
  const Recorder recorder{"inner.start"};
  { const Span inner{"inner"}; }
  EXPECT_TRUE(recorder.events().at(0)->is_orphan());
}

TEST(Orphan, IsASpanInsideOneThatBeganWhileTheHandlerWasAway) {
  { const Recorder earlier{"inner.start"}; }
  const Span outer{"outer"};
  const Recorder recorder{"inner.start"};
  { const Span inner{"inner"}; }
  EXPECT_TRUE(recorder.events().at(0)->is_orphan());
}

TEST(Orphan, IsNoSpanInAnEmptyContextOnceASecondHasPassed) {
  const std::int64_t attached = now_ns();
  const Recorder recorder{"probe.start"};
  const ContextScope loop{Context::current()};  // taken while a span that nobody recorded may be open
  EXPECT_TRUE(is_orphan(recorder));
  EXPECT_TRUE(wait_until([&] { return !is_orphan(recorder); }));
  EXPECT_GE(recorder.events().back()->monotonic_time_ns(), attached + kOneSecond);
}

TEST(Orphan, IsNoSpanInARequestOfItsOwnOnceTheDoubtIsOver) {
  const Recorder recorder{"probe.start", "job.start"};
  ASSERT_TRUE(wait_until([&] { return !is_orphan(recorder); }));
  // From now on this thread is known to have no current span, so work sent from here is not an orphan.
  std::thread([context = Context::current()] {
    const ContextScope scope{context};
    const Span job{"job"};
  }).join();
  EXPECT_FALSE(recorder.events("job.start").at(0)->is_orphan());
}

}  // namespace
