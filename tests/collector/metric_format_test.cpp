// SPDX-License-Identifier: Apache-2.0
#include "serve/shared_renders.h"

#include <gmock/gmock.h>

namespace nopspan::collector {
namespace {

TEST(MetricFormat, IsWhatPrometheusAsksFor) {
  // Prometheus 2.42, without and with --enable-feature=native-histograms, and Prometheus 3.
  EXPECT_EQ(format_for("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                       "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
            MetricFormat::openmetrics);
  EXPECT_EQ(format_for("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
                       "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;"
                       "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
            MetricFormat::openmetrics);
  EXPECT_EQ(format_for("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
                       "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
                       "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"),
            MetricFormat::openmetrics);
}

TEST(MetricFormat, IsTextUnlessAnotherOneIsPreferred) {
  for (const char* accept :
       {"", "*/*", "text/*", "text/plain", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/json", "application/openmetrics-text;q=0", "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;version=0.0.1", "text/plain;q=0.9, application/openmetrics-text;q=0.8",
        "application/vnd.google.protobuf"}) {
    EXPECT_EQ(format_for(accept), MetricFormat::text) << accept;
  }
}

TEST(MetricFormat, IsTheOneWithTheHighestQOrTheFirst) {
  EXPECT_EQ(format_for("text/plain;q=0.2,application/openmetrics-text;q=0.3"), MetricFormat::openmetrics);
  EXPECT_EQ(format_for("application/openmetrics-text,text/plain"), MetricFormat::openmetrics);
  EXPECT_EQ(format_for("text/plain,application/openmetrics-text"), MetricFormat::text);
  EXPECT_EQ(format_for("text/plain;q=0.999,application/openmetrics-text;q=1"), MetricFormat::openmetrics);
}

TEST(MetricFormat, IgnoresCaseBlanksAndQuotes) {
  EXPECT_EQ(format_for(" \tText/Plain ; Q = 0.1 ,\tAPPLICATION/OpenMetrics-Text ; Version = \"1.0.0\" ; q=0.2 "),
            MetricFormat::openmetrics);
}

TEST(MetricFormat, ReadsGarbage) {
  for (const char* accept :
       {",", ";", ",,;;==,", "application/openmetrics-text;q=", "application/openmetrics-text;q=x",
        "application/openmetrics-text;q=nan", "application/openmetrics-text;q=inf", "application/openmetrics-text;q=-1",
        "application/openmetrics-text;q=2", "\"", "=;=", "\xff"}) {
    EXPECT_EQ(format_for(accept), MetricFormat::text) << accept;
  }
  EXPECT_EQ(format_for(";,=,,application/openmetrics-text"), MetricFormat::openmetrics);
}

TEST(MetricFormat, OfferedCompressionIsUsed) {
  EXPECT_TRUE(accepts_gzip("gzip"));
  EXPECT_TRUE(accepts_gzip("deflate, GZIP;q=0.5, br"));
  EXPECT_FALSE(accepts_gzip(""));
  EXPECT_FALSE(accepts_gzip("br, gzip;q=0"));
  EXPECT_FALSE(accepts_gzip("gzip;q=0.000"));
  EXPECT_FALSE(accepts_gzip("*"));
  EXPECT_FALSE(accepts_gzip("xgzip, gzipx"));
}

}  // namespace
}  // namespace nopspan::collector
