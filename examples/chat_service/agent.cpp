// SPDX-License-Identifier: Apache-2.0
// An agent that answers prompts with an OpenAI-compatible server and two local tools. See README.md.
#include <nopspan/genai.h>

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent_loop.h"
#include "chat_client.h"
#include "own_recording.h"
#include "summary.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  example::ClientOptions client;
  example::LoopOptions loop;
  std::vector<std::string> prompts;
  std::string prompts_file;
  std::string prices;
  example::OwnRecording recording;
  std::int64_t retry_delay_ms = 100;
  std::uint64_t requests = 0;
  std::size_t concurrency = 1;
  double rate = 0.0;
  bool json = false;
};

// Declares the options for the command-line parser.
void declare_options(CLI::App& app, Options& options) {
  app.add_option("prompts", options.prompts, "the prompts");
  app.add_option("--prompts", options.prompts_file, "file with one prompt per line");
  app.add_option("--requests", options.requests, "number of requests; repeats the prompts, or a built-in set")
      ->check(CLI::Range(1, 1000000000));
  app.add_option("--concurrency", options.concurrency, "prompts at the same time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--rate", options.rate, "prompts per second at most; 0: no limit")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--base-url", options.client.base_url, "the server, http://host:port or http://host:port/v1")
      ->required();
  app.add_option("--api-key", options.client.api_key, "key for the server")->envname("OPENAI_API_KEY");
  app.add_option("--organization", options.client.organization, "sent to the server; the spans' label tenant");
  app.add_option("--route", options.client.route, "sent to the server; the spans' label route");
  app.add_option("--model", options.loop.model, "model (default: the server's first one)");
  app.add_option("--timeout", options.client.timeout_s,
                 "seconds to wait for a connection and for each piece of an answer")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  app.add_flag("--stream", options.loop.stream, "read answers as a stream");
  app.add_flag("!--no-tools", options.loop.tools, "offer no tools to the model");
  app.add_option("--search-root", options.loop.search_root, "directory that file_search searches")
      ->check(CLI::ExistingDirectory)
      ->capture_default_str();
  app.add_option("--max-steps", options.loop.max_steps, "model calls per prompt at most")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--max-tokens", options.loop.max_tokens, "tokens per answer at most")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--temperature", options.loop.temperature, "randomness of the answers; 0: always the likeliest word")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str();
  app.add_option("--seed", options.loop.seed, "seed of the answers and of the retries' delays")->capture_default_str();
  app.add_flag("--ignore-eos", options.loop.ignore_eos, "answers of exactly --max-tokens, if the server supports it");
  app.add_option("--max-attempts", options.loop.retry.attempts, "attempts per model call at most")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--retry-delay-ms", options.retry_delay_ms, "delay before the second attempt; doubles each time")
      ->check(CLI::Range(0, 60000))
      ->capture_default_str();
  app.add_option("--prices", options.prices, "file with the prices of models; spans then carry the costs");
  options.recording.declare_option(app);
  app.add_flag("--json", options.json, "print one JSON object");
}

// Throws std::runtime_error.
std::vector<std::string> all_prompts(const Options& options) {
  std::vector<std::string> prompts = options.prompts;
  if (options.prompts_file.empty()) return prompts;
  std::ifstream file(options.prompts_file);
  if (!file) throw std::runtime_error("cannot read " + options.prompts_file);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) prompts.push_back(line);
  }
  if (prompts.empty()) throw std::runtime_error("no prompt in " + options.prompts_file);
  return prompts;
}

