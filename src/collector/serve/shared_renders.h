// SPDX-License-Identifier: Apache-2.0
// Limits how often metrics are rendered, and how many rendered texts are in memory, however many clients ask.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace nopspan::collector {

// The formats in which metrics are served, and what a request's headers say about them.

enum class MetricFormat { text, openmetrics };
inline constexpr std::size_t kMetricFormats = 2;

// The value of Content-Type: Prometheus' text format 0.0.4, or OpenMetrics 1.0.0.
const char* content_type(MetricFormat format);

// Returns the format with the highest q value in the header Accept, and the first one of several. If it names no known
// format, the result is text.
MetricFormat format_for(std::string_view accept);

// Whether the header Accept-Encoding names gzip. "*" is not enough.
bool accepts_gzip(std::string_view accept_encoding);

// Metrics in one format at one time.
class Rendered {
 public:
  explicit Rendered(std::string text) : text_(std::move(text)) {}
  [[nodiscard]] const std::string& text() const { return text_; }
  // Compresses at the first call. Returns an empty string if memory ran out.
  [[nodiscard]] const std::string& gzip() const;

 private:
  const std::string text_;
  mutable std::string gzip_;
};

class SharedRenders {
 public:
  using Render = std::function<std::string(MetricFormat)>;

  // A text is shared by all requests of the following `reuse`, so a storm of scrapes does not keep the owner of the
  // metrics busy.
  SharedRenders(Render render, std::chrono::milliseconds reuse) : render_(std::move(render)), reuse_(reuse) {}

  // Returns nullptr if slow clients keep too many older texts in memory. An exception of `render` is thrown. The text
  // must not outlive this object, and end on the same thread.
  std::shared_ptr<const Rendered> get(MetricFormat format);

  // Whether slow clients keep so many texts in memory that get() may soon return nullptr.
  [[nodiscard]] bool is_half_full() const {
    return texts_ > kMetricFormats && (2 * texts_ >= kMostTexts || 2 * bytes_ >= kMostBytes);
  }

  // Thread-safe.
  [[nodiscard]] std::uint64_t renders() const { return renders_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kMostTexts = 16, kMostBytes = 64U << 20U;

  struct Latest {
    std::shared_ptr<const Rendered> rendered;
    Clock::time_point made;
  };

  const Render render_;
  const std::chrono::milliseconds reuse_;
  std::size_t texts_ = 0, bytes_ = 0;  // in memory
  std::array<Latest, kMetricFormats> latest_;
  std::atomic<std::uint64_t> renders_ = 0;
};

}  // namespace nopspan::collector
