// SPDX-License-Identifier: Apache-2.0
#include "export/otlp_settings.h"

#include "base/failure.h"
#include "base/text.h"

#include <curl/curl.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string_view>

namespace nopspan::collector {
namespace {

// A setting: the end of its variables' names, and its option.
struct OtlpSetting {
  const char* variable;
  const char* option;
  std::optional<std::string> OtlpOptions::*value;
};
constexpr OtlpSetting kEndpoint = {"ENDPOINT", "--otlp", &OtlpOptions::endpoint},
                      kProtocol = {"PROTOCOL", "--protocol", &OtlpOptions::protocol},
                      kTimeout = {"TIMEOUT", "--timeout", &OtlpOptions::timeout},
                      kCompression = {"COMPRESSION", "--compression", &OtlpOptions::compression},
                      kCertificate = {"CERTIFICATE", "--certificate", &OtlpOptions::certificate},
                      kClientKey = {"CLIENT_KEY", "--client-key", &OtlpOptions::client_key},
                      kClientCertificate = {"CLIENT_CERTIFICATE", "--client-certificate",
                                            &OtlpOptions::client_certificate},
                      kInsecure = {"INSECURE", "--insecure", &OtlpOptions::insecure},
                      kHeaders = {"HEADERS", "--header", nullptr};

struct OtlpSignalNames {
  const char* variable;
  const char* path;
  const char* service;
};
// By Signal.
constexpr OtlpSignalNames kOtlpSignals[kSignals] = {
    {"TRACES_", "v1/traces", "opentelemetry.proto.collector.trace.v1.TraceService"},
    {"LOGS_", "v1/logs", "opentelemetry.proto.collector.logs.v1.LogsService"},
    {"METRICS_", "v1/metrics", "opentelemetry.proto.collector.metrics.v1.MetricsService"},
};

enum class SettingFrom { nowhere, general_variable, signal_variable, option };
struct SettingValue {
  std::string text, name;  // `name`: the variable or the option, for messages
  SettingFrom from = SettingFrom::nowhere;
  explicit operator bool() const { return from != SettingFrom::nowhere; }
};

Failure bad_setting(const SettingValue& value, const std::string& what) {
  return Failure(value.name + ": " + what, Failure::kUsageError);
}

// An empty variable counts as not set (specification).
SettingValue from_variables(const OtlpSetting& setting, std::size_t signal, const Environment& environment) {
  const std::string general = std::string("OTEL_EXPORTER_OTLP_") + setting.variable;
  const std::string special = std::string("OTEL_EXPORTER_OTLP_") + kOtlpSignals[signal].variable + setting.variable;
  for (const auto& [name, from] :
       {std::pair(special, SettingFrom::signal_variable), std::pair(general, SettingFrom::general_variable)}) {
    const char* const value = environment(name.c_str());
    if (value != nullptr && *value != '\0') return {value, name, from};
  }
  return {};
}

SettingValue find_setting(const OtlpSetting& setting, std::size_t signal, const OtlpOptions& options,
                          const Environment& environment) {
  const auto& option = options.*setting.value;
  if (option) return {*option, setting.option, SettingFrom::option};
  return from_variables(setting, signal, environment);
}

// A name of a header: a token of RFC 9110.
bool is_header_name(std::string_view name) {
  constexpr std::string_view kSigns = "!#$%&'*+-.^_`|~";
  const auto is_allowed = [&](char c) { return is_letter_or_digit(c) || kSigns.find(c) != kSigns.npos; };
  return !name.empty() && std::all_of(name.begin(), name.end(), is_allowed);
}

bool is_header_value(std::string_view value) {
  return std::none_of(value.begin(), value.end(), [](unsigned char c) { return (c < ' ' && c != '\t') || c == 0x7f; });
}

// Headers that describe the request itself.
bool is_own_header(std::string_view name) {
  constexpr std::string_view kOwn[] = {"content-type", "content-length", "content-encoding", "transfer-encoding",
                                       "te",           "expect",         "connection",       "user-agent"};
  return std::any_of(std::begin(kOwn), std::end(kOwn), [&](std::string_view own) { return is_same_word(name, own); }) ||
         (name.size() >= 5 && is_same_word(name.substr(0, 5), "grpc-"));
}

Failure own_header(const SettingValue& where, const std::string& name) {
  return bad_setting(where, "nopspan itself sets the header '" + name + "': remove it");
}

// No message contains a header's value, because it may be a secret.
NamesAndValues checked_headers(NamesAndValues headers, const SettingValue& where) {
  for (const auto& [name, value] : headers) {
    if (!is_header_name(name)) throw bad_setting(where, "'" + printable(name, 40) + "' is not the name of a header");
    if (is_own_header(name)) throw own_header(where, name);
    if (!is_header_value(value)) {
      throw bad_setting(where, "the value of '" + name + "' has a control character: remove it");
    }
  }
  return headers;
}

// A setting of a variable that is ignored, because the same variables may be set for all programs of a host.
void add_warning(std::vector<std::string>& warnings, const Failure& failure) {
  const std::string warning = std::string(failure.what()) + ": ignored";
  if (std::find(warnings.begin(), warnings.end(), warning) == warnings.end()) warnings.push_back(warning);
}

NamesAndValues headers_of(std::size_t signal, const OtlpOptions& options, const Environment& environment,
                          std::vector<std::string>& warnings) {
  if (options.headers || options.file_headers) return given_headers(options);
  const SettingValue value = from_variables(kHeaders, signal, environment);
  if (!value) return {};
  auto headers = parse_list(value.text);
  if (!headers)
    throw bad_setting(value, "write NAME=VALUE,NAME=VALUE, with %XX for special characters such as a comma");
  std::erase_if(*headers, [&](const auto& header) {
    if (!is_own_header(header.first)) return false;
    add_warning(warnings, own_header(value, header.first));
    return true;
  });
  return checked_headers(std::move(*headers), value);
}

OtlpProtocol protocol_of(const SettingValue& value) {
  if (!value || is_same_word(value.text, "http/protobuf")) return OtlpProtocol::http_protobuf;
  if (is_same_word(value.text, "http/json")) return OtlpProtocol::http_json;
  if (is_same_word(value.text, "grpc")) return OtlpProtocol::grpc;
  throw bad_setting(value, "'" + printable(value.text, 40) + "' is not http/protobuf, http/json or grpc");
}

std::chrono::milliseconds timeout_of(const SettingValue& value) {
  constexpr std::uint64_t kMost = 86'400'000;
  if (!value) return OtlpTarget().timeout;
  std::uint64_t number = 0;
  const char* const end = value.text.data() + value.text.size();
  const auto [at, error] = std::from_chars(value.text.data(), end, number);
  const std::uint64_t least = value.from == SettingFrom::option ? 1 : 0;  // of a variable, 0 is no limit
  if (error != std::errc() || at != end || number < least || number > kMost) {
    throw bad_setting(value, "'" + printable(value.text, 40) + "' is not a number of milliseconds, 1 to " +
                                 std::to_string(kMost) + " (10000 means 10 seconds)");
  }
  return std::chrono::milliseconds(number);
}

bool compression_of(const SettingValue& value) {
  if (!value || is_same_word(value.text, "none")) return false;
  if (is_same_word(value.text, "gzip")) return true;
  throw bad_setting(value, "'" + printable(value.text, 40) + "' is not gzip or none");
}

bool insecure_of(const SettingValue& value) {
  if (!value || is_same_word(value.text, "false")) return false;
  if (is_same_word(value.text, "true")) return true;
  throw bad_setting(value, "'" + printable(value.text, 40) + "' is not true or false");
}

// A variable with a value that the specification does not know is ignored with a warning.
template <class Parse>
auto from_setting(const SettingValue& value, std::vector<std::string>& warnings, Parse parse) {
  try {
    return parse(value);
  } catch (const Failure& failure) {
    if (value.from == SettingFrom::option) throw;
    add_warning(warnings, failure);
    return parse(SettingValue());
  }
}

Temporality temporality_of(const SettingValue& value) {
  if (!value || is_same_word(value.text, "cumulative")) return Temporality::cumulative;
  if (is_same_word(value.text, "delta")) return Temporality::delta;
  if (is_same_word(value.text, "lowmemory")) return Temporality::low_memory;
  throw bad_setting(value, "'" + printable(value.text, 40) + "' is not cumulative, delta or lowmemory");
}

// Other forms of histograms than explicit buckets are optional in the specification.
bool histograms_of(const SettingValue& value) {
  if (!value || is_same_word(value.text, "explicit_bucket_histogram")) return true;
  throw bad_setting(value, "'" + printable(value.text, 40) + "' is not explicit_bucket_histogram, which nopspan has");
}

// Whether a line of the file begins what is wanted: "CERTIFICATE" or "PRIVATE KEY".
bool has_pem(const std::string& path, std::string_view what) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("-----BEGIN ") && line.find(what) != std::string::npos) return true;
  }
  return false;
}

