// SPDX-License-Identifier: Apache-2.0
// --metrics FILE: which files are refused, and how a run continues when the file cannot be written.
#include "metric/ledger_metrics.h"

#include "base/failure.h"
#include "full_disk.h"
#include "temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;

Ledger delivered(std::uint64_t entries) {
  const Counts counts = {.emitted = entries, .delivered = entries};
  return {.processes = {}, .others = counts, .total = counts};
}

void expect_usage_error(const std::string& path) {
  try {
    MetricsFile file(path, 0);
    ADD_FAILURE() << path << " was taken";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.exit_status, Failure::kUsageError);
    EXPECT_THAT(failure.what(), HasSubstr(path));
  }
}

TEST(MetricsFile, IsThereFromTheBeginning) {
  const TemporaryFolder folder;
  MetricsFile file(folder / "metrics.prom", 0);
  EXPECT_THAT(contents_of(folder / "metrics.prom"), HasSubstr("\nnopspan_processes_total 0\n"));
  file.write_and_wait(delivered(5));
  EXPECT_THAT(contents_of(folder / "metrics.prom"), HasSubstr("entries_delivered_total 5\n"));
  EXPECT_THAT(names_in(folder / ""), testing::ElementsAre("metrics.prom"));
}

TEST(MetricsFile, HasTheSizeOfTheBufferIfThereIsOne) {
  const TemporaryFolder folder;
  MetricsFile with(folder / "with.prom", 4096), without(folder / "without.prom", 0);
  EXPECT_THAT(contents_of(folder / "with.prom"),
              HasSubstr("# TYPE nopspan_buffer_bytes gauge\nnopspan_buffer_bytes 4096\n"));
  EXPECT_THAT(contents_of(folder / "without.prom"), testing::Not(HasSubstr("nopspan_buffer_bytes")));
  EXPECT_THAT(contents_of(folder / "without.prom"), HasSubstr("\nnopspan_metrics_failed_writes_total 0\n"));
}

TEST(MetricsFile, IsNothingWithoutAPath) {
  MetricsFile file("", 0);
  file.write_and_wait(delivered(5));
  file.write_if_due([]() -> Ledger { throw std::logic_error("asked for a ledger"); });
}

TEST(MetricsFile, IsRefusedWhereNoneCanBe) {
  const TemporaryFolder folder;
  expect_usage_error(folder / "no/such/folder/metrics.prom");
  expect_usage_error(folder / "");
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  expect_usage_error(folder / "fifo");
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "fifo"));
}

TEST(MetricsFile, TouchesNothingElseInItsFolder) {
  const TemporaryFolder folder;
  write_file(folder / "precious", "precious");
  write_file(folder / "metrics.prom", "before");
  write_file(folder / "metrics.prom.new", "another program's");
  std::filesystem::create_symlink(folder / "precious", folder / ".metrics.prom.new");
  MetricsFile file(folder / "metrics.prom", 0);
  file.write_and_wait(delivered(5));
  EXPECT_THAT(contents_of(folder / "metrics.prom"), HasSubstr("entries_delivered_total 5\n"));
  EXPECT_EQ(contents_of(folder / "metrics.prom.new"), "another program's");
  EXPECT_EQ(contents_of(folder / "precious"), "precious");
  EXPECT_THAT(names_in(folder / ""),
              testing::UnorderedElementsAre("precious", "metrics.prom", "metrics.prom.new", ".metrics.prom.new"));
}

TEST(MetricsFile, IsNewSoThatItsModeIsThatOfTheUmask) {
  const TemporaryFolder folder;
  write_file(folder / "metrics.prom", "before");
  ::chmod((folder / "metrics.prom").c_str(), 0666);
  const mode_t before = ::umask(0027);
  const MetricsFile file(folder / "metrics.prom", 0);
  ::umask(before);
  EXPECT_EQ(mode_of(folder / "metrics.prom"), 0640U);
}

TEST(MetricsFile, IsNotWrittenThroughASymbolicLink) {
  const TemporaryFolder folder;
  write_file(folder / "precious", "precious");
  for (const std::string& target : {folder / "precious", folder / "none"}) {
    std::filesystem::create_symlink(target, folder / "metrics.prom");
    expect_usage_error(folder / "metrics.prom");
    EXPECT_TRUE(std::filesystem::is_symlink(folder / "metrics.prom"));
    std::filesystem::remove(folder / "metrics.prom");
  }
  EXPECT_EQ(contents_of(folder / "precious"), "precious");
  // A link that is made later is replaced.
  MetricsFile file(folder / "metrics.prom", 0);
  std::filesystem::remove(folder / "metrics.prom");
  std::filesystem::create_symlink(folder / "precious", folder / "metrics.prom");
  file.write_and_wait(delivered(5));
  EXPECT_EQ(contents_of(folder / "precious"), "precious");
  EXPECT_FALSE(std::filesystem::is_symlink(folder / "metrics.prom"));
}

TEST(MetricsFile, ComplainsOnceAndCountsWhatFails) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "textfile");
  const std::string path = folder / "textfile/metrics.prom";
  MetricsFile file(path, 0);
  std::filesystem::remove_all(folder / "textfile");
  testing::internal::CaptureStderr();
  file.write_and_wait(delivered(1));
  file.write_and_wait(delivered(2));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, HasSubstr(path));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  std::filesystem::create_directory(folder / "textfile");
  file.write_and_wait(delivered(3));
  EXPECT_THAT(contents_of(path), HasSubstr("\nnopspan_metrics_failed_writes_total 2\n"));
  EXPECT_THAT(contents_of(path), HasSubstr("entries_delivered_total 3\n"));
}

TEST(MetricsFile, KeepsTheTextBeforeOnAFullDisk) {
  const TemporaryFolder folder;
  MetricsFile file(folder / "metrics.prom", 0);
  file.write_and_wait(delivered(5));
  testing::internal::CaptureStderr();
  {
    const FullDisk full(500);
    file.write_and_wait(delivered(6));
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("File too large"));
  EXPECT_THAT(contents_of(folder / "metrics.prom"), HasSubstr("entries_delivered_total 5\n"));
  EXPECT_THAT(names_in(folder / ""), testing::ElementsAre("metrics.prom"));
}

}  // namespace
}  // namespace nopspan::collector
