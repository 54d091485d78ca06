// SPDX-License-Identifier: Apache-2.0
#include "blame/blame_print.h"

#include "base/cells.h"
#include "base/saturating.h"
#include "base/text.h"
#include "model/entry_json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

namespace nopspan::collector {
namespace {

constexpr std::array<const char*, kCauses> kTexts = {
    "admission",      "queue",      "own prefill", "own decode", "others' prefill",
    "others' drafts", "cells left", "preemption",  "host",       "unexplained"};
constexpr std::array<const char*, StepModel::kTerms> kTermNames = {
    "fixed", "request", "context_token", "prefill_token", "prefill_token_context", "drafted_token", "token_cell"};
constexpr std::array<const char*, StepModel::kTerms> kTermTexts = {"a step",
                                                                   "a request",
                                                                   "a token of context",
                                                                   "a prompt token",
                                                                   "a prompt token and token before it",
                                                                   "a drafted token",
                                                                   "a token and cell of the cache"};

// Times are double, and may be below 0.
std::string time_of(double ns) { return (ns < 0 ? "-" : "") + duration_text(saturated(std::abs(ns) + 0.5)); }
std::string percent(double part, double all) {
  return all > 0 ? std::to_string(rounded(100 * part / all)) + " %" : "-";
}
std::string price_text(double ns) { return ns >= 10 ? time_of(ns) : number_text(ns) + " ns"; }

std::string culprit_text(const Blame::Culprit& one) {
  std::string text =
      one.request_id.empty() ? "an unknown request (" + id_text(one.key) + ")" : printable(one.request_id, 64);
  if (!one.tenant.empty()) text += " of " + printable(one.tenant, 32);
  text += " " + time_of(one.ns);
  if (one.prefill_tokens > 0) text += " (" + counted(one.prefill_tokens, "prompt token") + ")";
  if (one.cells_ns > 0.5 * one.ns) text += " (cells left)";
  return text;
}
// The first ones, without those that hardly count.
std::string culprits_text(const std::vector<Blame::Culprit>& all, std::size_t more = 0) {
  constexpr std::size_t kMost = 3;
  constexpr double kLeast = 0.01;
  std::string text;
  std::size_t shown = 0;
  for (; shown < std::min(kMost, all.size()) && all[shown].ns >= kLeast * all[0].ns; ++shown)
    text += (shown > 0 ? ", " : "") + culprit_text(all[shown]);
  more += all.size() - shown;
  if (more > 0) text += ", " + std::to_string(more) + " more";
  return text;
}
nlohmann::ordered_json to_json(const std::vector<Blame::Culprit>& all) {
  auto json = nlohmann::ordered_json::array();
  for (const Blame::Culprit& one : all) {
    json.push_back(
        {{"request_id", one.request_id}, {"tenant", one.tenant}, {"model", one.model}, {"ns", rounded(one.ns)}});
    if (one.cells_ns > 0) json.back()["cells_left_ns"] = rounded(one.cells_ns);
    if (one.prefill_tokens > 0) json.back()["prefill_tokens"] = one.prefill_tokens;
    if (one.request_id.empty()) json.back()["key"] = id_text(one.key);
  }
  return json;
}

std::string fit_text(const Blame::Fit& fit) {
  std::string text =
      printable(fit.engine, 100) + ", from " + time_text(fit.begin_unix_ns) + ": " + counted(fit.steps, "step") +
      (fit.missing > 0 ? " (" + std::to_string(fit.missing) + " more did not arrive)" : "") + ", by " +
      (fit.is_device ? "the device's time" : "wall time") + ", median error " + percent(fit.residual, 1) + "\n  ";
  bool is_first = true;
  for (std::size_t term = 0; term < StepModel::kTerms; ++term) {
    if (fit.prices[term] <= 0) continue;
    text += std::string(is_first ? "" : ", ") + kTermTexts[term] + " " + price_text(fit.prices[term]) +
            (fit.errors[term] > fit.prices[term] ? " (not sure)" : " ± " + percent(fit.errors[term], fit.prices[term]));
    is_first = false;
  }
  text += "\n";
  if (fit.members <= 0) {
    text += "  The steps do not name their members, so that nobody can be blamed (docs/engine.md)\n";
  } else if (fit.prefill_tokens <= 0) {
    text +=
        "  The steps have no prompt tokens. If requests had prompts, report those of each member (docs/engine.md)\n";
  } else if (!fit.is_identified()) {
    text +=
        "  What prompts cost cannot be known from these steps: they carry prompts alike, or are too few (standard "
        "error " +
        (std::isinf(fit.standard_error) ? std::string("infinite") : percent(fit.standard_error, fit.charged_ns)) +
        ")\n";
  }
  return text;
}

}  // namespace

std::string BlameTable::name_of(const std::string& tenant, const std::string& model, const std::string& id) const {
  const std::string& name = by_ == BlameBy::tenant ? tenant : by_ == BlameBy::model ? model : id;
  return name.empty() ? "-" : name;
}

// If there are twice as many rows as it may have, it adds up the least ones as others.
template <class Rows, class Name, class Size>
void BlameTable::shorten(Rows& rows, const Name& others, const Size& size) const {
  if (rows.size() <= 2 * most_rows_) return;
  std::vector<std::pair<double, Name>> by_size;
  for (const auto& [name, row] : rows) {
    if (name != others) by_size.emplace_back(size(row), name);
  }
  const auto end = by_size.begin() + static_cast<std::ptrdiff_t>(by_size.size() - most_rows_);
  std::nth_element(by_size.begin(), end, by_size.end());
  for (auto one = by_size.begin(); one != end; ++one) {
    const auto found = rows.find(one->second);
    const auto row = found->second;
    rows.erase(found);
    rows[others] += row;
  }
}

std::vector<std::pair<BlameTable::Who, BlameTable::Stall>> BlameTable::longest_stalls() const {
  std::vector<std::pair<Who, Stall>> sorted(stalls_.begin(), stalls_.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.ns > b.second.ns; });
  return sorted;
}

