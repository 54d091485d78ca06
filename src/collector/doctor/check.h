// SPDX-License-Identifier: Apache-2.0
// What `doctor` looks at.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

struct Check {
  enum class Result : std::uint8_t {
    ok,
    warning,  // something is less than it could be, or surprises
    failed,   // an attach fails because of it, or shows nothing
  };
  Result result = Result::ok;
  std::string name;    // what was looked at
  std::string found;   // what it is
  std::string advice;  // what to do; "" if nothing
};
inline const char* to_string(Check::Result result) {
  static constexpr const char* kNames[] = {"ok", "warning", "failed"};
  return kNames[static_cast<unsigned>(result)];
}

class Checks {
 public:
  void ok(std::string name, std::string found) { add(Check::Result::ok, std::move(name), std::move(found), ""); }
  void warn(std::string name, std::string found, std::string advice) {
    add(Check::Result::warning, std::move(name), std::move(found), std::move(advice));
  }
  void fail(std::string name, std::string found, std::string advice) {
    add(Check::Result::failed, std::move(name), std::move(found), std::move(advice));
    failed_ = true;
  }

  [[nodiscard]] const std::vector<Check>& all() const { return all_; }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  void add(Check::Result result, std::string name, std::string found, std::string advice) {
    all_.push_back({result, std::move(name), std::move(found), std::move(advice)});
  }

  std::vector<Check> all_;
  bool failed_ = false;
};

}  // namespace nopspan::collector
