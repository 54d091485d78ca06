// SPDX-License-Identifier: Apache-2.0
// An agent that answers prompts with an OpenAI-compatible server and two local tools. See README.md.
#include <nopspan/genai.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "agent_loop.h"
#include "own_recording.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  example::AgentOptions agent;
  std::vector<std::string> prompts;
  std::size_t requests = 0;
  std::size_t concurrency = 1;
  std::string prices;
  example::OwnRecording recording;
  bool json = false;
};

// Declares the options for the command-line parser.
void declare_options(CLI::App& app, Options& options) {
  app.add_option("prompts", options.prompts, "the prompts");
  app.option_defaults()->always_capture_default();
  app.add_option("--requests", options.requests, "number of requests; repeats the prompts, or a built-in set")
      ->check(CLI::Range(1, 1000000));
  app.add_option("--concurrency", options.concurrency, "prompts at the same time")->check(CLI::Range(1, 1024));
  app.add_option("--base-url", options.agent.base_url, "the server, http://host:port")->required();
  app.add_option("--organization", options.agent.organization, "sent to the server; the spans' label tenant");
  app.add_option("--route", options.agent.route, "sent to the server; the spans' label route");
  app.add_option("--model", options.agent.model, "the model");
  app.add_option("--search-root", options.agent.search_root, "directory that file_search searches")
      ->check(CLI::ExistingDirectory);
  app.add_option("--max-tokens", options.agent.max_tokens, "tokens per answer at most")->check(CLI::Range(1, 100000));
  app.add_option("--seed", options.agent.seed, "seed of the answers and of the retries' delays");
  app.add_flag("--ignore-eos", options.agent.ignore_eos, "answers of exactly --max-tokens");
  app.add_option("--max-attempts", options.agent.max_attempts, "attempts per model call at most")
      ->check(CLI::Range(1, 100));
  app.add_option("--retry-delay-ms", options.agent.retry_delay_ms, "delay before the second attempt; doubles each time")
      ->check(CLI::Range(0, 60000));
  app.add_option("--prices", options.prices, "file with the prices of models; spans then carry the costs");
  options.recording.declare_option(app);
  app.add_flag("--json", options.json, "print one JSON object");
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

// The n-th prompt of a load: for the model alone, for the calculator (some of which fail), for the file search, or for
// both tools. The same n gives the same prompt.
std::string load_prompt(std::size_t n) {
  constexpr std::array<const char*, 4> kTopics = {"span", "probe", "retry", "no such text"};
  const std::string topic = kTopics[n / 4 % kTopics.size()];
  const std::string quotient = std::to_string(n) + " / " + std::to_string(n % 32 == 13 ? 0 : n % 13 + 1);
  switch (n % 4) {
    case 0:
      return "Explain " + topic + " to me in a few sentences.";
    case 1:
      return "What is " + quotient + "?";
    case 2:
      return "Search the files for \"" + topic + "\".";
    default:
      return "Compute " + quotient + " and then find \"" + topic + "\" in the files.";
  }
}

// The prompts of the command line, or of a load.
std::vector<std::string> all_prompts(const Options& options) {
  if (options.requests == 0) return options.prompts;
  std::vector<std::string> prompts;
  for (std::size_t n = 0; n < options.requests; ++n) {
    prompts.push_back(options.prompts.empty() ? load_prompt(n) : options.prompts[n % options.prompts.size()]);
  }
  return prompts;
}

// Sends all prompts from several threads. Returns their outcomes.
std::vector<example::Outcome> answers(const Options& options, const std::vector<std::string>& prompts) {
  std::vector<example::Outcome> outcomes(prompts.size());
  std::atomic<std::size_t> next{0};
  std::vector<std::thread> threads;
  for (std::size_t worker = 0; worker < std::min(options.concurrency, prompts.size()); ++worker) {
    threads.emplace_back([&, worker] {
      example::AgentLoop loop(options.agent, worker);
      for (std::size_t n = next++; n < prompts.size(); n = next++) outcomes[n] = loop.answer(prompts[n], n);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

void print_json(const std::vector<example::Outcome>& outcomes, const example::Outcome& sum, std::ptrdiff_t failed) {
  example::Json json{{"requests", outcomes.size()},
                     {"failed", failed},
                     {"steps", sum.steps},
                     {"retries", sum.retries},
                     {"tool_calls", sum.tool_calls},
                     {"tool_errors", sum.tool_errors},
                     {"prompt_tokens", sum.usage.prompt_tokens},
                     {"cached_tokens", sum.usage.cached_tokens},
                     {"completion_tokens", sum.usage.completion_tokens},
                     {"answers", example::Json::array()}};
  for (const example::Outcome& outcome : outcomes) {
    json["answers"].push_back(example::Json{{"request_id", outcome.request_id}, {"answer", outcome.answer}});
  }
  std::cout << example::to_text(json) << "\n";
}

void print_text(const Options& options, const std::vector<std::string>& prompts,
                const std::vector<example::Outcome>& outcomes, const example::Outcome& sum, double seconds) {
  for (std::size_t n = 0; options.requests == 0 && n < outcomes.size(); ++n) {
    std::cout << "> " << prompts[n] << "\n" << outcomes[n].answer << "\n\n";
  }
  std::cout << std::fixed << std::setprecision(2) << outcomes.size() << " prompts in " << seconds << " s, " << sum.steps
            << " model calls, " << sum.retries << " retries, " << sum.tool_calls << " tool calls of which "
            << sum.tool_errors << " failed, " << sum.usage.prompt_tokens << " tokens in (" << sum.usage.cached_tokens
            << " cached), " << sum.usage.completion_tokens << " tokens out\n";
}

int run(const Options& options, const std::vector<std::string>& prompts) {
  const Clock::time_point start = Clock::now();
  const std::vector<example::Outcome> outcomes = answers(options, prompts);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  example::Outcome sum;
  for (const example::Outcome& outcome : outcomes) {
    sum.add(outcome);
    if (!outcome.ok) std::cerr << "agent: a prompt failed: " << outcome.error << "\n";
  }
  const auto failed = std::count_if(outcomes.begin(), outcomes.end(), [](const auto& outcome) { return !outcome.ok; });
  if (options.json) {
    print_json(outcomes, sum, failed);
  } else {
    print_text(options, prompts, outcomes, sum, seconds);
  }
  return failed == 0 ? 0 : 1;
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
    if (prompts.empty()) throw std::runtime_error("nothing to ask: give a prompt or --requests");
    const example::ChatClient check(options.agent.base_url, {});
    if (!options.prices.empty()) read_prices(options.prices);
    options.recording.open();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::cerr << "agent: " << error.what() << "\n";
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);  // a server may close a connection while the agent writes to it
  const int status = run(options, prompts);
  if (options.recording.close()) return status;
  std::cerr << "agent: entries are missing in the recording\n";
  return 1;
}
