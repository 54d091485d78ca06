// SPDX-License-Identifier: Apache-2.0
// Whether any entry has the keys of labels, attributes and resources that the user asked for. Most words are such keys,
// so a mistyped one is not an error of usage.
#pragma once

#include "facts/row_key.h"
#include "model/filter.h"

#include <cstddef>
#include <set>
#include <string>
#include <vector>

namespace nopspan::collector {

class AskedKeys {
 public:
  // `more`: keys of attributes.
  AskedKeys(const Filter& filter, const Grouping& by, const std::vector<std::string>& more);

  void see(const Entry& entry) {
    if (!unseen_.empty()) look_at(entry);
  }
  // Whether there were entries, and none of them had one of the keys.
  [[nodiscard]] bool are_missing() const { return entries_ > 0 && !unseen_.empty(); }
  // A line for each such key, with the known key that is most like it: "nopspan: BEFORE modle AFTER; did you mean
  // model?"
  [[nodiscard]] std::string text(const std::string& before, const std::string& after) const;

 private:
  struct Asked {
    std::string key;
    bool groups = false;  // it is a key of --by
  };
  void look_at(const Entry& entry);
  [[nodiscard]] std::string most_like(const Asked& asked) const;

  std::vector<Asked> unseen_;
  std::set<std::string> known_;  // keys of entries, of which there may be any number
  std::size_t entries_ = 0;
};

}  // namespace nopspan::collector
