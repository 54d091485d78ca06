// SPDX-License-Identifier: Apache-2.0
// OTLP requests, which may be anything: their JSON form and their halves. The first byte of an input selects traces,
// logs or metrics. Requests that encode attributes of any content must have a JSON form.
#include "require.h"

#include "export/export_bodies.h"
#include "export/export_body.h"

#include <nopspan/probes.h>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace {

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

// The number of items that the body claims may be wrong.
void halve(const ExportBody& body) {
  const auto [first, second] = split(body);
  if (second.items.total() == 0) {
    require(first.bytes == body.bytes && second.bytes.empty(), "a body that is not divided is unchanged");
    return;
  }
  require(first.items.total() > 0, "both halves have items");
  // The first data of a metric hide others of the same kind, which a half may have alone.
  if (body.signal == Signal::metrics || !otlp_json(body)) return;
  require(otlp_json(first).has_value(), "a half is not more malformed than the whole");
}

void read_request(Signal signal, std::string_view bytes) {
  const ExportBody body{signal, std::string(bytes), {bytes.size() % 7, 0, 0, 0}};
  if (const auto text = otlp_json(body)) {
    require(nlohmann::json::accept(*text), "it is JSON");
    require(text->find('\n') == std::string::npos, "it is one line");
  }
  halve(body);
}

// An entry with these attributes, as a span and as an event.
void encode(std::string_view attributes) {
  static const ProcessPointer process = std::make_shared<const Process>();
  static const ExportOptions options = [] {
    ExportOptions next;
    next.semconv = nopspan::Semconv::next;
    return next;
  }();
  ItemCounts items;
  ExportBodies feed(options, [&](const ExportBody& body) {
    require(otlp_json(body).has_value(), "what is encoded can be read");
    items += body.items;
  });
  Entry entry;
  entry.process = &process;
  entry.name = attributes.substr(0, 8);
  entry.tenant = attributes.substr(attributes.size() / 2);
  entry.trace_id.bytes[0] = 1;
  entry.span_id = 1;
  entry.attributes = attributes;
  const nopspan_link link{{1}, 1};
  entry.links = {reinterpret_cast<const char*>(&link), sizeof(link)};
  entry.status = kException;  // the texts of the exception are attributes
  for (const Kind kind : {Kind::event, Kind::retry, Kind::span, Kind::event}) {
    entry.kind = kind;
    feed.add(entry);
  }
  feed.finish();
  require(items.total() == 5, "each entry is an item, and the span has an exception");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 4 == 3) {
    encode(rest);
  } else {
    read_request(static_cast<Signal>(data[0] % 4), rest);
  }
  return 0;
}
