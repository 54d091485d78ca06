// SPDX-License-Identifier: Apache-2.0
// Stands in the way of an attach to a file in all processes together: `obstacle FILE` loads the library, becomes the
// user nobody, and then makes its semaphore negative, maps the library's code or nothing as often as it may, or hides a
// child.
//
// Without FILE it measures how long others keep it from forking, or starts processes that share many descriptors.
#include "commands.h"

#include <nopspan/probes.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr unsigned kNobody = 65534;
constexpr std::size_t kPage = 4096;

int library = -1;
nopspan_gate_page* page = nullptr;
std::uint64_t code_offset = 0, code_bytes = 0;
std::vector<void*> mappings;

bool load(const char* path) {
  void* loaded = dlopen(path, RTLD_NOW);
  if (loaded == nullptr) return false;
  page = *static_cast<nopspan_gate_page**>(dlsym(loaded, "nopspan_gate_ptr"));
  mprotect(page, kPage, PROT_READ | PROT_WRITE);
  library = open(path, O_RDONLY | O_CLOEXEC);
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[8192];
  while (maps != nullptr && fgets(line, sizeof(line), maps) != nullptr) {
    std::uint64_t start = 0, end = 0, offset = 0;
    if (sscanf(line, "%lx-%lx r-xp %lx", &start, &end, &offset) != 3) continue;
    if (std::string(line).find(path) == std::string::npos) continue;
    code_offset = offset;
    code_bytes = end - start;
  }
  fclose(maps);
  return library >= 0 && code_bytes != 0 && setgroups(0, nullptr) == 0 && setgid(kNobody) == 0 && setuid(kNobody) == 0;
}

std::string set_semaphore(std::uint16_t value) {
  reinterpret_cast<std::uint16_t*>(&page->gate)[1] = value;
  return std::to_string(value);
}

std::string map(std::size_t times) {
  while (times-- > 0) {
    void* mapped =
        mmap(nullptr, code_bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, static_cast<off_t>(code_offset));
    if (mapped == MAP_FAILED) break;
    mappings.push_back(mapped);
  }
  return std::to_string(mappings.size());
}

// Makes mappings that are of no file.
std::string map_nothing(std::size_t times) {
  char* pages =
      static_cast<char*>(mmap(nullptr, times * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  std::size_t made = 0;
  for (; made < times && mprotect(pages + made * kPage, kPage, PROT_READ) == 0; made += 2) {
  }
  return std::to_string(made);
}

// In a child: its main thread and `ended` others have ended, but one runs. This process traces the child and does not
// wait for threads that have ended. Returns the child's pid.
std::string hide(int ended) {
  int begin[2], done[2];
  prctl(PR_SET_DUMPABLE, 1);  // it has changed its user
  if (pipe(begin) != 0 || pipe(done) != 0) return "0";
  const pid_t child = fork();
  char byte = 0;
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(begin[0], &byte, 1) != 1) _exit(1);
    for (int i = 0; i < ended; ++i) std::thread([] {}).join();
    std::thread([&] {
      if (write(done[1], &byte, 1) == 1) pause();
    }).detach();
    syscall(SYS_exit, 0);
  }
  if (ptrace(PTRACE_SEIZE, child, nullptr, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) != 0) return "0";
  fcntl(done[0], F_SETFL, O_NONBLOCK);
  if (write(begin[1], &byte, 1) != 1) return "0";
  while (read(done[0], &byte, 1) != 1) {
    siginfo_t stopped{};
    if (waitid(P_ALL, 0, &stopped, WSTOPPED | WNOHANG | __WALL) == 0 && stopped.si_pid != 0)
      ptrace(PTRACE_CONT, stopped.si_pid, nullptr, nullptr);
  }
  return std::to_string(child);
}

int wait_for_the_end(void* /*nothing*/) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (true) pause();
}

// Opens descriptors, and starts as many processes as it may that share them with this one.
std::string share(int descriptors, int processes) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  while (descriptors-- > 0 && dup(0) >= 0) {
  }
  constexpr std::size_t kStack = 16384;
  int started = 0;
  for (; started < processes; ++started) {
    auto* stack = static_cast<char*>(mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (clone(wait_for_the_end, stack + kStack, CLONE_VM | CLONE_FILES | SIGCHLD, nullptr) < 0) break;
  }
  return std::to_string(started);
}

std::atomic<bool> is_forking = false;
std::thread forking;
std::chrono::steady_clock::duration longest{};

std::string begin_forks() {
  is_forking = true;
  forking = std::thread([] {
    while (is_forking) {
      const auto began = std::chrono::steady_clock::now();
      const pid_t child = fork();
      if (child == 0) _exit(0);
      longest = std::max(longest, std::chrono::steady_clock::now() - began);
      waitpid(child, nullptr, 0);
    }
  });
  return "begun";
}

// The longest fork, in milliseconds.
std::string end_forks() {
  is_forking = false;
  forking.join();
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(longest).count());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && !load(argv[1])) {
    perror(argv[1]);
    return 2;
  }
  return serve({{"negative", [](auto&) { return set_semaphore(0x8000); }},
                {"map", [](auto& arguments) { return map(std::stoul(word(arguments))); }},
                {"map_nothing", [](auto& arguments) { return map_nothing(std::stoul(word(arguments))); }},
                {"hide", [](auto& arguments) { return hide(std::stoi(word(arguments))); }},
                {"share",
                 [](auto& arguments) {
                   const int descriptors = std::stoi(word(arguments));
                   return share(descriptors, std::stoi(word(arguments)));
                 }},
                {"begin_forks", [](auto&) { return begin_forks(); }},
                {"end_forks", [](auto&) { return end_forks(); }}});
}
