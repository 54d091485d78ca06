// SPDX-License-Identifier: Apache-2.0
// A signal handler interrupts the library at any instruction of a span, and forks or makes a span itself. Each span
// must be flushed exactly once, by the process that it belongs to.
#include "fake_clock.h"
#include "in_child.h"
#include "in_thread.h"
#include "raised_gate.h"
#include "recorded.h"
#include "sanitizers.h"
#if defined(__x86_64__)
#include "single_step.h"
#endif
#include "site_hits.h"
#include "thread/thread_state.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <optional>

#if defined(__x86_64__)

namespace {

SiteHits hits;
// The number of hits shortly after the handler was called.
std::size_t hits_soon;

// Single-steps a piece of code, and calls a function in a signal handler after `at` instructions. The piece need not
// end in the block that it begins in, as that of run_interrupted().
class Interruption {
 public:
  Interruption(long at, void (*call)()) {
    at_ = at;
    call_ = call;
    steps_ = 0;
    is_over_ = false;
    struct sigaction action {};
    action.sa_sigaction = on_step;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, nullptr);
    make_state_of_getrandom();
    __writeeflags(__readeflags() | kTrapFlag);
  }
  ~Interruption() { is_over_ = true; }

 private:
  static void on_step(int, siginfo_t*, void* context) {
    constexpr long kSoon = 150;
    if (!is_over_ && ++steps_ == at_) call_();
    if (!is_over_ && steps_ < at_ + kSoon) return;
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
    hits_soon = hits.count;
  }

  static inline volatile long at_, steps_;
  static inline volatile bool is_over_;
  static inline void (*call_)();
};

// Returns the number of flushed entries, and checks that each was flushed once and in order. If `new_born`, the
// sequence of each thread must begin at 0.
std::uint64_t flushed(bool new_born) {
  std::map<std::uint64_t, std::uint64_t> next;
  std::uint64_t entries = 0;
  for (std::size_t i = 0; i < hits.count; ++i) {
    const SiteHits::Hit& hit = hits.all[i];
    const auto known = next.try_emplace(hit.sequence_id, new_born ? 0 : hit.first).first;
    EXPECT_EQ(hit.first, known->second);
    known->second = hit.next;
    entries += hit.next - hit.first;
  }
  return entries;
}

void make_span() { const Span span{"work"}; }

