// SPDX-License-Identifier: Apache-2.0
// --header-file: its lines, and who may read it.
#include "export/header_file.h"

#include "base/failure.h"
#include "temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <string>

using namespace nopspan::collector;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Pair;

namespace {

class HeaderFile : public testing::Test {
 protected:
  void write(const std::string& text, mode_t mode = 0600) const {
    write_file(path, text);
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
  }
  [[nodiscard]] std::string message() const {
    try {
      read_header_file(path);
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit_status, Failure::kUsageError);
      return failure.what();
    }
    return "";
  }

  const TemporaryFolder folder;
  const std::string path = folder / "headers";
};

TEST_F(HeaderFile, HasAHeaderInEachLine) {
  write("# a comment\n\nauthorization: Bearer a=b:c \r\n  x-tenant:\tacme\nempty:");
  EXPECT_THAT(read_header_file(path),
              ElementsAre(Pair("authorization", "Bearer a=b:c"), Pair("x-tenant", "acme"), Pair("empty", "")));
}

TEST_F(HeaderFile, IsRefusedWithoutItsContent) {
  EXPECT_THAT(message(), HasSubstr("No such file"));
  write("a: b\nsecret\n");
  EXPECT_THAT(message(), EndsWith("headers: line 2: write NAME: VALUE"));
  write("# nothing\n");
  EXPECT_THAT(message(), HasSubstr("contains no header"));
  write(std::string((64U << 10U) + 1, 'x'));
  EXPECT_THAT(message(), HasSubstr("has more than 64 KiB"));
}

TEST_F(HeaderFile, IsPrivate) {
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