std::string file_of(const SettingValue& value, std::string_view what) {
  if (!value) return "";
  struct stat status = {};
  if (::access(value.text.c_str(), R_OK) == 0 && ::stat(value.text.c_str(), &status) == 0) {
    if (S_ISREG(status.st_mode) && !has_pem(value.text, what)) {
      throw bad_setting(value, printable(value.text) + ": no line begins with -----BEGIN … " + std::string(what) +
                                   ": name a PEM file with one");
    }
    if (!S_ISDIR(status.st_mode)) return value.text;
    errno = EISDIR;
  }
  throw bad_setting(value, printable(value.text) + ": " + std::strerror(errno) + ": name a readable PEM file");
}

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using ParsedUrl = std::unique_ptr<CURLU, FreeUrl>;

ParsedUrl parse_url(const std::string& text) {
  ParsedUrl url(curl_url());
  if (!url || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK) return {};
  return url;
}

std::string url_part(const ParsedUrl& url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url.get(), part, &text, 0) != CURLUE_OK) return {};
  std::string result = text;
  curl_free(text);
  return result;
}

// The path of the requests, below that of the endpoint.
std::string path_of(std::size_t signal, OtlpProtocol protocol) {
  const OtlpSignalNames& names = kOtlpSignals[signal];
  return std::string("/") + (protocol == OtlpProtocol::grpc ? std::string(names.service) + "/Export" : names.path);
}

