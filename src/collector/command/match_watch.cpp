// SPDX-License-Identifier: Apache-2.0
#include "command/match_watch.h"

#include "base/failure.h"
#include "base/stopping.h"
#include "base/text.h"

#include <iostream>

namespace nopspan::collector {

void MatchWatch::on_tick(std::uint64_t now_unix_ns) {
  constexpr std::uint64_t kPatience = 5 * kSecond;
  sink_.on_tick(now_unix_ns);
  if (is_told_ || !from_.empty()) return;
  if (began_unix_ns_ == 0 || now_unix_ns < began_unix_ns_) began_unix_ns_ = now_unix_ns;  // the clock was set back
  if (now_unix_ns - began_unix_ns_ < kPatience) return;
  is_told_ = true;
  if (!matches_nothing()) return;
  std::cerr << "nopspan: nothing has matched " + to_text(filter_) + " for 5 s\n";
}

int MatchWatch::exit_status() const {
  if (from_.empty() || interrupted || !matches_nothing()) return 0;
  std::cerr << "nopspan: nothing in " + (from_ == "-" ? "stdin" : printable(from_)) + " matches " + to_text(filter_) +
                   "\n";
  return Failure::kFailed;
}

}  // namespace nopspan::collector
