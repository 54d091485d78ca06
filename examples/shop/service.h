// SPDX-License-Identifier: Apache-2.0
// The options and the HTTP server of both programs.
#pragma once

#include <httplib.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace shop {

// An option of a program: its name, its variable, the least value that it may have, and its help.
struct Option {
  const char* name;
  int* variable;
  int least;
  const char* help;
};

// Reads the command line. If the program must not go on, returns its exit status: 0 after --help, 2 after an error.
std::optional<int> read_options(int argc, char** argv, const char* description, const std::vector<Option>& options);

// A simulated failure of every n-th call. 0 switches it off.
class Fault {
 public:
  explicit Fault(int every) : every_(every) {}
  bool happens() { return every_ > 0 && ++calls_ % every_ == 0; }

 private:
  const int every_;
  std::atomic<int> calls_{0};
};

// The answer to a request, as plain text.
struct Reply {
  int status = 200;
  std::string body;
};

// An HTTP server. Make it before other threads, because they must inherit that it blocks SIGINT and SIGTERM.
class Server {
 public:
  Server();
  // Answers POST `path`. If `answer` throws, the response is a 500 with the exception's message.
  void post(const std::string& path, std::function<Reply(const httplib::Request&)> answer);
  // Serves on this port of 127.0.0.1 until SIGINT or SIGTERM. Port 0 takes a free one. Returns the exit status.
  int serve(int port);

 private:
  httplib::Server http_;
  sigset_t ending_signals_{};
};

}  // namespace shop
