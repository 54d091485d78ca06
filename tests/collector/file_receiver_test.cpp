// SPDX-License-Identifier: Apache-2.0
// --otlp-file: files of whole lines, in a folder where others may have placed something else.
#include "export/otlp_receiver.h"

#include "base/failure.h"
#include "full_disk.h"
#include "model/otlp_wire.h"
#include "temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

using namespace nopspan::collector;
using testing::HasSubstr;

namespace {

ExportBody empty_resource() {
  ExportBody body{Signal::traces, {}, {1, 0, 0, 0}};
  append_bytes(body.bytes, 1, "");
  return body;
}
constexpr const char* kLine = "{\"resourceSpans\":[{}]}\n";

// Writes bodies of any signal.
class Files {
 public:
  explicit Files(const std::string& folder)
      : receiver_(folder, {}, [this](const std::string& message) { said.push_back(message); }) {}
  // Returns whether it was written.
  bool append(const ExportBody& body) {
    const std::uint64_t before = receiver_.account().totals().total().accepted;
    receiver_.add_metrics({body});
    EXPECT_TRUE(receiver_.account().totals().is_balanced());
    return receiver_.account().totals().total().accepted != before;
  }
  std::vector<std::string> said;

 private:
  FileReceiver receiver_;
};

std::string message_of(const std::string& folder) {
  try {
    const Files files(folder);
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.exit_status, Failure::kUsageError);
    return failure.what();
  }
  return "";
}

TEST(FileReceiver, HasALineForEachBody) {
  const TemporaryFolder folder;
  {
    Files files(folder / "");
    EXPECT_TRUE(files.append(empty_resource()));
    EXPECT_TRUE(files.append(empty_resource()));
    ExportBody log = empty_resource();
    log.signal = Signal::logs;
    EXPECT_TRUE(files.append(log));
  }
  EXPECT_EQ(contents_of(folder / "traces.jsonl"), std::string(kLine) + kLine);
  EXPECT_EQ(contents_of(folder / "logs.jsonl"), "{\"resourceLogs\":[{}]}\n");
  EXPECT_EQ(contents_of(folder / "metrics.jsonl"), "");
  EXPECT_EQ(mode_of(folder / "traces.jsonl"), 0600U);
  Files again(folder / "");
  EXPECT_TRUE(again.append(empty_resource()));
  EXPECT_EQ(contents_of(folder / "traces.jsonl"), std::string(kLine) + kLine + kLine);
}

TEST(FileReceiver, RemovesALineWithoutAnEnd) {
  for (const std::string& rest : {std::string("{\"resou"), std::string(10'000, 'x')}) {
    const TemporaryFolder folder;
    for (const auto& [name, text] : {std::pair("traces.jsonl", "{}\n" + rest), std::pair("logs.jsonl", rest)}) {
      write_file(folder / name, text);
      ASSERT_EQ(::chmod((folder / name).c_str(), 0600), 0);
    }
    const Files files(folder / "");
    EXPECT_EQ(contents_of(folder / "traces.jsonl"), "{}\n");
    EXPECT_EQ(contents_of(folder / "logs.jsonl"), "");
  }
}

TEST(FileReceiver, RefusesWhatIsNotAFileOfItsOwn) {
  EXPECT_THAT(message_of("/nonexistent"), HasSubstr("No such file"));
  const TemporaryFolder folder;
  write_file(folder / "victim", "");
  std::filesystem::create_symlink(folder / "victim", folder / "traces.jsonl");
  EXPECT_THAT(message_of(folder / ""), HasSubstr("is a symbolic link"));
  std::filesystem::remove(folder / "traces.jsonl");
  ASSERT_EQ(::mkfifo((folder / "logs.jsonl").c_str(), 0600), 0);
  EXPECT_THAT(message_of(folder / ""), HasSubstr("is not a file"));
  std::filesystem::remove(folder / "logs.jsonl");
  const Files first(folder / "");
  EXPECT_THAT(message_of(folder / ""), HasSubstr("in use by another nopspan"));
}

TEST(FileReceiver, RefusesFilesThatOthersCanReadOrChange) {
  for (const mode_t mode : {0666, 0644, 0604, 0640, 0620, 0602}) {
    const TemporaryFolder folder;
    write_file(folder / "metrics.jsonl", "{}\n");
    ASSERT_EQ(::chmod((folder / "metrics.jsonl").c_str(), mode), 0);
    EXPECT_THAT(message_of(folder / ""), HasSubstr("run chmod 600 on it")) << mode;
    EXPECT_EQ(contents_of(folder / "metrics.jsonl"), "{}\n");
  }
}

TEST(FileReceiver, RefusesFilesOfAnotherUser) {
  const TemporaryFolder folder;
  write_file(folder / "traces.jsonl", "line without an end");
  ASSERT_EQ(::chmod((folder / "traces.jsonl").c_str(), 0600), 0);
  if (!give_to_another_user(folder / "traces.jsonl")) GTEST_SKIP() << "needs root";
  EXPECT_THAT(message_of(folder / ""), HasSubstr("belongs to another user"));
  EXPECT_EQ(contents_of(folder / "traces.jsonl"), "line without an end");
}

TEST(FileReceiver, DropsAMalformedBody) {
  const TemporaryFolder folder;
  Files files(folder / "");
  EXPECT_FALSE(files.append({Signal::traces, "\x0a\x7f", {1, 0, 0, 0}}));
  EXPECT_EQ(contents_of(folder / "traces.jsonl"), "");
}

// The kernel writes a part, then nothing.
TEST(FileReceiver, RemovesWhatWasWrittenOfALine) {
  const TemporaryFolder folder;
  Files files(folder / "");
  EXPECT_TRUE(files.append(empty_resource()));
  {
    const FullDisk full(30);
    EXPECT_FALSE(files.append(empty_resource()));
  }
  EXPECT_THAT(files.said, testing::ElementsAre(HasSubstr("File too large: entries are dropped and counted")));
  EXPECT_EQ(contents_of(folder / "traces.jsonl"), kLine);
  EXPECT_TRUE(files.append(empty_resource()));
  EXPECT_EQ(contents_of(folder / "traces.jsonl"), std::string(kLine) + kLine);
}

}  // namespace
