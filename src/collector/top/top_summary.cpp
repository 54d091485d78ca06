// SPDX-License-Identifier: Apache-2.0
#include "top/top_summary.h"

#include "base/text.h"

#include <array>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr std::size_t kWidestName = 40;

std::string plural(std::uint64_t count, const char* one, const char* many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

std::string per_second(std::uint64_t count, std::uint64_t ns) {
  return ns == 0 ? "-" : number_text(static_cast<double>(count) * 1e9 / static_cast<double>(ns));
}

}  // namespace

std::string traffic_text(const TopSnapshot& snapshot) {
  const TableNumbers& table = snapshot.table;
  return per_second(table.window.spans, table.window_ns) + " spans/s, " +
         per_second(table.window.requests, table.window_ns) + " requests/s, " +
         per_second(table.window.errors, table.window_ns) + " errors/s, " +
         plural(snapshot.processes, "process", "processes");
}

std::string ledger_text(const Counts& counts) {
  static constexpr std::array<std::pair<std::uint64_t Counts::*, const char*>, 7> kReasons = {{
      {&Counts::ring_full, "buffer full"},
      {&Counts::unreadable, "unreadable"},
      {&Counts::too_large, "too large"},
      {&Counts::malformed, "malformed"},
      {&Counts::missed, "missed"},
      {&Counts::discarded, "discarded"},
      {&Counts::export_dropped, "not written"},
  }};
  std::string text = number_text(static_cast<double>(counts.delivered)) + " delivered, ";
  if (counts.lost() == 0) text += "none lost";
  if (counts.lost() != 0) {
    std::string reasons;
    for (const auto& [count, reason] : kReasons) {
      if (counts.*count == 0) continue;
      reasons += (reasons.empty() ? "" : ", ") + std::to_string(counts.*count) + " " + reason;
    }
    text += std::to_string(counts.lost()) + " lost (" + reasons + ")";
  }
  if (counts.filtered != 0) text += ", " + number_text(static_cast<double>(counts.filtered)) + " filtered out";
  if (counts.held_by_killed != 0)
    text += ", at most " + std::to_string(counts.held_by_killed) + " more held by killed processes";
  return text;
}

std::string bounds_text(const TopSnapshot& snapshot) {
  const TableNumbers& table = snapshot.table;
  std::vector<std::string> parts;
  if (table.evicted != 0) parts.push_back(plural(table.evicted, "idle row", "idle rows") + " merged into other");
  if (table.total.unplaced != 0) {
    parts.push_back("out of memory: " + plural(table.total.unplaced, "time", "times") + " missing in quantiles");
  }
  if (snapshot.gauges_dropped != 0) {
    parts.push_back(plural(snapshot.gauges_dropped, "gauge value", "gauge values") + " over the limit of " +
                    std::to_string(GaugeBoard::kMost) + " dropped");
  }
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

std::string gauge_text(const GaugeReading& gauge) {
  std::string text = printable(gauge.name, kWidestName) + " " + std::to_string(gauge.value);
  if (gauge.maximum != 0) text += "/" + std::to_string(gauge.maximum);
  return text;
}

std::vector<std::string> gauge_lines(const TopSnapshot& snapshot) {
  std::vector<std::string> lines;
  const GaugeReading* last = nullptr;
  for (const GaugeReading& gauge : snapshot.gauges) {
    if (last != nullptr && last->process == gauge.process && last->engine == gauge.engine &&
        last->model == gauge.model) {
      lines.back() += ", " + gauge_text(gauge);
    } else {
      std::string who;
      for (const std::string& word : {gauge.engine, gauge.model, process_text(*gauge.process)}) {
        if (!word.empty()) who += (who.empty() ? "" : " ") + printable(word, kWidestName);
      }
      lines.push_back(who + ": " + gauge_text(gauge));
    }
    last = &gauge;
  }
  return lines;
}

}  // namespace nopspan::collector
