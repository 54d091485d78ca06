// SPDX-License-Identifier: Apache-2.0
// What other users can read of the command line, and programs of the same user of the environment.
#include "command/tracing_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

using namespace nopspan::collector;
using testing::ElementsAreArray;

namespace {

// Texts that are changed in place, as the kernel places those of a program.
class Texts {
 public:
  explicit Texts(std::vector<std::string> texts) : texts_(std::move(texts)) {
    for (std::string& text : texts_) pointers_.push_back(text.data());
    pointers_.push_back(nullptr);
  }
  [[nodiscard]] char** pointers() { return pointers_.data(); }
  [[nodiscard]] int count() const { return static_cast<int>(texts_.size()); }
  [[nodiscard]] const std::vector<std::string>& now() const { return texts_; }

 private:
  std::vector<std::string> texts_;
  std::vector<char*> pointers_;
};

TEST(Secrets, OfTheCommandLineAreHidden) {
  const std::vector<std::string> given = {"nopspan",        "export",
                                          "--otlp",         "https://me:a/b@c@host:4318/p?key=k#f",
                                          "--header",       "a=b=c",
                                          "--header=d=efg", "--header",
                                          "mistake",        "--otlp=user@host",
                                          "--headers-are",  "x=y",
                                          "--header"};
  Texts arguments(given);
  EXPECT_THAT(take_arguments(arguments.count(), arguments.pointers()), ElementsAreArray(given));
  EXPECT_THAT(arguments.now(), ElementsAreArray({"nopspan", "export", "--otlp", "https://********@host:4318/p?*******",
                                                 "--header", "a=***", "--header=d=***", "--header", "*******",
                                                 "--otlp=****@host", "--headers-are", "x=y", "--header"}));
}

TEST(Secrets, OfTheEnvironmentAreMovedAndForgotten) {
  Texts variables({"PATH=/bin", "OTEL_EXPORTER_OTLP_HEADERS=a=secret", "OTEL_EXPORTER_OTLP_TRACES_HEADERS=b=secret",
                   "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://me:secret@host", "https_proxy=http://me:secret@proxy",
                   "HTTP_PROXY=secret", "OTEL_EXPORTER_OTLP_HEADERS=a=secret", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"});
  char** const before = environ;
  environ = variables.pointers();
  hide_secret_variables();
  const std::string headers = std::getenv("OTEL_EXPORTER_OTLP_HEADERS"), proxy = std::getenv("https_proxy");
  forget_secret_variables();
  const char* const forgotten = std::getenv("OTEL_EXPORTER_OTLP_HEADERS");
  const char* const other = std::getenv("OTEL_EXPORTER_OTLP_PROTOCOL");
  environ = before;
  EXPECT_EQ(headers, "a=secret");
  EXPECT_EQ(proxy, "http://me:secret@proxy");
  EXPECT_EQ(forgotten, nullptr);
  EXPECT_STREQ(other, "grpc");
  EXPECT_EQ(variables.now().front(), "PATH=/bin");
  for (const std::string& text : variables.now()) EXPECT_EQ(text.find("secret"), std::string::npos) << text;
}

}  // namespace
