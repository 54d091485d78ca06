// SPDX-License-Identifier: Apache-2.0
// Counts the instructions that each function of hot.cpp executes. It single-steps a child process from the function's
// first instruction to its return. Prints one line per pair: NAME PLAIN SPANNED, followed by the addresses (as in the
// file) that the function with the span executed. x86-64 only.

#include "hot.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <set>

namespace {

using Address = unsigned long long;

struct Trace {
  int executed = 0;
  std::set<Address> passed;
};

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

Address instruction_of(pid_t child, Address* stack) {
  user_regs_struct registers;
  if (ptrace(PTRACE_GETREGS, child, nullptr, &registers) != 0) fail("PTRACE_GETREGS");
  *stack = registers.rsp;
  return registers.rip;
}

Address step(pid_t child, Address* stack) {
  if (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0) fail("PTRACE_SINGLESTEP");
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) fail("the child ended while it was stepped");
  return instruction_of(child, stack);
}

Trace trace(int (*function)(int)) {
  const pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) fail("PTRACE_TRACEME");
    raise(SIGSTOP);
    _exit(function(7) == 0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) fail("waitpid");

  const auto entry = reinterpret_cast<Address>(function);
  Address stack = 0;
  Address at = instruction_of(child, &stack);
  while (at != entry) at = step(child, &stack);
  const auto back = static_cast<Address>(ptrace(PTRACE_PEEKDATA, child, stack, nullptr));
  const Address outside = stack;  // while the stack pointer is below this, the function has not returned

  Trace result;
  while (at != back || stack <= outside) {
    ++result.executed;
    result.passed.insert(at);
    at = step(child, &stack);
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return result;
}

}  // namespace

int main() {
  for (int i = 0; i < pair_count; ++i) {
    Dl_info where;
    link_map* module = nullptr;
    if (dladdr1(reinterpret_cast<void*>(pairs[i].spanned), &where, reinterpret_cast<void**>(&module),
                RTLD_DL_LINKMAP) == 0) {
      fail("dladdr1");
    }
    const Trace spanned = trace(pairs[i].spanned);
    std::printf("%s %d %d", pairs[i].name, trace(pairs[i].plain).executed, spanned.executed);
    for (const Address address : spanned.passed) std::printf(" %llx", address - module->l_addr);
    std::printf("\n");
  }
}