// Makes a span and flushes it, together with the entries that the thread holds.
void make_last_span() {
  FakeClock::advance(1'000'000'000);
  make_span();
}

// Makes the library allocate everything that its first use allocates, because an interrupted allocator must not be
// entered again.
void warm_up() {
  const Span outer{"work"};
  const Span inner{"work"};
  make_span();
}

class InterruptedBatch : public testing::Test {
 protected:
  void SetUp() override {
    if (kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "they have signal handlers and calls of their own";
    hits.count = 0;
  }

  // Runs `work` on a new thread while a tracer is attached.
  template <class Work>
  static void trace(Work work) {
    const RaisedGate tracer(RaisedGate::batch);
    in_thread([&] {
      const FakeClock clock;
      SiteHits::noted = &hits;
      work();
      SiteHits::noted = nullptr;
    });
  }
};

pid_t forked;

TEST_F(InterruptedBatch, OfAProcessThatForksInTheHandlerIsHandedOverByItAlone) {
  trace([] {
    warm_up();
    make_last_span();
    const std::uint64_t sequence_id = hits.all[0].sequence_id;
    for (long at = 1, steps = 1; at <= steps && !HasFailure(); at += 23) {
      hits.count = 0;
      make_span();  // stays in the batch
      FakeClock::advance(1'000'000);
      forked = -1;
      {
        const Interruption interruption(at, [] {
          // A plain clone: fork() takes locks, and the interrupted code may hold them.
          forked = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
          if (forked == 0) hits.count = 0;
        });
        make_span();
      }
      steps = forked < 0 ? 0 : at + 23;
      make_last_span();
      if (forked == 0) {
        // The interrupted span belongs to the parent, unless the library had not begun to work on it. If the signal
        // arrives right at the site, the library can no longer detect the fork.
        if (hits.count > 0 && hits_soon > 0 && hits.all[0].sequence_id == sequence_id) hits.drop_first();
        EXPECT_GE(flushed(true), 1U) << at;
        for (std::size_t i = 0; i < hits.count; ++i) EXPECT_NE(hits.all[i].sequence_id, sequence_id) << at;
        std::fflush(nullptr);
        _exit(HasFailure() ? 1 : 0);
      }
      EXPECT_EQ(flushed(false), 3U) << at;
      if (forked > 0) {
        EXPECT_THAT(wait_for(forked), IsEmpty()) << at;
      }
    }
  });
}

// Whether the handler ran. Shared memory, because a child sets it.
volatile bool* was_interrupted;

TEST_F(InterruptedBatch, OfAHandlerThatMakesASpanTellsThatToo) {
  was_interrupted = static_cast<volatile bool*>(
      mmap(nullptr, sizeof(bool), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(was_interrupted, MAP_FAILED);
  trace([] {
    warm_up();
    long at = 1;
    do {
      *was_interrupted = false;
      EXPECT_THAT(in_child([at] {
                    hits.count = 0;
                    const Counted reentrant(&nopspan::Stats::reentrant);
                    {
                      // The child's first span, for which the library makes new thread state.
                      const Interruption interruption(at, [] {
                        *was_interrupted = true;
                        make_span();
                      });
                      make_span();
                    }
                    make_last_span();
                    EXPECT_EQ(flushed(true) + reentrant.times(), *was_interrupted ? 3U : 2U);
                  }),
                  IsEmpty())
          << at;
      at += 53 + at / 8;  // the generator of ids makes the first span of a child long
    } while (*was_interrupted && !HasFailure());
    EXPECT_GT(at, 1000);
  });
  munmap(const_cast<bool*>(was_interrupted), sizeof(bool));
}

TEST_F(InterruptedBatch, OfAThreadThatEndsTellsWhatAHandlerMakesThen) {
  const RaisedGate tracer(RaisedGate::batch);
  static volatile bool was_called;
  long at = 1;
  do {
    was_called = false;
    hits.count = 0;
    const Counted reentrant(&nopspan::Stats::reentrant);
    SiteHits::noted = &hits;
    std::optional<Interruption> interruption;
    in_thread([&] {
      make_span();
      interruption.emplace(at, [] {
        was_called = nopspan::detail::locals.state != nullptr;
        if (was_called) make_span();
      });
    });
    SiteHits::noted = nullptr;
    EXPECT_EQ(flushed(true) + reentrant.times(), was_called ? 2U : 1U) << at;
    at += 5;
  } while (was_called && !HasFailure());
  EXPECT_GT(at, 100);
}

TEST_F(InterruptedBatch, OfAThreadWhoseFirstSpanAHandlerForksInIsItsOwnInTheChildToo) {
  const RaisedGate tracer(RaisedGate::batch);
  in_thread([] { warm_up(); });  // leaves its state to the next thread, which then need not allocate
  for (long at = 1, steps = 1; at <= steps && !HasFailure(); at += 7 + at / 16) {
    forked = -1;
    in_thread([&] {
      {
        const Interruption interruption(at, [] {
          if (nopspan::detail::locals.state == nullptr) forked = fork();  // later an allocator may be locked
        });
        make_span();
      }
      steps = forked < 0 ? 0 : at + 7 + at / 16;
      if (forked == 0) {
        bool in_use = false;
        nopspan::detail::for_each_thread(
            [&](const auto& thread) { in_use = in_use || &thread == nopspan::detail::locals.state; });
        _exit(in_use ? 0 : 1);
      }
    });
    if (forked > 0) {
      EXPECT_THAT(wait_for(forked), IsEmpty()) << at;
    }
  }
}

}  // namespace

#endif