void BlameTable::add(const Blame::Request& request) {
  ++count_;
  const std::string name = name_of(request.tenant, request.model, request.request_id);
  Victim& victim = victims_[name];
  double stalled = request.is_sure ? request.stalled_ns() : 0;
  unsure_ += request.is_sure ? 0 : 1;
  victim.stalled_ns += stalled;
  victim.all_ns += static_cast<double>(request.duration_ns);
  victim.prefill_tokens += request.prefill_tokens;
  victim.decode_tokens += request.decode_tokens;
  ++victim.requests;
  const auto charge = [&](const std::string& culprit, double ns) {
    if (ns <= 0) return;
    Stall& stall = stalls_[{name, culprit}];
    stall.ns += ns;
    ++stall.victims;
  };
  std::map<std::string, double> by_culprit;
  for (const Blame::Culprit& one : request.culprits) {
    if (!request.is_sure) break;
    const std::string id = one.request_id.empty() ? "(key " + id_text(one.key) + ")" : one.request_id;
    by_culprit[name_of(one.tenant, one.model, id)] += one.ns;
    stalled -= one.ns;
  }
  by_culprit[kOthers] += std::max(stalled, 0.0) < 1 ? 0 : stalled;
  for (const auto& [culprit, ns] : by_culprit) charge(culprit, ns);
  shorten(victims_, std::string(kOthers), [](const Victim& one) { return one.stalled_ns; });
  shorten(stalls_, Who(kOthers, kOthers), [](const Stall& one) { return one.ns; });

  const auto is_before = [](const Blame::Request& a, const Blame::Request& b) {
    return a.stalled_ns() > b.stalled_ns();
  };
  const auto at = std::upper_bound(requests_.begin(), requests_.end(), request, is_before);
  if (at == requests_.end() && requests_.size() >= most_requests_) return;
  Blame::Request& kept = *requests_.insert(at, request);
  constexpr std::size_t kCulprits = 8;
  if (kept.culprits.size() > kCulprits) {
    kept.more_culprits += kept.culprits.size() - kCulprits;
    kept.culprits.resize(kCulprits);
  }
  if (requests_.size() > most_requests_) requests_.pop_back();
}

