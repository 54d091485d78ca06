// SPDX-License-Identifier: Apache-2.0
#include "serve/shared_renders.h"

#include "base/gzip.h"
#include "base/text.h"

#include <charconv>
#include <optional>
#include <system_error>

namespace nopspan::collector {

namespace {

std::string_view next_part(std::string_view& list, char separator) { return trimmed(take_before(list, separator)); }

// One element of an Accept header.
struct AcceptedType {
  std::string_view name, version;
  double q = 1;
};

AcceptedType accepted_type(std::string_view element) {
  AcceptedType type;
  type.name = next_part(element, ';');
  while (!element.empty()) {
    std::string_view value = next_part(element, ';');
    const std::string_view key = next_part(value, '=');
    value = trimmed(value);
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
    if (is_same_word(key, "q")) {
      const auto parsed = std::from_chars(value.data(), value.data() + value.size(), type.q);
      // The comparison is false for NaN.
      if (parsed.ec != std::errc() || !(type.q >= 0 && type.q <= 1)) type.q = 0;
    } else if (is_same_word(key, "version")) {
      type.version = value;
    }
  }
  return type;
}

std::optional<MetricFormat> format_of(const AcceptedType& type) {
  if (is_same_word(type.name, "application/openmetrics-text")) {
    if (type.version.empty() || type.version == "1.0.0") return MetricFormat::openmetrics;
  } else if (is_same_word(type.name, "text/plain")) {
    if (type.version.empty() || type.version == "0.0.4") return MetricFormat::text;
  } else if (type.name == "*/*" || is_same_word(type.name, "text/*")) {
    return MetricFormat::text;
  }
  return std::nullopt;
}

}  // namespace

const char* content_type(MetricFormat format) {
  return format == MetricFormat::openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                             : "text/plain; version=0.0.4; charset=utf-8";
}

MetricFormat format_for(std::string_view accept) {
  MetricFormat best = MetricFormat::text;
  double best_q = 0;
  while (!accept.empty()) {
    const AcceptedType type = accepted_type(next_part(accept, ','));
    const std::optional<MetricFormat> format = format_of(type);
    if (format && type.q > best_q) {
      best = *format;
      best_q = type.q;
    }
  }
  return best;
}

bool accepts_gzip(std::string_view accept_encoding) {
  while (!accept_encoding.empty()) {
    const AcceptedType coding = accepted_type(next_part(accept_encoding, ','));
    if (is_same_word(coding.name, "gzip")) return coding.q > 0;
  }
  return false;
}

const std::string& Rendered::gzip() const {
  // Metrics repeat their names in each line, so a low level already compresses them well.
  constexpr int kGzipLevel = 3;
  if (gzip_.empty()) {
    gzip_ = gzipped(text_, kGzipLevel);
    gzip_.shrink_to_fit();
  }
  return gzip_;
}

std::shared_ptr<const Rendered> SharedRenders::get(MetricFormat format) {
  Latest& latest = latest_[static_cast<std::size_t>(format)];
  if (latest.rendered && Clock::now() - latest.made < reuse_) return latest.rendered;
  if (texts_ >= kMostTexts || (texts_ > kMetricFormats && bytes_ >= kMostBytes)) return nullptr;
  ++renders_;
  std::unique_ptr<const Rendered> rendered = std::make_unique<Rendered>(render_(format));
  ++texts_;
  bytes_ += rendered->text().size();
  latest.rendered = {rendered.release(), [this](const Rendered* text) {
                       bytes_ -= text->text().size();
                       delete text;
                       --texts_;
                     }};
  latest.made = Clock::now();
  return latest.rendered;
}

}  // namespace nopspan::collector
