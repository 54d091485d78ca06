// SPDX-License-Identifier: Apache-2.0
// Passes everything on to several sinks, so that one attach serves them all.
#pragma once

#include "model/source.h"

#include <cstdint>
#include <vector>

namespace nopspan::collector {

class Tee : public Sink {
 public:
  // `sink` must outlive this object.
  void add(Sink& sink) { sinks_.push_back(&sink); }

  void on_entry(const Entry& entry) override {
    for (Sink* sink : sinks_) sink->on_entry(entry);
  }
  void on_tick(std::uint64_t now_unix_ns) override {
    for (Sink* sink : sinks_) sink->on_tick(now_unix_ns);
  }

 private:
  std::vector<Sink*> sinks_;
};

}  // namespace nopspan::collector
