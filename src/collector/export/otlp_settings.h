// SPDX-License-Identifier: Apache-2.0
// Where and how to send: the OTEL_EXPORTER_OTLP_* variables of the OpenTelemetry specification, and the options that
// override them.
#pragma once

#include "model/entry.h"
#include "model/service.h"

#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace nopspan::collector {

enum class OtlpProtocol { http_protobuf, http_json, grpc };

// The settings of one signal. `headers` may contain secrets: their values are never printed.
struct OtlpTarget {
  std::string url;  // the whole URL of the requests
  OtlpProtocol protocol = OtlpProtocol::http_protobuf;
  NamesAndValues headers;
  std::chrono::milliseconds timeout{10'000};  // for one request; 0: no limit
  bool gzip = false;
  std::string certificate;         // file of the authorities that may sign the receiver's certificate; "": the system's
  std::string client_key;          // file; "": none
  std::string client_certificate;  // file; "": none
};

struct OtlpSettings {
  std::array<OtlpTarget, kSignals> targets;  // by Signal
  std::vector<std::string> warnings;         // variables that are ignored, and why, for the user
  [[nodiscard]] const OtlpTarget& of(Signal signal) const { return targets[static_cast<std::size_t>(signal)]; }
};

// The options of the command line. An option applies to all signals, and overrides the variables.
struct OtlpOptions {
  std::optional<std::string> endpoint, protocol, timeout, compression, certificate, client_key, client_certificate,
      insecure;
  std::optional<std::vector<std::string>> headers;  // each "NAME=VALUE", without escapes
  std::optional<NamesAndValues> file_headers;       // of --header-file, in addition
};

// Returns the value of a variable, or nullptr.
using Environment = std::function<const char*(const char* name)>;
Environment process_environment();

// Throws Failure with kUsageError if a value is invalid. A variable with an unknown protocol, compression, timeout or
// boolean is ignored with a warning, as the specification wants.
OtlpSettings otlp_settings(const OtlpOptions& options, const Environment& environment = process_environment());

// The headers of --header and --header-file, for all signals. Throws Failure with kUsageError if one is invalid.
NamesAndValues given_headers(const OtlpOptions& options);

// The temporality of metrics (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE). Appends a warning if that is not
// known, or if another form of histograms is wanted than nopspan has.
Temporality metric_temporality(std::vector<std::string>& warnings,
                               const Environment& environment = process_environment());

// Whether any variable of an endpoint is set.
bool has_otlp_endpoint(const Environment& environment = process_environment());

// A URL for messages: without user, password and query.
std::string printable_url(const std::string& url);
// The URL without secrets and without the path that OTLP appends to an endpoint.
std::string receiver_url(const OtlpTarget& target, Signal signal);

// The attributes of OTEL_RESOURCE_ATTRIBUTES. Nothing if they are malformed.
std::optional<NamesAndValues> resource_attributes(const Environment& environment = process_environment());

}  // namespace nopspan::collector
