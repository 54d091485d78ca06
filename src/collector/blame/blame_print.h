// SPDX-License-Identifier: Apache-2.0
// What nopspan blame prints.
#pragma once

#include "blame/blame.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

// What has no row of its own, and what is charged to nobody by name.
inline constexpr const char* kOthers = "(others)";

enum class BlameBy : std::uint8_t { tenant, model, request };

// Who stalled whom, of all requests that are wanted, and the slowest of them. Rows are bounded: the
// least ones are added up as (others).
class BlameTable {
 public:
  BlameTable(BlameBy by, std::size_t most_rows, std::size_t most_requests)
      : by_(by), most_rows_(most_rows), most_requests_(most_requests) {}

  void add(const Blame::Request& request);

  struct Stall {
    double ns = 0;
    std::uint64_t victims = 0;
    void operator+=(const Stall& other) {
      ns += other.ns;
      victims += other.victims;
    }
  };
  struct Victim {
    double stalled_ns = 0, all_ns = 0;
    std::uint64_t requests = 0, prefill_tokens = 0, decode_tokens = 0;
    void operator+=(const Victim& other) {
      stalled_ns += other.stalled_ns;
      all_ns += other.all_ns;
      requests += other.requests;
      prefill_tokens += other.prefill_tokens;
      decode_tokens += other.decode_tokens;
    }
  };
  using Who = std::pair<std::string, std::string>;  // victim, culprit
  [[nodiscard]] const std::map<Who, Stall>& stalls() const { return stalls_; }
  [[nodiscard]] std::vector<std::pair<Who, Stall>> longest_stalls() const;  // the longest first
  [[nodiscard]] const std::map<std::string, Victim>& victims() const { return victims_; }
  // Those that others stalled most, in this order.
  [[nodiscard]] const std::vector<Blame::Request>& requests() const { return requests_; }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  // Requests of these that are not in the stalls, because the steps do not show who stalled them.
  [[nodiscard]] std::uint64_t unsure() const { return unsure_; }

 private:
  template <class Rows, class Name, class Size>
  void shorten(Rows& rows, const Name& others, const Size& size) const;
  [[nodiscard]] std::string name_of(const std::string& tenant, const std::string& model, const std::string& id) const;

  const BlameBy by_;
  const std::size_t most_rows_, most_requests_;
  std::map<Who, Stall> stalls_;
  std::map<std::string, Victim> victims_;
  std::vector<Blame::Request> requests_;
  std::uint64_t count_ = 0, unsure_ = 0;
};

// The fits, and what cannot be said. What is most important is first.
std::string to_text(const Blame& blame);
std::string to_text(const Blame::Request& request);
// A line about a request that others stalled for a large part of its time; "" if they did not.
std::string stall_text(const Blame::Request& request);
// Of the table, with at most so many rows.
std::string to_text(const BlameTable& table, std::size_t rows);
nlohmann::ordered_json to_json(const Blame::Fit& fit);
nlohmann::ordered_json to_json(const Blame::Request& request);
nlohmann::ordered_json to_json(const BlameTable& table, const Blame& blame);

}  // namespace nopspan::collector
