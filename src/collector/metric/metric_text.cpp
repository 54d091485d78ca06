// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_text.h"

#include "base/text.h"
#include "model/entry_json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace nopspan::collector {

PrometheusName prometheus_name(const MetricDescription& about) {
  PrometheusName made{about.name, about.unit == "s" ? "seconds" : about.unit == "By" ? "bytes" : ""};
  std::replace(made.name.begin(), made.name.end(), '.', '_');
  if (!made.unit.empty()) made.name += "_" + made.unit;
  return made;
}

std::string prometheus_label(std::string_view name) {
  std::string made(name);
  for (char& c : made) {
    if (!is_letter_or_digit(c)) c = '_';
  }
  if (made.empty() || is_digit(made.front())) made.insert(0, "key_");
  if (made.starts_with("__")) made.insert(0, "key");
  return made;
}

namespace {

template <class Number, class... How>
void append_chars(std::string& out, Number value, How... how) {
  char text[32];
  out.append(text, static_cast<std::size_t>(std::to_chars(text, text + sizeof(text), value, how...).ptr - text));
}

void append_value(std::string& out, double value) {
  constexpr double kMostExact = 0x1p53;
  if (std::isnan(value)) {
    out += "NaN";
  } else if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
  } else if (value == std::trunc(value) && std::abs(value) <= kMostExact) {
    append_chars(out, static_cast<std::int64_t>(value));
  } else {
    append_chars(out, value);
  }
}

// As Prometheus itself writes bounds, whatever the format in which it got them.
void append_bound(std::string& out, double bound) {
  std::string text;
  append_chars(text, bound, std::chars_format::scientific);
  constexpr int kMostDigits = 6;
  const int exponent = std::atoi(text.c_str() + text.find('e') + 1);
  if (bound != 0 && (exponent < -4 || exponent >= kMostDigits)) {
    out += text;
    return;
  }
  text.clear();
  append_chars(text, bound, std::chars_format::fixed);
  out += text;
  if (text.find('.') == std::string::npos) out += ".0";
}

void append_escaped(std::string& out, std::string_view text, bool with_quotes) {
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && with_quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

void append_label(std::string& out, std::string_view name, std::string_view value) {
  if (out.back() != '{') out += ',';
  out += name;
  out += "=\"";
  append_escaped(out, value, true);
  out += '"';
}

std::string labels_text(const MetricLabels& labels) {
  std::string text = "{";
  for (const auto& [name, value] : labels) append_label(text, prometheus_label(name), value);
  return text;
}

class TextEncoder {
 public:
  explicit TextEncoder(bool is_open_metrics) : is_open_metrics_(is_open_metrics) {}

  std::string encode(const MetricSnapshot& snapshot) {
    for (const MetricFamilySnapshot& family : snapshot.families) add(family);
    return std::move(out_);
  }

 private:
  void add(const MetricFamilySnapshot& family) {
    if (family.points.empty()) return;
    const MetricDescription& about = *family.about;
    const PrometheusName name = prometheus_name(about);
    const bool is_counter = about.type == MetricType::counter;
    const std::string sample = is_counter ? name.name + "_total" : name.name;
    const std::string& head = is_open_metrics_ ? name.name : sample;
    (out_ += "# HELP ") += head;
    out_ += ' ';
    append_escaped(out_, about.help, is_open_metrics_);
    (out_ += "\n# TYPE ") += head;
    out_ += is_counter ? " counter\n" : about.type == MetricType::gauge ? " gauge\n" : " histogram\n";
    if (is_open_metrics_ && !name.unit.empty()) ((((out_ += "# UNIT ") += head) += ' ') += name.unit) += '\n';
    bounds_.clear();
    for (const double bound : about.bounds) append_bound(bounds_.emplace_back(), bound);
    if (about.type == MetricType::histogram) bounds_.emplace_back("+Inf");
    for (const MetricPoint& point : family.points) {
      const std::string labels = labels_text(*point.labels);
      if (about.type == MetricType::histogram) {
        add_histogram(name.name, point, labels);
      } else {
        add_sample(sample, "", labels, point.value);
      }
    }
  }

  void add_name(const std::string& name, std::string_view suffix, std::string_view labels) {
    (out_ += name) += suffix;
    if (labels.size() > 1) (out_ += labels) += '}';
    out_ += ' ';
  }

  void add_sample(const std::string& name, std::string_view suffix, std::string_view labels, double value) {
    add_name(name, suffix, labels);
    append_value(out_, value);
    out_ += '\n';
  }

  void add_histogram(const std::string& name, const MetricPoint& point, const std::string& labels) {
    std::uint64_t count = 0;
    auto exemplar = point.exemplars.begin();
    std::string with_bound;
    for (std::size_t i = 0; i < point.buckets.size(); ++i) {
      count += point.buckets[i];
      with_bound = labels;
      append_label(with_bound, "le", bounds_[i]);
      add_name(name, "_bucket", with_bound);
      append_chars(out_, count);
      if (exemplar != point.exemplars.end() && exemplar->first == i) {
        if (is_open_metrics_) add_exemplar(exemplar->second);
        ++exemplar;
      }
      out_ += '\n';
    }
    add_sample(name, "_sum", labels, point.value);
    add_name(name, "_count", labels);
    append_chars(out_, count);
    out_ += '\n';
  }

  void add_exemplar(const Exemplar& exemplar) {
    constexpr std::uint64_t kNsPerUs = 1000;
    constexpr std::size_t kUsDigits = 6;
    ((out_ += " # {trace_id=\"") += id_text(exemplar.trace_id)) += "\",span_id=\"";
    (out_ += id_text(exemplar.span_id)) += "\"} ";
    append_value(out_, exemplar.value);
    out_ += ' ';
    append_chars(out_, exemplar.unix_ns / kSecond);
    const std::string us = std::to_string(exemplar.unix_ns % kSecond / kNsPerUs);
    ((out_ += '.').append(kUsDigits - us.size(), '0')) += us;
  }

  const bool is_open_metrics_;
  std::string out_;
  std::vector<std::string> bounds_;  // of the family, with +Inf
};

}  // namespace

std::string prometheus_text(const MetricSnapshot& snapshot) { return TextEncoder(false).encode(snapshot); }

std::string openmetrics_text(const MetricSnapshot& snapshot) { return TextEncoder(true).encode(snapshot) + "# EOF\n"; }

}  // namespace nopspan::collector