std::string url_of(std::size_t signal, OtlpProtocol protocol, const SettingValue& endpoint, bool insecure) {
  const bool is_grpc = protocol == OtlpProtocol::grpc;
  SettingValue value = endpoint;
  if (!value) value.text = is_grpc ? "http://localhost:4317" : "http://localhost:4318";
  // A gRPC target may have no scheme.
  if (is_grpc && value.text.find("://") == std::string::npos) {
    value.text = (insecure ? "http://" : "https://") + value.text;
  }
  const ParsedUrl url = parse_url(value.text);
  const std::string scheme = url ? url_part(url, CURLUPART_SCHEME) : "";
  if (scheme != "http" && scheme != "https") {
    throw bad_setting(value, "'" + printable(printable_url(value.text)) +
                                 "' is not a URL: write http://HOST:PORT or https://HOST:PORT");
  }
  std::string path = url_part(url, CURLUPART_PATH);
  if (is_grpc) {
    if (path.size() > 1) throw bad_setting(value, "an endpoint for gRPC has no path: remove " + printable(path));
    path = path_of(signal, protocol);
  } else if (value.from != SettingFrom::signal_variable) {
    if (path.ends_with('/')) path.pop_back();
    path += path_of(signal, protocol);
  }
  curl_url_set(url.get(), CURLUPART_PATH, path.c_str(), 0);
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  return url_part(url, CURLUPART_URL);
}

