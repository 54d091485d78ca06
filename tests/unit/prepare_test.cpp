// SPDX-License-Identifier: Apache-2.0
// prepare(): spans in a sandbox that kills the process for each system call that it does not expect.
#include "in_child.h"
#include "raised_gate.h"
#include "recorded.h"
#include "sanitizers.h"

#include <nopspan/execute.h>
#include <nopspan/stream.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <thread>

namespace {

// Kills the process for any system call but these, in all threads.
void enter_sandbox(std::vector<unsigned> allowed) {
  allowed.insert(allowed.end(), {SYS_exit_group, SYS_rt_sigreturn, SYS_futex, SYS_exit});
  std::vector<sock_filter> program{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const unsigned number : allowed) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) != 0) {
    _exit(2);
  }
}

void emit_spans() {
  for (int i = 0; i < 2000; ++i) {
    Span root{"sandbox.request", [](Fields& f) { f.tenant("acme").set("n", 1); }};
    const ContextScope scope{nopspan::Context::make()};
    nopspan::StreamMeter stream{AsyncSpan{"sandbox.stream", root}};
    stream.token();
    stream.span().link(root).set("text", std::string_view("0123456789")).content("list", {1, 2, 3});
    stream.end();
    nopspan::execute("sandbox.event", [](Fields& f) { f.set("list", {"a", "b"}); });
    root.fail("timeout");
  }
}

// As a tracer of all probes and a collector do.
struct AllRaised {
  RaisedGate spans{RaisedGate::spans}, points{RaisedGate::points}, batch{RaisedGate::batch};
};

// exit_group() alone: destructors and buffers of the program are not part of the test.
[[noreturn]] void leave(std::uint64_t dropped_before) {
  syscall(SYS_exit_group, nopspan::stats().spans_dropped == dropped_before ? 0 : 3);
  __builtin_trap();
}

class Prepared : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kThreadSanitizer || kAddressSanitizer) GTEST_SKIP() << "the sanitizer makes system calls";
  }
};

TEST_F(Prepared, ThreadMakesNoSystemCallForItsSpans) {
  expect_in_child([] {
    EXPECT_TRUE(nopspan::prepare());
    const AllRaised gate;
    enter_sandbox({});
    emit_spans();
    leave(nopspan::stats().spans_dropped);
  });
}

// So many threads, which run when the process is prepared, make their first spans in the sandbox.
[[noreturn]] void emit_on_threads(int threads, bool is_traced) {
  std::atomic<bool> is_in_sandbox{false};
  std::atomic<int> running{0}, done{0};
  for (int i = 0; i < threads; ++i) {
    std::thread([&] {
      ++running;  // the C library has made its system calls for this thread
      while (!is_in_sandbox) continue;
      emit_spans();
      ++done;
      while (true) continue;  // its end is not part of the test
    }).detach();
  }
  while (running < threads) continue;
  EXPECT_TRUE(nopspan::prepare(static_cast<unsigned>(threads) + 1));
  std::optional<AllRaised> gate;
  if (is_traced) gate.emplace();
  const std::uint64_t dropped = nopspan::stats().spans_dropped;
  enter_sandbox({SYS_gettid});
  is_in_sandbox = true;
  while (done < threads) continue;
  leave(dropped);
}

TEST_F(Prepared, ProcessHasThreadsThatAskForTheirIdAlone) {
  expect_in_child([] { emit_on_threads(4, true); });
}

TEST_F(Prepared, ProcessMayAttachBeforeItsThreadsBegin) {
  expect_in_child([] {
    attach_ok("nobody", "nothing.*", [](const nopspan::Event& /*event*/) {});
    emit_on_threads(1, false);
  });
}

TEST_F(Prepared, ProcessWhoseMemoryMayNotGrowDropsAndCounts) {
  expect_in_child([] {
    EXPECT_TRUE(nopspan::prepare(1, nopspan::Growth::none));
    const AllRaised gate;
    enter_sandbox({});
    // One after the other, because they are on the stack.
    struct Nested {
      static void spans(int left) {
        if (left == 0) return;
        const Span span{"sandbox.nested", [](Fields& f) { f.set("n", 1); }};
        spans(left - 1);
      }
    };
    Nested::spans(1000);
    if (nopspan::stats().spans_dropped == 0) syscall(SYS_exit_group, 4);
    const std::uint64_t dropped = nopspan::stats().spans_dropped;
    emit_spans();
    leave(dropped);
  });
}

TEST_F(Prepared, ProcessSaysThatThereIsNotSoMuchMemory) { EXPECT_FALSE(nopspan::prepare(100'000)); }

}  // namespace
