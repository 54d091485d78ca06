// SPDX-License-Identifier: Apache-2.0
// Signals at the instructions of threads: while they make their first spans, allocate and end, and while other threads
// end their scopes or the signal handler forks. The processor traps after each instruction.
#include "fault.h"
#include "single_step.h"

#include <nopspan/context.h>
#include <nopspan/span.h>
#include <nopspan/stream.h>

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <optional>
#include <set>
#include <thread>

namespace {

using nopspan::AsyncSpan;
using nopspan::Context;
using nopspan::ContextScope;
using nopspan::Span;

constexpr unsigned long kEach = 31;       // after the first signal to a thread, each 31st instruction has one
volatile unsigned long first_signal = 0;  // 0: no signals
volatile unsigned long first_span = 0;    // the step at which the thread's first span has begun
volatile unsigned long signals = 0;

void on_step(int) {
  step = step + 1;
  if (first_signal == 0 || step < first_signal || (step - first_signal) % kEach != 0) return;
  signals = signals + 1;
  const Span span{"signal"};
}

void work() {
  static const std::string large(800, 'x');  // does not fit into the span's own memory
  Span outer{"work"};
  first_span = step;
  outer.set("large", large);
  std::free(std::malloc(5000));
  nopspan::StreamMeter meter{AsyncSpan{"work", outer.context()}};
  meter.token();
  const Span inner{"work", [](nopspan::Fields& f) { f.label("key", "value").link(Context::make()); }};
}
constexpr unsigned kSpansOfWork = 3;

// The destructor of this key runs after that of the library's key, so the traps include the library's. They must stop
// before the thread exits, because the C library then blocks signals.
pthread_key_t last_key;
void stop_traps(void*) { __writeeflags(__readeflags() & ~kTrapFlag); }

void run_with_traps() {
  pthread_setspecific(last_key, &last_key);
  __writeeflags(__readeflags() | kTrapFlag);
  work();
}

void run() {
  step = 0;
  std::atomic<bool> done{false};
  std::thread thread([&] {
    run_with_traps();
    done = true;
  });
  watch("a thread that is interrupted", [&] { return done.load(); });
  thread.join();
}

// Each thread gets its first signal at another instruction before its first span has begun.
TEST(StepFaults, ASignalMayInterruptEachInstruction) {
  struct sigaction action {};
  action.sa_handler = on_step;
  ASSERT_EQ(sigaction(SIGTRAP, &action, nullptr), 0);
  ASSERT_EQ(pthread_key_create(&last_key, stop_traps), 0);
  CountingHandler handler({"work", "signal"});
  run();  // also runs the dynamic linker
  run();
  handler.starts = handler.ends = 0;

  const Counted dropped(&nopspan::Stats::spans_dropped);
  const Counted reentrant(&nopspan::Stats::reentrant);
  const Counted recursion(&nopspan::Stats::recursion_dropped);
  const unsigned runs = is_long ? 300 : 6;
  const unsigned long until = first_span;
  for (unsigned i = 0; i < runs; ++i) {
    first_signal = 1 + until * i / runs;
    run();
  }
  EXPECT_GT(signals, 100U * runs);
  EXPECT_EQ(handler.starts, handler.ends);
  EXPECT_EQ(dropped.times(), 0U);
  EXPECT_GE(handler.starts, kSpansOfWork * runs);
  EXPECT_GE(handler.starts + reentrant.times() + recursion.times(), kSpansOfWork * runs + signals);
}

// More than a thread keeps, and more than a slab has.
std::vector<AsyncSpan> many_spans() {
  std::vector<AsyncSpan> spans;
  for (int i = 0; i < 300; ++i) spans.emplace_back("work", Context());
  return spans;
}

// Spans run although nobody listens. So they have fewer instructions than with a handler.
struct KeptOpen {
  KeptOpen() { nopspan::keep_open_spans(true); }
  ~KeptOpen() { nopspan::keep_open_spans(false); }
};

// True if contexts are right on this thread, and if its spans share no memory with each other and with `others`.
bool can_use_all(const std::vector<AsyncSpan>& others = {}) {
  bool right = true;
  for (const char* id : {"first", "second"}) {
    const ContextScope outer{Context::with_request_id("outer")};
    const ContextScope inner{Context::with_request_id(id)};
    right = right && nopspan::request_id() == id;
  }
  const std::vector<AsyncSpan> spans = many_spans();
  std::set<std::uint64_t> ids;
  for (const AsyncSpan& span : spans) ids.insert(span.context().span_id());
  for (const AsyncSpan& span : others) ids.insert(span.context().span_id());
  return right && ids.size() == spans.size() + others.size();
}

enum Turn : int { nobodys, ends_scope, begins_spans, stops };
std::atomic<Turn> turn{nobodys};  // what the other thread does

void let_other_thread(Turn act) {
  turn = act;
  while (turn == act) sched_yield();
}

// The signal handler.
void end_and_look() {
  let_other_thread(ends_scope);
  (void)Context::current();
  { const ContextScope here{Context::current()}; }
  { const Span refused{"work"}; }
  let_other_thread(begins_spans);
}

// While a thread runs `work` after `prepare`, a signal handler interrupts it. Another thread then ends `scope`, which
// `prepare` began. The handler looks at contexts, and the other thread begins spans, which may use freed memory.
template <class Scope, class Prepare, class Work>
void expect_that_a_scope_may_end_meanwhile(std::optional<Scope>& scope, unsigned long each, Prepare prepare,
                                           Work work) {
  std::vector<AsyncSpan> others;
  std::thread other([&] {
    for (Turn now = turn; now != stops; now = turn) {
      if (now == ends_scope) scope.reset();
      if (now == begins_spans) others = many_spans();
      if (now != nobodys) turn = nobodys;
      std::this_thread::yield();
    }
  });
  prepare();
  work();
  end_and_look();  // all of this also runs the dynamic linker
  unsigned long at = 1;
  for (bool interrupted = true; interrupted && !::testing::Test::HasFailure(); at += each) {
    others.clear();
    prepare();
    interrupted = run_interrupted(at, end_and_look, work);
    scope.reset();
    EXPECT_TRUE(Context::current().empty()) << at;
    EXPECT_TRUE(can_use_all(others)) << at;
  }
  EXPECT_TRUE(at > 50 || ::testing::Test::HasFailure());
  turn = stops;
  other.join();
  turn = nobodys;
}

template <class Scope, class Argument>
void expect_that_a_scope_may_end_at_each_instruction(const Argument& argument) {
  const KeptOpen kept_open;
  const Context mine = Context::make();
  static std::optional<Scope> scope;
  static std::optional<ContextScope> around;
  const auto begin = [&] { scope.emplace(argument); };
  const auto begin_inside = [&] {
    around.emplace(mine);
    begin();
  };
  const unsigned long each = is_long ? 1 : 7;
  expect_that_a_scope_may_end_meanwhile(scope, each, begin, [] { const Span inner{"work"}; });
  expect_that_a_scope_may_end_meanwhile(scope, 1, begin, [&] { const ContextScope inner{mine}; });
  expect_that_a_scope_may_end_meanwhile(scope, 1, begin_inside, [] { around.reset(); });
}

TEST(StepFaults, AnotherThreadMayEndASpanWhileASignalLooksAtContexts) {
  expect_in_child([] { expect_that_a_scope_may_end_at_each_instruction<Span>("work"); });
}

TEST(StepFaults, AnotherThreadMayEndAContextWhileASignalLooksAtContexts) {
  expect_in_child([] { expect_that_a_scope_may_end_at_each_instruction<ContextScope>(Context::make()); });
}

pid_t child = -1;
void fork_child() { child = fork(); }

// Begins the first scopes of a thread, and forks at instruction number `at`. The child goes on with them, and its other
// threads may use no memory that its first thread uses. False if there are fewer instructions.
bool fork_at(unsigned long at, bool has_state) {
  if (has_state) AsyncSpan("work", Context()).end();
  const Context mine = Context::with_request_id("mine");
  std::optional<ContextScope> scope;
  std::optional<Span> span;
  const bool interrupted = run_interrupted(at, fork_child, [&] {
    scope.emplace(mine);
    if (!has_state) span.emplace("work");
  });
  if (child != 0) return interrupted;
  alarm(120);
  if (has_state) span.emplace("work");
  bool right = true;
  const auto check = [&] { right = right && can_use_all(); };
  const std::uint64_t id = span->context().span_id();
  std::thread(check).join();
  std::thread(check).join();
  check();
  right = right && nopspan::request_id() == "mine" && span->context().span_id() == id;
  span.reset();
  scope.reset();
  _exit(right && Context::current().empty() ? 0 : 1);
}

// Calls `work(at)` for every `each`-th instruction, until it returns false because it has fewer instructions. Each call
// is in a process of its own, because memory that no thread has used yet differs from memory that one has. After each
// call, `then()` runs in this process.
template <class Work, class Then = void (*)()>
void interrupt_in_children(
    unsigned long each, const Work& work, const Then& then = [] {}) {
  for (unsigned long at = 1;; at += each) {
    const std::string problem = in_child([&] {
      if (!work(at)) _exit(7);
    });
    if (problem == "exit status 7") break;
    ASSERT_EQ(problem, "") << "of a signal at instruction " << at;
    then();
  }
}

// The same for a signal handler that forks: `work` sets `child`, which must end well.
template <class Work>
void fork_in_children(unsigned long each, const Work& work) {
  interrupt_in_children(each, [&](unsigned long at) {
    if (!work(at)) return false;
    EXPECT_EQ(wait_for(child), "");
    return true;
  });
}

void expect_that_a_signal_may_fork(bool has_state, unsigned long each) {
  const KeptOpen kept_open;
  EXPECT_TRUE(can_use_all());  // also runs the dynamic linker
  fork_in_children(each, [&](unsigned long at) {
    bool interrupted = false;
    std::thread([&] { interrupted = fork_at(at, has_state); }).join();
    return interrupted;
  });
}

TEST(StepFaults, ASignalMayForkWhileAThreadMakesItsState) { expect_that_a_signal_may_fork(false, is_long ? 1 : 37); }

TEST(StepFaults, ASignalMayForkWhileAThreadBeginsItsFirstScopes) {
  expect_that_a_signal_may_fork(true, is_long ? 1 : 5);
}

// The first scopes of another thread, which waits for ever.
std::optional<Span> others_span;
std::optional<ContextScope> others_scope;
void begin_others() {
  static std::atomic<bool> has_begun{false};
  std::thread([] {
    others_span.emplace("work");
    others_scope.emplace(Context::make());
    has_begun = true;
    while (true) pause();
  }).detach();
  watch("scopes of another thread", [] { return has_begun.load(); });
}

TEST(StepFaults, AChildThatASignalForksMayEndScopesOfOtherThreads) {
  const KeptOpen kept_open;
  EXPECT_TRUE(can_use_all());
  fork_in_children(is_long ? 1 : 23, [](unsigned long at) {
    begin_others();
    const bool interrupted = run_interrupted(at, fork_child, [] { const Span inner{"work"}; });
    if (child != 0) return interrupted;
    std::thread([] {
      { const Span own{"work"}; }
      others_span.reset();
      others_scope.reset();
    }).join();
    _exit(0);
  });
}

TEST(StepFaults, ASignalMayForkWhileAThreadDetaches) {
  const auto detach = [] { EXPECT_EQ(nopspan::detach("nothing"), nopspan::Errc::not_found); };
  detach();
  fork_in_children(is_long ? 5 : 37, [&](unsigned long at) {
    const bool interrupted = run_interrupted(at, fork_child, detach);
    if (child != 0) return interrupted;
    detach();
    _exit(0);
  });
}

std::string signals_id;
void make_signals_id() { signals_id = nopspan::make_request_id(); }

// Interrupts a thread that makes its second id. An id is short enough not to be allocated.
TEST(StepFaults, ASignalMayMakeARequestIdWhileAThreadMakesOne) {
  bool interrupted = true;
  for (unsigned long at = 1; interrupted; ++at) {
    std::thread([&] {
      std::set<std::string> ids{nopspan::make_request_id()};
      std::string second;
      interrupted = run_interrupted(at, make_signals_id, [&] { second = nopspan::make_request_id(); });
      ids.insert({second, signals_id});
      for (int i = 0; i < 40; ++i) ids.insert(nopspan::make_request_id());
      EXPECT_EQ(ids.size(), 43U) << "of a signal at instruction " << at;
    }).join();
  }
}

TEST(StepFaults, ASignalMayMakeARequestIdWhileAChildMakesItsFirst) {
  auto* const shared = static_cast<char*>(mmap(nullptr, 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  std::set<std::string> ids{nopspan::make_request_id()};
  std::size_t expected = 1;
  const auto make_both = [&](unsigned long at) {
    const bool interrupted = run_interrupted(at, make_signals_id, [] { (void)nopspan::make_request_id(); });
    signals_id.copy(shared, signals_id.size());
    return interrupted;
  };
  interrupt_in_children(is_long ? 1 : 23, make_both, [&] {
    ids.insert(shared);
    ++expected;
  });
  for (int i = 0; i < 3; ++i) ids.insert(nopspan::make_request_id());
  EXPECT_EQ(ids.size(), expected + 3);
  EXPECT_GT(expected, 50U);
  munmap(shared, 64);
}

}  // namespace
