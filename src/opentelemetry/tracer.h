// SPDX-License-Identifier: Apache-2.0
// The API's Tracer on nopspan, alone or around the Tracer of an SDK.
#pragma once

#include "span.h"

#include <opentelemetry/context/runtime_context.h>
#include <opentelemetry/trace/default_span.h>
#include <opentelemetry/trace/tracer.h>
#include <opentelemetry/trace/tracer_provider.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace nopspan::opentelemetry {
inline namespace NOPSPAN_OPENTELEMETRY_ABI {

using ApiTracer = api::nostd::shared_ptr<api::trace::Tracer>;
using ApiProvider = api::nostd::shared_ptr<api::trace::TracerProvider>;

// The instrumentation scope.
struct Scope {
  std::string name, version, schema_url;

  bool operator==(const Scope& other) const noexcept {
    return name == other.name && version == other.version && schema_url == other.schema_url;
  }
};

// Whether the API has Tracer::Enabled().
template <class T, class = void>
inline constexpr bool has_enabled = false;
template <class T>
inline constexpr bool has_enabled<T, std::void_t<decltype(std::declval<const T&>().Enabled())>> = true;

class Tracer final : public api::trace::Tracer {
 public:
  Tracer(Scope scope, ApiTracer inner);

  ApiSpan StartSpan(api::nostd::string_view name, const api::common::KeyValueIterable& attributes,
                    const api::trace::SpanContextKeyValueIterable& links,
                    const api::trace::StartSpanOptions& options) noexcept override;
#if OPENTELEMETRY_ABI_VERSION_NO == 1
  void ForceFlushWithMicroseconds(std::uint64_t timeout) noexcept override;
  void CloseWithMicroseconds(std::uint64_t timeout) noexcept override;
#endif

  [[nodiscard]] const Scope& scope() const noexcept { return scope_; }
  // From now on, spans are started by this provider's tracer too. Only the first call counts, because other threads may
  // be using the tracer of an earlier one.
  void wrap(api::trace::TracerProvider& provider);
  // Sets what Enabled() returns, if the API has it.
  template <class T = Tracer>
  void update_enabled() noexcept {
    if constexpr (has_enabled<T>) {
      T& self = *this;
      const bool enabled = is_enabled();
      if (self.Enabled() != enabled) self.UpdateEnabled(enabled);
    }
  }

 private:
  [[nodiscard]] bool is_enabled() const noexcept;
  // Calls `use(context, span, is_root)` with the place of a new span whose options give no valid SpanContext, by the
  // rules of the SDK: the context that the options give if its span is valid, otherwise the current one. The context
  // and the span are null if there is none. Neither is copied, because that costs much of what a span costs that is
  // off.
  template <class Use>
  auto in_parent(const api::trace::StartSpanOptions& options, const Use& use) const;
  ApiSpan unrecorded(const api::trace::StartSpanOptions& options) const;
  ApiSpan start(api::nostd::string_view name, const api::common::KeyValueIterable& attributes,
                const api::trace::SpanContextKeyValueIterable& links, const api::trace::StartSpanOptions& options,
                api::trace::Tracer* inner) const;

  std::atomic<api::trace::Tracer*> inner_{nullptr};  // null without an SDK
  api::context::RuntimeContextStorage* storage_;
  api::context::ThreadLocalContextStorage* thread_storage_ = nullptr;  // the same, if it is the API's own
  const Scope scope_;
  ApiTracer owned_inner_;
  api::nostd::shared_ptr<const api::context::RuntimeContextStorage> owned_storage_;
};

}  // namespace NOPSPAN_OPENTELEMETRY_ABI
}  // namespace nopspan::opentelemetry