// Throws std::runtime_error.
void read_prices(const std::string& path) {
  std::ifstream file(path);
  const std::string json{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw std::runtime_error("cannot read " + path);
  nopspan::genai::PriceTable prices;
  std::string error;
  if (!prices.parse(json, error)) throw std::runtime_error(path + ": " + error);
  nopspan::genai::set_prices(prices);
}

constexpr std::array<const char*, 8> kTopics = {"spans",   "probes",     "request ids", "token counts",
                                                "retries", "semaphores", "collectors",  "histograms"};
constexpr std::array<const char*, 6> kSearched = {"span", "probe", "request_id", "license", "retry", "no such text"};

std::string calculation(std::uint64_t n) {
  return std::to_string(n) + " / " + std::to_string(n % 32 == 13 ? 0 : n % 13 + 1);  // some divide by zero
}

// The n-th prompt of a load: questions for the model alone, for the calculator (some of which fail), for the file
// search, or for both tools. The same n gives the same prompt.
std::string load_prompt(std::uint64_t n) {
  const std::string topic = kTopics[n / 4 % kTopics.size()];
  const std::string searched = kSearched[n / 4 % kSearched.size()];
  switch (n % 4) {
    case 0:
      return "Explain " + topic + " to me in a few sentences.";
    case 1:
      return "What is " + calculation(n) + "?";
    case 2:
      return "Search the files for \"" + searched + "\".";
    default:
      return "Compute " + calculation(n) + " and then find \"" + searched + "\" in the files.";
  }
}

// Sends all prompts from several threads, and collects the outcomes.
class Run {
 public:
  Run(const Options& options, std::vector<std::string> prompts)
      : options_(options),
        prompts_(std::move(prompts)),
        count_(options.requests > 0 ? options.requests : prompts_.size()) {
    if (options.requests == 0) outcomes_.resize(count_);
  }

  void run() {
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(options_.concurrency, count_); ++i) {
      threads.emplace_back([this, i] { work(i); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  // Prints the summary, and the answers unless this is a load. Returns the number of failed prompts.
  [[nodiscard]] int report() const {
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    if (options_.json) {
      example::Json json = summary_.json(seconds);
      json["answers"] = example::Json::array();
      for (std::size_t i = 0; i < outcomes_.size(); ++i) {
        json["answers"].push_back(example::outcome_json(prompts_[i], outcomes_[i]));
      }
      std::cout << example::to_text(json) << "\n";
      return summary_.failed();
    }
    for (std::size_t i = 0; i < outcomes_.size(); ++i) {
      std::cout << "> " << prompts_[i] << "\n" << outcomes_[i].answer << "\n\n";
    }
    std::cout << summary_.text(seconds);
    return summary_.failed();
  }

 private:
  void work(std::uint64_t worker) {
    example::ChatClient client(options_.client);
    example::LoopOptions loop_options = options_.loop;
    loop_options.seed += worker << 32;  // seeds the random delays; the model's seed comes from the prompt's number
    example::AgentLoop loop(client, loop_options);
    for (std::uint64_t n = next_++; n < count_; n = next_++) {
      if (options_.rate > 0.0) {
        std::this_thread::sleep_until(start_ +
                                      std::chrono::duration_cast<Clock::duration>(
                                          std::chrono::duration<double>(static_cast<double>(n) / options_.rate)));
      }
      finished(n, loop.answer(prompts_.empty() ? load_prompt(n) : prompts_[n % prompts_.size()], n));
    }
  }

  void finished(std::uint64_t n, example::Outcome outcome) {
    const std::lock_guard<std::mutex> lock(mutex_);
    summary_.add(outcome);
    if (!outcome.ok) std::cerr << "agent: prompt " << n + 1 << " failed: " << outcome.error << "\n";
    if (!outcomes_.empty()) outcomes_[n] = std::move(outcome);
  }

  const Options& options_;
  const std::vector<std::string> prompts_;
  const std::uint64_t count_;
  const Clock::time_point start_ = Clock::now();
  std::atomic<std::uint64_t> next_{0};
  std::mutex mutex_;
  example::Summary summary_;
  std::vector<example::Outcome> outcomes_;
};

int misused(const std::string& what) {
  std::cerr << "agent: " << what << "\n";
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("An agent that answers prompts with an OpenAI-compatible server, traced by nopspan.", "agent");
  declare_options(app, options);
  std::vector<std::string> prompts;
  try {
    app.parse(argc, argv);
    prompts = all_prompts(options);
    example::ChatClient check(options.client);
    if (!options.prices.empty()) read_prices(options.prices);
    options.recording.open();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    return misused(error.what());
  }
  if (prompts.empty() && options.requests == 0)
    return misused("nothing to ask: give a prompt, --prompts or --requests");
  options.loop.tenant = options.client.organization;
  options.loop.route = options.client.route;
  options.loop.retry.first_delay = std::chrono::milliseconds(options.retry_delay_ms);
  std::signal(SIGPIPE, SIG_IGN);  // a server may close a connection while the agent writes to it
  try {
    if (options.loop.model.empty()) options.loop.model = example::ChatClient(options.client).first_model();
  } catch (const std::exception& error) {
    std::cerr << "agent: " << error.what() << "\n";
    return 1;
  }
  Run run(options, std::move(prompts));
  run.run();
  const int failed = run.report();
  if (options.recording.close()) return failed == 0 ? 0 : 1;
  std::cerr << "agent: entries are missing in the recording\n";
  return 1;
}
