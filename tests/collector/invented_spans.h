// SPDX-License-Identifier: Apache-2.0
// Spans that no process emitted.
#pragma once

#include "model/entry.h"

#include <cstdint>
#include <memory>
#include <string_view>

namespace nopspan::collector {

constexpr std::uint64_t kNoon = 1'700'000'000 * kSecond;  // Unix time

inline ProcessPointer invented_process(std::uint32_t pid, std::uint64_t start_ticks = 1) {
  auto process = std::make_shared<Process>();
  process->pid = pid;
  process->start_ticks = start_ticks;
  process->comm = "program";
  process->host = "host";
  return process;
}

// The texts of the result refer to the arguments.
inline Entry invented(std::string_view name, std::string_view model, Kind kind = Kind::span) {
  static const ProcessPointer process = invented_process(100);
  Entry entry;
  entry.kind = kind;
  entry.name = name;
  entry.model = model;
  entry.duration_ns = 1000;
  entry.span_id = 2;
  entry.parent_id = entry.root_id = 1;
  entry.process = &process;
  return entry;
}

}  // namespace nopspan::collector
