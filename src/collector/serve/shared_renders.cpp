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

std::shared_ptr<const Rendered> SharedRenders::result_of(const Latest& latest) {
  if (latest.failure) std::rethrow_exception(latest.failure);
  return latest.rendered;
}

std::shared_ptr<const Rendered> SharedRenders::render_counted(MetricFormat format) {
  ++renders_;
  std::unique_ptr<const Rendered> rendered = std::make_unique<Rendered>(render_(format));
  ++texts_;
  bytes_ += rendered->text().size();
  return {rendered.release(), [this](const Rendered* text) {
            bytes_ -= text->text().size();
            delete text;
            --texts_;
          }};
}

std::shared_ptr<const Rendered> SharedRenders::get(MetricFormat format) {
  std::unique_lock lock(mutex_);
  Latest& latest = latest_[static_cast<std::size_t>(format)];
  if (latest.rendered && Clock::now() - latest.made < reuse_) return latest.rendered;
  if (latest.is_running) {
    const std::uint64_t before = latest.number;
    has_ended_.wait(lock, [&] { return latest.number != before; });
    return result_of(latest);
  }
  if (texts_ >= kMostTexts || (texts_ > kMetricFormats && bytes_ >= kMostBytes)) return nullptr;
  latest.is_running = true;
  lock.unlock();

  Latest next;
  try {
    next.rendered = render_counted(format);
  } catch (...) {
    next.failure = std::current_exception();
  }
  lock.lock();
  latest.rendered = next.rendered;
  latest.failure = next.failure;
  latest.made = Clock::now();
  latest.is_running = false;
  ++latest.number;
  has_ended_.notify_all();
  return result_of(latest);
}

}  // namespace nopspan::collector
