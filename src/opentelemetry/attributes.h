// SPDX-License-Identifier: Apache-2.0
// The API's texts, attributes and times as nopspan has them.
#pragma once

#include <nopspan/detail/field_calls.h>
#include <nopspan/opentelemetry.h>
#include <nopspan/types.h>

#include <opentelemetry/common/attribute_value.h>
#include <opentelemetry/common/key_value_iterable.h>
#include <opentelemetry/common/timestamp.h>
#include <opentelemetry/nostd/span.h>
#include <opentelemetry/nostd/string_view.h>
#include <opentelemetry/nostd/variant.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::opentelemetry {
inline namespace NOPSPAN_OPENTELEMETRY_ABI {

namespace api = ::opentelemetry;

inline Text text_of(api::nostd::string_view text) noexcept {
  return text.data() != nullptr ? Text(text.data(), text.size()) : Text("", 0);
}

// Sets one attribute: a visitor of the API's value.
struct PutAttribute {
  detail::FieldSink* sink;
  Text key;

  template <class T>
  void operator()(T value) const {
    detail::put(sink, key, value, false);
  }
  void operator()(api::nostd::string_view value) const { detail::put(sink, key, text_of(value), false); }
  template <class T>
  void operator()(api::nostd::span<const T> values) const {
    detail::put(sink, key, detail::Row<T>{values.data(), values.size()}, false);
  }
  void operator()(api::nostd::span<const api::nostd::string_view> values) const {
    const auto fill = [](detail::ItemWriter* writer, const void* range) {
      for (const api::nostd::string_view text : *static_cast<const decltype(values)*>(range)) {
        if (!detail::add_item(writer, {}, {detail::Item::Type::text, 0, 0, text_of(text), nullptr, nullptr})) return;
      }
    };
    detail::put_items(sink, key, {detail::Item::Type::list, 0, 0, {}, &values, fill}, false);
  }
};

inline void put_attribute(detail::FieldSink* sink, api::nostd::string_view key,
                          const api::common::AttributeValue& value) noexcept {
  detail::guarded([&] { api::nostd::visit(PutAttribute{sink, text_of(key)}, value); });
}

inline void put_attributes(detail::FieldSink* sink, const api::common::KeyValueIterable& attributes) noexcept {
  attributes.ForEachKeyValue([sink](api::nostd::string_view key, api::common::AttributeValue value) noexcept {
    put_attribute(sink, key, value);
    return true;
  });
}

inline std::int64_t ns_of(std::chrono::nanoseconds duration) noexcept { return duration.count(); }
inline std::int64_t steady_now() noexcept { return ns_of(std::chrono::steady_clock::now().time_since_epoch()); }
// A time of the system's clock as one of CLOCK_MONOTONIC. A time before the start of the host becomes 1, because 0
// means now. If the thread is preempted between the two clocks, they are read again.
inline std::int64_t monotonic(api::common::SystemTimestamp time) noexcept {
  constexpr std::int64_t kMostApartNs = 2000;
  std::int64_t before = 0, system = 0, after = 0;
  for (int tries = 0; tries == 0 || (tries < 4 && after - before > kMostApartNs); ++tries) {
    before = steady_now();
    system = ns_of(std::chrono::system_clock::now().time_since_epoch());
    after = steady_now();
  }
  const std::int64_t found = ns_of(time.time_since_epoch()) - system + before + (after - before) / 2;
  return found > 0 ? found : 1;
}

}  // namespace NOPSPAN_OPENTELEMETRY_ABI
}  // namespace nopspan::opentelemetry