std::string to_text(const Blame& blame) {
  constexpr std::size_t kFits = 8;
  std::string text;
  const std::deque<Blame::Fit>& fits = blame.fits();
  const auto noisy = std::count_if(fits.begin(), fits.end(), [](const Blame::Fit& one) { return one.is_noisy(); });
  if (noisy > 0) {
    text = "Do not blame anybody by " +
           (fits.size() == 1 ? std::string("this")
                             : std::to_string(noisy) + " of " + std::to_string(fits.size()) + " windows") +
           ": the steps' times scatter too much. Report device_ns(): wall time on a busy\nhost has other causes\n";
  }
  std::vector<Blame::Fit> shown(fits.begin(), fits.end());
  std::stable_sort(shown.begin(), shown.end(), [](const auto& a, const auto& b) { return a.steps > b.steps; });
  if (shown.size() > kFits) {
    shown.resize(kFits);
    text += "the largest " + std::to_string(kFits) + " of " + std::to_string(fits.size() + blame.earlier_fits()) +
            " windows:\n";
  }
  for (const Blame::Fit& fit : shown) text += fit_text(fit);
  if (fits.empty()) text += "no steps of an engine\n";
  const Blame::Counts& counts = blame.counts();
  const auto add = [&](std::uint64_t count, const char* one, const char* what) {
    if (count > 0) text += "  not charged: " + counted(count, one) + " " + what + "\n";
  };
  add(counts.engines, "engine", "of more than can be known at a time");
  add(counts.members, "member", "of steps, without their step or beyond the limits");
  add(counts.not_ended + blame.open(), "request",
      "of which no span has arrived that names it: it has not ended, or began before the attach");
  return text + "\n";
}

std::string to_text(const Blame::Request& request) {
  const auto all = static_cast<double>(request.duration_ns);
  std::string text = printable(request.request_id, 64) +
                     (request.tenant.empty() ? "" : " of " + printable(request.tenant, 32)) + ": " +
                     duration_text(request.duration_ns) + ", " + counted(request.steps, "step") +
                     (request.is_sure ? "" : " (not sure: see above)") + "\n ";
  bool is_first = true;
  for (std::size_t i = 0; i < kCauses; ++i) {
    if (std::abs(request.ns[i]) < 0.005 * all) continue;
    text += std::string(is_first ? " " : ", ") + kTexts[i] + " " + time_of(request.ns[i]) + " (" +
            percent(request.ns[i], all) + ")";
    is_first = false;
  }
  text += "\n";
  if (!request.culprits.empty())
    text += "  stalled by " + culprits_text(request.culprits, request.more_culprits) + "\n";
  for (const Blame::Gap& gap : request.gaps) {
    text += "  step " + std::to_string(gap.step) + ": " + time_of(gap.ns) + ", of that by others " +
            time_of(gap.stall_ns) + (gap.culprits.empty() ? "" : ": " + culprits_text(gap.culprits)) + "\n";
  }
  return text;
}

std::string stall_text(const Blame::Request& request) {
  constexpr double kLeast = 0.1;
  const auto all = static_cast<double>(request.duration_ns);
  const double stalled_ns = request.stalled_ns();
  if (!request.is_sure || stalled_ns <= kLeast * all) return "";
  return "  stalled by others " + time_of(stalled_ns) + " (" + percent(stalled_ns, all) + ")" +
         (request.culprits.empty() ? "" : ": " + culprits_text(request.culprits, request.more_culprits)) + "\n";
}

std::string to_text(const BlameTable& table, std::size_t rows) {
  if (table.count() == 0) return "no request was selected\n";
  std::string text;
  TextTable stalls({{"STALLED"}, {"BY"}, {"LOST", Align::right}, {"SHARE", Align::right}, {"REQUESTS", Align::right}});
  const auto sorted = table.longest_stalls();
  for (std::size_t i = 0; i < std::min(rows, sorted.size()); ++i) {
    const auto& [who, stall] = sorted[i];
    const auto victim = table.victims().find(who.first);
    stalls.add({printable(who.first, 40), printable(who.second, 40), time_of(stall.ns),
                victim == table.victims().end() ? "-" : percent(stall.ns, victim->second.all_ns),
                std::to_string(stall.victims)});
  }
  if (table.unsure() > 0)
    text += counted(table.unsure(), "request") + " of " + std::to_string(table.count()) +
            " not charged: the steps do not show who stalled them\n";
  if (sorted.empty()) return text + (table.unsure() < table.count() ? "no request was stalled by others\n" : "");
  text += stalls.text();
  TextTable service({{"SERVED"},
                     {"REQUESTS", Align::right},
                     {"PROMPT", Align::right},
                     {"DECODED", Align::right},
                     {"SERVICE", Align::right}});
  double all = 0;
  const auto weight = [](const BlameTable::Victim& one) {
    return static_cast<double>(one.prefill_tokens) + 2 * static_cast<double>(one.decode_tokens);
  };
  for (const auto& [name, one] : table.victims()) all += weight(one);
  std::vector<std::pair<std::string, BlameTable::Victim>> served(table.victims().begin(), table.victims().end());
  std::sort(served.begin(), served.end(),
            [&](const auto& a, const auto& b) { return weight(a.second) > weight(b.second); });
  for (std::size_t i = 0; i < std::min(rows, served.size()); ++i) {
    const auto& [name, one] = served[i];
    service.add({printable(name, 40), std::to_string(one.requests),
                 number_text(static_cast<double>(one.prefill_tokens)),
                 number_text(static_cast<double>(one.decode_tokens)), percent(weight(one), all)});
  }
  return text + "\n" + service.text();
}

