// SPDX-License-Identifier: Apache-2.0
#include "doctor/checks.h"

#include "base/gzip.h"
#include "host/process_facts.h"

#include <sys/utsname.h>

#include <cstdlib>
#include <sstream>
#include <string_view>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostConfig = std::size_t{4} << 20U;

Preemption of_model(std::string_view model) {
  if (model == "none" || model == "voluntary") return Preemption::no;
  return model == "full" || model == "lazy" ? Preemption::yes : Preemption::unknown;
}

// The last of the words "preempt=MODEL".
Preemption of_command_line(const std::string& command_line) {
  constexpr std::string_view kOption = "preempt=";
  Preemption found = Preemption::unknown;
  std::istringstream words(command_line);
  for (std::string word; words >> word;) {
    if (!word.starts_with(kOption)) continue;
    const Preemption asked = of_model(std::string_view(word).substr(kOption.size()));
    if (asked != Preemption::unknown) found = asked;
  }
  return found;
}

Preemption of_config(const std::string& config) {
  std::istringstream lines(config);
  for (std::string line; std::getline(lines, line);) {
    if (line == "CONFIG_PREEMPT_NONE=y" || line == "CONFIG_PREEMPT_VOLUNTARY=y") return Preemption::no;
    if (line == "CONFIG_PREEMPT=y" || line == "CONFIG_PREEMPT_LAZY=y") return Preemption::yes;
  }
  return Preemption::unknown;
}

}  // namespace

Preemption preemption_of(const PreemptionFacts& facts) {
  bool is_dynamic = false, is_built_in = false;
  std::istringstream words(facts.version);
  for (std::string word; words >> word;) {
    if (!word.starts_with("PREEMPT")) continue;
    (word == "PREEMPT_DYNAMIC" ? is_dynamic : is_built_in) = true;
  }
  if (!is_dynamic) return is_built_in ? Preemption::yes : Preemption::no;
  // From 7.0 on, the only models are full and lazy on processors that have lazy preemption.
  if (facts.major >= 7) return Preemption::yes;
  // It lists all models, with the current one in parentheses.
  const std::size_t open = facts.model.find('('), close = facts.model.find(')');
  if (open < close && close != std::string::npos) return of_model(facts.model.substr(open + 1, close - open - 1));
  const Preemption asked = of_command_line(facts.command_line);
  return asked != Preemption::unknown ? asked : of_config(facts.config);
}

PreemptionFacts preemption_facts() {
  utsname name{};
  uname(&name);
  PreemptionFacts facts;
  facts.major = static_cast<unsigned>(std::strtoul(name.release, nullptr, 10));
  facts.version = name.version;
  facts.model = read_small_file("/sys/kernel/debug/sched/preempt");
  facts.command_line = read_small_file("/proc/cmdline");
  facts.config = read_small_file("/boot/config-" + std::string(name.release), kMostConfig);
  if (facts.config.empty())
    facts.config = gunzipped(read_small_file("/proc/config.gz", kMostConfig), kMostConfig).value_or("");
  return facts;
}

}  // namespace nopspan::collector
