// SPDX-License-Identifier: Apache-2.0
#include "serve/shared_renders.h"

#include "base/gzip.h"

namespace nopspan::collector {

namespace {

// Metrics repeat their names in each line, so a low level already compresses them well.
constexpr int kGzipLevel = 3;

}  // namespace

const std::string& Rendered::gzip() const {
  std::call_once(once_, [this] {
    gzip_ = gzipped(text_, kGzipLevel);
    gzip_.shrink_to_fit();
  });
  return gzip_;
}

std::shared_ptr<const Rendered> SharedRenders::get(MetricFormat format) {
  Latest& latest = latest_[static_cast<std::size_t>(format)];
  const std::lock_guard lock(latest.mutex);  // those that wait for it get what is rendered meanwhile
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