OtlpTarget target_of(std::size_t signal, const OtlpOptions& options, const Environment& environment,
                     std::vector<std::string>& warnings) {
  const auto find = [&](const OtlpSetting& setting) { return find_setting(setting, signal, options, environment); };
  OtlpTarget target;
  target.protocol = from_setting(find(kProtocol), warnings, protocol_of);
  target.url = url_of(signal, target.protocol, find(kEndpoint), from_setting(find(kInsecure), warnings, insecure_of));
  target.headers = headers_of(signal, options, environment, warnings);
  target.timeout = from_setting(find(kTimeout), warnings, timeout_of);
  target.gzip = from_setting(find(kCompression), warnings, compression_of);
  target.certificate = file_of(find(kCertificate), "CERTIFICATE");
  const SettingValue key = find(kClientKey), certificate = find(kClientCertificate);
  target.client_key = file_of(key, "PRIVATE KEY");
  target.client_certificate = file_of(certificate, "CERTIFICATE");
  if (key && !certificate) throw bad_setting(key, "a client's key needs a client's certificate too");
  if (certificate && !key) throw bad_setting(certificate, "a client's certificate needs a client's key too");
  return target;
}

}  // namespace

Environment process_environment() {
  return [](const char* name) -> const char* { return std::getenv(name); };
}

NamesAndValues given_headers(const OtlpOptions& options) {
  NamesAndValues headers;
  const SettingValue where = {"", kHeaders.option, SettingFrom::option};
  for (const std::string& header : options.headers.value_or(std::vector<std::string>())) {
    const std::size_t equals = header.find('=');
    if (equals == std::string::npos) throw bad_setting(where, "write NAME=VALUE");
    headers.emplace_back(trimmed(std::string_view(header).substr(0, equals)), header.substr(equals + 1));
  }
  headers = checked_headers(std::move(headers), where);
  const NamesAndValues more =
      checked_headers(options.file_headers.value_or(NamesAndValues()), {"", "--header-file", SettingFrom::option});
  headers.insert(headers.end(), more.begin(), more.end());
  return headers;
}

OtlpSettings otlp_settings(const OtlpOptions& options, const Environment& environment) {
  OtlpSettings settings;
  for (std::size_t i = 0; i < kSignals; ++i) {
    settings.targets[i] = target_of(i, options, environment, settings.warnings);
  }
  return settings;
}

Temporality metric_temporality(std::vector<std::string>& warnings, const Environment& environment) {
  const auto find = [&](const char* variable) {
    return from_variables({variable, nullptr, nullptr}, static_cast<std::size_t>(Signal::metrics), environment);
  };
  from_setting(find("DEFAULT_HISTOGRAM_AGGREGATION"), warnings, histograms_of);
  return from_setting(find("TEMPORALITY_PREFERENCE"), warnings, temporality_of);
}

bool has_otlp_endpoint(const Environment& environment) {
  for (std::size_t i = 0; i < kSignals; ++i) {
    if (from_variables(kEndpoint, i, environment)) return true;
  }
  return false;
}

std::string printable_url(const std::string& url) {
  const ParsedUrl parsed = parse_url(url);
  if (!parsed) {
    const std::size_t at = url.rfind('@');  // before it may be a password
    return printable(at == std::string::npos ? url : "…" + url.substr(at));
  }
  for (const CURLUPart part : {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY, CURLUPART_FRAGMENT}) {
    curl_url_set(parsed.get(), part, nullptr, 0);
  }
  return printable(url_part(parsed, CURLUPART_URL));
}

std::string receiver_url(const OtlpTarget& target, Signal signal) {
  std::string url = printable_url(target.url);
  const std::string path = path_of(static_cast<std::size_t>(signal), target.protocol);
  if (url.ends_with(path)) url.resize(url.size() - path.size());
  return url;
}

std::optional<NamesAndValues> resource_attributes(const Environment& environment) {
  const char* const text = environment("OTEL_RESOURCE_ATTRIBUTES");
  return text == nullptr ? NamesAndValues() : parse_list(text);
}

}  // namespace nopspan::collector
