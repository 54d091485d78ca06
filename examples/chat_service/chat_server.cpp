// SPDX-License-Identifier: Apache-2.0
// An OpenAI-compatible chat server around a small language model. See README.md.
#include <httplib.h>
#include <pthread.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#include "batch_engine.h"
#include "chat_service.h"
#include "language_model.h"
#include "own_recording.h"

namespace {

constexpr const char* kHost = "127.0.0.1";
constexpr std::size_t kLargestBodyBytes = std::size_t{4} << 20;

struct Options {
  int port = 0;
  std::string port_file;
  std::string books;
  example::OwnRecording recording;
  std::size_t threads = 32;
  std::int64_t token_delay_us = 200, prompt_delay_us = 0;
  example::EngineOptions engine;
  example::ServiceOptions service;
};

// Declares the options for the command-line parser.
void declare_options(CLI::App& app, Options& options) {
  app.option_defaults()->always_capture_default();
  app.add_option("--port", options.port, "port; 0 takes a free one")->check(CLI::Range(0, 65535));
  app.add_option("--port-file", options.port_file, "write the port to this file once the server listens");
  app.add_option("--books", options.books, "write the server's own account of requests and steps to this file");
  options.recording.declare_option(app);
  app.add_option("--threads", options.threads, "connections served at the same time")->check(CLI::Range(1, 4096));
  app.add_option("--slots", options.engine.slots, "requests in one batch")->check(CLI::Range(1, 4096));
  app.add_option("--context", options.engine.context_tokens, "tokens of prompt and answer of one request")
      ->check(CLI::Range(64, 1 << 20));
  app.add_option("--prefill-tokens", options.engine.prefill_tokens,
                 "prompt tokens that one step of the engine processes at most")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--token-delay-us", options.token_delay_us,
                 "time of one step of the engine, which gives every request in the batch a token")
      ->check(CLI::Range(0, 10000000));
  app.add_option("--prompt-delay-us", options.prompt_delay_us, "how much longer each prompt token makes a step")
      ->check(CLI::Range(0, 1000000));
  app.add_flag("--device-time", options.engine.has_device, "steps report these delays as their time on a device");
  app.add_option("--draft-tokens", options.engine.draft_tokens,
                 "tokens that are guessed for a request and verified in one step; 0: none")
      ->check(CLI::Range(0, 64));
  app.add_option("--kv-tokens", options.engine.kv_tokens,
                 "room for the tokens of all slots together, at least --context; without room, requests are "
                 "preempted; 0: no limit")
      ->check(CLI::Range(0, 1 << 24));
  app.add_option("--seed", options.service.seed, "seed of the failures, and of requests without a seed");
  app.add_option("--fail-rate", options.service.fail_rate, "fraction of requests that get a 500, 502 or 503")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--cut-rate", options.service.cut_rate, "fraction of streams that are cut off in the middle")
      ->check(CLI::Range(0.0, 1.0));
}

class HttpServer : public httplib::Server {
 public:
  explicit HttpServer(std::size_t threads) {
    new_task_queue = [threads] { return new httplib::ThreadPool(threads); };
    // The library sets SO_REUSEPORT by default, which would let two servers share one port.
    set_socket_options([](int socket) {
      const int on = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    });
    set_tcp_nodelay(true);
    set_keep_alive_max_count(1U << 30);
    set_keep_alive_timeout(1);  // in seconds. An idle connection occupies a thread and delays the shutdown
    set_payload_max_length(kLargestBodyBytes);
  }

  // Returns the port, or -1 on failure.
  int bind(int port) {
    const int bound = port == 0 ? bind_to_any_port(kHost) : bind_to_port(kHost, port) ? port : -1;
    // The library listens with a backlog of 5. In a burst of clients, some would wait a second for their connections.
    if (bound >= 0) ::listen(svr_sock_, 1024);
    return bound;
  }
};

// The books of a server: a file with an object in each line. Throws std::runtime_error.
example::Books books_in(const std::string& path) {
  if (path.empty()) return nullptr;
  const auto file = std::make_shared<std::ofstream>(path);
  if (!*file) throw std::runtime_error("cannot write " + path);
  const auto mutex = std::make_shared<std::mutex>();
  return [file, mutex](const example::Json& line) {
    const std::lock_guard<std::mutex> lock(*mutex);
    *file << example::to_text(line) << '\n';
  };
}

// Serves until SIGINT or SIGTERM. Both must be blocked in the calling thread, and so in the threads that it starts.
int serve(const Options& options, const sigset_t& ending_signals) {
  HttpServer server(options.threads);
  const int port = server.bind(options.port);
  if (port < 0) {
    std::cerr << "chat_server: cannot listen on " << kHost << ":" << options.port << "\n";
    return 1;
  }
  if (!options.port_file.empty() && !(std::ofstream(options.port_file) << port << "\n")) {
    std::cerr << "chat_server: cannot write " << options.port_file << "\n";
    return 1;
  }
  const example::LanguageModel model;
  example::BatchEngine engine(model, options.engine);
  example::ChatService service(engine, options.service);
  service.serve_on(server);
  std::thread listening([&server] { server.listen_after_bind(); });
  std::cout << "listening on http://" << kHost << ":" << port << std::endl;

  int signal = 0;
  sigwait(&ending_signals, &signal);
  engine.stop();                                           // first, so that no thread waits for an answer
  while (!server.is_running()) std::this_thread::yield();  // before that, stop() has no effect
  server.stop();
  listening.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("An OpenAI-compatible chat server around a small language model, traced by nopspan.", "chat_server");
  declare_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (options.engine.kv_tokens != 0 && options.engine.kv_tokens < options.engine.context_tokens) {
    std::cerr << "chat_server: --kv-tokens must be at least --context\n";
    return 2;
  }
  options.engine.step_delay = std::chrono::microseconds(options.token_delay_us);
  options.engine.prompt_delay = std::chrono::microseconds(options.prompt_delay_us);

  sigset_t ending_signals;
  sigemptyset(&ending_signals);
  sigaddset(&ending_signals, SIGINT);
  sigaddset(&ending_signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ending_signals, nullptr);

  try {
    options.recording.open();
    options.engine.books = books_in(options.books);
  } catch (const std::exception& error) {
    std::cerr << "chat_server: " << error.what() << "\n";
    return 2;
  }
  const int status = serve(options, ending_signals);
  if (options.recording.close()) return status;
  std::cerr << "chat_server: entries are missing in the recording\n";
  return 1;
}
