// SPDX-License-Identifier: Apache-2.0
// Maps copies of a file with probe sites. Each copy is a new file, to which a tracer attaches.
//
//   file_churn FOLDER FILE COPIES          maps that many copies and prints "ready". For each line of its input,
//                                          it prints how many copies have a raised gate. Until the end of its input
//   file_churn FOLDER FILE COPIES SECONDS  for that time, starts processes that each map a new copy for a moment; at
//                                          most COPIES run at once
//   file_churn FOLDER FILE COPIES again    that many processes map FILE itself again and again, and change its time, so
//                                          that it looks like a new file; until the end of its input
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

std::vector<void*> data;  // of the copies

bool map_copy(const std::string& bytes, const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0700);
  if (file < 0) return false;
  const bool written = write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  // The gate is in the last writable page of the file, and the sites are in its first pages.
  const bool is_code_mapped = mmap(nullptr, bytes.size(), PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) != MAP_FAILED;
  data.push_back(mmap(nullptr, bytes.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
  close(file);
  return written && is_code_mapped && data.back() != MAP_FAILED;
}

[[noreturn]] void map_again_and_again(const char* path) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kPlaces = 1U << 20U;
  auto* places =
      static_cast<char*>(mmap(nullptr, kPlaces * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (places == MAP_FAILED) _exit(1);
  const int file = open(path, O_RDONLY);
  for (std::size_t i = 0;; ++i) {
    if (futimens(file, nullptr) != 0) _exit(1);
    void* at = places + i % kPlaces * kPage;
    if (mmap(at, kPage, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, file, 0) != at) _exit(1);
    static_cast<void>(
        mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));  // so that the memory's size changes
    usleep(150'000);
    munmap(at, kPage);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) return 2;
  const std::string folder = arguments[1];
  std::ifstream file(arguments[2], std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const int copies = std::atoi(arguments[3]);
  int number = 0;
  const auto next_path = [&] { return folder + "/" + std::to_string(getpid()) + "-" + std::to_string(number++); };
  if (count == 4) {
    for (int i = 0; i < copies; ++i) {
      if (!map_copy(bytes, next_path())) return 1;
    }
    std::puts("ready");
    std::fflush(stdout);
    while (std::getchar() != EOF) {
      std::printf("%td\n", std::count_if(data.begin(), data.end(), [&](const void* copy) {
                    return std::memcmp(copy, bytes.data(), bytes.size()) != 0;
                  }));
      std::fflush(stdout);
    }
    return 0;
  }
  if (arguments[4] == std::string("again")) {
    for (int i = 0; i < copies; ++i) {
      if (fork() == 0) map_again_and_again(arguments[2]);
    }
    std::puts("ready");
    std::fflush(stdout);
    return std::getchar() == EOF ? 0 : 1;
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(arguments[4]));
  for (int running = 0; std::chrono::steady_clock::now() < end;) {
    const std::string path = next_path();
    if (running++ >= copies) {
      wait(nullptr);
      --running;
    }
    if (fork() == 0) {
      if (!map_copy(bytes, path)) _exit(1);
      usleep(20'000);
      unlink(path.c_str());
      _exit(0);
    }
  }
  while (wait(nullptr) > 0) {
  }
  std::printf("%d files\n", number);
  return 0;
}
