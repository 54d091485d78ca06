// SPDX-License-Identifier: Apache-2.0
// Settings of OTLP: variables, options, --header-file, and what is wrong with them.
#include "export/otlp_settings.h"

#include "base/failure.h"
#include "export/header_file.h"
#include "temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using Variables = std::map<std::string, std::string>;

Environment environment_of(const Variables& variables) {
  return [&variables](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

OtlpSettings settings_of(const Variables& variables, const OtlpOptions& options = {}) {
  return otlp_settings(options, environment_of(variables));
}

std::string failure_of(const Variables& variables, const OtlpOptions& options = {}) {
  try {
    settings_of(variables, options);
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.exit_status, Failure::kUsageError);
    return failure.what();
  }
  return "no failure";
}

std::string url_of(const OtlpSettings& settings, Signal signal) { return settings.of(signal).url; }

TEST(OtlpSettings, HaveTheSpecificationsDefaults) {
  const OtlpSettings settings = settings_of({});
  EXPECT_EQ(url_of(settings, Signal::traces), "http://localhost:4318/v1/traces");
  EXPECT_EQ(url_of(settings, Signal::logs), "http://localhost:4318/v1/logs");
  EXPECT_EQ(url_of(settings, Signal::metrics), "http://localhost:4318/v1/metrics");
  const OtlpTarget& target = settings.of(Signal::traces);
  EXPECT_EQ(target.protocol, OtlpProtocol::http_protobuf);
  EXPECT_EQ(target.timeout.count(), 10'000);
  EXPECT_FALSE(target.gzip);
  EXPECT_THAT(target.headers, ElementsAre());
  EXPECT_EQ(url_of(settings_of({{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}}), Signal::logs),
            "http://localhost:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export");
}

TEST(OtlpSettings, NameTheReceiverWithoutThePathThatOtlpAppends) {
  const OtlpSettings http = settings_of({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@host:1/base/"},
                                         {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:1/own"}});
  EXPECT_EQ(url_of(http, Signal::traces), "http://user:secret@host:1/base/v1/traces");
  EXPECT_EQ(receiver_url(http.of(Signal::traces), Signal::traces), "http://host:1/base");
  EXPECT_EQ(receiver_url(http.of(Signal::logs), Signal::logs), "http://logs:1/own");
  const OtlpSettings grpc = settings_of({{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}});
  EXPECT_EQ(receiver_url(grpc.of(Signal::metrics), Signal::metrics), "http://localhost:4317");
}

TEST(OtlpSettings, AppendTheSignalsPathToTheGeneralEndpointOnly) {
  const OtlpSettings settings = settings_of({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/mycollector/"},
                                             {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://example.com/v1/metrics/"},
                                             {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://collector:4318"}});
  EXPECT_EQ(url_of(settings, Signal::traces), "http://collector:4318/mycollector/v1/traces");
  EXPECT_EQ(url_of(settings, Signal::metrics), "https://example.com/v1/metrics/");
  EXPECT_EQ(url_of(settings, Signal::logs), "http://collector:4318/");
  EXPECT_EQ(url_of(settings_of({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]:9/a?key=1#x"}}), Signal::traces),
            "http://[::1]:9/a/v1/traces?key=1");
}

TEST(OtlpSettings, PreferOptionsToVariablesOfASignalToGeneralOnes) {
  const Variables variables = {
      {"OTEL_EXPORTER_OTLP_TIMEOUT", "1000"},         {"OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "2000"},
      {"OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"},     {"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"},
      {"OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", ""}, {"OTEL_EXPORTER_OTLP_HEADERS", "a=1"},
      {"OTEL_EXPORTER_OTLP_LOGS_HEADERS", "b=2"}};
  const OtlpSettings settings = settings_of(variables);
  EXPECT_EQ(settings.of(Signal::traces).timeout.count(), 1000);
  EXPECT_EQ(settings.of(Signal::logs).timeout.count(), 2000);
  EXPECT_FALSE(settings.of(Signal::traces).gzip);
  EXPECT_TRUE(settings.of(Signal::metrics).gzip) << "an empty variable counts as not set";
  EXPECT_THAT(settings.of(Signal::traces).headers, ElementsAre(Pair("a", "1")));
  EXPECT_THAT(settings.of(Signal::logs).headers, ElementsAre(Pair("b", "2")));
  OtlpOptions options;
  options.timeout = "3000";
  options.endpoint = "http://other:1";
  options.headers = {{"c=%20,=", "d="}};
  const OtlpSettings overridden = settings_of(variables, options);
  for (const Signal signal : {Signal::traces, Signal::logs, Signal::metrics}) {
    EXPECT_EQ(overridden.of(signal).timeout.count(), 3000);
    EXPECT_THAT(overridden.of(signal).headers, ElementsAre(Pair("c", "%20,="), Pair("d", "")));
  }
  EXPECT_EQ(url_of(overridden, Signal::logs), "http://other:1/v1/logs");
  options.file_headers = NamesAndValues{{"e", "f=g"}};
  EXPECT_THAT(settings_of(variables, options).of(Signal::logs).headers,
              ElementsAre(Pair("c", "%20,="), Pair("d", ""), Pair("e", "f=g")));
  options.headers.reset();
  EXPECT_THAT(settings_of(variables, options).of(Signal::logs).headers, ElementsAre(Pair("e", "f=g")));
}

TEST(OtlpSettings, ConnectByTheSchemeOfAGrpcTarget) {
  const auto url = [](const std::string& endpoint, const std::string& insecure) {
    const Variables variables = {{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
                                 {"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint},
                                 {"OTEL_EXPORTER_OTLP_INSECURE", insecure}};
    return url_of(settings_of(variables), Signal::traces);
  };
  const std::string path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
  EXPECT_EQ(url("collector:4317", "true"), "http://collector:4317" + path);
  EXPECT_EQ(url("collector:4317", "False"), "https://collector:4317" + path);
  EXPECT_EQ(url("http://collector:4317/", "false"), "http://collector:4317" + path);
  EXPECT_EQ(url("https://collector", "TRUE"), "https://collector" + path);
}

// The specification wants it, and one set of variables may be there for all programs of a host.
TEST(OtlpSettings, IgnoreUnknownValuesOfVariablesWithAWarning) {
  const std::string prefix = "OTEL_EXPORTER_OTLP_";
  const OtlpSettings settings = settings_of({{prefix + "PROTOCOL", "http/xml"},
                                             {prefix + "TRACES_TIMEOUT", "10s"},
                                             {prefix + "LOGS_TIMEOUT", "-1"},
                                             {prefix + "METRICS_TIMEOUT", "99999999999999999999"},
                                             {prefix + "COMPRESSION", "zstd"},
                                             {prefix + "HEADERS", "User-Agent=me,team=a"},
                                             {prefix + "INSECURE", "1"}});
  for (const OtlpTarget& target : settings.targets) {
    EXPECT_EQ(target.protocol, OtlpProtocol::http_protobuf);
    EXPECT_EQ(target.timeout.count(), 10'000);
    EXPECT_FALSE(target.gzip);
    EXPECT_EQ(target.headers, (NamesAndValues{{"team", "a"}}));
  }
  EXPECT_EQ(settings.warnings.size(), 7U) << "each once";
  EXPECT_THAT(settings.warnings,
              testing::Contains(prefix + "PROTOCOL: 'http/xml' is not http/protobuf, http/json or grpc: ignored"));
  const OtlpSettings known =
      settings_of({{prefix + "PROTOCOL", "GRPC"}, {prefix + "COMPRESSION", "Gzip"}, {prefix + "TIMEOUT", "0"}});
  EXPECT_EQ(known.of(Signal::logs).protocol, OtlpProtocol::grpc);
  EXPECT_TRUE(known.of(Signal::logs).gzip);
  EXPECT_EQ(known.of(Signal::logs).timeout.count(), 0) << "no limit";
  EXPECT_THAT(known.warnings, ElementsAre());
}

TEST(OtlpSettings, HaveTheTemporalityOfMetrics) {
  std::vector<std::string> warnings;
  const auto of = [&](const char* preference, const char* histograms = "Explicit_Bucket_Histogram") {
    const Variables variables = {{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference},
                                 {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", histograms}};
    return metric_temporality(warnings, environment_of(variables));
  };
  EXPECT_EQ(of("", ""), Temporality::cumulative);
  EXPECT_EQ(of("Cumulative"), Temporality::cumulative);
  EXPECT_EQ(of("Delta"), Temporality::delta);
  EXPECT_EQ(of("LowMemory"), Temporality::low_memory);
  EXPECT_THAT(warnings, testing::IsEmpty());
  EXPECT_EQ(of("sum", "base2_exponential_bucket_histogram"), Temporality::cumulative);
  EXPECT_THAT(
      warnings,
      ElementsAre("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION: 'base2_exponential_bucket_histogram' "
                  "is not explicit_bucket_histogram, which nopspan has: ignored",
                  "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'sum' is not cumulative, delta or "
                  "lowmemory: ignored"));
}

TEST(OtlpSettings, SayWhatToDoAboutInvalidValues) {
  const std::string prefix = "OTEL_EXPORTER_OTLP_";
  const auto failure = [&](const std::string& name, const std::string& value) {
    const std::string what = failure_of({{prefix + name, value}});
    EXPECT_THAT(what, testing::StartsWith(prefix + name + ": "));
    return what;
  };
  OtlpOptions xml, zero, zstd, own;
  xml.protocol = "http/xml";
  EXPECT_THAT(failure_of({}, xml), HasSubstr("--protocol: 'http/xml' is not http/protobuf, http/json or grpc"));
  zero.timeout = "0";
  EXPECT_THAT(failure_of({}, zero), HasSubstr("number of milliseconds"));
  zstd.compression = "zstd";
  EXPECT_THAT(failure_of({}, zstd), HasSubstr("not gzip or none"));
  for (const char* const url : {"collector:4318", "ftp://host", "http://", "http://a b", "http:// \n"}) {
    EXPECT_THAT(failure("ENDPOINT", url), HasSubstr("write http://HOST:PORT")) << url;
  }
  EXPECT_THAT(failure("LOGS_CERTIFICATE", "/no/such/file"), HasSubstr("No such file"));
  EXPECT_THAT(failure("LOGS_CERTIFICATE", "/"), HasSubstr("Is a directory"));
  EXPECT_THAT(failure("HEADERS", "novalue"), HasSubstr("NAME=VALUE"));
  EXPECT_THAT(failure("HEADERS", "a=%zz"), HasSubstr("%XX"));
  EXPECT_THAT(failure("HEADERS", "a b=1"), HasSubstr("not the name of a header"));
  own.headers = {"Content-Type=x"};
  EXPECT_THAT(failure_of({}, own), HasSubstr("nopspan itself sets"));
  EXPECT_THAT(failure_of({{prefix + "PROTOCOL", "grpc"}, {prefix + "ENDPOINT", "http://h/path"}}),
              HasSubstr("no path"));
  const TemporaryFolder folder;
  write_file(folder / "key", "# a key\n-----BEGIN PRIVATE KEY-----\n");
  write_file(folder / "certificate", "-----BEGIN CERTIFICATE-----\n");
  write_file(folder / "text", "text");
  EXPECT_THAT(failure("CLIENT_KEY", folder / "key"), HasSubstr("client's certificate too"));
  EXPECT_THAT(failure("CLIENT_CERTIFICATE", folder / "certificate"), HasSubstr("client's key too"));
  for (const char* const name : {"key", "text"}) {
    EXPECT_THAT(failure("CERTIFICATE", folder / name), HasSubstr("name a PEM file with one"));
  }
}

TEST(OtlpSettings, NeverPrintSecrets) {
  EXPECT_THAT(failure_of({{"OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret%0d%0aX: y"}}), Not(HasSubstr("secret")));
  EXPECT_THAT(failure_of({{"OTEL_EXPORTER_OTLP_HEADERS", "secret"}}), Not(HasSubstr("secret")));
  EXPECT_THAT(failure_of({{"OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://user:secret@host/x"}}), Not(HasSubstr("secret")));
  EXPECT_THAT(failure_of({{"OTEL_EXPORTER_OTLP_ENDPOINT", "user:secret@host/x y"}}), Not(HasSubstr("secret")));
  EXPECT_EQ(printable_url("https://user:secret@host:1/path?token=secret"), "https://host:1/path");
}

TEST(OtlpSettings, ReadListsLikeBaggage) {
  EXPECT_THAT(*parse_list(" a = 1 ,, b=x%2C%20y%3D,c==,a=2"),
              ElementsAre(Pair("a", "2"), Pair("b", "x, y="), Pair("c", "=")));
  EXPECT_THAT(*parse_list(""), ElementsAre());
  for (const char* const malformed : {"a", "=1", "a=1,b", "a=%", "a=%2", "a=%g0", "%zz=1"}) {
    EXPECT_FALSE(parse_list(malformed)) << malformed;
  }
}

TEST(OtlpSettings, HaveTheAttributesOfTheResource) {
  const auto attributes = [](const Variables& variables) { return resource_attributes(environment_of(variables)); };
  EXPECT_THAT(*attributes({}), ElementsAre());
  EXPECT_THAT(*attributes({{"OTEL_RESOURCE_ATTRIBUTES", "service.name=a,k=%20v"}}),
              ElementsAre(Pair("service.name", "a"), Pair("k", " v")));
  EXPECT_FALSE(attributes({{"OTEL_RESOURCE_ATTRIBUTES", "k"}}));
}

class HeaderFileTest : public testing::Test {
 protected:
  void write(const std::string& text, mode_t mode = 0600) const {
    write_file(path, text);
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
  }
  [[nodiscard]] std::string message() const {
    try {
      HeaderFile{path};
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit_status, Failure::kUsageError);
      return failure.what();
    }
    return "";
  }

  const TemporaryFolder folder;
  const std::string path = folder / "headers";
};

TEST_F(HeaderFileTest, HasAHeaderInEachLine) {
  write("# a comment\n\nauthorization: Bearer a=b:c \r\n  x-tenant:\tacme\nempty:");
  EXPECT_THAT(HeaderFile(path).headers(),
              ElementsAre(Pair("authorization", "Bearer a=b:c"), Pair("x-tenant", "acme"), Pair("empty", "")));
}

TEST_F(HeaderFileTest, IsRefusedWithoutItsContent) {
  EXPECT_THAT(message(), HasSubstr("No such file"));
  write("a: b\nsecret\n");
  EXPECT_THAT(message(), EndsWith("headers: line 2: write NAME: VALUE"));
  write("# nothing\n");
  EXPECT_THAT(message(), HasSubstr("contains no header"));
  write(std::string((64U << 10U) + 1, 'x'));
  EXPECT_THAT(message(), HasSubstr("has more than 64 KiB"));
}

TEST_F(HeaderFileTest, IsReadAgainWhenItChanges) {
  write("a: 1");
  HeaderFile file(path);
  EXPECT_FALSE(file.read_if_changed());
  write_file(path + ".new", "a: 2");
  ASSERT_EQ(::chmod((path + ".new").c_str(), 0600), 0);
  std::filesystem::rename(path + ".new", path);
  EXPECT_TRUE(file.read_if_changed());
  EXPECT_THAT(file.headers(), ElementsAre(Pair("a", "2")));
  EXPECT_FALSE(file.read_if_changed());
  write("a: 33");
  EXPECT_TRUE(file.read_if_changed());
  EXPECT_THAT(file.headers(), ElementsAre(Pair("a", "33")));
}

TEST_F(HeaderFileTest, KeepsTheHeadersIfTheNewFileIsWrong) {
  write("a: 1");
  HeaderFile file(path);
  write("a: 2", 0644);
  EXPECT_THROW(file.read_if_changed(), Failure);
  EXPECT_FALSE(file.read_if_changed()) << "reported once";
  EXPECT_THAT(file.headers(), ElementsAre(Pair("a", "1")));
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  EXPECT_TRUE(file.read_if_changed());
  std::filesystem::remove(path);
  EXPECT_THROW(file.read_if_changed(), Failure);
  write("a: 3");
  EXPECT_TRUE(file.read_if_changed());
  EXPECT_THAT(file.headers(), ElementsAre(Pair("a", "3")));
}

TEST_F(HeaderFileTest, IsPrivate) {
  const bool is_root = ::geteuid() == 0;
  for (const mode_t mode : {0644, 0604, 0602, 0620, 0660, is_root ? 0666 : 0640}) {
    write("a: b\n", mode);
    EXPECT_THAT(message(), HasSubstr(is_root ? "run chmod 640 on it" : "run chmod 600 on it")) << mode;
  }
  write("a: b\n", is_root ? 0640 : 0400);
  EXPECT_EQ(message(), "");
  if (!give_to_another_user(path)) GTEST_SKIP() << "needs root";
  EXPECT_THAT(message(), HasSubstr("belongs to another user"));
}

}  // namespace
}  // namespace nopspan::collector
