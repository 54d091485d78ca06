// SPDX-License-Identifier: Apache-2.0
#include "serve/live_frames.h"

#include "base/random.h"

#include <algorithm>

namespace nopspan::collector {
namespace {

constexpr std::array<const char*, 3> kStates = {"head", "rates", "open"};

}  // namespace

LiveFrames::LiveFrames(std::size_t most_bytes, bool needs_all) : most_bytes_(most_bytes), needs_all_(needs_all) {
  clear();
}

LiveFrames::Numbered LiveFrames::line(std::string_view kind, std::string_view text) {
  const std::uint64_t number = next_++;
  std::string made;
  made.reserve(kind.size() + text.size() + 24);
  ((((made += kind) += " ") += std::to_string(number)) += " ") += text;
  return {number, std::make_shared<const std::string>(made += "\n")};
}

void LiveFrames::add(std::string_view kind, std::string_view text) {
  {
    const std::lock_guard lock(mutex_);
    lines_.push_back(line(kind, text));
    bytes_ += lines_.back().second->size();
    for (; bytes_ > most_bytes_; lines_.pop_front()) {
      bytes_ -= lines_.front().second->size();
      removed_ = lines_.front().first;
    }
    // New readers get all states.
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (!states_[i].second || states_[i].first > removed_) continue;
      const std::string_view old = *states_[i].second;
      const std::size_t at = old.find(' ', old.find(' ') + 1) + 1;
      states_[i] = line(kStates[i], old.substr(at, old.size() - at - 1));
    }
  }
  wake_.wake();
}

void LiveFrames::set(State state, std::string_view text) {
  {
    const std::lock_guard lock(mutex_);
    const auto at = static_cast<std::size_t>(state);
    states_[at] = line(kStates[at], text);
  }
  wake_.wake();
}

void LiveFrames::clear() {
  const std::lock_guard lock(mutex_);
  session_ = std::to_string(random_seed());
  lines_.clear();
  states_ = {};
  bytes_ = 0;
  next_ = 1;
  removed_ = 0;
}

LiveFrames::Line LiveFrames::next(Place& place) {
  const std::lock_guard lock(mutex_);
  if (place.session != session_) {
    if (needs_all_ && !lines_.empty() && lines_.back().second->starts_with(kEnd)) return nullptr;
    place = {session_, needs_all_ ? 1 : removed_ + 1};
    return std::make_shared<const std::string>("session 0 " + session_ + "\n");
  }
  if (place.next <= removed_) {
    place.next = removed_ + 1;
    return std::make_shared<const std::string>("missed 0 \n");
  }
  const Numbered* found = nullptr;
  const auto consider = [&](const Numbered& one) {
    if (one.second && one.first >= place.next && (found == nullptr || one.first < found->first)) found = &one;
  };
  const auto first = std::lower_bound(lines_.begin(), lines_.end(), place.next,
                                      [](const Numbered& one, std::uint64_t number) { return one.first < number; });
  if (first != lines_.end()) consider(*first);
  for (const Numbered& one : states_) consider(one);
  if (found == nullptr) return nullptr;
  place.next = found->first + 1;
  return found->second;
}

}  // namespace nopspan::collector
