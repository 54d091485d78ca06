// SPDX-License-Identifier: Apache-2.0
// fork() inside a span. Parent and child both continue to make spans, which a tracer can tell apart.
#include <nopspan/span.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace {

constexpr int kSpans = 100;

int side(const char* who, nopspan::Name inner, nopspan::Name root, nopspan::Span* outer) {
  for (int i = 0; i < kSpans; ++i) nopspan::Span span{inner};
  delete outer;
  for (int i = 0; i < kSpans; ++i) nopspan::Span span{root};
  std::printf("%s %d\n", who, static_cast<int>(getpid()));
  std::fflush(stdout);
  return 0;
}

}  // namespace

int main() {
  // On the heap, so that both processes can end it before they continue.
  auto* outer = new nopspan::Span{"fork.outer"};
  { nopspan::Span before{"fork.before"}; }
  const pid_t child = fork();
  if (child == 0) _exit(side("child", "fork.child", "fork.child_root", outer));
  side("parent", "fork.parent", "fork.parent_root", outer);
  int status = 1;
  waitpid(child, &status, 0);
  return status == 0 ? 0 : 1;
}
