// SPDX-License-Identifier: Apache-2.0
// `nopspan top` with spans that a test invents, and with a clock that the test advances. Reads commands, one per line,
// from the FIFO that NOPSPAN_TEST_COMMANDS names. Answers each with "done" on the FIFO that NOPSPAN_TEST_ANSWERS names.
//
//   span NAME MODEL COUNT DURATION_NS [error | cancelled | root]   "\xNN" in a word is that byte, "" is no text
//   chat NAME MODEL COUNT INPUT OUTPUT FIRST_TOKEN_NS       spans with tokens
//   gauge ENGINE NAME VALUE MAXIMUM; rows COUNT
//   lose COUNT; say TEXT; pass SECONDS; fail WORD; end
#include "base/failure.h"
#include "base/stopping.h"
#include "command/command.h"
#include "command/options.h"
#include "invented_spans.h"
#include "top/top_runner.h"

#include <CLI/CLI.hpp>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

namespace nopspan::collector {
namespace {

std::string unescaped(const std::string& word) {
  if (word == "\"\"") return "";
  std::string text;
  for (std::size_t i = 0; i < word.size(); ++i) {
    if (word.compare(i, 2, "\\x") == 0 && i + 3 < word.size()) {
      text += static_cast<char>(std::stoi(word.substr(i + 2, 2), nullptr, 16));
      i += 3;
    } else {
      text += word[i];
    }
  }
  return text;
}

// Opens both ends of the pipe that the variable names, so that open() does not block.
int open_pipe(const char* variable) {
  const char* path = std::getenv(variable);
  return path == nullptr ? -1 : open(path, O_RDWR | O_CLOEXEC);
}

class Invention : public Source {
 public:
  void run(Sink& sink, Deadline& until) override {
    until.begin();
    const int commands = open_pipe("NOPSPAN_TEST_COMMANDS");
    const int answers = open_pipe("NOPSPAN_TEST_ANSWERS");
    sink_ = &sink;
    std::string unread;
    while (!until.is_over() && !ended_) {
      sink.on_tick(now_ns_);
      pollfd waited = {commands, POLLIN, 0};
      if (poll(&waited, 1, until.milliseconds(20)) <= 0) continue;
      char text[4096];
      unread.append(text, static_cast<std::size_t>(std::max<ssize_t>(read(commands, text, sizeof(text)), 0)));
      for (std::size_t end = 0; (end = unread.find('\n')) != std::string::npos && !ended_; unread.erase(0, end + 1)) {
        obey(unread.substr(0, end));
        sink.on_tick(now_ns_);
        if (write(answers, "done\n", 5) != 5) throw Failure("nobody takes answers");
      }
    }
    close(commands);
    close(answers);
  }
  [[nodiscard]] Ledger ledger() const override {
    Ledger ledger;
    ledger.total = counts_;
    return ledger;
  }

 private:
  void give(const Entry& entry, std::uint64_t times = 1) {
    for (std::uint64_t i = 0; i < times; ++i) sink_->on_entry(entry);
    counts_.emitted += times;
    counts_.delivered += times;
  }

  void obey(const std::string& line) {
    std::istringstream words(line);
    const auto word = [&words] {
      std::string text;
      words >> text;
      return unescaped(text);
    };
    const auto number = [&words] {
      std::uint64_t value = 0;
      words >> value;
      return value;
    };
    const std::string what = word();
    if (what == "span" || what == "chat") {
      const std::string name = word(), model = word();
      const std::uint64_t count = number();
      Entry entry = invented(name, model);
      if (what == "span") {
        entry.duration_ns = number();
        const std::string status = word();
        if (status == "error") entry.status = kError;
        if (status == "cancelled") entry.status = kCancelled;
        if (status == "root") entry.span_id = entry.root_id;
      } else {
        entry.has_usage = entry.counts_tokens = entry.has_first_token = true;
        words >> entry.usage.input >> entry.usage.output >> entry.first_token_ns;
      }
      give(entry, count);
    } else if (what == "gauge") {
      const std::string engine = word(), name = word();
      Entry entry = invented(name, "", Kind::gauge);
      entry.engine = engine;
      words >> entry.value >> entry.number;
      give(entry);
    } else if (what == "rows") {
      const std::uint64_t count = number();
      for (std::uint64_t i = 1; i <= count; ++i) give(invented("row-" + std::to_string(i), "m"), i);
    } else if (what == "lose") {
      const std::uint64_t count = number();
      counts_.emitted += count;
      counts_.ring_full += count;
    } else if (what == "say") {
      std::cerr << word() << std::endl;
    } else if (what == "pass") {
      for (std::uint64_t i = 10 * number(); i > 0; --i) sink_->on_tick(now_ns_ += kSecond / 10);
    } else if (what == "fail") {
      throw Failure(word());
    } else if (what == "end") {
      ended_ = true;
    }
  }

  Sink* sink_ = nullptr;
  Counts counts_;
  std::uint64_t now_ns_ = 1'700'000'000 * kSecond;  // 22:13:20 UTC
  bool ended_ = false;
};

int run(int argc, char** argv) {
  CLI::App app;
  OutputOptions common;
  TopOptions options;
  bool color = false;
  app.add_flag("--json", common.json);
  app.add_flag("--color", color);
  add_top_options(app, options);
  add_source_options(app, options.source);
  CLI11_PARSE(app, argc, argv);
  common.color = color;
  run_top(options, common, std::make_unique<Invention>());
  return 0;
}

}  // namespace
}  // namespace nopspan::collector

int main(int argc, char** argv) {
  using namespace nopspan::collector;
  std::setlocale(LC_CTYPE, "");
  struct sigaction action = {};
  action.sa_handler = [](int) { stopping = true; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  try {
    return run(argc, argv);
  } catch (const Failure& failure) {
    std::cerr << "top: " << failure.what() << std::endl;
    return failure.exit_status;
  }
}