nlohmann::ordered_json to_json(const Blame::Fit& fit) {
  nlohmann::ordered_json json = {
      {"type", "fit"},      {"engine", fit.engine},         {"begin_unix_ns", fit.begin_unix_ns},
      {"steps", fit.steps}, {"missing_steps", fit.missing}, {"time", fit.is_device ? "device" : "wall"}};
  for (std::size_t term = 0; term < StepModel::kTerms; ++term) {
    json["prices_ns"][kTermNames[term]] = fit.prices[term];
    if (!std::isinf(fit.errors[term])) json["standard_errors_ns"][kTermNames[term]] = fit.errors[term];
  }
  json["residual"] = fit.residual;
  if (!std::isinf(fit.condition)) json["condition"] = fit.condition;
  json["charged_ns"] = rounded(fit.charged_ns);
  if (!std::isinf(fit.standard_error)) json["standard_error_ns"] = rounded(fit.standard_error);
  json["identified"] = fit.is_identified();
  json["noisy"] = fit.is_noisy();
  return json;
}

nlohmann::ordered_json to_json(const Blame::Request& request) {
  nlohmann::ordered_json json = {{"type", "request"},
                                 {"request_id", request.request_id},
                                 {"tenant", request.tenant},
                                 {"model", request.model},
                                 {"engine", request.engine},
                                 {"start_unix_ns", request.start_unix_ns},
                                 {"duration_ns", request.duration_ns},
                                 {"steps", request.steps}};
  for (std::size_t i = 0; i < kCauses; ++i) json["causes_ns"][kCauseNames[i]] = rounded(request.ns[i]);
  json["stalled_by"] = to_json(request.culprits);
  json["sure"] = request.is_sure;
  json["worst_steps"] = nlohmann::ordered_json::array();
  for (const Blame::Gap& gap : request.gaps) {
    json["worst_steps"].push_back({{"number", gap.step},
                                   {"duration_ns", rounded(gap.ns)},
                                   {"stall_ns", rounded(gap.stall_ns)},
                                   {"stalled_by", to_json(gap.culprits)}});
  }
  return json;
}

nlohmann::ordered_json to_json(const BlameTable& table, const Blame& blame) {
  nlohmann::ordered_json json = {{"type", "table"},
                                 {"requests", table.count()},
                                 {"unsure", table.unsure()},
                                 {"earlier_fits", blame.earlier_fits()},
                                 {"engines_forgotten", blame.counts().engines},
                                 {"members_over_limit", blame.counts().members},
                                 {"not_ended", blame.counts().not_ended + blame.open()},
                                 {"stalls", nlohmann::ordered_json::array()},
                                 {"service", nlohmann::ordered_json::array()}};
  for (const auto& [who, stall] : table.stalls())
    json["stalls"].push_back(
        {{"victim", who.first}, {"by", who.second}, {"ns", rounded(stall.ns)}, {"requests", stall.victims}});
  for (const auto& [name, one] : table.victims()) {
    json["service"].push_back({{"name", name},
                               {"requests", one.requests},
                               {"prefill_tokens", one.prefill_tokens},
                               {"decode_tokens", one.decode_tokens},
                               {"stalled_ns", rounded(one.stalled_ns)},
                               {"duration_ns", rounded(one.all_ns)}});
  }
  return json;
}

}  // namespace nopspan::collector
